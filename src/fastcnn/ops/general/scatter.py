"""Scatter: an array with some of its elements replaced, or changed by others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.ops.budget import CALL, Cost
from fastcnn.ops.general.base import Array, Ints, axis_of, cost_of, general
from fastcnn.ops.general.rearrange import checked_indices
from fastcnn.ops.node import Attrs

_REDUCTIONS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(result: Array, places: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    """Change elements of a new array in place, and give it."""
    if reduction == "none":
        result[places] = updates
    elif reduction in _REDUCTIONS:
        _REDUCTIONS[reduction].at(result, places, updates)
    else:
        raise ValueError(f"reduction={reduction!r}, expected none, {', '.join(_REDUCTIONS)}")
    return result


def _cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x, indices, updates = inputs
    held = x.size * x.dtype.itemsize + 2 * 8 * indices.size * max(1, x.ndim) + updates.size * updates.dtype.itemsize
    each = 4 if attrs.get("reduction", "none") == "none" else CALL
    return cost_of(held, 2 * x.size + 4 * indices.size * max(1, x.ndim) + each * updates.size)


def _same(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    shape: Ints = inputs[0].shape
    return shape


@general("ScatterND", _cost, shape=_same, first=True)
def scatter_nd(x, indices, updates, *, reduction: str = "none"):  # type: ignore[no-untyped-def]
    depth = indices.shape[-1]
    wanted = (*indices.shape[:-1], *x.shape[depth:])
    if depth > x.ndim or updates.shape != wanted:
        raise ValueError(f"updates of shape {updates.shape}, expected {wanted}")
    places = tuple(checked_indices(indices[..., axis], x.shape[axis]) for axis in range(depth))
    return _scatter(np.array(x), places, updates, reduction)


@general("ScatterElements", _cost, shape=_same, first=True)
def scatter_elements(  # type: ignore[no-untyped-def]
    x, indices, updates, *, axis: int = 0, reduction: str = "none"
):
    where = axis_of(axis, x.ndim)
    if indices.shape != updates.shape or indices.ndim != x.ndim:
        raise ValueError(f"updates of shape {updates.shape} and indices of {indices.shape}, expected one shape")
    places = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
    places[where] = checked_indices(indices, x.shape[where])
    return _scatter(np.array(x), tuple(places), updates, reduction)


OPS = (scatter_nd, scatter_elements)
