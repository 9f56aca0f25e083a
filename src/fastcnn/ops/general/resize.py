"""Resize: one axis after the other, each output element a weighted sum of a few input elements."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Any

import numpy as np

from fastcnn.ops.budget import CALL, Cost
from fastcnn.ops.general.base import Array, Ints, axes_of, cost_of, general, size_of
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
    return [
        (axis, int(floor(shape[axis] * factor + 1e-9 * factor)), factor)
        for axis, factor in zip(axes, factors, strict=True)
    ]


def _reach(mode: str, scale: float) -> tuple[float, int]:
    """How far the filter of linear or cubic interpolation reaches, and over how many neighbours."""
    width = (1.0 if mode == "linear" else 2.0) / scale
    return width, int(np.ceil(2 * width)) + 1


def _resize_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost; each axis takes the array before it, and weighted sums of neighbours in float64."""
    x, _, scales, sizes = (*inputs, None, None, None)[:4]
    mode, shape = attrs.get("mode", "nearest"), list(x.shape)
    held = work = 0
    for axis, size, scale in resize_plan(x.shape, attrs, scales, sizes):
        before, shape[axis] = size_of(shape), size
        after = size_of(shape)
        count = 1 if mode == "nearest" else _reach(mode, min(1.0, scale) if attrs.get("antialias") else 1.0)[1]
        held = max(held, before + 6 * after + size * (8 + 8 * count))
        work += count * (4 * after + 16 * size + 4 * CALL)
    return cost_of(8 * held, work + 2 * held)


def coordinates(length: int, size: int, scale: float, mode: str, start: float, end: float) -> Array:
    """The place of each output element in the input.

    Some rules use the size `scale * length`, which may have a fraction.
    """
    i = np.arange(size, dtype=np.float64)
    wide = scale * length
    if mode == "half_pixel":
        return (i + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        adjustment = size / (scale * length)
        centre = length / 2
        return centre * (1 - adjustment) + (i + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return (i + 0.5) / scale - 0.5 if size > 1 else np.zeros(size)
    if mode == "align_corners":
        return i * (length - 1) / (wide - 1) if wide != 1 else np.zeros(size)
    if mode == "asymmetric":
        return i / scale
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if mode == "tf_crop_and_resize":
        if wide != 1:
            return start * (length - 1) + i * (end - start) * (length - 1) / (wide - 1)
        return np.full(size, 0.5 * (start + end) * (length - 1))
    raise ValueError(f"coordinate_transformation_mode={mode!r} is not known")


def _nearest(where: Array, mode: str) -> Array:
    if mode == "round_prefer_floor":
        return np.ceil(where - 0.5)
    if mode == "round_prefer_ceil":
        return np.floor(where + 0.5)
    if mode in ("floor", "ceil"):
        return np.asarray(getattr(np, mode)(where))
    raise ValueError(f"nearest_mode={mode!r}, expected round_prefer_floor, round_prefer_ceil, floor or ceil")


def _cubic(distance: Array, a: float) -> Array:
    """Keys, Cubic convolution interpolation for digital image processing, 1981."""
    t = np.abs(distance)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def neighbours(
    where: Array, length: int, mode: str, a: float, scale: float, exclude_outside: bool
) -> tuple[Array, Array]:
    """Indices and weights (outputs, neighbours) of linear or cubic interpolation.

    A `scale` below 1 widens the filter (antialias).
    """
    width, count = _reach(mode, scale)
    first = np.floor(where - width).astype(np.int64) + 1
    offsets = np.arange(count)
    index = first[:, None] + offsets
    distance = (index - where[:, None]) * scale
    weight = np.maximum(0, 1 - np.abs(distance)) if mode == "linear" else _cubic(distance, a)
    if exclude_outside:
        weight = np.where((index >= 0) & (index < length), weight, 0)
    total = weight.sum(1, keepdims=True)
    return np.clip(index, 0, length - 1), weight / np.where(total == 0, 1, total)


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
            index = np.clip(_nearest(where, nearest_mode), 0, length - 1).astype(np.int64)
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
