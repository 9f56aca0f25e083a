"""Brings photos to the size of an input by Pillow: their middle, all of them with padding, or stretched; and to grey.

preprocess.py tells which way a network wants, and with which numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fastcnn.io._photo import import_pillow

__all__ = ["RESIZES", "Box", "covered", "grey", "middle", "stretched", "whole"]

RESIZES = ("crop", "letterbox", "stretch")
_LARGEST_RADIUS = 3  # of the interpolation filters, Lanczos's, in pixels of the coarser grid

Box: TypeAlias = tuple[float, float, float, float]  # left, top, right, bottom


def grey(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) uint8 as (H, W, 1): 0.299 red + 0.587 green + 0.114 blue, as Pillow's mode L (ITU-R BT.601).

    Examples
    --------
    >>> grey(np.uint8([[[255, 0, 0], [0, 255, 0], [7, 7, 7]]]))[0, :, 0].tolist()
    [76, 150, 7]
    """
    return np.asarray(import_pillow().fromarray(pixels).convert("L"))[..., None]


def stretched(pixels: np.ndarray, box: Box, shape: tuple[int, int], interpolation: str) -> np.ndarray:
    """Resize a box of a photo: (H, W, C) uint8 to (*shape, C) uint8."""
    height, width = shape
    if pixels.shape[:2] == shape and box == (0, 0, width, height):
        return pixels  # Pillow would copy them three times
    pillow = import_pillow()
    channels = pixels.shape[2]
    image = pillow.fromarray(pixels[..., 0] if channels == 1 else pixels)
    filter_ = pillow.Resampling[interpolation.upper()]
    return np.asarray(image.resize((width, height), filter_, box=box)).reshape(height, width, channels)


def whole(pixels: np.ndarray, shape: tuple[int, int], interpolation: str, padding: tuple[int, ...]) -> np.ndarray:
    """Fit all of a photo, (H, W, C) uint8, into the middle of (*shape, C), and fill the rest with a colour."""
    (height, width), (photo_height, photo_width) = shape, pixels.shape[:2]
    scale = min(height / photo_height, width / photo_width)
    inner = min(max(round(photo_height * scale), 1), height), min(max(round(photo_width * scale), 1), width)
    photo = stretched(pixels, (0, 0, photo_width, photo_height), inner, interpolation)
    if inner == shape:
        return photo
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    canvas = np.empty((height, width, pixels.shape[2]), np.uint8)
    canvas[...] = padding
    canvas[top : top + inner[0], left : left + inner[1]] = photo
    return canvas


def covered(size: tuple[int, int], fraction: float, rounded: Callable[[float], int]) -> tuple[int, int]:
    """Return height and width divided by a fraction."""
    return rounded(size[0] / fraction), rounded(size[1] / fraction)


def middle(pixels: np.ndarray, size: tuple[int, int], fraction: float) -> tuple[np.ndarray, Box]:
    """Return the part of a photo that its middle depends on, and the box of the middle in that part.

    The photo just covers ``size / fraction`` when it is resized; the middle `size` of that is meant.
    """
    (scaled_height, scaled_width), (height, width) = _scaled(pixels.shape[0], pixels.shape[1], size, fraction), size
    rows, (top, bottom) = _window(pixels.shape[0], scaled_height, height)
    columns, (left, right) = _window(pixels.shape[1], scaled_width, width)
    return np.ascontiguousarray(pixels[rows, columns]), (left, top, right, bottom)


def _scaled(height: int, width: int, size: tuple[int, int], fraction: float) -> tuple[int, int]:
    """Return the size of a resized photo before it is cropped: at least ``size / fraction``."""
    least_height, least_width = covered(size, fraction, math.floor)
    if height * least_width <= width * least_height:
        return least_height, width * least_height // height
    return height * least_width // width, least_width


def _window(length: int, scaled: int, size: int) -> tuple[slice, tuple[float, float]]:
    """Find, along one axis, the input of the middle `size` of `scaled` pixels, which are `length` pixels resized.

    Returns a slice of the input pixels that the middle depends on, and where in the slice the middle begins and ends.
    """
    begin = round((scaled - size) / 2) * length / scaled
    end = (round((scaled - size) / 2) + size) * length / scaled
    reach = _LARGEST_RADIUS * max(length / scaled, 1.0) + 1
    first, last = max(math.floor(begin - reach), 0), min(math.ceil(end + reach), length)
    return slice(first, last), (begin - first, end - first)
