"""Views: shapes and strides of tensors as kernels see them. They have the fields of `fc_tensor` in csrc/fastcnn.h, with
a slot and an offset in place of an address."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

Halo = tuple[int, int, int, int]
NO_HALO: Halo = (0, 0, 0, 0)
ARENA = 0  # slot of the arena; inputs, constants and outputs follow
FLOAT32, UINT8 = "float32", "uint8"
ITEM_BYTES = {FLOAT32: 4, "int32": 4, "bfloat16": 2, UINT8: 1, "int8": 1}  # of an element of each type


class View(NamedTuple):
    """A tensor of four dimensions in memory, as the kernels take it. Strides and offset count elements.

    Attributes
    ----------
    n, c, h, w : int
        Images, channels, rows and columns.
    image, block, row : int
        Strides from one image, block of channels or row to the next. A pixel is `lanes` elements.
    lanes : int
        Channels of a block, stored side by side.
    halo : tuple of int
        Pixels of padding around every plane, outside the view: top, left, bottom, right.
    slot : int
        Which memory holds it: the arena or one of the caller's arrays.
    offset : int
        From the start of that memory to the first pixel inside the halo.
    element : str
        Type of an element: a name in `ITEM_BYTES`.
    fill : int
        The byte that padding consists of: zero, or the zero point of quantised numbers.
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
    element: str = FLOAT32
    fill: int = 0

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return ITEM_BYTES[self.element]


def four_dimensions(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A shape of four dimensions, as the kernels take it. (a, b) is a batch of rows (a, 1, 1, b).

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
    """The view of a uint8 array (N, H, W, C) as images (N, C, H, W)."""
    n, c, h, w = shape
    return View(n, c, h, w, h * w * c, h * w * c, w * c, c, slot=slot, element=UINT8)


def dense_view(shape: tuple[int, ...], slot: int = ARENA, element: str = FLOAT32) -> View:
    """The view of a C-contiguous array."""
    n, c, h, w = four_dimensions(shape)
    return View(n, c, h, w, c * h * w, h * w, w, slot=slot, element=element)
