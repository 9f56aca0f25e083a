"""Operations that move or rename elements: concatenation, padding, flattening; identity; and the compiler's own
Reorder."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _pointwise, _reorder
from fastcnn.kernels.view import NO_HALO, View
from fastcnn.ops.base import Attrs, Op, Shape, Shapes, check_size

if TYPE_CHECKING:
    from fastcnn.compiler.plan import Lowering
    from fastcnn.graph.ir import Node

# The dimension of a view that an axis of an array of this rank is (see memory.four_dimensions).
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
            if shape is None or len(shape) != len(first) or any(
                a != b for k, (a, b) in enumerate(zip(shape, first, strict=True)) if k != axis
            ):
                raise ValueError(f"arrays[{i}].shape={shape}, expected {first} except at dim={axis}")
            total += shape[axis]
        return check_size((*first[:axis], total, *first[axis + 1 :]))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        return reference.concat([x for x in inputs if x is not None], attrs["axis"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def can_block(self, node: Node, shapes: Sequence[Shape], vl: int) -> bool:
        if len(shapes[0]) != 4:
            return False
        return node.attrs["axis"] % 4 != 1 or all(shape[1] % vl == 0 for shape in shapes[:-2])

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
        if not 1 <= len(shape) <= 4:
            raise ValueError(f"x.shape={shape}, expected 1 to 4 dimensions")
        if len(pads) != 2 * len(shape) or any(size < 0 for size in pads):
            raise ValueError(f"padding={pads}, expected {2 * len(shape)} integers >= 0 (x.shape={shape})")
        ends = pads[len(shape) :]
        return check_size(tuple(a + size + b for a, size, b in zip(pads, shape, ends, strict=False)))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.pad(inputs[0], attrs["pads"], attrs["value"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def can_block(self, node: Node, shapes: Sequence[Shape], vl: int) -> bool:
        pads = node.attrs["pads"]
        return len(shapes[0]) == 4 and pads[1] == pads[5] == 0

    def lower(self, node: Node, ctx: Lowering) -> None:
        output, shape = ctx.view(node.output), ctx.shape(node.inputs[0])
        ctx.emit("fill", _pointwise.Fill, output, node.attrs["value"])
        target = output
        for axis, (begin, size) in enumerate(zip(node.attrs["pads"], shape, strict=False)):
            target = _part(target, _VIEW_AXES[len(shape)][axis], begin, size)
        ctx.emit("copy", _reorder.Reorder, target._replace(halo=NO_HALO), ctx.view(node.inputs[0]))


class Flatten(Op):
    """(d0, ..., dn) to a matrix, split at an axis; ONNX Flatten."""

    name = "Flatten"
    defaults = {"axis": 1}
    is_alias = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, axis = shapes[0], attrs["axis"]
        assert shape is not None
        if not -len(shape) <= axis <= len(shape):
            raise ValueError(f"start_dim={axis}, expected an axis of x (x.shape={shape})")
        axis = axis % len(shape) if axis < 0 else axis
        return prod(shape[:axis]), prod(shape[axis:])

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.flatten(inputs[0], attrs["axis"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def writes_plain_output(self, shape: Shape, vl: int) -> bool:
        return False  # it writes nothing

    def lower(self, node: Node, ctx: Lowering) -> None:
        """Nothing to run: the matrix is the same memory."""


class Reshape(Op):
    """The same elements in another shape; ONNX Reshape. In `shape`, 0 keeps a size and -1 is what is left."""

    name = "Reshape"
    defaults = {"shape": ()}
    is_alias = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape = shapes[0]
        assert shape is not None
        return target_shape(shape, attrs["shape"])

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.asarray(inputs[0], np.float64).reshape(target_shape(inputs[0].shape, attrs["shape"]))

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def writes_plain_output(self, shape: Shape, vl: int) -> bool:
        return False  # it writes nothing

    def lower(self, node: Node, ctx: Lowering) -> None:
        """Nothing to run: it is the same memory."""


def target_shape(shape: Sequence[int], wanted: Sequence[int], allow_zero: bool = False) -> Shape:
    """The sizes that Reshape comes to: 0 keeps a size (unless allowed as one), -1 is what is left.

    Examples
    --------
    >>> target_shape((2, 3, 4), (0, -1))
    (2, 12)
    """
    sizes = [int(size) for size in wanted]
    refusal = f"shape={tuple(sizes)}, expected a shape of {prod(shape)} elements (x.shape={tuple(shape)})"
    for i, size in enumerate(sizes):
        if size == 0 and not allow_zero:
            if i >= len(shape):
                raise ValueError(refusal)
            sizes[i] = shape[i]
    if sizes.count(-1) == 1:
        rest = -prod(sizes)
        if rest <= 0 or prod(shape) % rest:
            raise ValueError(refusal)
        sizes[sizes.index(-1)] = prod(shape) // rest
    if any(size < 0 for size in sizes) or prod(sizes) != prod(shape):
        raise ValueError(refusal)
    return tuple(sizes)


class Transpose(Op):
    """Axes in another order; ONNX Transpose."""

    name = "Transpose"
    defaults = {"perm": ()}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, perm = shapes[0], attrs["perm"]
        assert shape is not None
        if sorted(perm) != list(range(len(shape))):
            raise ValueError(f"perm={perm}, expected an order of the {len(shape)} axes (x.shape={shape})")
        loops = len(_merged_axes(shape, perm))
        if loops > 4:
            raise ValueError(f"perm={perm} takes {loops} loops, expected at most 4 (x.shape={shape})")
        return tuple(shape[axis] for axis in perm)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.transpose(np.asarray(inputs[0], np.float64), attrs["perm"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def lower(self, node: Node, ctx: Lowering) -> None:
        source = ctx.shape(node.inputs[0])
        target, view = ctx.view(node.output), ctx.view(node.inputs[0])
        strides = [prod(source[axis + 1 :]) for axis in range(len(source))]
        if len(source) == 2:
            strides[0] = view.image  # rows of a matrix may have gaps between them
        loops = _merged_axes(source, node.attrs["perm"], strides)
        (n, image), (c, block), (h, row), (w, step) = [(1, 0)] * (4 - len(loops)) + loops
        target = target._replace(n=n, c=c, h=h, w=w, image=c * h * w, block=h * w, row=w)
        ctx.emit("transpose", _reorder.Transpose, target, view, (image, block, row, step))


def _merged_axes(
    shape: Shape, perm: Sequence[int], strides: Sequence[int] | None = None
) -> list[tuple[int, int]]:
    """Loops over the output: (size, stride in the input), axes that stay side by side as one."""
    if strides is None:
        strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    loops: list[tuple[int, int]] = []
    for axis in perm:
        if shape[axis] == 1:
            continue
        if loops and loops[-1][1] == shape[axis] * strides[axis]:
            loops[-1] = loops[-1][0] * shape[axis], strides[axis]
        else:
            loops.append((shape[axis], strides[axis]))
    return loops or [(1, 1)]


class Slice(Op):
    """The part from start up to end along one axis; ONNX Slice with steps of 1, and what Split gives."""

    name = "Slice"
    defaults = {"axis": 1, "start": 0, "end": 2**31 - 1}
    layout = "follow"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, axis = shapes[0], attrs["axis"]
        assert shape is not None
        if not 1 <= len(shape) <= 4 or not -len(shape) <= axis < len(shape):
            raise ValueError(f"axis={axis}, expected an axis of x with 1 to 4 dimensions (x.shape={shape})")
        axis %= len(shape)
        start, end, _ = slice(attrs["start"], attrs["end"]).indices(shape[axis])
        return (*shape[:axis], max(0, end - start), *shape[axis + 1 :])

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x = inputs[0]
        assert x is not None
        index: Any = (*(slice(None),) * (attrs["axis"] % x.ndim), slice(attrs["start"], attrs["end"]))
        part: np.ndarray = np.asarray(x, np.float64)[index]
        return part

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def can_block(self, node: Node, shapes: Sequence[Shape], vl: int) -> bool:
        x = shapes[0]
        start = slice(node.attrs["start"], node.attrs["end"]).indices(x[node.attrs["axis"] % len(x)])[0]
        return len(x) == 4 and (node.attrs["axis"] % 4 != 1 or start % vl == 0)

    def lower(self, node: Node, ctx: Lowering) -> None:
        output, source, shape = ctx.view(node.output), ctx.view(node.inputs[0]), ctx.shape(node.inputs[0])
        axis = node.attrs["axis"] % len(shape)
        start = slice(node.attrs["start"], node.attrs["end"]).indices(shape[axis])[0]
        part = _part(source, _VIEW_AXES[len(shape)][axis], start, ctx.shape(node.output)[axis])
        ctx.emit("copy", _reorder.Reorder, output, part._replace(halo=NO_HALO))


class Identity(Op):
    """y = x; ONNX Identity, and Dropout at inference."""

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

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("copy", _reorder.Reorder, ctx.view(node.output), ctx.view(node.inputs[0]))


class Reorder(Identity):
    """The same value stored in another layout; only the compiler makes it."""

    is_internal = True

    def __init__(self) -> None:
        super().__init__("Reorder", {})

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("reorder", _reorder.Reorder, ctx.view(node.output), ctx.view(node.inputs[0]))


OPS = (
    Concat(), Pad(), Flatten(), Reshape(), Transpose(), Slice(), Identity("Identity", {}),
    Identity("Dropout", {"ratio": 0.5}), Reorder(),
)
