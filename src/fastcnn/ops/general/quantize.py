"""Quantised numbers: q stands for scale * (q - zero_point)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.ops.budget import Cost
from fastcnn.ops.general.base import Array, Ints, axis_of, cost_of, general
from fastcnn.ops.general.elementwise import dtype_of
from fastcnn.ops.general.matrix import matmul_cost
from fastcnn.ops.general.windows import _defaults, convolution_cost, convolve, window_pads
from fastcnn.ops.node import Attrs


def _spread(values: Array | None, x: Array, axis: int, block_size: int) -> Any:
    """Scales or zero points in a shape that broadcasts with x: one for all, one for each place along the axis, or one
    for each block of places."""
    if values is None:
        return 0
    if values.size == 1 and values.ndim <= 1:
        return values.reshape(())
    where = axis_of(axis, x.ndim)
    if block_size:
        return np.take(values, np.arange(x.shape[where]) // block_size, where)
    return values.reshape([-1 if a == where else 1 for a in range(x.ndim)])


def _saturated(x: Array, dtype: np.dtype) -> Array:
    info = np.iinfo(dtype)
    return np.asarray(np.clip(x, info.min, info.max)).astype(dtype)


def _linear_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost; scales and zero points may be repeated for all elements."""
    x, axis, blocks = inputs[0], attrs.get("axis", 1), attrs.get("block_size", 0)
    spread = sum(
        max(y.size, y.size // max(1, y.shape[axis]) * x.shape[axis] if blocks else 0)
        for y in inputs[1:]
        if y is not None
    )
    size = 5 * x.size + 3 * spread
    return cost_of(8 * size, 3 * size)


@general("QuantizeLinear", _linear_cost)
def quantize_linear(  # type: ignore[no-untyped-def]
    x,
    scale,
    zero=None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
):
    dtype = zero.dtype if zero is not None else dtype_of(output_dtype or 2)
    if dtype.kind not in "iu":
        raise ValueError(f"type {dtype} of the result, expected an integer type")
    steps = np.rint(x / _spread(scale, x, axis, block_size))
    return _saturated(steps + np.asarray(_spread(zero, x, axis, block_size), np.float64), dtype)


@general("DequantizeLinear", _linear_cost)
def dequantize_linear(x, scale, zero=None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0):  # type: ignore[no-untyped-def]
    steps = x.astype(np.int64) - np.asarray(_spread(zero, x, axis, block_size), np.int64)
    dtype = dtype_of(output_dtype) if output_dtype else scale.dtype
    return (steps.astype(np.float32) * _spread(scale, x, axis, block_size)).astype(dtype)


@general("DynamicQuantizeLinear", _linear_cost)
def dynamic_quantize_linear(x):  # type: ignore[no-untyped-def]
    low, high = np.float32(x.min(initial=0)), np.float32(x.max(initial=0))
    scale = (high - low) / np.float32(255) if high > low else np.float32(1)  # rounded twice, as other engines do
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    return _saturated(np.rint(x / scale) + zero, np.dtype(np.uint8)), np.asarray(scale), np.asarray(zero)


def _centred(x: Array, zero: Array | None, axis: int | None = None) -> Array:
    """x minus its zero point, in float64, for BLAS; sums of up to 2^37 products of 8 bits are exact in float64."""
    if zero is None:
        return x.astype(np.float64)
    if axis is None or zero.ndim == 0 or zero.size == 1:
        return x.astype(np.float64) - (zero.reshape(()) if zero.size == 1 else zero).astype(np.float64)
    return x.astype(np.float64) - zero.astype(np.float64).reshape([-1 if a == axis else 1 for a in range(x.ndim)])


def _rows(zero: Array | None, ndim: int) -> Array | None:
    """Zero points of rows, as a column."""
    if zero is None or zero.ndim != 1 or zero.size == 1:
        return zero
    return zero.reshape(*[1] * (ndim - 2), -1, 1)


def _wide(x: Any) -> Any:
    """A stand-in of the same shape in float64."""
    return np.broadcast_to(np.zeros(()), x.shape)


def _integer_cost(attrs: Attrs, a: Any, b: Any) -> Cost:
    product = matmul_cost(attrs, (_wide(a), _wide(b)))
    copies = 3 * 8 * (a.size + b.size)
    return Cost(3 * product.bytes + copies, 3 * product.work + copies)


@general("MatMulInteger", lambda attrs, inputs: _integer_cost(attrs, *inputs[:2]))
def matmul_integer(a, b, a_zero=None, b_zero=None):  # type: ignore[no-untyped-def]
    return np.matmul(_centred(a, _rows(a_zero, a.ndim)), _centred(b, b_zero)).astype(np.int64).astype(np.int32)


@general("QLinearMatMul", lambda attrs, inputs: _integer_cost(attrs, inputs[0], inputs[3]))
def qlinear_matmul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):  # type: ignore[no-untyped-def]
    product = np.matmul(_centred(a, _rows(a_zero, a.ndim)), _centred(b, b_zero))
    left = a_scale.reshape(-1, 1) if a_scale.ndim == 1 and a_scale.size > 1 else a_scale.reshape(a_scale.shape)
    scale = left.astype(np.float64) * b_scale.astype(np.float64) / y_scale.astype(np.float64)
    return _saturated(np.rint(product * scale) + y_zero.astype(np.float64), y_zero.dtype)


def _integer_conv(
    x: Array,
    x_zero: Array | None,
    w: Array,
    w_zero: Array | None,
    strides: Ints | None,
    dilations: Ints | None,
    pads: Ints | None,
    group: int,
    auto_pad: str,
) -> Array:
    steps, spread, raw = _defaults(x.ndim - 2, strides, dilations, pads)
    amounts = window_pads(x.shape[2:], w.shape[2:], steps, spread, raw, auto_pad)
    return convolve(_centred(x, x_zero), _centred(w, w_zero, 0), group, steps, spread, amounts)


def _integer_conv_cost(attrs: Attrs, x: Any, w: Any) -> Cost:
    held = convolution_cost(attrs, (_wide(x), _wide(w)))
    copies = 3 * 8 * (x.size + w.size)
    return Cost(2 * held.bytes + copies, held.work + copies)


@general("ConvInteger", lambda attrs, inputs: _integer_conv_cost(attrs, *inputs[:2]))
def conv_integer(  # type: ignore[no-untyped-def]
    x,
    w,
    x_zero=None,
    w_zero=None,
    *,
    strides: Ints | None = None,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Ints | None = None,
):
    return _integer_conv(x, x_zero, w, w_zero, strides, dilations, pads, group, auto_pad).astype(np.int32)


@general("QLinearConv", lambda attrs, inputs: _integer_conv_cost(attrs, inputs[0], inputs[3]))
def qlinear_conv(  # type: ignore[no-untyped-def]
    x,
    x_scale,
    x_zero,
    w,
    w_scale,
    w_zero,
    y_scale,
    y_zero,
    b=None,
    *,
    strides: Ints | None = None,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Ints | None = None,
):
    y = _integer_conv(x, x_zero, w, w_zero, strides, dilations, pads, group, auto_pad)
    channels = [1, -1, *[1] * (x.ndim - 2)]
    if b is not None:
        y = y + b.reshape(channels)
    scale = (x_scale.astype(np.float64) * w_scale.astype(np.float64) / y_scale.astype(np.float64)).reshape(-1)
    return _saturated(np.rint(y * scale.reshape(channels)) + y_zero.astype(np.float64), y_zero.dtype)


OPS = (
    quantize_linear,
    dequantize_linear,
    dynamic_quantize_linear,
    matmul_integer,
    qlinear_matmul,
    conv_integer,
    qlinear_conv,
)
