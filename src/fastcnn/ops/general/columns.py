"""Col2Im: images from their windows, each of which is a column. Windows that overlap are added."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.ops.budget import CALL, Cost
from fastcnn.ops.general.base import Array, Ints, cost_of, general, size_of
from fastcnn.ops.general.windows import _defaults, taps_of, window_pads, window_sizes
from fastcnn.ops.node import Attrs


def _plan(attrs: Attrs, inputs: Sequence[Any]) -> tuple[Ints, Ints, Ints, Ints, Ints, list[tuple[int, int]]]:
    """Sizes of the image, of a window, windows along each axis, strides, dilations and padding."""
    x, image, block = inputs
    sizes, kernel = (tuple(int(size) for size in array.ravel()) for array in (image, block))
    strides, dilations, raw = _defaults(len(sizes), attrs.get("strides"), attrs.get("dilations"), attrs.get("pads"))
    pads = window_pads(sizes, kernel, strides, dilations, raw, "NOTSET")
    outputs = window_sizes(sizes, kernel, strides, dilations, pads)
    if x.ndim != 3 or x.shape[1] % prod(kernel) or x.shape[2] != prod(outputs):
        wanted = f"(N, C * {prod(kernel)}, {prod(outputs)})"
        raise ValueError(f"x.shape={x.shape}, expected {wanted}: windows {kernel} of images {sizes}")
    return sizes, kernel, outputs, strides, dilations, pads


def _padded_sizes(sizes: Ints, pads: Sequence[tuple[int, int]]) -> Ints:
    return tuple(size + before + after for size, (before, after) in zip(sizes, pads, strict=True))


def _cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x = inputs[0]
    sizes, kernel, _, _, _, pads = _plan(attrs, inputs)
    planes = x.shape[0] * (x.shape[1] // prod(kernel))
    held = planes * size_of(_padded_sizes(sizes, pads)) + x.size // max(1, prod(kernel))
    return cost_of(2 * held * x.dtype.itemsize, 2 * held + 2 * x.size + prod(kernel) * 4 * CALL)


@general("Col2Im", _cost, values=(1, 2))
def col2im(  # type: ignore[no-untyped-def]
    x,
    image_shape,
    block_shape,
    *,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    strides: Ints | None = None,
):
    attrs = {"strides": strides, "dilations": dilations, "pads": pads}
    sizes, kernel, outputs, steps, spread, amounts = _plan(attrs, (x, image_shape, block_shape))
    n, channels = x.shape[0], x.shape[1] // prod(kernel)
    columns = x.reshape(n, channels, *kernel, *outputs)
    result: Array = np.zeros((n, channels, *_padded_sizes(sizes, amounts)), x.dtype)
    for tap, part in taps_of(result, kernel, steps, spread, outputs):
        place: Any = (slice(None), slice(None), *tap)
        part += columns[place]
    kept: Any = (..., *(slice(before, before + size) for size, (before, _) in zip(sizes, amounts, strict=True)))
    return np.ascontiguousarray(result[kept])


OPS = (col2im,)
