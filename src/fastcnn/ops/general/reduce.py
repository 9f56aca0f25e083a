"""Reductions along axes, and functions of order: arguments of extremes, the k largest, cumulative sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcnn.ops.budget import Cost
from fastcnn.ops.general.base import (
    Array,
    Costs,
    General,
    axes_of,
    axis_of,
    by_elements,
    cost_of,
    general,
    size_of,
)
from fastcnn.ops.node import Attrs


def _first(arrays: int) -> Costs:
    """The cost of a function by the number of arrays, as large as its first operand, that it holds at one time."""

    def cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
        return by_elements(arrays)(attrs, inputs[:1])

    return cost


def _reduction(name: str, function: Callable[..., Any], arrays: int = 3) -> General:
    def call(x, axes=None, *, keepdims: int = 1, noop_with_empty_axes: int = 0):  # type: ignore[no-untyped-def]
        if (axes is None or axes.size == 0) and noop_with_empty_axes:
            return np.asarray(function(x, (), True)).astype(x.dtype)
        chosen = tuple(range(x.ndim)) if axes is None or axes.size == 0 else axes_of(axes.ravel(), x.ndim)
        return np.asarray(function(x, chosen, bool(keepdims))).astype(x.dtype)

    return General(name, call, _first(arrays), values=(1,))


def _extreme(function: Callable[..., Any], largest: bool) -> Callable[..., Any]:
    def reduce(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
        if x.dtype.kind == "b":
            return (np.any if largest else np.all)(x, axis=axes, keepdims=keepdims)
        if x.dtype.kind == "f":
            empty = -np.inf if largest else np.inf
        else:
            empty = np.iinfo(x.dtype).min if largest else np.iinfo(x.dtype).max
        return function(x, axis=axes, keepdims=keepdims, initial=empty)

    return reduce


def _log_sum_exp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    top = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
    held = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(x - held), axis=axes, keepdims=True)) + held
    return total if keepdims else total.squeeze(axes)


def _sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Any:
    return np.sum(x, axis=axes, keepdims=keepdims)


def _arg(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(x, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0):  # type: ignore[no-untyped-def]
        where = axis_of(axis, x.ndim)
        if select_last_index:
            found = x.shape[where] - 1 - function(np.flip(x, where), axis=where)
        else:
            found = function(x, axis=where)
        found = np.asarray(found, np.int64)
        return np.expand_dims(found, where) if keepdims else found

    return call


@general("TopK", lambda attrs, inputs: cost_of(6 * 8 * inputs[0].size, 64 * inputs[0].size), values=(1,))
def top_k(x, k, *, axis: int = -1, largest: int = 1, sorted: int = 1):  # type: ignore[no-untyped-def]
    where, count = axis_of(axis, x.ndim), int(k.reshape(()))
    if not 0 <= count <= x.shape[where]:
        raise ValueError(f"k={count}, expected at most the {x.shape[where]} elements along the axis")
    moved = np.moveaxis(x, where, -1)
    if largest:  # of equal elements the one with the lower index comes first
        order = moved.shape[-1] - 1 - np.flip(np.argsort(np.flip(moved, -1), axis=-1, kind="stable"), -1)
    else:
        order = np.argsort(moved, axis=-1, kind="stable")
    order = order[..., :count]
    values = np.take_along_axis(moved, order, -1)
    return np.moveaxis(values, -1, where), np.moveaxis(order, -1, where).astype(np.int64)


@general("CumSum", _first(3))
def cum_sum(x, axis, *, exclusive: int = 0, reverse: int = 0):  # type: ignore[no-untyped-def]
    where = axis_of(int(axis.reshape(())), x.ndim)
    x = np.flip(x, where) if reverse else x
    total = np.cumsum(x, where, dtype=x.dtype)
    if exclusive:
        total = total - x
    return np.flip(total, where) if reverse else total


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum of exp(x) along an axis."""
    e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
    return np.asarray(e / e.sum(axis, keepdims=True))


def _log_softmax(x: Array, axis: int) -> Array:
    shifted = x - x.max(axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis, keepdims=True)))


def _hardmax(x: Array, axis: int) -> Array:
    result = np.zeros_like(x)
    np.put_along_axis(result, np.expand_dims(x.argmax(axis), axis), 1, axis)
    return result


def _along(name: str, function: Callable[[Array, int], Array]) -> General:
    def call(x, *, axis: int = -1, flatten: int = 0):  # type: ignore[no-untyped-def]
        where = axis_of(axis, x.ndim)
        if not flatten:
            return function(x, where)
        rows = x.reshape(int(np.prod(x.shape[:where])), -1)  # before opset 13: all axes from there on as one
        return function(rows, 1).reshape(x.shape)

    return General(name, call, _first(5))


@general("Range", lambda attrs, inputs: cost_of(4 * 8 * _range_size(inputs), 8 * _range_size(inputs)), values=(0, 1, 2))
def range_(start, limit, delta):  # type: ignore[no-untyped-def]
    count = _range_size([start, limit, delta])
    return (start.reshape(()) + np.arange(count) * delta.reshape(())).astype(start.dtype)


def _range_size(inputs: Sequence[Any]) -> int:
    start, limit, delta = (x.reshape(()).item() for x in inputs)
    if delta == 0:
        raise ValueError("delta=0, expected another number")
    return max(0, int(np.ceil((limit - start) / delta)))


def _one_hot_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    indices, depth, values = inputs
    count = size_of(depth.reshape(-1)[:1])
    result = indices.size * count
    return cost_of(
        5 * 8 * indices.size + 2 * 8 * count + result * (2 + 2 * values.dtype.itemsize),
        4 * result + 8 * indices.size + count,
    )


@general("OneHot", _one_hot_cost, values=(1,))
def one_hot(indices, depth, values, *, axis: int = -1):  # type: ignore[no-untyped-def]
    count = int(depth.reshape(()))
    where = axis_of(axis, indices.ndim + 1)
    inside = (indices >= -count) & (indices < count)
    wrapped = np.expand_dims(np.where(inside, indices.astype(np.int64) % max(count, 1), -1), where)
    classes = np.arange(count).reshape([-1 if a == where else 1 for a in range(indices.ndim + 1)])
    return np.where(wrapped == classes, values[1], values[0]).astype(values.dtype)


def _non_zero_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x = inputs[0]
    size = x.size * max(1, x.ndim)
    return cost_of(2 * 8 * size + x.size, 4 * size)


@general("NonZero", _non_zero_cost, values=(0,), many=True)
def non_zero(x):  # type: ignore[no-untyped-def]
    return np.array(np.nonzero(np.atleast_1d(x)), np.int64)


def lp_norm(x: Array, p: int, axes: tuple[int, ...], keepdims: bool) -> Array:
    """(sum of |x|^p)^(1/p)."""
    size = np.abs(x)
    return np.asarray(np.sum(size**p, axis=axes, keepdims=keepdims) ** (1.0 / p))


@general("LpNormalization", _first(5))
def lp_normalization(x, *, axis: int = -1, p: int = 2):  # type: ignore[no-untyped-def]
    norm = lp_norm(x, p, (axis_of(axis, x.ndim),), True)
    return np.where(norm == 0, 0, x / norm).astype(x.dtype)


OPS = (
    _reduction("ReduceSum", _sum),
    _reduction("ReduceMean", lambda x, axes, keep: np.mean(x, axes, np.float64, keepdims=keep)),
    _reduction("ReduceProd", lambda x, axes, keep: np.prod(x, axis=axes, keepdims=keep)),
    _reduction("ReduceMax", _extreme(np.max, True)),
    _reduction("ReduceMin", _extreme(np.min, False)),
    _reduction("ReduceL1", lambda x, axes, keep: np.sum(np.abs(x), axis=axes, keepdims=keep)),
    _reduction("ReduceL2", lambda x, axes, keep: np.sqrt(np.sum(x * x, axis=axes, keepdims=keep))),
    _reduction("ReduceSumSquare", lambda x, axes, keep: np.sum(x * x, axis=axes, keepdims=keep)),
    _reduction("ReduceLogSum", lambda x, axes, keep: np.log(np.sum(x, axis=axes, keepdims=keep))),
    _reduction("ReduceLogSumExp", _log_sum_exp, 6),
    General("ArgMax", _arg(np.argmax), _first(4)),
    General("ArgMin", _arg(np.argmin), _first(4)),
    _along("Softmax", softmax),
    _along("LogSoftmax", _log_softmax),
    _along("Hardmax", _hardmax),
    top_k,
    cum_sum,
    range_,
    one_hot,
    non_zero,
    lp_normalization,
)
