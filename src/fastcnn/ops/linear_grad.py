"""Gradients of fully connected layers, and of the biases of all layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _broadcast, _conv_grad, _pointwise
from fastcnn.ops.access import Access
from fastcnn.ops.node import Attrs, Lowering, Node, Op, Shape, Shapes


class ChannelSum(Op):
    """Gradient of a bias: the sum over all but the channels of (N, C, H, W) or (N, C)."""

    name = "ChannelSum"
    arguments = ("grad",)
    layout = "blocked"
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        grad = shapes[0]
        if grad is None or len(grad) not in (2, 4):
            raise ValueError(f"grad.shape={grad}, expected (N, C, H, W) or (N, C)")
        return (grad[1],)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.conv2d_grad_bias(inputs[0])

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        return Access("blocked" if len(shapes[node.inputs[0]]) == 4 else "plain")

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, grad = ctx.view(node.output), ctx.view(node.inputs[0])
        if len(ctx.shape(node.inputs[0])) == 4:
            ctx.emit("channelsum", _conv_grad.ChannelSum, y, grad)
            return
        if y.c % ctx.vl:  # what a last block has beyond its channels is part of the parameter
            ctx.emit("fill", _pointwise.Fill, y._replace(c=-(-y.c // ctx.vl) * ctx.vl), 0.0)
        row = y._replace(n=1, c=1, h=1, w=y.c, image=y.c, block=y.c, row=y.c, lanes=1)
        ctx.emit("channelsum", _broadcast.Reduce, row, grad, "sum", ([], []), ([grad.n], [grad.image]), y.c, 1.0)


class GemmGradWeight(Op):
    """Gradient of a fully connected layer by its weight: grad.T @ x."""

    name = "GemmGradWeight"
    arguments = ("x", "grad")
    required = 2
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x, grad = shapes
        if x is None or grad is None or len(x) != 2 or len(grad) != 2 or x[0] != grad[0]:
            raise ValueError(f"grad.shape={grad}, expected (N, out_features) for x.shape={x}, (N, in_features)")
        return grad[1], x[1]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, grad = inputs
        assert x is not None and grad is not None
        return reference.linear_grad_weight(x, grad)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        assert shapes[0] is not None
        return 2 * prod(output) * shapes[0][0]

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        ctx.emit("linearweightgrad", _conv_grad.LinearGradWeight, *views)


class GemmGradInput(Op):
    """Gradient of a fully connected layer by its input: grad @ weight."""

    name = "GemmGradInput"
    arguments = ("grad", "weight")
    required = 2
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        grad, weight = shapes
        if grad is None or weight is None or len(grad) != 2 or len(weight) != 2 or grad[1] != weight[0]:
            raise ValueError(f"grad.shape={grad}, expected (N, out_features) for weight.shape={weight}")
        return grad[0], weight[1]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, weight = inputs
        assert grad is not None and weight is not None
        return reference.linear_grad_input(grad, weight)

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        grad, weight = node.inputs
        turned = f"{weight}:turned@{node.name}"
        return [
            Node("TurnWeights", turned, (weight,), turned, {"group": 1}),
            Node("Gemm", node.name, (grad, turned), node.output, {}),
        ]


OPS = (ChannelSum(), GemmGradWeight(), GemmGradInput())
