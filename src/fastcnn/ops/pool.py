"""Pooling: maximum and average over windows, and the mean of whole images."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _pool
from fastcnn.ops.base import Attrs, Op, Shape, Shapes, images, resolve_pads, window_output

if TYPE_CHECKING:
    from fastcnn.compiler.plan import Lowering
    from fastcnn.graph.ir import Node

_WINDOW = {"kernel_shape": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0), "ceil_mode": 0, "auto_pad": "NOTSET"}


class WindowPool(Op):
    """A function of every window; PyTorch's rules for padding and ceil_mode."""

    layout = "vectors"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, kernel = images(shapes), attrs["kernel_shape"]
        height, width = window_output(attrs, shape, kernel)
        pads = resolve_pads(attrs, shape[2:], kernel)
        if any(2 * max(pads[axis], pads[axis + 2]) > kernel[axis] for axis in range(2)):
            raise ValueError(f"padding={pads}, expected at most half of kernel_size={tuple(kernel)}")
        return shape[0], shape[1], height, width

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return prod(output) * prod(attrs["kernel_shape"])

    def lower(self, node: Node, ctx: Lowering) -> None:
        attrs, x = node.attrs, ctx.view(node.inputs[0])
        average = self.name == "AveragePool"
        ctx.emit(
            "pool", _pool.Pool, ctx.view(node.output), x, average, attrs["kernel_shape"], attrs["strides"],
            resolve_pads(attrs, (x.h, x.w), attrs["kernel_shape"]), attrs.get("dilations", (1, 1)),
            bool(attrs.get("count_include_pad", 0)),
        )


class MaxPool(WindowPool):
    """Largest value of every window; padding never wins. ONNX MaxPool."""

    name = "MaxPool"
    defaults = {**_WINDOW, "dilations": (1, 1)}

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x = inputs[0]
        assert x is not None
        pads = resolve_pads(attrs, x.shape[2:], attrs["kernel_shape"])
        return reference.max_pool2d(
            x, attrs["kernel_shape"], attrs["strides"], pads, attrs["dilations"], bool(attrs["ceil_mode"])
        )


class AveragePool(WindowPool):
    """Mean of every window. ONNX AveragePool, with PyTorch's default of count_include_pad."""

    name = "AveragePool"
    defaults = {**_WINDOW, "count_include_pad": 1}

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x = inputs[0]
        assert x is not None
        pads = resolve_pads(attrs, x.shape[2:], attrs["kernel_shape"])
        return reference.avg_pool2d(
            x, attrs["kernel_shape"], attrs["strides"], pads, bool(attrs["ceil_mode"]), bool(attrs["count_include_pad"])
        )


class GlobalAveragePool(Op):
    """Mean of every plane, (N, C, H, W) to (N, C, 1, 1). ONNX GlobalAveragePool."""

    name = "GlobalAveragePool"
    layout = "blocked"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, height, width = images(shapes)
        if height * width == 0:
            raise ValueError(f"x.shape={(n, channels, height, width)}, expected images of at least one pixel")
        return n, channels, 1, 1

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.global_avg_pool2d(inputs[0])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        assert shapes[0] is not None
        return prod(shapes[0])

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("mean", _pool.GlobalMean, ctx.view(node.output), ctx.view(node.inputs[0]))


OPS = (MaxPool(), AveragePool(), GlobalAveragePool())
