"""Bands: a convolution and its reader as one step, which computes some rows at a time (see kernels/_bands).

The reader is a depthwise convolution or a pool. Only the compiler makes the step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastcnn._record import record
from fastcnn.kernels import _bands, _conv_depthwise, _conv_direct, _pool
from fastcnn.kernels._step import Step
from fastcnn.ops.access import Access
from fastcnn.ops.base import resolve_pads
from fastcnn.ops.conv import Conv, depthwise_arguments, direct_arguments
from fastcnn.ops.node import Attrs, Lowering, Node, Op, Shape, Shapes
from fastcnn.ops.pool import MaxPool

_CONV, _POOL = Conv(), MaxPool()


@record
class Bands:
    """The attribute ``bands`` of `InBands`.

    Attributes
    ----------
    conv : Node
    reader : Node
        It reads the output of `conv`.
    between : tuple of int
        The shape of the feature map between the two.
    """

    conv: Node
    reader: Node
    between: Shape


class InBands(Op):
    """Two nodes (`Bands`) as one. Its inputs are theirs, except the feature map between the two."""

    name = "InBands"
    constants = (1, 2, 3, 4)
    is_internal = True

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        bands: Bands = attrs["bands"]
        reader = _CONV if bands.reader.op == "Conv" else _POOL
        return _CONV.flops(bands.conv.attrs, shapes[:3], bands.between) + reader.flops(
            bands.reader.attrs, [bands.between, *shapes[3:]], output
        )

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        conv = _CONV.access(node.attrs["bands"].conv, shapes, vl)
        return Access("blocked", conv.halo, reads_narrow=conv.reads_narrow, reads_plain=conv.reads_plain)

    def lower(self, node: Node, ctx: Lowering) -> None:
        bands: Bands = node.attrs["bands"]
        conv, reader, between = bands.conv, bands.reader, bands.between[1:]
        x, y = ctx.view(node.inputs[0]), ctx.view(node.output)
        arguments = direct_arguments(conv, ctx, between[0], x)
        reach, stride, (top, left, _, right) = reader_rows(reader, between)
        inside = (0, left, 0, right)
        make: Callable[..., Step]
        further: tuple[Any, ...]
        if reader.op == "MaxPool":
            window = {**reader.attrs, "pads": inside, "auto_pad": "NOTSET"}
            kind, make, further, margins = "pool", _pool.Pool, _POOL.step_arguments(window, between[1:]), (0, 0)
        else:
            reader = reader.deciding(choice=replace(reader.choice, pads=inside))
            kind, make, margins = "depthwise", _conv_depthwise.DepthwiseConv, (left, right)
            further = (None, *depthwise_arguments(reader, ctx, between[0], 3))
        ctx.emit(
            f"direct + {kind}",
            _bands.InBands,
            y,
            x,
            lambda y, x: _conv_direct.DirectConv(y, x, None, *arguments),
            lambda y, x: make(y, x, *further),
            between,
            conv.attrs["strides"][0],
            reach,
            stride,
            top,
            *margins,
        )


def reader_rows(reader: Node, between: Sequence[int]) -> tuple[int, int, tuple[int, int, int, int]]:
    """The rows of a reader's window, the rows from one window to the next, and the padding.

    `between` is the shape (C, H, W) of the image that is read.
    """
    attrs = reader.attrs
    kernel = reader.choice.kernel if reader.op == "Conv" else attrs["kernel_shape"]
    dilations = attrs["dilations"]
    return (kernel[0] - 1) * dilations[0] + 1, attrs["strides"][0], resolve_pads(attrs, between[1:], kernel)


OPS = (InBands(),)
