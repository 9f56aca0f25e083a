"""Operations on two arrays, with NumPy's broadcasting; broadcasting itself, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _broadcast, _pointwise
from fastcnn.kernels.view import View
from fastcnn.ops.access import Access
from fastcnn.ops.axes import plain_strides
from fastcnn.ops.base import check_size
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes
from fastcnn.ops.reduce import emit_reduction

_DEFINITIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": reference.add,
    "Mul": reference.multiply,
    "Sub": np.subtract,
    "Div": np.divide,
    "Min": np.minimum,
    "Max": np.maximum,
    "Below": lambda x, y: (x < y) + 0.5 * (x == y),
    "Same": lambda x, y: (x == y) + 0.0,
}


class Binary(Op):
    """z = x op y; ONNX Add, Mul, Sub, Div, Min and Max of two operands.

    "Below" is 1 where x < y, 0.5 where they are equal, else 0. "Same" is 1 where they are equal, else 0.
    """

    arguments = ("x", "y")
    required = 2
    layout = "follow"
    takes_activation = is_elementwise = True

    def __init__(self, name: str) -> None:
        self.name, self.is_internal = name, name in ("Below", "Same")

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x, y = shapes
        assert x is not None and y is not None
        try:
            shape = np.broadcast_shapes(x, y)
        except ValueError:
            raise ValueError(f"y.shape={y}, expected a shape that broadcasts with x.shape={x}") from None
        return check_size(shape)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, y = (np.asarray(value, np.float64) for value in inputs)
        with np.errstate(all="ignore"):
            return np.asarray(_DEFINITIONS[self.name](x, y))

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        grads: list[str | None] = []
        x, y = node.inputs
        for own, rule in zip((x, y), _GRADIENTS[self.name], strict=True):
            if not back.needs(own):
                grads.append(None)
                continue
            part = rule(back, grad, x, y, node.output)
            shape = back.shape(own)
            grads.append(part if back.shape(part) == shape else back.add("SumTo", part, shape=shape))
        return grads

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        """A number for each channel (C, 1, 1) becomes an image of one pixel, which stands beside blocked images."""
        output, nodes, inputs = shapes[node.output], list[Node](), list(node.inputs)
        for i, name in enumerate(inputs):
            if len(output) == 4 and shapes[name] == (output[1], 1, 1) and output[1] > 1:
                inputs[i] = f"{name}:pixel{i}@{node.name}"
                nodes.append(Node("Reshape", inputs[i], (name,), inputs[i], {"shape": (1, *shapes[name])}))
        return [*nodes, node.reading(inputs) if nodes else node]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        output, operands = shapes[node.output], [shapes[name] for name in node.inputs]
        fits = len(output) == 4 and output in operands and all(_suits(shape, output) for shape in operands)
        if not fits:
            return self.access_as(node, "plain")
        numbers = tuple(i for i, shape in enumerate(operands) if prod(shape) == 1 and shape != output)
        return Access("follow", overwrites=(0, 1), plain=numbers)

    def lower(self, node: Node, ctx: Lowering) -> None:
        names = (node.output, *node.inputs)
        views, shapes = [ctx.view(name) for name in names], [ctx.shape(name) for name in names]
        activation = node.decided.finish.activation
        if views[0].lanes > 1:
            pixels = [_pixel(view, shape, shapes[0]) for view, shape in zip(views, shapes, strict=True)]
            ctx.emit(self.name.lower(), _pointwise.Binary, self.name, *pixels, activation)
        elif len(set(shapes)) == 1:
            ctx.emit(self.name.lower(), _pointwise.Binary, self.name, *views, activation)
        else:
            sizes, steps = loops(views, shapes)
            ctx.emit(self.name.lower(), _broadcast.Broadcast, self.name, *views, sizes, steps, activation)


Rule = Callable[[Backward, str, str, str, str], str]  # of back, grad, x, y and the result

_GRADIENTS: dict[str, tuple[Rule, Rule]] = {
    "Add": (lambda back, g, x, y, z: g, lambda back, g, x, y, z: g),
    "Sub": (lambda back, g, x, y, z: g, lambda back, g, x, y, z: back.add("Neg", g)),
    "Mul": (lambda back, g, x, y, z: back.add("Mul", g, y), lambda back, g, x, y, z: back.add("Mul", g, x)),
    "Div": (
        lambda back, g, x, y, z: back.add("Div", g, y),
        lambda back, g, x, y, z: back.add("Neg", back.add("Mul", back.add("Div", g, y), back.add("Div", x, y))),
    ),
    # Of two equal operands, each takes half of the gradient.
    "Min": (
        lambda back, g, x, y, z: back.add("Mul", g, back.add("Below", x, y)),
        lambda back, g, x, y, z: back.add("Mul", g, back.add("Below", y, x)),
    ),
    "Max": (
        lambda back, g, x, y, z: back.add("Mul", g, back.add("Below", y, x)),
        lambda back, g, x, y, z: back.add("Mul", g, back.add("Below", x, y)),
    ),
}


def _suits(shape: Shape, output: Shape) -> bool:
    """Whether an operand can stand beside blocked images: as they do, with one pixel for each plane, or as a number."""
    gate = len(shape) == 4 and shape[0] in (1, output[0]) and shape[1:] == (output[1], 1, 1)
    return shape == output or gate or prod(shape) == 1


def _pixel(view: View, shape: Shape, output: Shape) -> View:
    """An operand beside blocked images; strides of 0 repeat its only pixel."""
    if shape == output:
        return view
    if view.lanes == 1:
        return view._replace(n=1, c=1, h=1, w=1, image=0, block=0, row=0)
    return view._replace(image=view.image if shape[0] == output[0] else 0, row=0)


def loops(views: Sequence[View], shapes: Sequence[Shape]) -> tuple[list[int], list[list[int]]]:
    """Loops over the first of plain operands, outermost first: their sizes, and the steps of each operand.

    Neighbouring loops are merged where all operands allow it. The last one runs over neighbouring elements of the
    first operand, and is broadcast or not.
    """
    rank = len(shapes[0])
    strides = []
    for view, shape in zip(views, shapes, strict=True):
        own = plain_strides(view, shape)
        ahead = [0] * (rank - len(shape))
        strides.append(ahead + [step if size > 1 else 0 for step, size in zip(own, shape, strict=True)])
    merged: list[tuple[int, tuple[int, ...]]] = []
    for size, *steps in zip(shapes[0], *strides, strict=True):
        if size == 1:
            continue
        if merged and all(outer == size * step for outer, step in zip(merged[-1][1], steps, strict=True)):
            merged[-1] = (merged[-1][0] * size, tuple(steps))  # contiguous in every operand
        else:
            merged.append((size, tuple(steps)))
    if not merged or merged[-1][1][0] != 1:
        merged.append((1, (1,) * len(views)))
    return [size for size, _ in merged], [[steps[i] for _, steps in merged] for i in range(len(views))]


class BroadcastTo(Op):
    """x times a factor, repeated as NumPy broadcasts it to `shape`."""

    name = "BroadcastTo"
    defaults = {"shape": (), "factor": 1.0}
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape: Shape = attrs["shape"]
        return check_size(shape)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.broadcast_to(inputs[0] * attrs["factor"], attrs["shape"])

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        total = back.add("SumTo", grad, shape=back.shape(node.inputs[0]))
        return [back.add("BroadcastTo", total, shape=back.shape(total), factor=node.attrs["factor"])]

    def lower(self, node: Node, ctx: Lowering) -> None:
        views, shapes = zip(*((ctx.view(n), ctx.shape(n)) for n in (node.output, node.inputs[0])), strict=True)
        sizes, steps = loops(views, shapes)
        steps.append([0] * len(sizes))
        factor = float(node.attrs.get("factor", 1.0))
        ctx.emit("broadcast", _broadcast.Broadcast, "Mul", *views, factor, sizes, steps, None)


class Expand(BroadcastTo):
    """x repeated along axes of size 1, and along new ones before, up to `shape`; ONNX Expand."""

    name = "Expand"
    defaults = {"shape": ()}
    is_internal = False

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, wanted = shapes[0], attrs["shape"]
        assert shape is not None
        try:
            return check_size(np.broadcast_shapes(shape, wanted))
        except ValueError:
            raise ValueError(f"shape={wanted}, expected one that broadcasts with x.shape={shape}") from None

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x = inputs[0]
        assert x is not None
        return np.array(np.broadcast_to(x, np.broadcast_shapes(x.shape, attrs["shape"])), np.float64)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("SumTo", grad, shape=back.shape(node.inputs[0]))]


class RepeatForBatch(BroadcastTo):
    """x (1, ...), repeated for each image of `like` (N, ...): what files make of class tokens."""

    name = "RepeatForBatch"
    defaults = {}
    arguments = ("x", "like")
    required = 2
    shape_alone = (1,)
    is_internal = False

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, like = shapes
        assert shape is not None
        if shape[:1] != (1,) or not like:
            raise ValueError(f"x.shape={shape}, expected (1, ...), and a batch (like.shape={like})")
        return check_size((like[0], *shape[1:]))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, like = inputs
        assert x is not None and like is not None
        return np.repeat(np.asarray(x, np.float64), len(like), axis=0)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        shape = back.shape(node.inputs[0])
        return [grad if back.shape(grad) == shape else back.add("SumTo", grad, shape=shape), None]


class SumTo(Op):
    """Gradient of broadcasting: the sum over the axes that are broadcast, down to `shape`."""

    name = "SumTo"
    defaults = {"shape": ()}
    arguments = ("grad",)
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape: Shape = attrs["shape"]
        return shape

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.sum_to(inputs[0], attrs["shape"])

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        """The sum over all but the channels of images is that of a bias's gradient, which blocked images have."""
        x, shape, sums = shapes[node.inputs[0]], node.attrs["shape"], f"{node.output}:channels"
        if len(x) != 4 or shape not in ((x[1], 1, 1), (1, x[1], 1, 1)):
            return [node]
        return [
            Node("ChannelSum", sums, node.inputs, sums, {}),
            Node("Reshape", node.name, (sums,), node.output, {"shape": shape}),
        ]

    def lower(self, node: Node, ctx: Lowering) -> None:
        x, shape = ctx.shape(node.inputs[0]), node.attrs["shape"]
        extra = len(x) - len(shape)
        axes = [axis for axis in range(len(x)) if axis < extra or (shape[axis - extra] == 1 and x[axis] > 1)]
        emit_reduction(node, ctx, "sum", axes)


OPS = (*(Binary(name) for name in _DEFINITIONS), BroadcastTo(), Expand(), RepeatForBatch(), SumTo())
