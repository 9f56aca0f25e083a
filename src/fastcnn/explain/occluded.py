"""Occlusion: how far the probability of a class falls where a part of the image is hidden.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014. It asks the network alone, and so takes
every network.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._arguments import as_int
from fastcnn.explain.targets import labels_of
from fastcnn.inside import inputs_of
from fastcnn.io.preprocess import image_shape
from fastcnn.network import Network

__all__ = ["occlusion"]

_PATCHES = 7  # along the shorter side, if the caller does not say


def occlusion(
    model: Network,
    image: Any,
    label: Any = None,
    *,
    patch: int | None = None,
    stride: int | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Return how far the probability of a class falls where a square of the image is hidden.

    The square has the mean of each channel of the image. Each pixel has the mean over all squares that cover it.

    Parameters
    ----------
    model : Model
    image : photo, sequence of photos, or array_like
        As for `Model.feature_maps`.
    label : int, str or sequence, optional
        As for `grad_cam`.
    patch : int, optional
        Side of the square in pixels of the network's input; by default a seventh of the shorter side.
    stride : int, optional
        Pixels from one square to the next; by default half of a side.
    batch_size : int
        Images that go through the network at once.

    Returns
    -------
    ndarray (H, W) or (N, H, W), float32
        Differences of probabilities. Above 0 are places that speak for the class. One photo has (H, W).

    Raises
    ------
    ValueError
        If inputs are no images, or an argument is out of range.

    Examples
    --------
    >>> from fastcnn import zoo
    >>> model = zoo.lenet(rng=0)
    >>> occlusion(model, np.random.default_rng(0).random((1, 28, 28)), label=3, patch=7).shape
    (28, 28)
    """
    batch, is_single = inputs_of(model, image, "occlusion")
    size = as_int(batch_size, "occlusion: batch_size", 1)
    if batch.ndim != 4:
        raise ValueError(f"occlusion: image.shape={batch.shape}, expected images (N, channels, height, width)")
    height, width = image_shape(batch.shape[1:])[1:]
    side = max(1, min(height, width) // _PATCHES) if patch is None else as_int(patch, "occlusion: patch", 1)
    if side > min(height, width):
        raise ValueError(f"occlusion: patch={side}, expected at most {min(height, width)}, the shorter side")
    step = max(1, side // 2) if stride is None else as_int(stride, "occlusion: stride", 1)
    if step > side:
        raise ValueError(f"occlusion: stride={step}, expected at most {side}, the patch: all pixels are hidden once")
    corners = [(top, left) for top in _starts(height, side, step) for left in _starts(width, side, step)]
    probable = model.predict_proba(batch, size)
    labels = labels_of(model, probable, label, "occlusion")
    maps = np.empty((len(batch), height, width), np.float32)
    for i, number in enumerate(labels):
        falls = [
            probable[i, number] - model.predict_proba(_hidden(batch[i], corners[j : j + size], side))[:, number]
            for j in range(0, len(corners), size)
        ]
        maps[i] = _mean_of(np.concatenate(falls), corners, side, (height, width))
    return maps[0] if is_single else maps


def _starts(length: int, side: int, step: int) -> list[int]:
    """Places of the squares along an axis; the last one ends where the image does."""
    return sorted({*range(0, length - side, step), length - side})


def _hidden(image: np.ndarray, corners: list[tuple[int, int]], side: int) -> np.ndarray:
    """Return copies of an image, each with one square hidden."""
    copies = np.repeat(image[None], len(corners), axis=0)
    planes = copies if image_shape(image.shape) == image.shape else np.moveaxis(copies, -1, 1)
    mean = planes[0].mean(axis=(1, 2), keepdims=True)
    for copy, (top, left) in zip(planes, corners, strict=True):
        copy[:, top : top + side, left : left + side] = mean
    return copies


def _mean_of(values: np.ndarray, corners: list[tuple[int, int]], side: int, size: tuple[int, int]) -> np.ndarray:
    total, count = np.zeros(size), np.zeros(size)
    for value, (top, left) in zip(values, corners, strict=True):
        total[top : top + side, left : left + side] += value
        count[top : top + side, left : left + side] += 1
    return np.asarray(total / count)
