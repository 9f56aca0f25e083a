"""Matrix products, Einsum, and normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.ops.budget import CALL, KERNEL, Cost
from fastcnn.ops.general.base import Array, Ints, axes_of, axis_of, cost_of, general, size_of, width_of
from fastcnn.ops.node import Attrs


def product_work(multiply_adds: int, dtype: np.dtype) -> int:
    """Elementary operations of a matrix product; BLAS computes it for two types only."""
    return 2 * multiply_adds // KERNEL if dtype in (np.float32, np.float64) else 2 * multiply_adds


def matmul_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost of the product of two matrices, or of two stacks of matrices."""
    x, y = inputs[:2]
    if x.ndim == 0 or y.ndim == 0:
        raise ValueError(f"shapes {x.shape} and {y.shape}, expected matrices")
    left, right = x.shape[-2:] if x.ndim > 1 else (1, x.shape[0]), y.shape[-2:] if y.ndim > 1 else (y.shape[0], 1)
    stack = prod(np.broadcast_shapes(x.shape[:-2], y.shape[:-2]))
    dtype = np.result_type(x, y)
    held = 2 * stack * left[0] * right[1] + x.size + y.size  # operands that BLAS cannot read are copied
    adds = stack * left[0] * left[1] * right[1]
    return cost_of(held * dtype.itemsize, product_work(adds, dtype) + held + stack * CALL)


def _matmul_shape(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    x, y = inputs
    if min(x.ndim, y.ndim) < 2 or x.shape[-1] != y.shape[-2]:
        raise ValueError("no matrices")
    return (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])


@general("MatMul", matmul_cost, shape=_matmul_shape)
def matmul(x, y):  # type: ignore[no-untyped-def]
    return np.matmul(x, y)


def _gemm_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    a, b = inputs[:2]
    (rows, inner), outs = a.shape[:: -1 if attrs.get("transA") else 1], b.shape[0 if attrs.get("transB") else 1]
    dtype, result = np.result_type(a, b), size_of((rows, outs))
    # The third operand counts, because it may be larger than the product, and is refused only when they are added.
    held = 3 * result + a.size + b.size + 2 * (inputs[2].size if len(inputs) > 2 and inputs[2] is not None else 0)
    return cost_of(held * width_of(*inputs), product_work(result * inner, dtype) + 2 * held)


@general("Gemm", _gemm_cost)
def gemm(a, b, c=None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0):  # type: ignore[no-untyped-def]  # noqa: N803
    product = (a.T if transA else a) @ (b.T if transB else b)
    if alpha != 1.0:
        product = product * alpha
    if c is not None:
        product = product + (c if beta == 1.0 else beta * c)
    return product.astype(a.dtype)


def _einsum_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The sum runs over all values of all letters; two operands may become a matrix product."""
    left, arrow, right = attrs["equation"].replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    spread: list[Ints] = [()]
    for term, x in zip(left.split(","), inputs, strict=True):
        before, dots, after = term.partition("...")
        if len(before) + len(after) > x.ndim or not dots and len(before) != x.ndim:
            raise ValueError(f"equation {attrs['equation'][:80]!r}, expected letters for {x.ndim} dimensions")
        end = x.ndim - len(after)
        spread.append(x.shape[len(before) : end])
        for letter, size in zip(before + after, (*x.shape[: len(before)], *x.shape[end:]), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    dots_size = prod(np.broadcast_shapes(*spread))
    work = prod(sizes.values()) * dots_size
    kept = right.replace("...", "") if arrow else sizes
    result = prod(sizes.get(letter, 1) for letter in kept) * dots_size
    copied = 2 * sum(x.size for x in inputs)
    return cost_of((2 * result + copied) * width_of(*inputs), 2 * len(inputs) * work + result + copied)


@general("Einsum", _einsum_cost)
def einsum(*arrays, equation: str):  # type: ignore[no-untyped-def]
    return np.einsum(equation.replace(" ", ""), *arrays, optimize=len(arrays) <= 2)


def _channels(values: Array, ndim: int) -> Array:
    return values.reshape(-1, *[1] * (ndim - 2))


def _norm_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x = inputs[0]
    size = 6 * x.size + 8 * sum(y.size for y in inputs[1:] if y is not None) + 8 * (x.shape[1] if x.ndim > 1 else 1)
    return cost_of(size * max(4, width_of(*inputs)), 3 * size)


@general("BatchNormalization", _norm_cost)
def batch_normalization(  # type: ignore[no-untyped-def]
    x,
    scale,
    bias,
    mean,
    var,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
):
    rank = max(x.ndim, 2)
    if not training_mode:
        slope = scale / np.sqrt(var + epsilon)
        return (x * _channels(slope, rank) + _channels(bias - mean * slope, rank)).astype(x.dtype)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    now, spread = x.mean(axes), x.var(axes)
    slope = scale / np.sqrt(spread + epsilon)
    y = x * _channels(slope, rank) + _channels(bias - now * slope, rank)
    return (
        y.astype(x.dtype),
        (mean * momentum + now * (1 - momentum)).astype(mean.dtype),
        (var * momentum + spread * (1 - momentum)).astype(var.dtype),
    )


def _normalized(x: Array, axes: Ints, epsilon: float) -> tuple[Array, Array, Array]:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    mean = wide.mean(axes, keepdims=True)
    centred = wide - mean
    inverse = 1 / np.sqrt((centred * centred).mean(axes, keepdims=True) + epsilon)
    return centred * inverse, mean, inverse


@general("InstanceNormalization", _norm_cost)
def instance_normalization(x, scale, bias, *, epsilon: float = 1e-5):  # type: ignore[no-untyped-def]
    y, _, _ = _normalized(x, tuple(range(2, x.ndim)), epsilon)
    return (y * _channels(scale, x.ndim) + _channels(bias, x.ndim)).astype(x.dtype)


@general("LayerNormalization", _norm_cost)
def layer_normalization(x, scale, bias=None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1):  # type: ignore[no-untyped-def]
    y, mean, inverse = _normalized(x, tuple(range(axis_of(axis, x.ndim), x.ndim)), epsilon)
    y = y * scale if bias is None else y * scale + bias
    return y.astype(x.dtype), mean, inverse


@general("RMSNormalization", _norm_cost)
def rms_normalization(x, scale, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1):  # type: ignore[no-untyped-def]
    axes = tuple(range(axis_of(axis, x.ndim), x.ndim))
    return (x / np.sqrt((x * x).mean(axes, keepdims=True) + epsilon) * scale).astype(x.dtype)


@general("GroupNormalization", _norm_cost)
def group_normalization(  # type: ignore[no-untyped-def]
    x,
    scale,
    bias,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    by_group: int = 0,
):
    n, channels = x.shape[:2]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"num_groups={num_groups}, expected a divisor of {channels} channels")
    y, _, _ = _normalized(x.reshape(n, num_groups, -1), (2,), epsilon)
    if by_group:  # before opset 21
        scale, bias = (np.repeat(v, channels // num_groups) for v in (scale, bias))
    return (y.reshape(x.shape) * _channels(scale, x.ndim) + _channels(bias, x.ndim)).astype(x.dtype)


@general("MeanVarianceNormalization", _norm_cost)
def mean_variance_normalization(x, *, axes: Ints = (0, 2, 3)):  # type: ignore[no-untyped-def]
    chosen = axes_of(axes, x.ndim)
    mean = x.mean(chosen, keepdims=True)
    return ((x - mean) / (np.sqrt((x * x).mean(chosen, keepdims=True) - mean * mean) + 1e-9)).astype(x.dtype)


def _lrn_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x = inputs[0]
    shifts = min(2 * x.shape[1], max(0, attrs["size"])) if x.ndim > 1 else 1
    return cost_of(8 * 8 * x.size, shifts * (2 * x.size + CALL) + 8 * x.size)


@general("LRN", _lrn_cost)
def lrn(x, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0):  # type: ignore[no-untyped-def]
    if size < 1:
        raise ValueError(f"size={size}, expected at least 1")
    return reference.local_response_norm(x, size, alpha, beta, bias).astype(x.dtype)


OPS = (
    matmul,
    gemm,
    einsum,
    batch_normalization,
    instance_normalization,
    layer_normalization,
    rms_normalization,
    group_normalization,
    mean_variance_normalization,
    lrn,
)
