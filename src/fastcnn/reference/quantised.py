"""Layers of bytes, in integers: what 8-bit kernels compute, bit by bit.

A byte q stands for scale * (q - zero). Weights are signed bytes, and stand for scale * w. Sums are exact. What is
rounded is told by each formula, in float32: `fused` is a * b + c with one rounding, and rint rounds half to even. A NaN
becomes the lower bound.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcnn.reference.base import Ints
from fastcnn.reference.forward import _pool_windows, conv2d, pad

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]


def fused(a: npt.ArrayLike, b: npt.ArrayLike, c: npt.ArrayLike) -> Floats:
    """a * b + c of float32 numbers, rounded once.

    The product is exact in float64. The sum is rounded to odd there: where it is not exact, it becomes the neighbour
    whose last bit is 1. No tie then arises where it is rounded again, to float32.

    Examples
    --------
    >>> fused(3, np.float32(0.1), -0.3).item() != 3 * 0.1 - 0.3
    True
    """
    product = np.asarray(a, np.float32).astype(np.float64) * np.asarray(b, np.float32)
    addend = np.asarray(c, np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        total = np.asarray(product + addend)
        other = total - product
        lost = (product - (total - other)) + (addend - other)
        even = (total.view(np.int64) & 1) == 0
        towards = np.where(lost > 0, np.inf, -np.inf)
        odd = np.where(even & (lost != 0) & np.isfinite(total), np.nextafter(total, towards), total)
        return np.asarray(odd, np.float32)


def to_bytes(t: npt.ArrayLike, zero: int, low: int = 0, high: int = 255, table: Bytes | None = None) -> Bytes:
    """clip(rint(t) + zero, low, high), and the entry of a table at this place.

    Examples
    --------
    >>> to_bytes([-3.0, 0.5, 1.5, 300.0], zero=2)
    array([  0,   2,   4, 255], dtype=uint8)
    """
    t = np.asarray(t, np.float32)
    y = np.clip(np.rint(np.where(np.isnan(t), -np.inf, t)) + np.float32(zero), low, high).astype(np.uint8)
    return y if table is None else np.asarray(np.take(table, y), np.uint8)


def int8_conv_sums(
    x: Bytes,
    weight: npt.NDArray[np.int8],
    bias: npt.ArrayLike,
    stride: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
    fill: int = 0,
) -> Whole:
    """Sums of a convolution of bytes (N, C, H, W), surrounded by `fill`, as `conv2d` has them.

    Examples
    --------
    >>> int8_conv_sums(np.full((1, 1, 1, 1), 200, np.uint8), np.full((1, 1, 1, 1), -2, np.int8), [7])
    array([[[[-393]]]])
    """
    top, left, bottom, right = pads
    framed = pad(x, (0, 0, top, left, 0, 0, bottom, right), fill)
    return conv2d(framed, weight, bias, stride, (0, 0, 0, 0), dilation, groups).astype(np.int64)


def finish_sums(
    sums: Whole,
    scale: npt.ArrayLike,
    *,
    zero: int = 0,
    low: int = 0,
    high: int = 255,
    residual: Bytes | None = None,
    residual_scale: float = 0.0,
    residual_zero: int = 0,
    table: Bytes | None = None,
    rounded: tuple[int, float] | None = None,
) -> Bytes:
    """Bytes from sums (N, O, H, W), with a factor for each output::

        t = fused(residual - residual_zero, residual_scale, float32(sum) * scale)

    With `rounded`, the sums first become bytes of this zero point and scale. Then t is what `int8_sum` makes of those
    bytes and the residual.

    Examples
    --------
    >>> finish_sums(np.full((1, 1, 1, 1), 1000), [0.1], zero=3)
    array([[[[103]]]], dtype=uint8)
    """
    t = scaled_sums(sums, scale)
    if residual is not None and rounded is not None:
        t = int8_sum(to_bytes(t, rounded[0]), residual, rounded[1], rounded[0], residual_scale, residual_zero)
    elif residual is not None:
        t = fused(residual.astype(np.int64) - residual_zero, residual_scale, t)
    return to_bytes(t, zero, low, high, table)


def scaled_sums(sums: Whole, scale: npt.ArrayLike) -> Floats:
    """float32(sum) * scale, of sums (N, O, H, W)."""
    return sums.astype(np.float32) * np.asarray(scale, np.float32).reshape(-1, 1, 1)


def int8_means(
    x: Bytes,
    kernel: Ints,
    stride: Ints,
    pads: Ints,
    dilation: Ints,
    count_include_pad: bool,
    scale: float,
    zero: int,
    ceil_mode: bool = False,
) -> Floats:
    """t of the means of windows: float32(sum of x - zero) * (scale / float32(count)).

    Padding is zero. The count is as in `avg_pool2d`.

    Examples
    --------
    >>> int8_means(np.array([[[[4, 8]]]], np.uint8), (1, 2), (1, 2), (0,) * 4, (1, 1), False, scale=0.5, zero=2)
    array([[[[2.]]]], dtype=float32)
    """
    real = x.astype(np.float64) - zero
    total = _pool_windows(real, kernel, stride, pads, dilation, ceil_mode, 0.0).sum((4, 5))
    counts = []
    for axis in range(2):
        before, after = (pads[axis], pads[2 + axis]) if count_include_pad else (0, 0)
        places = np.arange(total.shape[2 + axis])[:, None] * stride[axis] - pads[axis]
        places = places + np.arange(kernel[axis]) * dilation[axis]
        counts.append(((places >= -before) & (places < x.shape[2 + axis] + after)).sum(1))
    with np.errstate(all="ignore"):
        share = np.float32(scale) / np.multiply.outer(*counts).astype(np.float32)
        return np.asarray(total.astype(np.float32) * share, np.float32)


def int8_sum(a: Bytes, b: Bytes, a_scale: float, a_zero: int, b_scale: float, b_zero: int) -> Floats:
    """t of a sum: fused(a - a_zero, a_scale, (b - b_zero) * b_scale)."""
    second = (b.astype(np.int64) - b_zero).astype(np.float32) * np.float32(b_scale)
    return fused(a.astype(np.int64) - a_zero, a_scale, second)


def int8_product(a: Bytes, b: Bytes, scale: float, a_zero: int, b_zero: int) -> Floats:
    """t of a product: float32((a - a_zero) * (b - b_zero)) * scale."""
    product = (a.astype(np.int64) - a_zero) * (b.astype(np.int64) - b_zero)
    return np.asarray(product.astype(np.float32) * np.float32(scale))


def quantize(x: npt.ArrayLike, scale: float, zero: int) -> Bytes:
    """rint(x / scale) + zero, within 0 and 255; NaN becomes 0.

    Examples
    --------
    >>> quantize([0.0, 0.25, -9.0, np.inf], scale=0.5, zero=10)
    array([ 10,  10,   0, 255], dtype=uint8)
    """
    with np.errstate(all="ignore"):
        return to_bytes(np.asarray(x, np.float32) / np.float32(scale), zero)


def dequantize(x: Bytes, scale: float, zero: int) -> Floats:
    """float32(x - zero) * scale.

    Examples
    --------
    >>> dequantize(np.array([10, 12], np.uint8), scale=0.5, zero=10)
    array([0., 1.], dtype=float32)
    """
    return np.asarray((x.astype(np.int64) - zero).astype(np.float32) * np.float32(scale))
