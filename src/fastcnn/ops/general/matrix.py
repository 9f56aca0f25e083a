"""Matrix products, Einsum, and normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.ops.base import Attrs
from fastcnn.ops.general.base import Array, Ints, axes_of, axis_of, general, size_of


def matmul_size(attrs: Attrs, inputs: Sequence[Any]) -> int:
    """Elements of the product of two matrices, or of two stacks of them."""
    x, y = inputs[:2]
    if x.ndim < 2 or y.ndim < 2:
        return int(max(x.size, y.size, 1))
    return size_of((*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]))


def _matmul_shape(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    x, y = inputs
    if min(x.ndim, y.ndim) < 2 or x.shape[-1] != y.shape[-2]:
        raise ValueError("no matrices")
    return (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])


@general("MatMul", size=matmul_size, shape=_matmul_shape)
def matmul(x, y):  # type: ignore[no-untyped-def]
    return np.matmul(x, y)


def _gemm_size(attrs: Attrs, inputs: Sequence[Any]) -> int:
    a, b = inputs[:2]
    return size_of((a.shape[1 if attrs.get("transA") else 0], b.shape[0 if attrs.get("transB") else 1]))


@general("Gemm", size=_gemm_size)
def gemm(a, b, c=None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0):  # type: ignore[no-untyped-def]  # noqa: N803
    product = (a.T if transA else a) @ (b.T if transB else b)
    if alpha != 1.0:
        product = product * alpha
    if c is not None:
        product = product + (c if beta == 1.0 else beta * c)
    return product.astype(a.dtype)


def _einsum_size(attrs: Attrs, inputs: Sequence[Any]) -> int:
    left, _, right = attrs["equation"].replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, x in zip(left.split(","), inputs, strict=True):
        letters = term.replace("...", "")
        dims = x.shape if "..." not in term else x.shape[-len(letters) :] if letters else ()
        sizes |= dict(zip(letters, dims, strict=False))
        sizes["..."] = max(sizes.get("...", 1), x.size // max(1, prod(dims)))
    kept = [sizes.get(letter, 1) for letter in (right.replace("...", "") or left.replace(",", ""))]
    return size_of(kept) * sizes["..."]


@general("Einsum", size=_einsum_size)
def einsum(*arrays, equation: str):  # type: ignore[no-untyped-def]
    return np.einsum(equation.replace(" ", ""), *arrays, optimize=len(arrays) <= 2)


def _channels(values: Array, ndim: int) -> Array:
    return values.reshape(-1, *[1] * (ndim - 2))


@general("BatchNormalization")
def batch_normalization(x, scale, bias, mean, var, *, epsilon: float = 1e-5, momentum: float = 0.9,  # type: ignore[no-untyped-def]
                        training_mode: int = 0):
    rank = max(x.ndim, 2)
    if not training_mode:
        slope = scale / np.sqrt(var + epsilon)
        return (x * _channels(slope, rank) + _channels(bias - mean * slope, rank)).astype(x.dtype)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    now, spread = x.mean(axes), x.var(axes)
    slope = scale / np.sqrt(spread + epsilon)
    y = x * _channels(slope, rank) + _channels(bias - now * slope, rank)
    return (y.astype(x.dtype), (mean * momentum + now * (1 - momentum)).astype(mean.dtype),
            (var * momentum + spread * (1 - momentum)).astype(var.dtype))


def _normalized(x: Array, axes: Ints, epsilon: float) -> tuple[Array, Array, Array]:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    mean = wide.mean(axes, keepdims=True)
    centred = wide - mean
    inverse = 1 / np.sqrt((centred * centred).mean(axes, keepdims=True) + epsilon)
    return centred * inverse, mean, inverse


@general("InstanceNormalization")
def instance_normalization(x, scale, bias, *, epsilon: float = 1e-5):  # type: ignore[no-untyped-def]
    y, _, _ = _normalized(x, tuple(range(2, x.ndim)), epsilon)
    return (y * _channels(scale, x.ndim) + _channels(bias, x.ndim)).astype(x.dtype)


@general("LayerNormalization")
def layer_normalization(x, scale, bias=None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1):  # type: ignore[no-untyped-def]
    y, mean, inverse = _normalized(x, tuple(range(axis_of(axis, x.ndim), x.ndim)), epsilon)
    y = y * scale if bias is None else y * scale + bias
    return y.astype(x.dtype), mean, inverse


@general("RMSNormalization")
def rms_normalization(x, scale, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1):  # type: ignore[no-untyped-def]
    axes = tuple(range(axis_of(axis, x.ndim), x.ndim))
    return (x / np.sqrt((x * x).mean(axes, keepdims=True) + epsilon) * scale).astype(x.dtype)


@general("GroupNormalization")
def group_normalization(x, scale, bias, *, num_groups: int, epsilon: float = 1e-5, stash_type: int = 1,  # type: ignore[no-untyped-def]
                        by_group: int = 0):
    n, channels = x.shape[:2]
    if num_groups < 1 or channels % num_groups:
        raise ValueError(f"num_groups={num_groups}, expected a divisor of {channels} channels")
    y, _, _ = _normalized(x.reshape(n, num_groups, -1), (2,), epsilon)
    if by_group:  # before opset 21
        scale, bias = (np.repeat(v, channels // num_groups) for v in (scale, bias))
    return (y.reshape(x.shape) * _channels(scale, x.ndim) + _channels(bias, x.ndim)).astype(x.dtype)


@general("MeanVarianceNormalization")
def mean_variance_normalization(x, *, axes: Ints = (0, 2, 3)):  # type: ignore[no-untyped-def]
    chosen = axes_of(axes, x.ndim)
    mean = x.mean(chosen, keepdims=True)
    return ((x - mean) / (np.sqrt((x * x).mean(chosen, keepdims=True) - mean * mean) + 1e-9)).astype(x.dtype)


@general("LRN")
def lrn(x, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0):  # type: ignore[no-untyped-def]
    if size < 1:
        raise ValueError(f"size={size}, expected at least 1")
    return reference.local_response_norm(x, size, alpha, beta, bias).astype(x.dtype)


OPS = (
    matmul, gemm, einsum, batch_normalization, instance_normalization, layer_normalization, rms_normalization,
    group_normalization, mean_variance_normalization, lrn,
)
