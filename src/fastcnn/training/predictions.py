"""Predictions for a data set, batch by batch; threads read photos ahead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn.io.preprocess import Pixels
from fastcnn.network import Network
from fastcnn.training.data import Dataset
from fastcnn.training.folders import PhotoSource, PixelSource
from fastcnn.training.loader import Batches

__all__ = ["predictions"]


def predictions(model: Network, data: Dataset, batch_size: int, workers: int | None = None) -> Iterator[np.ndarray]:
    """Yield what `Model.predict_proba` returns for each batch, in the order of the data.

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
        data = replace(data, source=PixelSource(source.photos, pixels_of))
    for x, _ in Batches(data, batch_size, shuffle=False, workers=workers).epoch(0):
        batch: Any = x if pixels_of is None else Pixels(x, pixels_of)
        yield model.predict_proba(batch, batch_size)
