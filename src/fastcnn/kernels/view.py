"""Views: how kernels see a tensor in memory. The same fields as `fc_tensor` in csrc/fastcnn.h, before addresses are
known."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

Halo = tuple[int, int, int, int]
NO_HALO: Halo = (0, 0, 0, 0)
ARENA = 0  # slot of the arena; inputs, constants and outputs follow


class View(NamedTuple):
    """A tensor of four dimensions in memory, as the kernels take it; strides and offset count floats.

    Attributes
    ----------
    n, c, h, w : int
    image, block, row : int
        Strides; a pixel is `lanes` floats.
    lanes : int
        Channels side by side.
    halo : tuple of int
        Zeros at top, left, bottom, right, outside the view.
    slot : int
        Which memory.
    offset : int
        Of the first interior element.
    """

    n: int
    c: int
    h: int
    w: int
    image: int
    block: int
    row: int
    lanes: int = 1
    halo: Halo = NO_HALO
    slot: int = ARENA
    offset: int = 0


def four_dimensions(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A shape as the kernels see it: (a, b) is a batch of rows (a, 1, 1, b).

    Examples
    --------
    >>> four_dimensions((8, 10))
    (8, 1, 1, 10)
    >>> four_dimensions((2, 3, 4, 5, 6))
    (1, 1, 1, 720)
    """
    if len(shape) > 4:
        return 1, 1, 1, prod(shape)
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    first, *rest = shape if len(shape) > 1 else (1, *shape)
    padded = [1] * (3 - len(rest)) + rest
    return first, padded[0], padded[1], padded[2]


def pixel_view(shape: tuple[int, ...], slot: int) -> View:
    """The view of a uint8 array (N, H, W, C) that stands for images (N, C, H, W); strides count bytes."""
    n, c, h, w = shape
    return View(n, c, h, w, h * w * c, h * w * c, w * c, c, slot=slot)


def dense_view(shape: tuple[int, ...], slot: int = ARENA) -> View:
    """The view of a C-contiguous array."""
    n, c, h, w = four_dimensions(shape)
    return View(n, c, h, w, c * h * w, h * w, w, slot=slot)
