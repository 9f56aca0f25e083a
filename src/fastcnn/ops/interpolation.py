"""Where the elements of a resized axis lie in the axis before, and the neighbours that they are computed from."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def reach(mode: str, scale: float) -> tuple[float, int]:
    """How far the filter of linear or cubic interpolation reaches, and over how many neighbours."""
    width = (1.0 if mode == "linear" else 2.0) / scale
    return width, int(np.ceil(2 * width)) + 1


def coordinates(length: int, size: int, scale: float, mode: str, start: float, end: float) -> Array:
    """The place of each output element in the input.

    Some rules use the size `scale * length`, which may have a fraction.
    """
    i = np.arange(size, dtype=np.float64)
    wide = scale * length
    exact = scale == size / length  # a quotient of integers, so that ties are exact

    def unscaled(place: Array) -> Array:
        return place * length / size if exact else place / scale

    if mode == "half_pixel":
        return unscaled(i + 0.5) - 0.5
    if mode == "half_pixel_symmetric":
        adjustment = size / (scale * length)
        centre = length / 2
        return centre * (1 - adjustment) + unscaled(i + 0.5) - 0.5
    if mode == "pytorch_half_pixel":
        return unscaled(i + 0.5) - 0.5 if size > 1 else np.zeros(size)
    if mode == "align_corners":
        return i * (length - 1) / (wide - 1) if wide != 1 else np.zeros(size)
    if mode == "asymmetric":
        return unscaled(i)
    if mode == "tf_half_pixel_for_nn":
        return unscaled(i + 0.5)
    if mode == "tf_crop_and_resize":
        if wide != 1:
            return start * (length - 1) + i * (end - start) * (length - 1) / (wide - 1)
        return np.full(size, 0.5 * (start + end) * (length - 1))
    raise ValueError(f"coordinate_transformation_mode={mode!r} is not known")


def nearest_of(length: int, size: int, scale: float, mode: str, rounding: str) -> Array:
    """Indices of the nearest neighbours of each output element, by `coordinates`.

    PyTorch and TensorFlow, whose files round down, multiply with a float32. Ties go where they do there.
    """
    if mode == "asymmetric" and rounding == "floor":
        step = np.float32(length / size if scale == size / length else 1 / scale)
        found: Array = np.minimum(np.floor(np.arange(size, dtype=np.float32) * step), length - 1).astype(np.int64)
        return found
    return nearest(coordinates(length, size, scale, mode, 0.0, 1.0), length, rounding)


def nearest(where: Array, length: int, mode: str) -> Array:
    """Indices of the nearest neighbours of places."""
    if mode == "round_prefer_floor":
        found = np.ceil(where - 0.5)
    elif mode == "round_prefer_ceil":
        found = np.floor(where + 0.5)
    elif mode in ("floor", "ceil"):
        found = np.floor(where) if mode == "floor" else np.ceil(where)
    else:
        raise ValueError(f"nearest_mode={mode!r}, expected round_prefer_floor, round_prefer_ceil, floor or ceil")
    return np.clip(found, 0, length - 1).astype(np.int64)


def _cubic(distance: Array, a: float) -> Array:
    """Keys, Cubic convolution interpolation for digital image processing, 1981."""
    t = np.abs(distance)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def neighbours(
    where: Array, length: int, mode: str, a: float, scale: float, exclude_outside: bool
) -> tuple[Array, Array]:
    """Indices and weights (outputs, neighbours) of linear or cubic interpolation.

    A `scale` below 1 widens the filter (antialias).
    """
    width, count = reach(mode, scale)
    first = np.floor(where - width).astype(np.int64) + 1
    offsets = np.arange(count)
    index = first[:, None] + offsets
    distance = (index - where[:, None]) * scale
    weight = np.maximum(0, 1 - np.abs(distance)) if mode == "linear" else _cubic(distance, a)
    if exclude_outside:
        weight = np.where((index >= 0) & (index < length), weight, 0)
    total = weight.sum(1, keepdims=True)
    return np.clip(index, 0, length - 1), weight / np.where(total == 0, 1, total)
