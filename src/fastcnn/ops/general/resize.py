"""Resize: one axis after the other, each output element a weighted sum of a few input elements."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Any

import numpy as np

from fastcnn.ops.budget import CALL, Cost
from fastcnn.ops.general.base import Array, Ints, axes_of, cost_of, general, size_of
from fastcnn.ops.interpolation import coordinates, nearest, nearest_of, neighbours, reach
from fastcnn.ops.node import Attrs

Plan = list[tuple[int, int, float]]  # axis, its new size, scale


def resize_plan(shape: Sequence[int], attrs: Attrs, scales: Array | None, sizes: Array | None) -> Plan:
    """The new size and the scale of every axis."""
    raw = attrs.get("axes")
    axes = tuple(range(len(shape))) if raw is None else axes_of(raw, len(shape))
    if sizes is not None and sizes.size:
        wanted = [int(size) for size in sizes.ravel()]
        if len(wanted) != len(axes):
            raise ValueError(f"sizes has {len(wanted)} numbers, expected {len(axes)}")
        factors = [size / shape[axis] for size, axis in zip(wanted, axes, strict=True)]
        policy = attrs.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            wanted = [int(floor(factor * shape[axis] + 0.5)) for axis in axes]
            factors = [factor] * len(axes)
        return list(zip(axes, wanted, factors, strict=True))
    if scales is None or scales.size != len(axes):
        raise ValueError(f"scales has {0 if scales is None else scales.size} numbers, expected {len(axes)}")
    factors = [float(scale) for scale in scales.ravel()]
    if not all(0 < factor < 2**31 for factor in factors):
        raise ValueError(f"scales={factors}, expected positive numbers")
    return [(axis, *_size_and_scale(shape[axis], factor)) for axis, factor in zip(axes, factors, strict=True)]


def _size_and_scale(length: int, factor: float) -> tuple[int, float]:
    """The new size, and the scale: that of both sizes where it rounds to the factor, which files keep as a float.

    The rounded factor would turn ties of nearest neighbours. PyTorch, which writes it, computes with the sizes.
    """
    size = int(floor(length * factor + 1e-9 * factor))
    nearest = round(length * factor)
    if nearest > 0 and np.float32(nearest / length) == np.float32(factor):
        return nearest, nearest / length
    return size, factor


def _resize_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost; each axis takes the array before it, and weighted sums of neighbours in float64."""
    x, _, scales, sizes = (*inputs, None, None, None)[:4]
    mode, shape = attrs.get("mode", "nearest"), list(x.shape)
    held = work = 0
    for axis, size, scale in resize_plan(x.shape, attrs, scales, sizes):
        before, shape[axis] = size_of(shape), size
        after = size_of(shape)
        count = 1 if mode == "nearest" else reach(mode, min(1.0, scale) if attrs.get("antialias") else 1.0)[1]
        held = max(held, before + 6 * after + size * (8 + 8 * count))
        work += count * (4 * after + 16 * size + 4 * CALL)
    return cost_of(8 * held, work + 2 * held)


@general("Resize", _resize_cost, values=(1, 2, 3))
def resize(  # type: ignore[no-untyped-def]
    x,
    roi=None,
    scales=None,
    sizes=None,
    *,
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    antialias: int = 0,
    axes: Ints | None = None,
    keep_aspect_ratio_policy: str = "stretch",
):
    attrs = {"axes": axes, "keep_aspect_ratio_policy": keep_aspect_ratio_policy}
    plan = resize_plan(x.shape, attrs, scales, sizes)
    if mode not in ("nearest", "linear", "cubic"):
        raise ValueError(f"mode={mode!r}, expected nearest, linear or cubic")
    result, outside = x, None
    for place, (axis, size, scale) in enumerate(plan):
        crop = coordinate_transformation_mode == "tf_crop_and_resize"
        start, end = (float(roi.ravel()[place]), float(roi.ravel()[place + len(plan)])) if crop else (0.0, 1.0)
        length = x.shape[axis]
        if size == length and scale == 1 and not crop:
            continue
        where = coordinates(length, size, scale, coordinate_transformation_mode, start, end)
        if crop:
            beyond = ((where < 0) | (where > length - 1)).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
            outside = beyond if outside is None else outside | beyond
        if mode == "nearest":
            rule = coordinate_transformation_mode
            index = (
                nearest(where, length, nearest_mode) if crop else nearest_of(length, size, scale, rule, nearest_mode)
            )
            result = np.take(result, index, axis)
            continue
        index, weight = neighbours(
            where, length, mode, cubic_coeff_a, min(1.0, scale) if antialias else 1.0, bool(exclude_outside)
        )
        along = [-1 if i == axis else 1 for i in range(x.ndim)]
        result = sum(np.take(result, index[:, k], axis) * weight[:, k].reshape(along) for k in range(index.shape[1]))
    if outside is not None:
        result = np.where(outside, extrapolation_value, result)
    if x.dtype.kind in "iu" and result.dtype.kind == "f":
        info = np.iinfo(x.dtype)
        result = np.clip(np.rint(result), info.min, info.max)
    return result.astype(x.dtype)


OPS = (resize,)
