"""Operators that move, repeat or select elements, or tell shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.ops.axes import target_shape
from fastcnn.ops.budget import CALL, Cost
from fastcnn.ops.general.base import Array, Ints, axes_of, axis_of, bytes_of, cost_of, general, size_of
from fastcnn.ops.node import Attrs


def _moved(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost of an operator that copies its first input."""
    return cost_of(bytes_of(inputs[0]), inputs[0].size)


def _viewed(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost of an operator whose output is a view of its input."""
    return cost_of(0, 0)


def _concat_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    size = sum(x.size for x in inputs)
    return cost_of(size * np.result_type(*inputs).itemsize, size + CALL * len(inputs))


@general("Concat", _concat_cost)
def concat(*arrays, axis: int):  # type: ignore[no-untyped-def]
    return np.concatenate(arrays, axis_of(axis, arrays[0].ndim))


def _split_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    sizes = inputs[1].size if len(inputs) > 1 and inputs[1] is not None else 0
    return cost_of(bytes_of(inputs[0]) + 64 * sizes, inputs[0].size + 64 * sizes)


@general("Split", _split_cost, values=(1,), many=True)
def split(x, sizes=None, *, axis: int = 0, num_outputs: int | None = None, output: int = 0):  # type: ignore[no-untyped-def]
    where = axis_of(axis, x.ndim)
    length = x.shape[where]
    if sizes is None:
        count = num_outputs or 1
        if not 1 <= count <= max(1, length):
            raise ValueError(f"num_outputs={count}, expected 1 to {length}")
        part = -(-length // count)
        start, end = min(length, output * part), min(length, (output + 1) * part)
    else:
        parts = [int(size) for size in sizes.ravel()]
        count = len(parts)
        if any(part < 0 for part in parts) or sum(parts) != length:
            raise ValueError(f"split={parts[:20]}, expected sizes that sum up to {length}")
        start = sum(parts[:output])
        end = start + (parts[output] if output < count else 0)
    if output >= count:
        raise ValueError(f"output {output} of {count}")
    place: Any = (*[slice(None)] * where, slice(start, end))
    return np.array(x[place])


@general("Slice", _viewed, values=(1, 2, 3, 4))
def slice_(x, starts, ends, axes=None, steps=None):  # type: ignore[no-untyped-def]
    chosen = range(starts.size) if axes is None else axes.ravel()
    strides = np.ones(starts.size, np.int64) if steps is None else steps.ravel()
    if not len(chosen) == len(strides) == starts.size == ends.size:
        raise ValueError("starts, ends, axes and steps have different lengths")
    index: list[Any] = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes_of(chosen, x.ndim), starts.ravel(), ends.ravel(), strides, strict=True):
        index[axis] = slice_of(int(start), int(end), int(step), x.shape[axis])
    return x[tuple(index)]


def slice_of(start: int, end: int, step: int, length: int) -> slice:
    """ONNX's slice as Python's: an end of INT_MIN means "down to the first element"."""
    if step == 0:
        raise ValueError("steps has a zero")
    if step < 0 and end < -length:
        return slice(start, None, step)
    return slice(start, end, step)


def _gather_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x, indices = inputs
    axis = axis_of(attrs.get("axis", 0), x.ndim)
    size = size_of((*x.shape[:axis], indices.size, *x.shape[axis + 1 :]))
    return cost_of(size * x.dtype.itemsize + 3 * 8 * indices.size, 2 * size + 4 * indices.size)


@general("Gather", _gather_cost)
def gather(x, indices, *, axis: int = 0):  # type: ignore[no-untyped-def]
    where = axis_of(axis, x.ndim)
    return np.take(x, checked_indices(indices, x.shape[where]), where)


def checked_indices(indices: Array, length: int) -> Array:
    """Indices as int64; ValueError for one outside of an axis."""
    if indices.size and not (-length <= int(indices.min()) and int(indices.max()) < length):
        found = f"indices from {int(indices.min())} to {int(indices.max())}"
        raise ValueError(f"{found}, expected {-length} to {length - 1}")
    return indices.astype(np.int64)


def _elements_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x, indices = inputs
    return cost_of(indices.size * (x.dtype.itemsize + 3 * 8) + 8 * sum(indices.shape), 8 * indices.size)


@general("GatherElements", _elements_cost)
def gather_elements(x, indices, *, axis: int = 0):  # type: ignore[no-untyped-def]
    where = axis_of(axis, x.ndim)
    return np.take_along_axis(x, checked_indices(indices, x.shape[where]), where)


def _gather_nd_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x, indices = inputs
    batch, depth = attrs.get("batch_dims", 0), indices.shape[-1]
    lead, size = prod(x.shape[:batch]), prod(indices.shape[:-1]) * size_of(x.shape[batch + depth :])
    return cost_of(
        2 * size * x.dtype.itemsize + 2 * 8 * indices.size + x.size * x.dtype.itemsize + 500 * lead,
        2 * size + 4 * indices.size + 4 * CALL * lead,
    )


@general("GatherND", _gather_nd_cost)
def gather_nd(x, indices, *, batch_dims: int = 0):  # type: ignore[no-untyped-def]
    lead = x.shape[:batch_dims]
    depth = indices.shape[-1]
    flat_x = x.reshape(prod(lead), *x.shape[batch_dims:])
    flat = indices.reshape(prod(lead), -1, depth)
    picked = [part[tuple(np.moveaxis(index, -1, 0))] for part, index in zip(flat_x, flat, strict=True)]
    return np.asarray(picked, x.dtype).reshape(*indices.shape[:-1], *x.shape[batch_dims + depth :])


@general("Reshape", _moved, values=(1,))
def reshape(x, shape, *, allowzero: int = 0):  # type: ignore[no-untyped-def]
    return x.reshape(target_shape(x.shape, shape.ravel(), bool(allowzero)))


@general("Flatten", _moved)
def flatten(x, *, axis: int = 1):  # type: ignore[no-untyped-def]
    where = axis + x.ndim if axis < 0 else axis
    if not 0 <= where <= x.ndim:
        raise ValueError(f"axis={axis}, expected an axis of x (x.shape={x.shape})")
    return x.reshape(prod(x.shape[:where]), prod(x.shape[where:]))


@general("Squeeze", _viewed, values=(1,))
def squeeze(x, axes=None):  # type: ignore[no-untyped-def]
    if axes is None:
        return x.squeeze()
    return x.squeeze(axes_of(axes.ravel(), x.ndim))


@general("Unsqueeze", _viewed, values=(1,))
def unsqueeze(x, axes):  # type: ignore[no-untyped-def]
    return np.expand_dims(x, axes_of(axes.ravel(), x.ndim + axes.size))


@general("Transpose", _moved)
def transpose(x, *, perm: Ints | None = None):  # type: ignore[no-untyped-def]
    return np.ascontiguousarray(np.transpose(x, perm))


def _expand_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    size = _expanded(inputs)
    return cost_of(size * inputs[0].dtype.itemsize, size)


@general("Expand", _expand_cost, values=(1,))
def expand(x, shape):  # type: ignore[no-untyped-def]
    sizes = [int(size) for size in shape.ravel()]
    return np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(sizes))))


def _expanded(inputs: Sequence[Any]) -> int:
    """Elements of the result; each of its sizes is the larger of the operands'."""
    x, shape = inputs
    sizes = [int(size) for size in shape.ravel()]
    rank = max(x.ndim, len(sizes))
    a, b = [1] * (rank - x.ndim) + list(x.shape), [1] * (rank - len(sizes)) + sizes
    return size_of([max(p, q) if q >= 0 else q for p, q in zip(a, b, strict=True)])


def _tile_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost; NumPy repeats along one axis after the other, each time into a larger array."""
    size = inputs[0].size * max(1, size_of(inputs[1].ravel()))
    return cost_of(2 * size * inputs[0].dtype.itemsize, 4 * size)


@general("Tile", _tile_cost, values=(1,))
def tile(x, repeats):  # type: ignore[no-untyped-def]
    if repeats.size != x.ndim:
        raise ValueError(f"repeats has {repeats.size} numbers, expected {x.ndim}")
    return np.tile(x, repeats.ravel().tolist())


@general("Shape", _viewed)
def shape_(x, *, start: int = 0, end: int | None = None):  # type: ignore[no-untyped-def]
    return np.array(x.shape[slice(start, end)], np.int64)


@general("Size", _viewed)
def size_(x):  # type: ignore[no-untyped-def]
    return np.array(x.size, np.int64)


def _constant_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    size = size_of(inputs[0].ravel())
    value = inputs[1] if len(inputs) > 1 else None
    return cost_of(size * (4 if value is None else value.dtype.itemsize), size)


@general("ConstantOfShape", _constant_cost, values=(0,))
def constant_of_shape(shape, value=None):  # type: ignore[no-untyped-def]
    fill = np.zeros((), np.float32) if value is None else value.reshape(())
    return np.full([int(size) for size in shape.ravel()], fill, fill.dtype)


@general("EyeLike", lambda attrs, inputs: cost_of(8 * inputs[0].size, inputs[0].size))
def eye_like(x, *, dtype: int | None = None, k: int = 0):  # type: ignore[no-untyped-def]
    from fastcnn.ops.general.elementwise import dtype_of

    return np.eye(x.shape[0], x.shape[1], k, x.dtype if dtype is None else dtype_of(dtype))


@general("Trilu", lambda attrs, inputs: cost_of(bytes_of(*inputs) + 3 * inputs[0].size, 6 * inputs[0].size))
def trilu(x, k=None, *, upper: int = 1):  # type: ignore[no-untyped-def]
    shift = 0 if k is None else int(k.reshape(()))
    shift = max(-x.shape[-2] - 1, min(shift, x.shape[-1] + 1))
    return np.triu(x, shift) if upper else np.tril(x, shift)


def pad_amounts(ndim: int, pads: Array, axes: Array | None) -> list[tuple[int, int]]:
    """(before, after) of every axis."""
    chosen = tuple(range(ndim)) if axes is None else axes_of(axes.ravel(), ndim)
    amounts = [int(size) for size in pads.ravel()]
    if len(amounts) != 2 * len(chosen):
        raise ValueError(f"pads has {len(amounts)} numbers, expected {2 * len(chosen)}")
    result = [(0, 0)] * ndim
    for i, axis in enumerate(chosen):
        result[axis] = amounts[i], amounts[len(chosen) + i]
    return result


def _pad_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost; NumPy fills a border in steps of the size of what it mirrors."""
    x, pads, _, axes = (*inputs, None, None)[:4]
    amounts = pad_amounts(x.ndim, pads, axes)
    size = size_of([max(0, size + max(0, a) + max(0, b)) for size, (a, b) in zip(x.shape, amounts, strict=True)])
    steps = 0
    if attrs.get("mode", "constant") in ("reflect", "wrap"):
        steps = sum(
            max(0, a, b) // max(1, n + min(0, a) + min(0, b) - 1) for n, (a, b) in zip(x.shape, amounts, strict=True)
        )
    return cost_of(2 * size * x.dtype.itemsize, 4 * size + 8 * CALL * (steps + x.ndim))


@general("Pad", _pad_cost, values=(1, 3))
def pad(x, pads, value=None, axes=None, *, mode: str = "constant"):  # type: ignore[no-untyped-def]
    amounts = pad_amounts(x.ndim, pads, axes)
    crop = tuple(slice(max(0, -a), size - max(0, -b)) for size, (a, b) in zip(x.shape, amounts, strict=True))
    kept, grow = x[crop], [(max(0, a), max(0, b)) for a, b in amounts]
    if mode == "constant":
        fill = 0 if value is None else value.reshape(()).item()
        return np.pad(kept, grow, mode="constant", constant_values=fill)
    names = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in names:
        raise ValueError(f"mode={mode!r}, expected constant, reflect, edge or wrap")
    return np.pad(kept, grow, mode=names[mode])  # type: ignore[call-overload]


@general("DepthToSpace", _moved)
def depth_to_space(x, *, blocksize: int, mode: str = "DCR"):  # type: ignore[no-untyped-def]
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        parts = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // (b * b), h * b, w * b)


@general("SpaceToDepth", _moved)
def space_to_depth(x, *, blocksize: int, mode: str = "DCR"):  # type: ignore[no-untyped-def]
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(order).reshape(n, c * b * b, h // b, w // b)


OPS = (
    concat,
    split,
    slice_,
    gather,
    gather_elements,
    gather_nd,
    reshape,
    flatten,
    squeeze,
    unsqueeze,
    transpose,
    expand,
    tile,
    shape_,
    size_,
    constant_of_shape,
    eye_like,
    trilu,
    pad,
    depth_to_space,
    space_to_depth,
)
