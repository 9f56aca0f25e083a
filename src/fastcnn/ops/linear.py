"""Fully connected layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _conv_bf16, _direct_filters, _gemm
from fastcnn.kernels.view import View
from fastcnn.ops.access import Access
from fastcnn.ops.base import check_size
from fastcnn.ops.conv import direct_order
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes


class Gemm(Op):
    """y = x @ weight.T + bias, x (..., I), weight (O, I), bias (O,); ONNX Gemm with transB = 1, of more than rows too.

    Its kernel takes rows (N, I): compiler/channels.py makes rows or images of other values.
    """

    name = "Gemm"
    arguments = ("x", "weight", "bias")
    required = 2
    constants = (1, 2)
    takes_activation = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x, weight = shapes[0], shapes[1]
        if x is None or len(x) < 2:
            raise ValueError(f"x.shape={x}, expected at least 2 dimensions (N, in_features)")
        if weight is None or len(weight) != 2:
            raise ValueError(f"weight.shape={weight}, expected 2 dimensions (out_features, in_features)")
        if x[-1] != weight[1]:
            raise ValueError(f"weight.shape[1]={weight[1]}, expected in_features={x[-1]} (x.shape={x})")
        bias = shapes[2] if len(shapes) > 2 else None
        if bias is not None and bias != (weight[0],):
            raise ValueError(f"bias.shape={bias}, expected {(weight[0],)} (weight.shape={weight})")
        return check_size((*x[:-1], weight[0]))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, weight = inputs[0], inputs[1]
        assert x is not None and weight is not None
        rows = reference.linear(
            x.reshape(prod(x.shape[:-1]), x.shape[-1]), weight, inputs[2] if len(inputs) > 2 else None
        )
        return rows.reshape(*x.shape[:-1], weight.shape[0])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        weight = shapes[1]
        assert weight is not None
        return 2 * prod(output) * weight[1]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        return Access(pads_rows=shapes[node.output][1] % vl > 0)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        x, weight, *bias = node.inputs
        grads: list[str | None] = [None, None, *(None for _ in bias)]
        shape = back.shape(x)
        if len(shape) > 2:
            grad = back.add("Reshape", grad, shape=(-1, back.shape(grad)[-1]))
        if back.needs(weight):
            rows = x if len(shape) == 2 else back.add("Reshape", x, shape=(-1, shape[-1]))
            grads[1] = back.add("GemmGradWeight", rows, grad)
        if bias and bias[0] and back.needs(bias[0]):
            grads[2] = back.add("ChannelSum", grad)
        if back.needs(x):
            rows = back.add("GemmGradInput", grad, weight)
            grads[0] = rows if len(shape) == 2 else back.add("Reshape", rows, shape=shape)
        return grads

    def order(
        self, node: Node, index: int, shapes: Mapping[str, Shape], lanes: Mapping[str, int], vl: int
    ) -> dict[str, Any] | None:
        outs, ins = shapes[node.inputs[1]]
        return direct_order(outs, ins, 1, vl) if index == 1 else None

    def lower(self, node: Node, ctx: Lowering) -> None:
        blocks = node.decided.blocks  # the image shape, if the rows of x are images in blocks

        def in_order(weight: np.ndarray) -> np.ndarray:
            if blocks:
                channels, area = blocks[0], prod(blocks[1:])
                weight = weight.reshape(-1, channels // ctx.vl, ctx.vl, area).swapaxes(2, 3).reshape(weight.shape)
            return np.ascontiguousarray(weight).reshape(*weight.shape, 1, 1)

        def pack(weight: np.ndarray) -> np.ndarray:
            return _direct_filters.pack_weights(in_order(weight), 1, weight.shape[1], ctx.vl)

        y, x = ctx.view(node.output), ctx.view(node.inputs[0])
        if ctx.bfloat16 and x.w % ctx.vl == 0 and _conv_bf16.available():
            self.lower_bfloat16(node, ctx, as_image(y, ctx.vl), as_image(x, ctx.vl), in_order)
            return
        bias = ctx.weights("bias", lambda bias: _direct_filters.pack_bias(bias, y.w, 1, ctx.vl), 2, variant=(y.w, 1))
        weights = ctx.weights("gemm", pack, 1, variant=blocks or None)
        ctx.emit("gemm", _gemm.Gemm, y, x, weights, bias, node.decided.finish.activation)

    def lower_bfloat16(
        self, node: Node, ctx: Lowering, y: View, x: View, in_order: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        """Emit a convolution of images of one pixel."""

        def pack(weight: np.ndarray) -> np.ndarray:
            return _conv_bf16.pack_bf16_weights(in_order(weight), ctx.vl)

        weights = ctx.pack("gemm in bfloat16", pack, 1, variant=node.decided.blocks or None)
        bias = ctx.pack("bias", lambda bias: _direct_filters.pack_bias(bias, y.c, 1, ctx.vl), 2, variant=(y.c, 1))
        window = (1, 1), (1, 1), (0, 0, 0, 0), (1, 1)
        ctx.emit("bfloat16", _conv_bf16.Bf16Conv, y, x, None, weights, bias, *window, node.decided.finish.activation)


def as_image(rows: View, vl: int) -> View:
    """Rows as images of one pixel, in blocks."""
    return rows._replace(c=rows.w, w=1, block=vl, row=vl, lanes=vl)


OPS = (Gemm(),)
