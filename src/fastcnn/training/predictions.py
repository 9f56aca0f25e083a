"""Predictions for a data set, batch by batch, and for everything that holds data; threads read photos ahead."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fastcnn._arguments import as_int, as_real_array
from fastcnn._progress import Progress
from fastcnn.io.image import find_images
from fastcnn.io.preprocess import Pixels
from fastcnn.network import Network
from fastcnn.training.augment import Augment
from fastcnn.training.augment_functions import as_augment
from fastcnn.training.data import Dataset
from fastcnn.training.folders import PhotoSource, PixelSource, with_cache
from fastcnn.training.label_files import Known
from fastcnn.training.loader import Batches
from fastcnn.training.prepare import is_batch, source_of
from fastcnn.training.screen import readable
from fastcnn.training.tables import known_data

__all__ = ["averaged_predictions", "data_of", "predicted_data", "predictions"]


Compute = Callable[[Any], np.ndarray]


def predictions(
    model: Network, data: Dataset, batch_size: int, workers: int | None = None, compute: Compute | None = None
) -> Iterator[np.ndarray]:
    """Yield what `Model.predict_proba`, or `compute`, returns for each batch, in the order of the data.

    Photos reach the model as pixels where it takes pixels.

    Examples
    --------
    >>> from fastcnn import Linear, Sequential
    >>> data = Dataset.of(np.zeros((5, 3)), [0, 1, 0, 1, 0])
    >>> [part.shape for part in predictions(Sequential(Linear(3, 2)), data, 2)]
    [(2, 2), (2, 2), (1, 2)]
    """
    source, pixels_of = data.source, None
    if type(source) is PhotoSource and model._takes_pixels(source.preprocess):
        pixels_of = source.preprocess
        data = replace(data, source=PixelSource(source.photos, pixels_of, source.cache))
    for x, _, _ in Batches(data, batch_size, shuffle=False, workers=workers).epoch(0):
        batch: Any = x if pixels_of is None else Pixels(x, pixels_of)
        yield model.predict_proba(batch, batch_size) if compute is None else compute(batch)


def predicted_data(
    model: Network,
    x: Any,
    batch_size: int,
    progress: bool = False,
    on_error: str = "skip",
    compute: Compute | None = None,
) -> np.ndarray | None:
    """Return probabilities for photos, batches or a data set; None for what stands for an array.

    Parameters
    ----------
    model : Network
    x : whatever `Model.predict_proba` takes
    batch_size : int
    progress : bool
    on_error : {"skip", "stop"}
        Rows of photos that cannot be read are NaN, or the first of them ends it.
    compute : callable, optional
        Gives a row of numbers for each input of a batch, in place of `Model.predict_proba`.
    """
    data = data_of(model, x)
    if data is None:
        return None
    count = len(data) if isinstance(data, Dataset) else 0
    if isinstance(data, Dataset):
        data = readable(data, on_error, progress)
    parts = []
    with Progress("predicting", len(data) if isinstance(data, Dataset) else None, progress) as bar:
        if isinstance(data, Dataset):
            batches: Iterable[np.ndarray] = predictions(model, data, batch_size, compute=compute)
        else:
            numbers = compute or partial(model.predict_proba, batch_size=batch_size)
            batches = (numbers(np.asarray(_inputs(batch))) for batch in data)
        for part in batches:
            parts.append(part)
            bar.update(len(part))
    if not parts:
        raise ValueError("predict: x yields no batches, expected at least one")
    found = np.concatenate(parts)
    if not isinstance(data, Dataset) or len(found) == count:
        return found
    rows = np.full((count, found.shape[1]), np.nan, np.float32)
    rows[data.indices] = found
    return rows


def averaged_predictions(
    model: Network, x: Any, times: int, augment: Any, batch_size: int, seed: int, workers: int | None
) -> np.ndarray:
    """Return the mean of the probabilities of images and of changed copies; see `Model.tta`."""
    times = as_int(times, "tta: times", 1)
    change = as_augment(Augment(crop=0.8, rotation=0, colour=0) if augment is None else augment, "tta: augment")
    data = data_of(model, x)
    if data is None:
        inputs = as_real_array(x, "tta: x")
        if not inputs.ndim:
            raise ValueError("tta: x is a single number, expected inputs")
        data = Dataset.of(inputs, np.zeros(len(inputs), np.int64))
    if not isinstance(data, Dataset):
        raise ValueError("tta: x is an iterable of batches, expected images or photos")
    data = with_cache(data)
    total = np.concatenate(list(predictions(model, data, batch_size, workers))).astype(np.float64)
    changed = Batches(data, batch_size, shuffle=False, augment=change, seed=seed, workers=workers)
    for epoch in range(times):
        total += np.concatenate([model.predict_proba(batch.x, batch_size) for batch in changed.epoch(epoch)])
    return (total / (times + 1)).astype(np.float32)


def data_of(model: Network, x: Any) -> Dataset | Iterable[Any] | None:
    if isinstance(x, Dataset):
        return x
    if isinstance(x, (str, os.PathLike)):
        known = known_data(x, ("test", "validation", "train"), several=True)
        x = known.x if isinstance(known, Known) else find_images(x)
    elif hasattr(x, "columns") and not any(isinstance(x[name].iloc[0], str) for name in x.columns[:1] if len(x)):
        return None  # a data frame of numbers
    elif isinstance(x, Pixels) or (isinstance(x, np.ndarray) and not x.ndim):
        return None
    elif not isinstance(x, (np.ndarray, list, tuple)) or (len(x) and is_batch(x[0])):
        known = known_data(x, ("test", "validation", "train"), several=True)
        if not isinstance(known, Known):
            return None if hasattr(known, "__array__") or not hasattr(known, "__iter__") else known
        x = known.x
    source = source_of(model, x)
    return None if source is None else Dataset.of(source, np.zeros(len(source), np.int64))


def _inputs(batch: Any) -> Any:
    """The inputs of a batch, which may have labels and weights, too."""
    return batch[0] if is_batch(batch) else batch
