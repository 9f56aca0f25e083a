"""Sums and products of two arrays, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _pointwise, _pointwise_grad
from fastcnn.kernels.view import View
from fastcnn.ops.access import Access
from fastcnn.ops.base import check_size
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

Dimension = tuple[int, tuple[int, ...]]  # size, and the stride of each operand


class Binary(Op):
    """z = x op y; ONNX Add and Mul."""

    arguments = ("x", "y")
    required = 2
    layout = "follow"
    takes_activation = is_elementwise = True

    def __init__(self, name: str) -> None:
        self.name = name

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x, y = shapes
        assert x is not None and y is not None
        try:
            shape = np.broadcast_shapes(x, y)
        except ValueError:
            raise ValueError(f"y.shape={y}, expected a shape that broadcasts with x.shape={x}") from None
        return check_size(shape)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, y = inputs
        assert x is not None and y is not None
        return reference.add(x, y) if self.name == "Add" else reference.multiply(x, y)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        x, y = node.inputs
        grads: list[str | None] = []
        for own, other in ((x, y), (y, x)):
            if not back.needs(own):
                grads.append(None)
                continue
            part = grad if self.name == "Add" else back.add("Mul", grad, other)
            shape = back.shape(own)
            grads.append(part if back.shape(part) == shape else back.add("SumTo", part, shape=shape))
        return grads

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        same = len({shapes[name] for name in (*node.inputs, node.output)}) == 1
        return super().access(node, shapes, vl) if same else self.access_as(node, "plain")

    def lower(self, node: Node, ctx: Lowering) -> None:
        names = (node.output, *node.inputs)
        views = [ctx.view(name) for name in names]
        shapes = [ctx.shape(name) for name in names]
        if views[0].lanes == 1:
            views = _broadcast(views, shapes)
        ctx.emit(self.name.lower(), _pointwise.Binary, self.name, *views, node.decided.finish.activation)


def _broadcast(views: Sequence[View], shapes: Sequence[Shape]) -> list[View]:
    """Plain views of one common shape; an operand has stride 0, or width 1, along axes where it is broadcast."""
    rank = len(shapes[0])
    strides = [_strides(view, shape) for view, shape in zip(views, shapes, strict=True)]
    dimensions: list[Dimension] = []
    for axis in range(rank):
        steps = tuple(
            s[axis - rank + len(shape)] if axis - rank + len(shape) >= 0 and shape[axis - rank + len(shape)] > 1 else 0
            for s, shape in zip(strides, shapes, strict=True)
        )
        size = shapes[0][axis]
        if size == 1:
            continue
        if dimensions and all(outer == size * step for outer, step in zip(dimensions[-1][1], steps, strict=True)):
            dimensions[-1] = (dimensions[-1][0] * size, steps)  # contiguous in every operand
        else:
            dimensions.append((size, steps))
    if not dimensions or dimensions[-1][1][0] != 1:
        dimensions.append((1, (1,) * len(views)))
    if len(dimensions) > 4:
        raise ValueError(f"broadcasting {shapes[1]} and {shapes[2]} takes {len(dimensions)} loops, expected at most 4")
    dimensions = [(1, (0,) * len(views))] * (4 - len(dimensions)) + dimensions
    (n, image), (c, block), (h, row), (w, step) = dimensions
    return [
        view._replace(n=n, c=c, h=h, w=w if step[i] else 1, image=image[i], block=block[i], row=row[i])
        for i, view in enumerate(views)
    ]


def _strides(view: View, shape: Shape) -> list[int]:
    """The strides of a plain value; only the rows of a matrix can have gaps between them."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return [view.image, 1] if len(shape) == 2 else strides


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
        """The kernel has four loops: where these do not suffice, several sums follow one another."""
        nodes: list[Node] = []
        x, value, shape = shapes[node.inputs[0]], node.inputs[0], node.attrs["shape"]
        while len(_loops(x, shape)) > 4:
            sums = [axis for axis, size in enumerate(_aligned(shape, x)) if size < x[axis]]
            x = tuple(1 if axis in sums[: len(sums) // 2] else size for axis, size in enumerate(x))
            output = f"{node.output}:{len(nodes)}"
            nodes.append(Node("SumTo", f"{node.name}.{len(nodes)}", (value,), output, {"shape": x}))
            value = output
        return [*nodes, node.reading((value,))]

    def lower(self, node: Node, ctx: Lowering) -> None:
        x = ctx.shape(node.inputs[0])
        loops = _loops(x, node.attrs["shape"])
        source, target = [(1, 1)] * (4 - len(loops)) + loops, ctx.view(node.output)
        views = []
        for which, view in enumerate((target, ctx.view(node.inputs[0]))):
            n, c, h, w = [sizes[1 - which] for sizes in source]
            row = view.image if len(x) == 2 and which else w  # rows of a matrix may have gaps
            views.append(view._replace(n=n, c=c, h=h, w=w, image=c * h * row, block=h * row, row=row))
        ctx.emit("sumto", _pointwise_grad.SumTo, *views)


def _aligned(shape: Shape, x: Shape) -> Shape:
    """A shape with as many axes as x, which it broadcasts to."""
    return (1,) * (len(x) - len(shape)) + tuple(shape)


def _loops(x: Shape, shape: Shape) -> list[tuple[int, int]]:
    """Sizes of x and of `shape`. Neighbours that are both summed, or both kept, are one, but not in a matrix."""
    if len(x) <= 2:
        return [*zip(x, _aligned(shape, x), strict=True)]
    loops: list[tuple[int, int]] = []
    for size, kept in zip(x, _aligned(shape, x), strict=True):
        if size == 1:
            continue
        if loops and (loops[-1][0] == loops[-1][1]) == (size == kept):
            loops[-1] = loops[-1][0] * size, loops[-1][1] * kept
        else:
            loops.append((size, kept))
    return loops


OPS = (Binary("Add"), Binary("Mul"), SumTo())
