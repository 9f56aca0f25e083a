"""Activations: functions of single elements; and softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _pointwise
from fastcnn.kernels.view import View
from fastcnn.ops.base import Attrs, Op, Shape, Shapes

if TYPE_CHECKING:
    from fastcnn.compiler.plan import Lowering
    from fastcnn.graph.ir import Node


class Activation(Op):
    """y = f(x), element by element; the output lies like the input."""

    layout = "follow"
    is_activation = is_elementwise = True

    def __init__(
        self, name: str, define: Callable[..., np.ndarray], defaults: Mapping[str, Any], flops: int
    ) -> None:
        self.name, self._define, self.defaults, self._flops = name, define, defaults, flops

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        if self.name == "Clip" and not attrs["min"] <= attrs["max"]:
            raise ValueError(f"min={attrs['min']}, expected at most max={attrs['max']}")
        return shapes[0]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        return self._define(inputs[0], *[attrs[key] for key in self.defaults])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return self._flops * prod(output)

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit(
            self.name.lower(), _pointwise.Activate, ctx.view(node.output), ctx.view(node.inputs[0]),
            (self.name, node.attrs),
        )


class Softmax(Op):
    """y = exp(x) / sum of exp(x) along an axis; ONNX Softmax."""

    name = "Softmax"
    defaults = {"axis": -1}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, axis = shapes[0], attrs["axis"]
        assert shape is not None
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"dim={axis}, expected an axis of x (x.shape={shape})")
        return shape

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.softmax(inputs[0], attrs["axis"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 5 * prod(output)

    def lower(self, node: Node, ctx: Lowering) -> None:
        shape = ctx.shape(node.output)
        axis = node.attrs["axis"] % len(shape)
        views = [_along(ctx.view(name), shape, axis) for name in (node.output, node.inputs[0])]
        ctx.emit("softmax", _pointwise.Softmax, *views)


def _along(view: View, shape: Shape, axis: int) -> View:
    """The same memory as (outer, length of the axis, 1, inner)."""
    outer, length, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    # Rows of a matrix may have gaps between them; values of other ranks have none.
    row = view.image if len(shape) == 2 else shape[-1] if shape else 1
    image, step = (row, 1) if len(shape) == 2 and axis == 1 else (length * inner, row if len(shape) == 2 else inner)
    return view._replace(n=outer, c=length, h=1, w=inner, image=image, block=step, row=inner)


OPS: tuple[Op, ...] = (
    Activation("Relu", reference.relu, {}, 1),
    Activation("Clip", reference.clip, {"min": float("-inf"), "max": float("inf")}, 2),
    Activation("LeakyRelu", reference.leaky_relu, {"alpha": 0.01}, 2),
    Activation("Tanh", reference.tanh, {}, 20),
    Activation("Sigmoid", reference.sigmoid, {}, 20),
    Activation("HardSwish", reference.hard_swish, {}, 5),
    Activation("Swish", reference.silu, {}, 20),
    Softmax(),
)
