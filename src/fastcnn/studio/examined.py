"""What a trained model says of every photo of its run, and which labels are likely wrong.

It is computed once for each model and kept in the run's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.errors import ImageError, ModelLoadError
from fastcnn.io.weights import read_safetensors, write_safetensors
from fastcnn.model import Model
from fastcnn.studio.jobs import Tell
from fastcnn.studio.listing import key_of
from fastcnn.studio.runs import Run
from fastcnn.training.loader import read_ahead
from fastcnn.training.report import report

__all__ = ["examined", "likely_wrong", "photos_of"]

_BATCH = 32
_NEIGHBOURS = 8
_AT_A_TIME = 1024  # photos that are compared with all others
_AGREE = 0.75  # share of the neighbours that have the same other label


def photos_of(run: Run) -> list[tuple[str, bool]]:
    """The photos of a run as paths relative to its snapshot, and whether each was kept back to examine the model."""
    run.log.read()
    photos = run.log.photos
    found = [(name, False) for name in photos.get("training", ())]
    found += [(name, True) for name in photos.get("validation", ())]
    return [(str(name).replace("\\", "/").removeprefix("photos/"), is_kept_back) for name, is_kept_back in found]


def examined(run: Run, model: Model, stamp: str, tell: Tell) -> dict[str, Any]:
    """Return what the page "Understand" shows of a run.

    Parameters
    ----------
    run : Run
    model : Model
        The run's.
    stamp : str
        Differs where the model does.
    tell : callable
        Is told how many photos are done, and of how many.
    """
    photos = photos_of(run)
    paths = [run.folder / "photos" / name for name, _ in photos]
    kept = run.folder / "examined.safetensors"
    values = _read(kept, stamp)
    if values is None:
        values = _computed(model, paths, tell)
        write_safetensors(kept, values, {"stamp": stamp})
    return _told(run, list(model.classes or ()), photos, values["probabilities"], values["features"])


def _read(path: Path, stamp: str) -> dict[str, np.ndarray] | None:
    try:
        values, metadata = read_safetensors(path)
    except (OSError, ModelLoadError):
        return None
    return values if metadata.get("stamp") == stamp else None


def _computed(model: Model, paths: list[Path], tell: Tell) -> dict[str, np.ndarray]:
    """Probabilities and features of photos; NaN where a photo cannot be read."""
    probabilities = np.full((len(paths), len(model.classes or ())), np.nan, np.float32)
    features: np.ndarray | None = None
    inputs: list[np.ndarray] = []
    rows: list[int] = []

    def load(row: int, _: object) -> tuple[int, np.ndarray | None]:
        try:
            return row, model.preprocess(paths[row])  # type: ignore[misc]  # trained on photos, so it has one
        except (ImageError, OSError):
            return row, None

    for done, (row, pixels) in enumerate(read_ahead(load, range(len(paths)), 2), 1):
        if pixels is not None:
            inputs.append(pixels)
            rows.append(row)
        if len(rows) == _BATCH or (done == len(paths) and rows):
            batch = np.concatenate(inputs)
            probabilities[rows] = model.predict_proba(batch)
            vectors = model.embed(batch)
            if features is None:
                features = np.full((len(paths), vectors.shape[1]), np.nan, np.float32)
            features[rows] = vectors
            inputs, rows = [], []
            tell(done, len(paths))
    found = np.zeros((len(paths), 1), np.float32) if features is None else features
    return {"probabilities": probabilities, "features": found}


def _told(
    run: Run, classes: list[str], photos: list[tuple[str, bool]], probabilities: np.ndarray, features: np.ndarray
) -> dict[str, Any]:
    number_of = {name: number for number, name in enumerate(classes)}
    labels = np.array([number_of.get(_class_of(name), -1) for name, _ in photos], np.int64)
    is_kept_back = np.array([kept for _, kept in photos], bool)
    is_good = ~np.isnan(probabilities).any(axis=1) & (labels >= 0)
    shown = np.flatnonzero(is_good & is_kept_back)
    scores = report(probabilities[shown], labels[shown], classes).to_dict() if shown.size else {}
    wrong = likely_wrong(np.where(is_good[:, None], features, 0), np.where(is_good, labels, -1), len(classes))
    rows = []
    for i in np.flatnonzero(is_good).tolist():
        best = int(probabilities[i].argmax())
        rows.append(
            {
                "index": i,
                "id": key_of(photos[i][0]),
                "name": photos[i][0],
                "label": int(labels[i]),
                "predicted": best,
                "probability": float(probabilities[i, best]),
                "own": float(probabilities[i, labels[i]]),
                "examines": bool(is_kept_back[i]),
            }
        )
    suspects = [
        {"index": i, "id": key_of(photos[i][0]), "label": int(labels[i]), "likely": label, "share": share}
        for i, label, share in wrong
    ]
    return {"classes": classes, "report": scores, "photos": rows, "suspects": suspects, "run": run.id}


def _class_of(name: str) -> str:
    """The class of a photo by its path: the folder below the project, or below a part of it."""
    from fastcnn._names import readable
    from fastcnn.training.layouts import PARTS

    parts = name.split("/")
    return readable(parts[1] if parts[0].lower() in PARTS and len(parts) > 2 else parts[0])


def likely_wrong(features: np.ndarray, labels: np.ndarray, classes: int) -> list[tuple[int, int, float]]:
    """Return photos whose nearest neighbours nearly all have another label: their own is likely wrong.

    A photo does not vote for itself, so that a network that has learned a wrong label by heart does not hide it.

    Parameters
    ----------
    features : ndarray (N, features)
    labels : ndarray (N,) of int
        -1 for photos that do not count.
    classes : int

    Returns
    -------
    list of (int, int, float)
        Number of the photo, the likely label, and the share of the neighbours that have it; the surest first.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> features = np.repeat(np.eye(2, 8), 20, axis=0) + rng.normal(0, 0.1, (40, 8))
    >>> labels = np.repeat([0, 1], 20)
    >>> labels[3] = 1
    >>> likely_wrong(features, labels, 2)
    [(3, 0, 1.0)]
    """
    counted = np.flatnonzero(labels >= 0)
    nearest = min(_NEIGHBOURS, len(counted) - 1)
    if nearest < 3:
        return []
    known = labels[counted]
    rows = features[counted] - features[counted].mean(axis=0)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    found = []
    for begin in range(0, len(rows), _AT_A_TIME):
        near = rows[begin : begin + _AT_A_TIME] @ rows.T
        near[np.arange(len(near)), np.arange(begin, begin + len(near))] = -np.inf
        chosen = np.argpartition(-near, nearest - 1, axis=1)[:, :nearest]
        votes = (known[chosen][:, :, None] == np.arange(classes)).mean(axis=1)
        best = votes.argmax(axis=1)
        for i, label in enumerate(best.tolist()):
            if label != known[begin + i] and votes[i, label] >= _AGREE:
                found.append((int(counted[begin + i]), label, float(votes[i, label])))
    return sorted(found, key=lambda item: -item[2])
