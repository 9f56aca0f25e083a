"""Bands: a convolution and the depthwise one or the pooling that reads it, as one step (see kernels/_bands); only the
compiler makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastcnn.kernels import _bands, _conv_depthwise, _conv_direct, _pool
from fastcnn.kernels.view import View
from fastcnn.ops.base import Attrs, Op, Shape, Shapes, resolve_pads
from fastcnn.ops.conv import Conv, depthwise_arguments, direct_arguments
from fastcnn.ops.pool import MaxPool

if TYPE_CHECKING:
    from fastcnn.compiler.plan import Lowering
    from fastcnn.graph.ir import Node

_CONV, _POOL = Conv(), MaxPool()


class InBands(Op):
    """The node `reader` of what the node `conv` computes, `between` in shape; inputs are the other ones of both."""

    name = "InBands"
    constants = (1, 2, 3, 4)
    layout = "blocked"
    is_internal = True

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        reader = _CONV if attrs["reader"].op == "Conv" else _POOL
        return _CONV.flops(attrs["conv"].attrs, shapes[:3], attrs["between"]) + reader.flops(
            attrs["reader"].attrs, [attrs["between"], *shapes[3:]], output)

    def halo(self, node: Node, shapes: Sequence[Shape]) -> tuple[int, int, int, int]:
        return _CONV.halo(node.attrs["conv"], shapes)

    def reads_few(self, node: Node) -> bool:
        return _CONV.reads_few(node.attrs["conv"])

    def reads_plain(self, node: Node, shapes: Sequence[Shape], vl: int) -> bool:
        return _CONV.reads_plain(node.attrs["conv"], shapes, vl)

    def lower(self, node: Node, ctx: Lowering) -> None:
        conv, reader, between = node.attrs["conv"], node.attrs["reader"], node.attrs["between"][1:]
        x, y = ctx.view(node.inputs[0]), ctx.view(node.output)
        arguments = direct_arguments(conv, ctx, between[0], x)
        kernel, strides, dilations, pads = reader_window(reader, between)
        _, left, _, right = pads
        if reader.op == "MaxPool":
            kind, margins = "pool", (0, 0)

            def read(y: View, x: View) -> Any:
                return _pool.Pool(y, x, False, kernel, strides, (0, left, 0, right), dilations, False)
        else:
            kind, margins = "depthwise", (left, right)
            weights, bias, *_, activation = depthwise_arguments(reader, ctx, between[0], 3)

            def read(y: View, x: View) -> Any:
                return _conv_depthwise.DepthwiseConv(
                    y, x, None, weights, bias, kernel, strides, (0, left, 0, right), dilations, activation)

        ctx.emit(
            f"direct + {kind}", _bands.InBands, y, x,
            lambda y, x: _conv_direct.DirectConv(y, x, None, *arguments), read, between,
            conv.attrs["strides"][0], (kernel[0] - 1) * dilations[0] + 1, strides[0], pads[0], *margins,
        )


def reader_window(reader: Node, between: Sequence[int]) -> tuple[Any, Any, Any, tuple[int, int, int, int]]:
    """Kernel, strides, dilations and padding of what reads an image of shape (C, H, W)."""
    attrs = reader.attrs
    pads = resolve_pads(attrs, between[1:], attrs["kernel_shape"])
    return attrs["kernel_shape"], attrs["strides"], attrs["dilations"], pads


OPS = (InBands(),)
