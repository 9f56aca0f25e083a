"""What a training run is of: data, network and settings as short text, by which a checkpoint knows its own run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from fastcnn.network import Network
from fastcnn.training.data import ArraySource, Dataset
from fastcnn.training.loader import IterableBatches
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.options import Options

__all__ = ["check_run", "identity_of"]

_SAMPLES = 256  # inputs of an array that are looked at
_SHOWN = 120  # characters of a setting in a message


def identity_of(
    model: Network,
    data: Dataset | IterableBatches,
    validation: Dataset | IterableBatches | None,
    options: Options,
    optimizer: Optimizer,
    loss: Any,
) -> dict[str, Any]:
    """Return what must stay the same during a run, as what JSON can hold.

    Photos are known by their folder's name, their own and their size, arrays by shape and a sample of the values; each
    in its order, with its target. Batches that somebody else makes are not known.
    """
    schedule = options.schedule
    found: dict[str, Any] = {"seed": options.seed, "batch_size": options.batch_size}
    if isinstance(data, Dataset):
        found |= {"inputs": len(data), "classes": model.classes, "data": _digest(_data(data))}
        found |= {"network": _network(model, data.source.shape), "preprocess": _preprocess(data)}
    return {
        **found,
        "validation": _validation(validation),
        "optimizer": _text(optimizer),
        "loss": _text(loss),
        "schedule": None if schedule is None else f"{_text(schedule)} over {options.epochs} epochs",
        "augment": None if options.augment is None else _text(options.augment),
        "clip_norm": options.clip_norm,
        "accumulate": options.accumulate,
        "ema": options.ema,
        "shards": options.shards,
        "sync_batch_norm": bool(options.sync_batch_norm),
    }


def _preprocess(data: Dataset) -> list[str] | None:
    """Return how photos become inputs, a setting at a time; None for other data."""
    preprocess = getattr(data.source, "preprocess", None)
    if preprocess is None:
        return None
    settings = preprocess.to_dict() if hasattr(preprocess, "to_dict") else {"preprocess": _text(preprocess)}
    return [f"{name}={value}" for name, value in settings.items()]


def _validation(data: Dataset | IterableBatches | None) -> str | None:
    if isinstance(data, Dataset):
        return f"{len(data)} inputs, {_digest(_data(data))}"
    return None if data is None else "batches"


def check_run(then: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Any, allowed: Collection[str]) -> None:
    """Refuse to go on from a checkpoint of another run.

    Raises
    ------
    ValueError
        Naming the first difference that is not allowed.
    """
    for name, value in now.items():
        known = then.get(name, value)  # checkpoints of version 0.1 know less
        if known != value and name not in allowed:
            got, expected = _shown(value, known), _shown(known, value)
            raise ValueError(
                f"fit: {name}={got}, expected {expected} as in {os.fspath(checkpoint)}; "
                f"allow_changed={name!r} permits it"
            )


def _shown(value: Any, other: Any) -> str:
    """Return a setting as text; of lists from the first difference on."""
    if isinstance(value, list) and isinstance(other, list):
        same = next(
            (i for i, (a, b) in enumerate(zip(value, other, strict=False)) if a != b), min(len(value), len(other))
        )
        first = max(0, same - 1)
        value = (["…"] if first else []) + value[first : first + 4] + (["…"] if len(value) > first + 4 else [])
        return "[" + ", ".join(map(str, value)) + "]"
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part + b"\0")
    return digest.hexdigest()


def _data(data: Dataset) -> Iterator[bytes]:
    """Yield all that tells data sets apart, in the order of the inputs."""
    source, indices = data.source, data.indices
    yield repr(source.shape).encode()
    yield np.ascontiguousarray(data.labels).tobytes()
    if isinstance(source, ArraySource):
        for index in indices[np.unique(np.linspace(0, len(indices) - 1, _SAMPLES).astype(np.intp))].tolist():
            yield np.ascontiguousarray(source.x[index]).tobytes()
        return
    photos = getattr(source, "photos", None)
    for index in indices.tolist():
        photo = index if photos is None else photos[index]
        if isinstance(photo, np.ndarray):
            yield np.ascontiguousarray(photo).tobytes()
        else:
            yield _file(photo if isinstance(photo, (str, os.PathLike)) else source.name(index))


def _file(path: str | os.PathLike[str]) -> bytes:
    """Return the names of a file and its folder, and its size: a folder of photos may be moved."""
    encoded = os.fsencode(path)
    folder, name = os.path.split(encoded)
    try:
        size = os.stat(encoded).st_size
    except (OSError, ValueError):
        size = -1
    return b"%s/%s %d" % (os.path.basename(folder), name, size)


def _network(model: Network, shape: tuple[int, ...]) -> str:
    graph = model._stored_graph(shape)
    shapes = sorted((name, tuple(array.shape)) for name, array in graph.constants.items())
    numbers = sum(int(np.prod(sizes)) for _, sizes in shapes)
    digest = _digest(iter([graph.to_json().encode(), repr(shapes).encode()]))
    return f"{type(model).__name__} of {len(graph.nodes)} nodes and {numbers} numbers, {digest}"


def _text(setting: Any) -> str:
    """Return a setting's class and values; functions by their names, arrays by their contents."""
    if isinstance(setting, np.ndarray):
        return f"array {setting.shape} {_digest(iter([np.ascontiguousarray(setting).tobytes()]))}"
    if isinstance(setting, (list, tuple)):
        return "(" + ", ".join(map(_text, setting)) + ")"
    if isinstance(setting, dict):
        return "{" + ", ".join(f"{key}: {_text(value)}" for key, value in setting.items()) + "}"
    if setting is None or isinstance(setting, (bool, int, float, str, np.generic)):
        return repr(setting)
    if hasattr(setting, "__qualname__"):
        return str(setting.__qualname__)
    values = ", ".join(f"{name}={_text(value)}" for name, value in getattr(setting, "__dict__", {}).items())
    return f"{type(setting).__name__}({values})"
