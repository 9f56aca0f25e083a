"""Gradients of convolutions. That by the input is a convolution again, with transposed weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from fastcnn import reference
from fastcnn.kernels import (
    _conv_depthwise,
    _conv_grad,
    _pointwise_grad,
    _repack,
    _winograd_grad,
)
from fastcnn.kernels.view import Halo
from fastcnn.ops.access import Access
from fastcnn.ops.base import check_pair, images, window_output
from fastcnn.ops.conv import winograd_halo
from fastcnn.ops.met import WindowsMet, windows_met
from fastcnn.ops.node import Attrs, Lowering, Node, Op, Shape, Shapes

_WINDOW = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}


def _check_grad(attrs: Attrs, shapes: Shapes, x: Shape, kernel: Sequence[int]) -> None:
    """Check that the operand `grad` has the shape that the convolution of x gives."""
    grad = images(shapes, "grad")
    # The compiler's negative padding stands for pixels that no window meets (see met.py).
    cut = (*x[:2], *(length + min(0, before) for length, before in zip(x[2:], attrs["pads"][:2], strict=True)))
    padded = {**attrs, "pads": tuple(max(0, pad) for pad in attrs["pads"])}
    groups, size = attrs["group"], window_output(padded, cut, kernel)
    if groups < 1 or x[1] % groups or grad[1] % groups:
        raise ValueError(
            f"groups={groups}, expected a positive divisor of in_channels={x[1]} and out_channels={grad[1]}"
        )
    if (grad[0], *grad[2:]) != (x[0], *size):
        raise ValueError(f"grad.shape={grad}, expected {(x[0], grad[1], *size)}: the output for x.shape={tuple(x)}")


def _with_met(node: Node, op: str, index: int, windows: WindowsMet, attrs: Attrs) -> list[Node]:
    """The node as operation `op`; its input `index` has the gradients of only the windows that meet the image."""
    if not windows.lacks_any:
        return [replace(node, op=op, attrs=attrs)]
    grad = node.inputs[index]
    met = f"{grad}:met@{node.name}"
    begins = tuple(-first for first in windows.first)
    inputs = tuple(met if i == index else name for i, name in enumerate(node.inputs))
    return [
        Node("Spread", met, (grad,), met, {"strides": (1, 1), "begins": begins, "size": windows.count}),
        replace(node, op=op, inputs=inputs, attrs=attrs),
    ]


class ConvGradInput(Op):
    """Gradient of a convolution by its input of `size` (H, W), from grad (N, O, OH, OW) and the weight."""

    name = "ConvGradInput"
    defaults = {**_WINDOW, "size": (1, 1)}
    arguments = ("grad", "weight")
    required = 2
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        grad, weight = images(shapes, "grad"), shapes[1]
        if weight is None or len(weight) != 4 or weight[0] != grad[1]:
            raise ValueError(f"weight.shape={weight}, expected (O, C / groups, kh, kw) with O={grad[1]} as in grad")
        check_pair("size", attrs["size"], 0)
        x = (grad[0], weight[1] * attrs["group"], *attrs["size"])
        _check_grad(attrs, shapes, x, weight[2:])
        return x

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, weight = inputs
        assert grad is not None and weight is not None
        return reference.conv2d_grad_input(
            grad, weight, attrs["size"], attrs["strides"], attrs["pads"], attrs["dilations"], attrs["group"]
        )

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        """The convolution of grad with the filters rotated by 180 degrees; strides put zeros between its pixels."""
        grad, weight = node.inputs
        kernel, attrs = shapes[weight][2:], node.attrs
        windows = windows_met(attrs, attrs["size"], kernel, shapes[grad][2:])
        attrs = {**attrs, **windows.attrs}
        strided = attrs["strides"] != (1, 1)
        if strided and 1 < attrs["group"] == shapes[grad][1] == shapes[weight][0] and shapes[weight][1] == 1:
            return _with_met(node, "DepthwiseGradInput", 0, windows, {**attrs, "kernel_shape": kernel})
        if strided and kernel == (1, 1):
            return self.product_then_spread(node)
        turned = f"{weight}:turned{attrs['group']}@{node.name}"
        nodes = [Node("TurnWeights", turned, (weight,), turned, {"group": attrs["group"]})]
        spread = [(count - 1) * stride + 1 for count, stride in zip(windows.count, attrs["strides"], strict=True)]
        if strided or windows.lacks_any:
            begins = [-first * stride for first, stride in zip(windows.first, attrs["strides"], strict=True)]
            spread_name = f"{grad}:spread@{node.name}"
            nodes.append(
                Node(
                    "Spread",
                    spread_name,
                    (grad,),
                    spread_name,
                    {"strides": attrs["strides"], "begins": tuple(begins), "size": tuple(spread)},
                )
            )
            grad = spread_name
        # Neither is negative, as every window meets the image.
        before = [attrs["dilations"][axis] * (kernel[axis] - 1) - attrs["pads"][axis] for axis in range(2)]
        after = [attrs["size"][axis] - spread[axis] + attrs["pads"][axis] for axis in range(2)]
        window = {
            "strides": (1, 1),
            "pads": (*before, *after),
            "dilations": attrs["dilations"],
            "group": attrs["group"],
            "auto_pad": "NOTSET",
            "algorithm": "auto",
        }
        return [*nodes, Node("Conv", node.name, (grad, turned), node.output, window)]

    def product_then_spread(self, node: Node) -> list[Node]:
        """The product of grad and a filter of one tap, spread afterwards: so the product skips the zeros."""
        (grad, weight), attrs = node.inputs, node.attrs
        turned, small = f"{weight}:turned{attrs['group']}@{node.name}", f"{node.output}:small"
        top, left = attrs["pads"][:2]
        return [
            Node("TurnWeights", turned, (weight,), turned, {"group": attrs["group"]}),
            Node(
                "Conv",
                small,
                (grad, turned),
                small,
                {**_WINDOW, "group": attrs["group"], "auto_pad": "NOTSET", "algorithm": "auto"},
            ),
            Node(
                "Spread",
                node.name,
                (small,),
                node.output,
                {"strides": attrs["strides"], "begins": (-top, -left), "size": attrs["size"]},
            ),
        ]


class DepthwiseGradInput(ConvGradInput):
    """`ConvGradInput` of a depthwise convolution with strides, which does not spread the pixels of grad."""

    name = "DepthwiseGradInput"
    defaults = {**ConvGradInput.defaults, "kernel_shape": (1, 1)}
    layout = "blocked"
    constants = (1,)

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        return [node]

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 2 * prod(images(shapes, "grad")) * prod(attrs["kernel_shape"])

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        kernel, strides, pads, dilations, size = (
            node.attrs[key] for key in ("kernel_shape", "strides", "pads", "dilations", "size")
        )
        grad = shapes[node.inputs[0]]
        (top, bottom), (left, right) = (
            strided_halo(kernel[i], strides[i], pads[i], dilations[i], size[i], grad[2 + i]) for i in range(2)
        )
        return Access("blocked", (top, left, bottom, right))

    def lower(self, node: Node, ctx: Lowering) -> None:
        weights = ctx.weights("depthwise", lambda weight: _conv_depthwise.pack_depthwise(weight, ctx.vl), 1)
        attrs = node.attrs
        ctx.emit(
            "depthwisegrad",
            _conv_depthwise.StridedDepthwiseGrad,
            ctx.view(node.output),
            ctx.view(node.inputs[0]),
            weights,
            attrs["kernel_shape"],
            attrs["strides"],
            attrs["pads"],
            attrs["dilations"],
        )


def strided_halo(taps: int, stride: int, before: int, dilation: int, size: int, gradients: int) -> tuple[int, int]:
    """How far the taps of a strided convolution reach beyond its gradients: before the first and after the last.

    Examples
    --------
    >>> strided_halo(3, 2, 1, 1, 8, 4)
    (0, 1)
    """
    return max(0, (dilation * (taps - 1) - before) // stride), max(0, (size - 1 + before) // stride + 1 - gradients)


class TurnWeights(Op):
    """Filters rotated by 180 degrees, with the inputs and outputs of each group transposed.

    (g * O, I, kh, kw) becomes (g * I, O, kh, kw), and a matrix (O, I) becomes (I, O).
    """

    name = "TurnWeights"
    defaults = {"group": 1}
    arguments = ("weight",)
    layout = "parameter"
    constants = (0,)
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        weight, groups = shapes[0], attrs["group"]
        assert weight is not None
        return weight[1] * groups, weight[0] // groups, *weight[2:]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        parts = [part.swapaxes(0, 1) for part in np.split(inputs[0], attrs["group"])]
        turned = np.concatenate(parts)
        return np.ascontiguousarray(turned[:, :, ::-1, ::-1] if turned.ndim == 4 else turned)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def lower(self, node: Node, ctx: Lowering) -> None:
        shape = ctx.shape(node.inputs[0])
        ctx.emit(
            "turn",
            _repack.Transpose,
            ctx.view(node.output),
            ctx.view(node.inputs[0]),
            node.attrs["group"],
            shape[1],
            prod(shape[2:]),
        )


class Spread(Op):
    """Pixels `strides` apart in a plane of zeros of `size`, the first at `begins`, which may lie outside."""

    name = "Spread"
    defaults = {"strides": (1, 1), "begins": (0, 0), "size": (1, 1)}
    layout = "follow"
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return *images(shapes)[:2], *attrs["size"]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x = inputs[0]
        assert x is not None
        (sh, sw), (top, left), (height, width) = attrs["strides"], attrs["begins"], attrs["size"]
        whole = np.zeros((*x.shape[:2], height - top, width - left))
        rows = whole[:, :, : (x.shape[2] - 1) * sh + 1 : sh]
        columns = rows[:, :, :, : (x.shape[3] - 1) * sw + 1 : sw]
        columns[...] = x[:, :, : columns.shape[2], : columns.shape[3]]  # pixels beyond the size are dropped
        return np.array(whole[:, :, -top : -top + height, -left : -left + width])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit(
            "spread",
            _pointwise_grad.Spread,
            ctx.view(node.output),
            ctx.view(node.inputs[0]),
            node.attrs["strides"],
            node.attrs["begins"],
        )


class ConvGradWeight(Op):
    """Gradient of a convolution by its weight, whose filters have `kernel_shape`, from x and grad."""

    name = "ConvGradWeight"
    defaults = {**_WINDOW, "kernel_shape": (1, 1)}
    arguments = ("x", "grad")
    required = 2
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x, grad = images(shapes), shapes[1]
        _check_grad(attrs, [grad], x, attrs["kernel_shape"])
        assert grad is not None
        return grad[1], x[1] // attrs["group"], *attrs["kernel_shape"]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, grad = inputs
        assert x is not None and grad is not None
        return reference.conv2d_grad_weight(
            x, grad, attrs["kernel_shape"], attrs["strides"], attrs["pads"], attrs["dilations"], attrs["group"]
        )

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        x, grad = (shapes[name] for name in node.inputs)
        windows = windows_met(node.attrs, x[2:], node.attrs["kernel_shape"], grad[2:])
        return _with_met(node, node.op, 1, windows, {**node.attrs, **windows.attrs})

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        grad = shapes[1]
        assert grad is not None
        return 2 * prod(grad) * prod(output[1:])

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        x, grad = (shapes[name] for name in node.inputs)
        groups, ins, outs = node.attrs["group"], x[1], grad[1]
        aligned = groups == 1 or groups == ins == outs or (ins // groups % vl == 0 and outs // groups % vl == 0)
        halo: Halo = node.attrs["pads"]
        if _takes_winograd(node.attrs, x, grad):
            halo = winograd_halo(halo, x[2:], 4, whole=True)
        top, left, bottom, right = (max(0, zeros) for zeros in halo)
        return Access("blocked" if aligned else "plain", (top, left, bottom, right), reads_narrow=groups == 1)

    def lower(self, node: Node, ctx: Lowering) -> None:
        attrs = node.attrs
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        if _takes_winograd(attrs, *(ctx.shape(name) for name in node.inputs)):
            ctx.emit("weightgrad4", _winograd_grad.WinogradGradWeight, *views, attrs["pads"])
            return
        ctx.emit(
            "weightgrad",
            _conv_grad.ConvGradWeight,
            *views,
            attrs["kernel_shape"],
            attrs["strides"],
            attrs["pads"],
            attrs["dilations"],
            attrs["group"],
        )


# From this number of channels on, Winograd's products save more time than its transforms take: docs/tuning.md,
# "Winograd". A vector has no more channels.
WINOGRAD_CHANNELS = 16


def _takes_winograd(attrs: Attrs, x: Shape, grad: Shape) -> bool:
    """Whether the gradient of the weight is computed by Winograd's algorithm."""
    fits = attrs["kernel_shape"] == (3, 3) and attrs["strides"] == attrs["dilations"] == (1, 1) and attrs["group"] == 1
    return fits and min(x[1], grad[1]) >= WINOGRAD_CHANNELS


OPS = (
    ConvGradInput(),
    DepthwiseGradInput(),
    TurnWeights(),
    Spread(),
    ConvGradWeight(),
)
