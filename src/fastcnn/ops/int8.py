"""Operations on quantised numbers: bytes q that stand for scale * (q - zero).

The compiler makes them from operations between DequantizeLinear and QuantizeLinear (compiler/quantised.py). A signed
byte is stored as q + 128, with a zero point that is larger by 128. The padding of an image consists of its zero point.
Weights are signed bytes whose zero point is 0, and sums have 32 bits. reference/quantised.py has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels.view import FLOAT32, UINT8
from fastcnn.ops.access import Access
from fastcnn.ops.base import images, window_output
from fastcnn.ops.node import Attrs, Lowering, Node, Op, Shape, Shapes

# The lanes of an image of few channels, such as RGB: as many as one dot product takes.
QUAD = 4
_BOUNDS = {"y_zero": 0, "low": 0, "high": 255}


class _Internal(Op):
    """An operation that only the compiler makes."""

    is_internal = True

    def writes(self, node: Node, shapes: Mapping[str, Shape], **access: Any) -> Access:
        """The access of an operation in blocks where values are images, which writes bytes."""
        layout = "blocked" if len(shapes[node.output]) == 4 else "plain"
        return Access(layout, element=UINT8, fill=node.attrs["y_zero"], **access)


class Quantize(_Internal):
    """round(x / scale) + zero, as bytes."""

    name = "Int8Quantize"
    result_type = UINT8
    defaults = {"scale": 1.0, "y_zero": 0}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        return self.writes(node, shapes, reads_any=True, writes_narrow=True)

    def lower(self, node: Node, ctx: Lowering) -> None:
        from fastcnn.kernels import _int8_pointwise

        y, x = ctx.view(node.output), ctx.view(node.inputs[0])
        ctx.emit("quantize", _int8_pointwise.Quantize, y, x, node.attrs["scale"], node.attrs["y_zero"])


class Dequantize(_Internal):
    """scale * (q - zero), as float32."""

    name = "Int8Dequantize"
    defaults = {"scale": 1.0, "x_zero": 0}
    arguments = ("q",)
    layout = "follow"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def lower(self, node: Node, ctx: Lowering) -> None:
        from fastcnn.kernels import _int8_pointwise

        y, x = ctx.view(node.output), ctx.view(node.inputs[0])
        ctx.emit("dequantize", _int8_pointwise.Dequantize, y, x, node.attrs["scale"], node.attrs["x_zero"])


class Weight(_Internal):
    """Weights as float32: scale * q, with a scale for each place along an axis."""

    name = "Int8Weight"
    defaults = {"axis": 0}
    arguments = ("q", "scale")
    required = 2
    constants = (0, 1)

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        q, scale = inputs
        assert q is not None and scale is not None
        return q * np.asarray(scale, np.float32).reshape([-1 if i == attrs["axis"] else 1 for i in range(q.ndim)])


class Conv(_Internal):
    """A convolution of bytes with signed bytes. Its output is bytes, or float32 where `floats` is set.

    `bias` are integers, of which the zero point of x is subtracted already. `scale` leads from sums to outputs. `fill`
    is the zero point behind the table. Where it `rounds`, it becomes bytes of its own before the residual is added.
    """

    name = "Int8Conv"
    arguments = ("x", "weight", "bias", "scale", "table", "residual")
    required = 4
    constants = (1, 2, 3, 4)
    defaults = {
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "group": 1,
        "floats": 0,
        **_BOUNDS,
        "fill": 0,
        "residual_scale": 0.0,
        "residual_zero": 0,
        "rounds": 0,
        "own_zero": 0,
        "own_scale": 0.0,
    }

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, weight = images(shapes), shapes[1]
        assert weight is not None
        return shape[0], weight[0], *window_output(attrs, shape, weight[2:])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        assert shapes[1] is not None
        return 2 * prod(output) * prod(shapes[1][1:])

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        attrs, narrow = node.attrs, self.narrow(node, shapes, vl)
        element, fill = (FLOAT32, 0) if attrs["floats"] else (UINT8, attrs["fill"])
        top, left, bottom, right = attrs["pads"]
        halo = (top, left, bottom, right)
        return Access("blocked", halo, reads_narrow=narrow > 0, narrow=narrow, element=element, fill=fill)

    def narrow(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> int:
        """The lanes of an image of few channels; 0 where it is read in blocks. Plain values have no padding."""
        from fastcnn.kernels import int8_weights

        channels, weight = shapes[node.inputs[0]][1], shapes[node.inputs[1]]
        if channels > QUAD or node.attrs["group"] > 1:
            return 0
        lanes = int8_weights.narrow_lanes(channels, weight[2:], node.attrs["dilations"])
        lanes = QUAD if lanes == 1 else lanes
        return 0 if lanes == vl else lanes

    def lower(self, node: Node, ctx: Lowering) -> None:
        from fastcnn.kernels import _int8, _int8_conv, int8_weights

        attrs, (outs, ins, *kernel) = node.attrs, ctx.shape(node.inputs[1])
        y, x = ctx.view(node.output), ctx.view(node.inputs[0])
        has_table = len(node.inputs) > 4 and node.inputs[4] != ""
        residual = ctx.view(node.inputs[5]) if len(node.inputs) > 5 else None
        depthwise = attrs["group"] == outs == ctx.shape(node.inputs[0])[1] and ins == 1
        variant = (_int8.int8_isa(), depthwise, attrs["group"], x.lanes, attrs["strides"], attrs["dilations"])

        def pack(weight: np.ndarray) -> np.ndarray:
            if depthwise:
                return int8_weights.pack_int8_depthwise(weight, attrs["strides"], attrs["dilations"])
            return int8_weights.pack_int8_weights(weight, attrs["group"], x.lanes)

        step = _int8_conv.Int8Depthwise if depthwise else _int8_conv.Int8Conv
        ctx.emit(
            "int8",
            step,
            y,
            x,
            residual,
            ctx.pack("int8", pack, 1, variant=variant, as_stored=True),
            ctx.pack("int8 bias", np.array, 2, as_stored=True),
            ctx.pack("int8 scale", np.array, 3),
            tuple(kernel),
            attrs["strides"],
            attrs["pads"],
            attrs["dilations"],
            attrs["group"],
            attrs["y_zero"],
            attrs["residual_scale"],
            attrs["residual_zero"],
            attrs["low"],
            attrs["high"],
            ctx.pack("table", np.array, 4, as_stored=True) if has_table else None,
            *([(attrs["own_zero"], attrs["own_scale"])] if attrs["rounds"] else []),
        )


class Pool(_Internal):
    """The maximum of every window of bytes, or their mean, times `scale`."""

    name = "Int8Pool"
    defaults = {
        "kind": "max",
        "kernel_shape": (1, 1),
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "ceil_mode": 0,
        "count_include_pad": 0,
        "scale": 1.0,
        "x_zero": 0,
        "y_zero": 0,
    }

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape = images(shapes)
        return *shape[:2], *window_output(attrs, shape, attrs["kernel_shape"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return prod(output) * prod(attrs["kernel_shape"])

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        return self.writes(node, shapes)

    def lower(self, node: Node, ctx: Lowering) -> None:
        from fastcnn.kernels import _pool

        attrs = node.attrs
        keys = ("kernel_shape", "strides", "pads", "dilations", "count_include_pad", "scale", "x_zero", "y_zero")
        arguments = (attrs["kind"] == "average", *(attrs[key] for key in keys))
        ctx.emit("int8 pool", _pool.Int8Pool, ctx.view(node.output), ctx.view(node.inputs[0]), *arguments)


class _Pairs(_Internal):
    """A sum or a product of two values of one shape."""

    arguments = ("a", "b")
    required = 2
    keys: tuple[str, ...] = ()

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        same = tuple(i for i, name in enumerate(node.inputs) if shapes[name] == shapes[node.output])
        return self.writes(node, shapes, overwrites=same)

    def lower(self, node: Node, ctx: Lowering) -> None:
        from fastcnn.kernels import _int8_pointwise

        step = _int8_pointwise.Int8Add if self.name == "Int8Add" else _int8_pointwise.Int8Multiply
        operands = (ctx.view(name) for name in (node.output, *node.inputs))
        ctx.emit("int8 pairs", step, *operands, *(node.attrs[key] for key in self.keys))


class Add(_Pairs):
    """a_scale * (a - a_zero) + b_scale * (b - b_zero), as bytes."""

    name = "Int8Add"
    keys = ("a_scale", "a_zero", "b_scale", "b_zero", "y_zero", "low", "high")
    defaults = {"a_scale": 1.0, "a_zero": 0, "b_scale": 1.0, "b_zero": 0, **_BOUNDS}


class Multiply(_Pairs):
    """scale * (a - a_zero) * (b - b_zero), as bytes. b may have one pixel for all pixels of a."""

    name = "Int8Multiply"
    keys = ("scale", "a_zero", "b_zero", "y_zero", "low", "high")
    defaults = {"scale": 1.0, "a_zero": 0, "b_zero": 0, **_BOUNDS}


class Table(_Internal):
    """A function of one byte, told by its 256 values."""

    name = "Int8Table"
    arguments = ("x", "table")
    required = 2
    constants = (1,)
    defaults = {"y_zero": 0}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        return self.writes(node, shapes, overwrites=(0,))

    def lower(self, node: Node, ctx: Lowering) -> None:
        from fastcnn.kernels import _int8_pointwise

        table = ctx.pack("table", np.array, 1, as_stored=True)
        ctx.emit("int8 table", _int8_pointwise.Int8Table, ctx.view(node.output), ctx.view(node.inputs[0]), table)


OPS = (Quantize(), Dequantize(), Weight(), Conv(), Pool(), Add(), Multiply(), Table())
