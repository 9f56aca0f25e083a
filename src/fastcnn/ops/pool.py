"""Pooling: maximum and average over windows, and the mean of each plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _pool, _pool_grad
from fastcnn.ops.access import Access
from fastcnn.ops.base import images, resolve_pads, window_output
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

_WINDOW = {"kernel_shape": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0), "ceil_mode": 0, "auto_pad": "NOTSET"}


class WindowPool(Op):
    """A function of every window; PyTorch's rules for padding and ceil_mode."""

    layout = "follow"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, kernel = images(shapes), attrs["kernel_shape"]
        height, width = window_output(attrs, shape, kernel)
        pads = resolve_pads(attrs, shape[2:], kernel)
        if any(2 * max(pads[axis], pads[axis + 2]) > kernel[axis] for axis in range(2)):
            raise ValueError(f"padding={pads}, expected at most half of kernel_size={tuple(kernel)}")
        return shape[0], shape[1], height, width

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return prod(output) * prod(attrs["kernel_shape"])

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        # Blocks are worth two reorders if at least half of a vector is filled.
        return Access("blocked") if 2 * shapes[node.inputs[0]][1] >= vl else super().access(node, shapes, vl)

    def step_arguments(self, attrs: Attrs, size: Sequence[int]) -> tuple[Any, ...]:
        """The arguments of `Pool` after the views, for images of that height and width."""
        return (
            self.name == "AveragePool",
            attrs["kernel_shape"],
            attrs["strides"],
            resolve_pads(attrs, size, attrs["kernel_shape"]),
            attrs.get("dilations", (1, 1)),
            bool(attrs.get("count_include_pad", 0)),
        )

    def lower(self, node: Node, ctx: Lowering) -> None:
        x = ctx.view(node.inputs[0])
        ctx.emit("pool", _pool.Pool, ctx.view(node.output), x, *self.step_arguments(node.attrs, (x.h, x.w)))


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

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("MaxPoolGrad", grad, node.inputs[0], **node.attrs)]


class MaxPoolGrad(MaxPool):
    """Gradient of MaxPool from grad and x: to the first of the largest values of a window."""

    name = "MaxPoolGrad"
    arguments = ("grad", "x")
    required = 2
    layout = "blocked"
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return _pooled(super().infer(attrs, [shapes[1]]), shapes)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x = inputs
        assert grad is not None and x is not None
        pads = resolve_pads(attrs, x.shape[2:], attrs["kernel_shape"])
        return reference.max_pool2d_grad(
            grad, x, attrs["kernel_shape"], attrs["strides"], pads, attrs["dilations"], bool(attrs["ceil_mode"])
        )

    def lower(self, node: Node, ctx: Lowering) -> None:
        attrs, grad, x = node.attrs, ctx.view(node.inputs[0]), ctx.view(node.inputs[1])
        ctx.emit(
            "poolgrad",
            _pool_grad.PoolGrad,
            ctx.view(node.output),
            grad,
            x,
            attrs["kernel_shape"],
            attrs["strides"],
            resolve_pads(attrs, (x.h, x.w), attrs["kernel_shape"]),
            attrs["dilations"],
            False,
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

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("AveragePoolGrad", grad, **node.attrs, size=back.shape(node.inputs[0])[2:])]


class AveragePoolGrad(AveragePool):
    """Gradient of AveragePool by its input of `size` (H, W)."""

    name = "AveragePoolGrad"
    defaults = {**AveragePool.defaults, "size": (1, 1)}
    arguments = ("grad",)
    layout = "blocked"
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x = (*images(shapes, "grad")[:2], *attrs["size"])
        return _pooled(super().infer(attrs, [x]), [shapes[0], x])

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        pads = resolve_pads(attrs, attrs["size"], attrs["kernel_shape"])
        return reference.avg_pool2d_grad(
            inputs[0],
            attrs["size"],
            attrs["kernel_shape"],
            attrs["strides"],
            pads,
            bool(attrs["ceil_mode"]),
            bool(attrs["count_include_pad"]),
        )

    def lower(self, node: Node, ctx: Lowering) -> None:
        attrs = node.attrs
        ctx.emit(
            "poolgrad",
            _pool_grad.PoolGrad,
            ctx.view(node.output),
            ctx.view(node.inputs[0]),
            None,
            attrs["kernel_shape"],
            attrs["strides"],
            resolve_pads(attrs, attrs["size"], attrs["kernel_shape"]),
            (1, 1),
            bool(attrs["count_include_pad"]),
        )


def _pooled(pooled: Shape, shapes: Shapes) -> Shape:
    """The shape of x, after a check that grad has the shape of the pooled x; `shapes` are those of grad and x."""
    grad, x = shapes
    if grad != pooled:
        raise ValueError(f"grad.shape={grad}, expected {pooled}: the output for x.shape={x}")
    assert x is not None
    return x


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

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("GlobalAveragePoolGrad", grad, size=back.shape(node.inputs[0])[2:])]


class GlobalAveragePoolGrad(Op):
    """Gradient of GlobalAveragePool by its input of `size` (H, W)."""

    name = "GlobalAveragePoolGrad"
    defaults = {"size": (1, 1)}
    arguments = ("grad",)
    layout = "blocked"
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        grad = images(shapes, "grad")
        if grad[2:] != (1, 1):
            raise ValueError(f"grad.shape={grad}, expected (N, C, 1, 1)")
        return *grad[:2], *attrs["size"]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.global_avg_pool2d_grad(inputs[0], attrs["size"])

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("meangrad", _pool_grad.GlobalMeanGrad, ctx.view(node.output), ctx.view(node.inputs[0]))


OPS = (MaxPool(), AveragePool(), GlobalAveragePool(), MaxPoolGrad(), AveragePoolGrad(), GlobalAveragePoolGrad())
