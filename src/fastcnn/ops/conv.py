"""Convolution: its shape rule and definition, and the lowering of each algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import (
    _conv_bf16,
    _conv_depthwise,
    _conv_direct,
    _conv_im2col,
    _conv_winograd,
    _direct_filters,
    _reorder,
    _repack,
    _winograd_filters,
)
from fastcnn.kernels.view import NO_HALO, Halo, View
from fastcnn.ops.access import Access
from fastcnn.ops.base import check_size, images, resolve_pads, window_output
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes


class Conv(Op):
    """Convolution of images (N, C, H, W) with weights (O, C / group, kh, kw); ONNX Conv."""

    name = "Conv"
    defaults = {
        "strides": (1, 1),
        "pads": (0, 0, 0, 0),
        "dilations": (1, 1),
        "group": 1,
        "auto_pad": "NOTSET",
        "algorithm": "auto",
    }
    arguments = ("x", "weight", "bias")
    required = 2
    constants = (1, 2)
    takes_activation = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, height, width = images(shapes)
        weight, groups = shapes[1], attrs["group"]
        if weight is None or len(weight) != 4:
            raise ValueError(f"weight.shape={weight}, expected 4 dimensions (O, C / groups, kh, kw)")
        if groups < 1 or channels % groups or weight[0] % groups:
            raise ValueError(
                f"groups={groups}, expected a positive divisor of in_channels={channels} and out_channels={weight[0]}"
            )
        if weight[1] != channels // groups:
            raise ValueError(
                f"weight.shape[1]={weight[1]}, expected in_channels/groups={channels // groups} "
                f"(x.shape={(n, channels, height, width)}, groups={groups})"
            )
        bias = shapes[2] if len(shapes) > 2 else None
        if bias is not None and bias != (weight[0],):
            raise ValueError(f"bias.shape={bias}, expected {(weight[0],)} (weight.shape={weight})")
        return check_size((n, weight[0], *window_output(attrs, (n, channels, height, width), weight[2:])))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, weight = inputs[0], inputs[1]
        assert x is not None and weight is not None
        bias = inputs[2] if len(inputs) > 2 else None
        pads = resolve_pads(attrs, x.shape[2:], weight.shape[2:])
        return reference.conv2d(x, weight, bias, attrs["strides"], pads, attrs["dilations"], attrs["group"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        weight = shapes[1]
        assert weight is not None
        return 2 * prod(self.infer(attrs, shapes)) * prod(weight[1:])  # `output` may be pooled

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        x, weight, *bias = node.inputs
        size, kernel = back.shape(x)[2:], back.shape(weight)[2:]
        window = {
            "strides": node.attrs["strides"],
            "pads": resolve_pads(node.attrs, size, kernel),
            "dilations": node.attrs["dilations"],
            "group": node.attrs["group"],
        }
        grads: list[str | None] = [None, None, *(None for _ in bias)]
        if back.needs(weight):
            grads[1] = back.add("ConvGradWeight", x, grad, kernel_shape=kernel, **window)
        if bias and bias[0] and back.needs(bias[0]):
            grads[2] = back.add("ChannelSum", grad)
        if back.needs(x):
            grads[0] = back.add("ConvGradInput", grad, weight, size=size, **window)
        return grads

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        choice = node.choice
        residual = (3,) if len(node.inputs) > 3 else ()
        if choice.algorithm == "direct":
            return self._direct_access(node, shapes, vl, residual)
        if choice.algorithm in _PATCHES:
            size, whole = shapes[node.inputs[0]][2:], node.decided.finish.pool
            halo = winograd_halo(choice.pads, size, _PATCHES[choice.algorithm], node.attrs["strides"][0], whole)
            return Access(choice.layout, halo, residual, pools=True)
        overwrites = residual if choice.algorithm == "depthwise" else ()  # im2col computes an output in several steps
        return Access(choice.layout, choice.pads if choice.layout == "blocked" else NO_HALO, overwrites)

    @staticmethod
    def _direct_access(node: Node, shapes: Mapping[str, Shape], vl: int, residual: tuple[int, ...]) -> Access:
        choice, strides, dense = node.choice, node.attrs["strides"], node.attrs["group"] == 1
        outs, ins, *kernel = shapes[node.inputs[1]]
        channels, width = shapes[node.inputs[0]][1], shapes[node.output][3]
        computed = width * (2 if node.decided.finish.pool else 1)
        planes = dense and not node.decided.places and _conv_direct.reads_planes(ins, outs, kernel, strides, width, vl)
        return Access(
            choice.layout,
            _halo_of_vectors(node, shapes, vl) if planes else choice.pads,
            plain=(0,) if planes else (),
            overwrites=residual if dense and _conv_direct.writes_once(ins, outs, kernel, vl) else (),
            reads_narrow=dense,
            reads_plain=dense and channels < vl and not any(choice.pads),
            writes_plain=dense
            and not residual
            and _conv_direct.writes_planes(ins, outs, kernel, strides, computed, vl),
            # A single channel is computed in vectors of pixels. Only some widths let vectors end between windows.
            pools_input=channels == 1 and _conv_direct.pools(outs, strides, width, vl),
        )

    def order(
        self, node: Node, index: int, shapes: Mapping[str, Shape], lanes: Mapping[str, int], vl: int
    ) -> dict[str, Any] | None:
        weight, groups, algorithm = shapes[node.inputs[1]], node.attrs["group"], node.choice.algorithm
        outs, ins, area = weight[0], weight[1], prod(weight[2:])
        if index == 2:
            cut = algorithm == "im2col" and groups > 1 and outs // groups % vl
            return direct_order(outs, 1, 1, vl, groups) if cut else None
        if algorithm == "direct":
            if _places(node, ins * groups, outs, vl) is not None:
                return direct_order(outs, ins, area, vl)
            x_lanes = _direct_filters.block_lanes(lanes[node.inputs[0]], ins)
            chunk = _direct_filters.chunk_blocks(x_lanes, weight[2:], vl)
            bundle = _direct_filters.tile_blocks(ins * groups, outs, groups, x_lanes, node.attrs["strides"], vl)
            return direct_order(outs, ins, area, vl, groups, x_lanes, chunk, bundle)
        if algorithm == "im2col":
            return direct_order(outs, ins * area, 1, vl, groups)
        if algorithm in _PATCHES:
            m, lean, stride = _PATCHES[algorithm], algorithm == _LEAN, node.attrs["strides"][0]
            return {
                "form": "winograd",
                "ins": ins,
                "m": m,
                "lean": lean,
                "stride": stride,
                "size": _conv_winograd.filter_numbers(m, stride, lean) * -(-outs // vl) * vl * ins,
            }
        return None

    def lower(self, node: Node, ctx: Lowering) -> None:
        x, y = ctx.view(node.inputs[0]), ctx.view(node.output)
        residual = ctx.view(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else None
        _LOWERINGS[node.choice.algorithm](node, ctx, y, x, residual)


def direct_order(
    outs: int,
    ins: int,
    area: int,
    vl: int,
    groups: int = 1,
    lanes: int = 0,
    chunk: int = -1,
    bundle: int = 2,
) -> dict[str, Any]:
    """Attributes of PackWeights for `_direct_filters`; by default all inputs are one block."""
    size = groups * -(-(outs // groups) // vl) * vl * ins * area
    return {
        "form": "direct",
        "groups": groups,
        "ins": ins,
        "area": area,
        "lanes": lanes or ins,
        "chunk": chunk,
        "bundle": bundle,
        "size": size,
    }


class PackWeights(Op):
    """A parameter in the order that a kernel reads (_repack, _winograd_filters); only the compiler makes it."""

    name = "PackWeights"
    layout = "parameter"
    constants = (0,)
    is_internal = True

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, x, a = ctx.view(node.output), ctx.view(node.inputs[0]), node.attrs
        if a["form"] == "winograd":
            ctx.emit("pack", _winograd_filters.PackWinograd, y, x, a["ins"], a["m"], a["lean"], a["stride"])
        elif a["form"] == "plain":
            plain = y._replace(n=1, c=x.c, h=1, w=x.w, image=x.c * x.w, block=x.w, row=x.w, lanes=1)
            ctx.emit("pack", _reorder.Reorder, plain, x)
        else:
            order = a["groups"], a["ins"], a["area"], a["lanes"], a["chunk"], a["bundle"]
            ctx.emit("pack", _repack.PackDirect, y, x, *order)


def winograd_halo(
    pads: tuple[int, int, int, int], size: Sequence[int], m: int, stride: int = 1, whole: bool = False
) -> tuple[int, int, int, int]:
    """The padding, and zeros as far as the last patch reads.

    Every patch reads the pixels of m x m outputs. The last one may have fewer outputs, unless patches are `whole`.

    Examples
    --------
    >>> winograd_halo((1, 1, 1, 1), (6, 8), 4, whole=True)
    (1, 1, 3, 1)
    >>> winograd_halo((1, 1, 1, 1), (6, 8), 4)
    (1, 1, 2, 1)
    """
    top, left, bottom, right = pads
    far = []
    for before, length, after in ((top, size[0], bottom), (left, size[1], right)):
        full, slim = _conv_winograd.patch_counts((before + length + after - 3) // stride + 1, m, whole)
        outputs = full * m + slim * (m - 1) + (slim > 0)  # all patches read the pixels of m
        far.append((outputs - 1) * stride + 3 - before - length)
    return top, left, max(0, far[0]), max(0, far[1])


def _halo_of_vectors(node: Node, shapes: Mapping[str, Shape], vl: int) -> Halo:
    """The padding, and zeros as far as the taps of a vector of outputs read in a row that is shorter."""
    top, left, bottom, right = node.choice.pads
    reach = (node.choice.kernel[1] - 1) * node.attrs["dilations"][1] + max(vl, shapes[node.output][3])
    return top, left, bottom, max(right, reach - left - shapes[node.inputs[0]][3])


def _window(node: Node) -> tuple[Any, ...]:
    return node.choice.kernel, node.attrs["strides"], node.choice.pads, node.attrs["dilations"]


def _packed_filters(
    node: Node,
    ctx: Lowering,
    kind: str,
    pack: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    variant: object = None,
    index: int = 1,
) -> np.ndarray | View:
    """The weights of input `index` in the order that `pack` makes, multiplied with the factors from folding."""
    scale = node.decided.scale
    norm, factors = ("", None) if scale is None else (scale.norm, scale.factors)
    return ctx.weights(kind, lambda weight: pack(weight, factors), index, variant=(variant, norm))


def _packed_bias(ctx: Lowering, channels: int, groups: int, index: int = 2) -> np.ndarray | View:
    def pack(bias: np.ndarray) -> np.ndarray:
        return _direct_filters.pack_bias(bias, channels, groups, ctx.vl)

    return ctx.weights("bias", pack, index, variant=(channels, groups))


def _places(node: Node, ins: int, outs: int, vl: int) -> np.ndarray | None:
    """The place of each input channel; None if the inputs and outputs of a group are full blocks in order."""
    groups = node.attrs["group"]
    if node.decided.places:
        return np.array(node.decided.places)
    return np.arange(ins) if groups > 1 and (ins // groups % vl or outs // groups % vl) else None


def _lower_direct(node: Node, ctx: Lowering, y: Any, x: Any, residual: Any) -> None:
    ctx.emit("direct", _conv_direct.DirectConv, y, x, residual, *direct_arguments(node, ctx, y.c, x))


def direct_arguments(node: Node, ctx: Lowering, outs: int, x: View) -> tuple[Any, ...]:
    """The arguments of `DirectConv` after the views, for a convolution of x with `outs` output channels."""
    groups, places = node.attrs["group"], _places(node, x.c, outs, ctx.vl)
    lanes = _direct_filters.block_lanes(x.lanes, x.c)
    half, bundle = False, 2
    if places is None:
        half = _direct_filters.leaves_half(x.c, outs, groups, x.lanes, ctx.vl)
        bundle = _direct_filters.tile_blocks(x.c, outs, groups, lanes, node.attrs["strides"], ctx.vl)

    def pack(weight: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
        if places is not None:
            return _direct_filters.pack_weights(weight, 1, weight.shape[1], ctx.vl, scale=scale)
        chunk = _direct_filters.chunk_blocks(lanes, weight.shape[2:], ctx.vl)
        return _direct_filters.pack_weights(weight, groups, lanes, ctx.vl, chunk, scale, half, bundle)

    weights = _packed_filters(node, ctx, "direct", pack, variant=(groups, lanes, bundle, places is None))
    bias = _packed_bias(ctx, outs, 1)  # in blocks of all channels, which groups may share
    finish = node.decided.finish
    halved = half and isinstance(weights, np.ndarray)  # PackWeights packs full blocks only
    pool = 2 if finish.pool else 1
    return weights, bias, *_window(node), groups, finish.activation, places, pool, halved, bundle


def _lower_depthwise(node: Node, ctx: Lowering, y: Any, x: Any, residual: Any) -> None:
    ctx.emit("depthwise", _conv_depthwise.DepthwiseConv, y, x, residual, *depthwise_arguments(node, ctx, y.c))


def depthwise_arguments(node: Node, ctx: Lowering, channels: int, index: int = 1) -> tuple[Any, ...]:
    """The arguments of `DepthwiseConv` after the views; its weights and bias are inputs `index` and the next one."""

    def pack(weight: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
        return _conv_depthwise.pack_depthwise(weight if scale is None else weight * scale[:, None, None, None], ctx.vl)

    weights = _packed_filters(node, ctx, "depthwise", pack, index=index)
    return weights, _packed_bias(ctx, channels, 1, index + 1), *_window(node), node.decided.finish.activation


def _lower_winograd(node: Node, ctx: Lowering, y: Any, x: Any, residual: Any) -> None:
    algorithm, finish = node.choice.algorithm, node.decided.finish
    m, lean, stride = _PATCHES[algorithm], algorithm == _LEAN, node.attrs["strides"][0]

    def pack(weight: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
        return _winograd_filters.pack_winograd(np.ascontiguousarray(weight), m, ctx.vl, scale, lean, stride)

    weights = _packed_filters(node, ctx, algorithm, pack, variant=stride)
    bias = _packed_bias(ctx, y.c, 1)
    ctx.emit(
        algorithm,
        _conv_winograd.WinogradConv,
        y,
        x,
        residual,
        weights,
        bias,
        m,
        stride,
        node.choice.pads,
        2 if finish.pool else 1,
        finish.activation,
        lean,
    )


def _lower_bfloat16(node: Node, ctx: Lowering, y: Any, x: Any, residual: Any) -> None:
    weights = _packed_filters(
        node, ctx, "bfloat16", lambda weight, scale: _conv_bf16.pack_bf16_weights(weight, ctx.vl, scale)
    )
    bias = _packed_bias(ctx, y.c, 1)
    ctx.emit(
        "bfloat16", _conv_bf16.Bf16Conv, y, x, residual, weights, bias, *_window(node), node.decided.finish.activation
    )


def _lower_im2col(node: Node, ctx: Lowering, y: Any, x: Any, residual: Any) -> None:
    groups = node.attrs["group"]

    def pack(weight: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
        flat = np.ascontiguousarray(weight).reshape(weight.shape[0], -1, 1, 1)
        return _direct_filters.pack_weights(flat, groups, flat.shape[1], ctx.vl, scale=scale)

    weights = _packed_filters(node, ctx, "im2col", pack, variant=groups)
    bias = _packed_bias(ctx, y.c, groups)
    ctx.emit(
        "im2col",
        _conv_im2col.Im2colConv,
        y,
        x,
        residual,
        weights,
        bias,
        *_window(node),
        groups,
        node.decided.finish.activation,
    )


# Outputs along one side of a patch, and the algorithm that transforms filters while they are read.
_PATCHES = {"winograd": 4, "winograd2": 2, "winograd6": 6, "winograd_lean": 4}
_LEAN = "winograd_lean"
_LOWERINGS = {
    "direct": _lower_direct,
    "depthwise": _lower_depthwise,
    "bfloat16": _lower_bfloat16,
    "im2col": _lower_im2col,
    **dict.fromkeys(_PATCHES, _lower_winograd),
}
OPS = (Conv(), PackWeights())
