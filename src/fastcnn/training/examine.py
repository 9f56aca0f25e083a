"""What `Model.evaluate` does: predictions for data whose classes are known, and a report on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._arguments import as_choice
from fastcnn._progress import Progress
from fastcnn.network import Network
from fastcnn.training.data import Dataset
from fastcnn.training.label_report import report_of_labels
from fastcnn.training.options import ON_ERROR
from fastcnn.training.predictions import predictions
from fastcnn.training.prepare import prepare
from fastcnn.training.report import Report, report
from fastcnn.training.screen import readable

__all__ = ["examine"]


def examine(
    model: Network,
    x: Any,
    y: Any,
    batch_size: int = 32,
    workers: int | None = None,
    progress: bool | None = False,
    on_error: str = "skip",
) -> Report:
    """Examine a classifier; see `Model.evaluate`."""
    as_choice(on_error, "evaluate: on_error", ON_ERROR)
    data = prepare(model, x, y, adopt=False, parts=("test", "validation"))
    if isinstance(data, Dataset):
        data = readable(data, on_error, progress, model.classes)
    probabilities, targets = [], []
    names: list[str] = []
    with Progress("evaluating", len(data) if isinstance(data, Dataset) else None, progress) as bar:
        if isinstance(data, Dataset):
            for part in predictions(model, data, batch_size, workers):
                probabilities.append(part)
                bar.update(len(part))
            targets.append(data.labels)
            names = [data.source.name(index) for index in data.indices.tolist()]
        else:
            for batch in data.epoch(0):
                probabilities.append(model.predict_proba(batch.x, batch_size))
                targets.append(batch.y)
                bar.update(len(batch.x))
    if not probabilities:
        raise ValueError("evaluate: x yields no batches, expected at least one")
    return _report(model, np.concatenate(probabilities), np.concatenate(targets), names)


def _report(model: Network, probabilities: np.ndarray, targets: np.ndarray, names: list[str]) -> Report:
    several = model.task == "multi_label"
    if targets.ndim == 2 and targets.shape[1] > 1 and not several:
        raise ValueError("evaluate: expected inputs with the number or name of one class each")
    if several and targets.ndim == 2:
        return report_of_labels(probabilities, targets > 0.5, model.classes, names)
    labels = targets.ravel().astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(
            f"evaluate: y from {labels.min()} to {labels.max()}, expected 0 to {probabilities.shape[1] - 1}"
        )
    return report(probabilities, labels, model.classes, names)
