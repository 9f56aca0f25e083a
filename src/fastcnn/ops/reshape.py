"""Operations that move elements: concatenation, padding, slices, identity; the compiler's Reorder, Lookup and Repack.

axes.py has the operations that rename or reorder axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _pointwise, _reorder
from fastcnn.kernels.view import NO_HALO, View
from fastcnn.ops.access import Access
from fastcnn.ops.axes import gather, plain_strides
from fastcnn.ops.base import check_size
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

# The dimension of a view for each axis of an array, by the array's rank (see `four_dimensions`).
_VIEW_AXES = {1: (3,), 2: (0, 3), 3: (0, 2, 3), 4: (0, 1, 2, 3)}


def _part(view: View, axis: int, start: int, size: int) -> View:
    """The part start .. start + size of a view along one of its four dimensions, with the halo that borders on it."""
    step = (view.image, view.block // view.lanes, view.row, view.lanes)[axis]
    sizes = [view.n, view.c, view.h, view.w]
    sizes[axis] = size
    n, c, h, w = sizes
    top, left, bottom, right = view.halo
    end = start + size
    halo = (
        0 if axis == 2 and start > 0 else top,
        0 if axis == 3 and start > 0 else left,
        0 if axis == 2 and end < view.h else bottom,
        0 if axis == 3 and end < view.w else right,
    )
    return view._replace(n=n, c=c, h=h, w=w, halo=halo, offset=view.offset + start * step)


class Concat(Op):
    """Arrays one after the other along an axis; ONNX Concat."""

    name = "Concat"
    defaults = {"axis": 1}
    moves = True
    arguments = ("arrays",)
    variadic = True
    layout = "follow"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        first, axis = shapes[0], attrs["axis"]
        assert first is not None
        if not -len(first) <= axis < len(first):
            raise ValueError(f"dim={axis}, expected an axis of arrays[0] (arrays[0].shape={first})")
        axis %= len(first)
        total = 0
        for i, shape in enumerate(shapes):
            if (
                shape is None
                or len(shape) != len(first)
                or any(a != b for k, (a, b) in enumerate(zip(shape, first, strict=True)) if k != axis)
            ):
                raise ValueError(f"arrays[{i}].shape={shape}, expected {first} except at dim={axis}")
            total += shape[axis]
        return check_size((*first[:axis], total, *first[axis + 1 :]))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        return reference.concat([x for x in inputs if x is not None], attrs["axis"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        parts = [shapes[name] for name in node.inputs]
        whole = len(parts[0]) == 4 and (node.attrs["axis"] % 4 != 1 or all(part[1] % vl == 0 for part in parts[:-1]))
        return Access("follow" if whole else "plain")

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        axis, start = node.attrs["axis"] % len(back.shape(grad)), 0
        grads: list[str | None] = []
        for name in node.inputs:
            shape = back.shape(name)
            starts = tuple(start if i == axis else 0 for i in range(len(shape)))
            grads.append(back.add("Crop", grad, starts=starts, shape=shape) if back.needs(name) else None)
            start += shape[axis]
        return grads

    def lower(self, node: Node, ctx: Lowering) -> None:
        output, shape = ctx.view(node.output), ctx.shape(node.output)
        axis, start = node.attrs["axis"] % len(shape), 0
        for name in node.inputs:
            part, source = ctx.shape(name), ctx.view(name)
            if len(shape) > 4:
                whole, source = _outer_inner(output, shape, axis), _outer_inner(source, part, axis)
                target = _part(whole, 1, start, part[axis])
            else:
                target = _part(output, _VIEW_AXES[len(shape)][axis], start, part[axis])
            if prod(part) and source != target:  # else it was computed in place
                ctx.emit("copy", _reorder.Reorder, target, source)
            start += part[axis]


def _outer_inner(view: View, shape: Shape, axis: int) -> View:
    """A gapless value as (outer, length of the axis, 1, inner)."""
    inner = prod(shape[axis + 1 :])
    return view._replace(
        n=prod(shape[:axis]), c=shape[axis], h=1, w=inner, image=shape[axis] * inner, block=inner, row=inner
    )


class Pad(Op):
    """A border of one value; ONNX Pad, mode constant. `pads` are all beginnings, then all ends."""

    name = "Pad"
    defaults = {"pads": (0, 0), "value": 0.0}
    layout = "follow"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, pads = shapes[0], attrs["pads"]
        assert shape is not None
        if not shape:
            raise ValueError("x.shape=(), expected at least 1 dimension")
        if len(pads) != 2 * len(shape) or any(size < 0 for size in pads):
            raise ValueError(f"padding={pads}, expected {2 * len(shape)} integers >= 0 (x.shape={shape})")
        ends = pads[len(shape) :]
        if len(shape) > 4 and len(_padded_axes(pads)) > 1:
            raise ValueError(f"padding={pads}, expected a border along one axis of more than 4 (x.shape={shape})")
        return check_size(tuple(a + size + b for a, size, b in zip(pads, shape, ends, strict=False)))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.pad(inputs[0], attrs["pads"], attrs["value"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        pads = node.attrs["pads"]
        whole = len(shapes[node.inputs[0]]) == 4 and pads[1] == pads[5] == 0
        return Access("follow" if whole else "plain")

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        shape = back.shape(node.inputs[0])
        return [back.add("Crop", grad, starts=node.attrs["pads"][: len(shape)], shape=shape)]

    def lower(self, node: Node, ctx: Lowering) -> None:
        output, shape = ctx.view(node.output), ctx.shape(node.inputs[0])
        ctx.emit("fill", _pointwise.Fill, output, node.attrs["value"])
        target, source, axes = output, ctx.view(node.inputs[0]), _padded_axes(node.attrs["pads"])
        if len(shape) > 4:
            axis = axes[0] if axes else 0
            target = _part(_outer_inner(output, ctx.shape(node.output), axis), 1, node.attrs["pads"][axis], shape[axis])
            ctx.emit("copy", _reorder.Reorder, target, _outer_inner(source, shape, axis))
            return
        for axis, (begin, size) in enumerate(zip(node.attrs["pads"], shape, strict=False)):
            target = _part(target, _VIEW_AXES[len(shape)][axis], begin, size)
        ctx.emit("copy", _reorder.Reorder, target._replace(halo=NO_HALO), source)


def _padded_axes(pads: Sequence[int]) -> list[int]:
    """The axes along which there is a border."""
    rank = len(pads) // 2
    return [axis for axis in range(rank) if pads[axis] or pads[rank + axis]]


class Crop(Op):
    """The part of x of a `shape` that begins at `starts`: the gradient of Concat and Pad."""

    name = "Crop"
    defaults = {"starts": (), "shape": ()}
    layout = "follow"
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape: Shape = attrs["shape"]
        return shape

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        places = zip(attrs["starts"], attrs["shape"], strict=True)
        return np.array(inputs[0][tuple(slice(start, start + size) for start, size in places)], np.float64)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        whole = len(shapes[node.inputs[0]]) == 4 and node.attrs["starts"][1] % vl == 0
        return Access("follow" if whole else "plain")

    def lower(self, node: Node, ctx: Lowering) -> None:
        source, shape = ctx.view(node.inputs[0]), ctx.shape(node.inputs[0])
        target = ctx.view(node.output)
        if len(shape) > 4:
            axis = next((i for i, (a, b) in enumerate(zip(shape, node.attrs["shape"], strict=True)) if a != b), 0)
            source = _part(_outer_inner(source, shape, axis), 1, node.attrs["starts"][axis], node.attrs["shape"][axis])
            target = _outer_inner(target, node.attrs["shape"], axis)
        else:
            for axis, (start, size) in enumerate(zip(node.attrs["starts"], node.attrs["shape"], strict=True)):
                source = _part(source, _VIEW_AXES[len(shape)][axis], start, size)
        ctx.emit("copy", _reorder.Reorder, target, source)


class Slice(Op):
    """Every `step`-th element from start up to end along one axis; ONNX Slice, and what Split gives."""

    name = "Slice"
    defaults = {"axis": 1, "start": 0, "end": 2**31 - 1, "step": 1}
    later = ("step",)
    layout = "follow"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, axis = shapes[0], attrs["axis"]
        assert shape is not None
        if not shape or not -len(shape) <= axis < len(shape):
            raise ValueError(f"axis={axis}, expected an axis of x (x.shape={shape})")
        if attrs.get("step", 1) < 1:
            raise ValueError(f"step={attrs['step']}, expected an integer >= 1")
        axis %= len(shape)
        return (*shape[:axis], len(range(*_indices(attrs, shape))), *shape[axis + 1 :])

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x = inputs[0]
        assert x is not None
        chosen = slice(attrs["start"], attrs["end"], attrs.get("step", 1))
        index: Any = (*(slice(None),) * (attrs["axis"] % x.ndim), chosen)
        part: np.ndarray = np.asarray(x, np.float64)[index]
        return part

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        x = shapes[node.inputs[0]]
        start, _, step = _indices(node.attrs, x)
        whole = len(x) == 4 and step == 1 and (node.attrs["axis"] % 4 != 1 or start % vl == 0)
        return Access("follow" if whole else "plain")

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        shape = back.shape(node.inputs[0])
        axis = node.attrs["axis"] % len(shape)
        start, end, step = _indices(node.attrs, shape)
        if step > 1:
            grad, end = self._spread(grad, axis, step, back), min(shape[axis], start + back.shape(grad)[axis] * step)
            if back.shape(grad)[axis] > end - start:
                part = (*shape[:axis], end - start, *shape[axis + 1 :])
                grad = back.add("Crop", grad, starts=(0,) * len(shape), shape=part)
        pads = [0] * (2 * len(shape))
        pads[axis], pads[len(shape) + axis] = start, shape[axis] - max(start, end)
        return [back.add("Pad", grad, pads=tuple(pads))]

    @staticmethod
    def _spread(grad: str, axis: int, step: int, back: Backward) -> str:
        """The elements of grad with step - 1 zeros behind each along an axis."""
        shape = back.shape(grad)
        outer, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
        apart = back.add("Reshape", grad, shape=(outer, size, 1, inner))
        padded = back.add("Pad", apart, pads=(0, 0, 0, 0, 0, 0, step - 1, 0))
        return back.add("Reshape", padded, shape=(*shape[:axis], size * step, *shape[axis + 1 :]))

    def lower(self, node: Node, ctx: Lowering) -> None:
        output, source, shape = ctx.view(node.output), ctx.view(node.inputs[0]), ctx.shape(node.inputs[0])
        axis, size = node.attrs["axis"] % len(shape), ctx.shape(node.output)
        start, _, step = _indices(node.attrs, shape)
        if step > 1:
            strides = plain_strides(source, shape)
            offset, strides[axis] = start * strides[axis], step * strides[axis]
            gather(ctx, node, [*zip(size, strides, strict=True)], offset)
            return
        if len(shape) > 4:
            source, output, place = _outer_inner(source, shape, axis), _outer_inner(output, size, axis), 1
        else:
            place = _VIEW_AXES[len(shape)][axis]
        part = _part(source, place, start, size[axis])
        ctx.emit("copy", _reorder.Reorder, output, part._replace(halo=NO_HALO))


def _indices(attrs: Attrs, shape: Shape) -> tuple[int, int, int]:
    """Start, end and step within the axis."""
    return slice(attrs["start"], attrs["end"], attrs.get("step", 1)).indices(shape[attrs["axis"] % len(shape)])


class Identity(Op):
    """y = x; ONNX Identity, and Dropout and stochastic depth at inference."""

    layout = "follow"

    def __init__(self, name: str, defaults: Attrs) -> None:
        self.name, self.defaults = name, defaults

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        if not 0 <= attrs.get("ratio", 0) <= 1:
            raise ValueError(f"p={attrs['ratio']}, expected a probability from 0 to 1")
        return shapes[0]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.array(inputs[0], np.float64)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [grad]

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("copy", _reorder.Reorder, ctx.view(node.output), ctx.view(node.inputs[0]))


class Reorder(Identity):
    """The same value stored in another layout; only the compiler makes it."""

    is_internal = True
    moves = True

    def __init__(self) -> None:
        super().__init__("Reorder", {})

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("reorder", _reorder.Reorder, ctx.view(node.output), ctx.view(node.inputs[0]))


class Lookup(Reorder):
    """The values of an input that comes as pixels, looked up in a table; only the compiler makes it."""

    moves = False

    def __init__(self) -> None:
        super().__init__()
        self.name = "Lookup"

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("lookup", _reorder.Lookup, *(ctx.view(name) for name in (node.output, *node.inputs)))


class Repack(Reorder):
    """A weight stored as a parameter, or back; only the compiler makes it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def lower(self, node: Node, ctx: Lowering) -> None:
        shape = ctx.shape(node.output)
        inner = prod(shape[1:])
        views = [
            view
            if view.lanes > 1
            else View(1, shape[0], 1, inner, prod(shape), inner, inner, 1, NO_HALO, view.slot, view.offset)
            for view in (ctx.view(node.output), ctx.view(node.inputs[0]))
        ]
        ctx.emit("reorder", _reorder.Reorder, *views)


class ZerosLike(Identity):
    """Zeros of x's shape; folded if x is a constant."""

    is_internal = True

    def __init__(self) -> None:
        super().__init__("ZerosLike", {})

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.zeros(inputs[0].shape)

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("fill", _pointwise.Fill, ctx.view(node.output), 0.0)


OPS = (
    Concat(),
    Pad(),
    Crop(),
    Slice(),
    Identity("Identity", {}),
    Identity("Dropout", {"ratio": 0.5}),
    Identity("DropPath", {"ratio": 0.0}),
    Reorder(),
    Lookup(),
    Repack("Pack"),
    Repack("Unpack"),
    ZerosLike(),
)
