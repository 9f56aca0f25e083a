"""What moves, repeats or selects elements, and what tells of shapes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.ops.axes import target_shape
from fastcnn.ops.base import Attrs
from fastcnn.ops.general.base import Array, Ints, axes_of, axis_of, general, size_of


def _concat_size(attrs: Attrs, inputs: Sequence[Any]) -> int:
    return sum(x.size for x in inputs)


@general("Concat", size=_concat_size)
def concat(*arrays, axis: int):  # type: ignore[no-untyped-def]
    return np.concatenate(arrays, axis_of(axis, arrays[0].ndim))


@general("Split", values=(1,), size=lambda attrs, inputs: inputs[0].size)
def split(x, sizes=None, *, axis: int = 0, num_outputs: int | None = None):  # type: ignore[no-untyped-def]
    where = axis_of(axis, x.ndim)
    length = x.shape[where]
    if sizes is None:
        count = num_outputs or 1
        if not 1 <= count <= max(1, length):
            raise ValueError(f"num_outputs={count}, expected 1 to {length}")
        part = -(-length // count)
        parts = [min(part, max(0, length - i * part)) for i in range(count)]
    else:
        parts = [int(size) for size in sizes.ravel()]
    if any(part < 0 for part in parts) or sum(parts) != length:
        raise ValueError(f"split={parts}, expected sizes that sum up to {length}")
    ends = np.cumsum([0, *parts])
    return tuple(np.take(x, np.arange(a, b), where) for a, b in zip(ends[:-1], ends[1:], strict=True))


@general("Slice", values=(1, 2, 3, 4))
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


def _gather_size(attrs: Attrs, inputs: Sequence[Any]) -> int:
    x, indices = inputs
    axis = axis_of(attrs.get("axis", 0), x.ndim)
    return size_of((*x.shape[:axis], indices.size, *x.shape[axis + 1 :]))


@general("Gather", size=_gather_size)
def gather(x, indices, *, axis: int = 0):  # type: ignore[no-untyped-def]
    where = axis_of(axis, x.ndim)
    return np.take(x, _checked(indices, x.shape[where]), where)


def _checked(indices: Array, length: int) -> Array:
    if indices.size and not (-length <= int(indices.min()) and int(indices.max()) < length):
        found = f"indices from {int(indices.min())} to {int(indices.max())}"
        raise ValueError(f"{found}, expected {-length} to {length - 1}")
    return indices.astype(np.int64)


@general("GatherElements", size=lambda attrs, inputs: inputs[1].size)
def gather_elements(x, indices, *, axis: int = 0):  # type: ignore[no-untyped-def]
    where = axis_of(axis, x.ndim)
    return np.take_along_axis(x, _checked(indices, x.shape[where]), where)


@general("GatherND", size=lambda attrs, inputs: inputs[0].size * max(1, inputs[1].size))
def gather_nd(x, indices, *, batch_dims: int = 0):  # type: ignore[no-untyped-def]
    lead = x.shape[:batch_dims]
    depth = indices.shape[-1]
    flat_x = x.reshape(prod(lead), *x.shape[batch_dims:])
    flat = indices.reshape(prod(lead), -1, depth)
    picked = [part[tuple(np.moveaxis(index, -1, 0))] for part, index in zip(flat_x, flat, strict=True)]
    return np.asarray(picked, x.dtype).reshape(*indices.shape[:-1], *x.shape[batch_dims + depth :])


@general("Reshape", values=(1,), size=lambda attrs, inputs: inputs[0].size)
def reshape(x, shape, *, allowzero: int = 0):  # type: ignore[no-untyped-def]
    return x.reshape(target_shape(x.shape, shape.ravel(), bool(allowzero)))


@general("Flatten")
def flatten(x, *, axis: int = 1):  # type: ignore[no-untyped-def]
    where = axis + x.ndim if axis < 0 else axis
    if not 0 <= where <= x.ndim:
        raise ValueError(f"axis={axis}, expected an axis of x (x.shape={x.shape})")
    return x.reshape(prod(x.shape[:where]), prod(x.shape[where:]))


@general("Squeeze", values=(1,), size=lambda attrs, inputs: inputs[0].size)
def squeeze(x, axes=None):  # type: ignore[no-untyped-def]
    if axes is None:
        return x.squeeze()
    return x.squeeze(axes_of(axes.ravel(), x.ndim))


@general("Unsqueeze", values=(1,), size=lambda attrs, inputs: inputs[0].size)
def unsqueeze(x, axes):  # type: ignore[no-untyped-def]
    return np.expand_dims(x, axes_of(axes.ravel(), x.ndim + axes.size))


@general("Transpose")
def transpose(x, *, perm: Ints | None = None):  # type: ignore[no-untyped-def]
    return np.ascontiguousarray(np.transpose(x, perm))


@general("Expand", values=(1,), size=lambda attrs, inputs: _expanded(inputs))
def expand(x, shape):  # type: ignore[no-untyped-def]
    sizes = [int(size) for size in shape.ravel()]
    return np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(sizes))))


def _expanded(inputs: Sequence[Any]) -> int:
    """Sizes of one dimension are the larger of the two."""
    x, shape = inputs
    sizes = [int(size) for size in shape.ravel()]
    rank = max(x.ndim, len(sizes))
    a, b = [1] * (rank - x.ndim) + list(x.shape), [1] * (rank - len(sizes)) + sizes
    return size_of([max(p, q) if q >= 0 else q for p, q in zip(a, b, strict=True)])


@general("Tile", values=(1,), size=lambda attrs, inputs: inputs[0].size * size_of(inputs[1].ravel()))
def tile(x, repeats):  # type: ignore[no-untyped-def]
    if repeats.size != x.ndim:
        raise ValueError(f"repeats has {repeats.size} numbers, expected {x.ndim}")
    return np.tile(x, repeats.ravel().tolist())


@general("Shape")
def shape_(x, *, start: int = 0, end: int | None = None):  # type: ignore[no-untyped-def]
    return np.array(x.shape[slice(start, end)], np.int64)


@general("Size")
def size_(x):  # type: ignore[no-untyped-def]
    return np.array(x.size, np.int64)


@general("ConstantOfShape", values=(0,), size=lambda attrs, inputs: size_of(inputs[0].ravel()))
def constant_of_shape(shape, value=None):  # type: ignore[no-untyped-def]
    fill = np.zeros((), np.float32) if value is None else value.reshape(())
    return np.full([int(size) for size in shape.ravel()], fill, fill.dtype)


@general("EyeLike", size=lambda attrs, inputs: inputs[0].size)
def eye_like(x, *, dtype: int | None = None, k: int = 0):  # type: ignore[no-untyped-def]
    from fastcnn.ops.general.elementwise import dtype_of

    return np.eye(x.shape[0], x.shape[1], k, x.dtype if dtype is None else dtype_of(dtype))


@general("Trilu")
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


def _pad_size(attrs: Attrs, inputs: Sequence[Any]) -> int:
    x, pads, _, axes = (*inputs, None, None)[:4]
    return size_of([max(0, size + max(0, a) + max(0, b))
                    for size, (a, b) in zip(x.shape, pad_amounts(x.ndim, pads, axes), strict=True)])


@general("Pad", values=(1, 3), size=_pad_size)
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


@general("DepthToSpace")
def depth_to_space(x, *, blocksize: int, mode: str = "DCR"):  # type: ignore[no-untyped-def]
    n, c, h, w = x.shape
    b = blocksize
    if mode == "DCR":
        parts = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(n, c // (b * b), h * b, w * b)


@general("SpaceToDepth")
def space_to_depth(x, *, blocksize: int, mode: str = "DCR"):  # type: ignore[no-untyped-def]
    n, c, h, w = x.shape
    b = blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return x.reshape(n, c, h // b, b, w // b, b).transpose(order).reshape(n, c * b * b, h // b, w // b)


OPS = (
    concat, split, slice_, gather, gather_elements, gather_nd, reshape, flatten, squeeze, unsqueeze, transpose, expand,
    tile, shape_, size_, constant_of_shape, eye_like, trilu, pad, depth_to_space, space_to_depth,
)
