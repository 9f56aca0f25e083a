"""Normalisation with known statistics, and of neighbouring channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _lrn, _pointwise
from fastcnn.ops.base import images
from fastcnn.ops.layer_norm import vectors
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes


class BatchNormalization(Op):
    """y = (x - mean) / sqrt(var + epsilon) * weight + bias, by channel; ONNX BatchNormalization at inference."""

    name = "BatchNormalization"
    defaults = {"epsilon": 1e-5}
    arguments = ("x", "weight", "bias", "running_mean", "running_var")
    required = 5
    layout = "follow"
    constants = (1, 2, 3, 4)
    takes_activation = is_elementwise = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x = shapes[0]
        if x is None or len(x) < 2:
            raise ValueError(f"x.shape={x}, expected at least 2 dimensions (N, C, ...)")
        for name, shape in zip(self.arguments[1:], shapes[1:], strict=True):
            if shape != (x[1],):
                raise ValueError(f"{name}.shape={shape}, expected {(x[1],)} (x.shape={x})")
        if not attrs["epsilon"] >= 0:
            raise ValueError(f"eps={attrs['epsilon']}, expected a number >= 0")
        return x

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, weight, bias, mean, var = inputs
        assert x is not None and mean is not None and var is not None
        return reference.batch_norm(x, mean, var, weight, bias, attrs["epsilon"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 2 * prod(output)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        """grad times the slope, because the statistics are constants and the layer is not trained."""
        if any(back.needs(name) for name in node.inputs[1:]):
            raise ValueError(
                f"node {node.name!r}: the parameters of a batch normalisation with known statistics are "
                "trained, expected a BatchNorm2d layer or a frozen one"
            )
        _, weight, bias, mean, var = node.inputs
        zeros = back.add("ZerosLike", bias)
        attrs = dict(node.attrs)
        return [back.add("BatchNormalization", grad, weight, zeros, zeros, var, **attrs), *[None] * 4]

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, x, epsilon = ctx.view(node.output), ctx.view(node.inputs[0]), node.attrs["epsilon"]
        shape = ctx.shape(node.output)
        if len(shape) != 4:
            channels, inner = shape[1], prod(shape[2:])
            y, x = (
                v._replace(
                    n=shape[0],
                    c=channels,
                    h=1,
                    w=inner,
                    image=v.image if len(shape) == 2 else channels * inner,
                    block=inner,
                    row=inner,
                )
                for v in (y, x)
            )
        blocked = x.lanes > 1

        def scale(weight: np.ndarray, var: np.ndarray) -> np.ndarray:
            return _vectors(_slope(weight, var, epsilon), ctx.vl, blocked)

        def shift(weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray) -> np.ndarray:
            return _vectors(bias - mean * _slope(weight, var, epsilon), ctx.vl, blocked)

        variant = (blocked, epsilon)
        scales = ctx.pack("scale", scale, 1, 4, variant=variant)
        shifts = ctx.pack("shift", shift, 1, 2, 3, 4, variant=variant)
        ctx.emit("affine", _pointwise.Affine, y, x, scales, shifts, node.decided.finish.activation)


def _slope(weight: np.ndarray, var: np.ndarray, epsilon: float) -> np.ndarray:
    return weight / np.sqrt(var.astype(np.float64) + epsilon)


def _vectors(values: np.ndarray, vl: int, blocked: bool) -> np.ndarray:
    """One vector for each block of channels; for NCHW, one vector that repeats the value of each channel."""
    return vectors(values, vl) if blocked else np.repeat(values, vl).astype(np.float32)


class LRN(Op):
    """x / (bias + alpha / size * sum of squares over `size` neighbouring channels)^beta; ONNX LRN."""

    name = "LRN"
    defaults = {"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    layout = "blocked"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape = images(shapes)
        if not 1 <= attrs["size"] <= 2 * shape[1] + 1:
            raise ValueError(f"size={attrs['size']}, expected 1 to {2 * shape[1] + 1} (x.shape={shape})")
        return shape

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.local_response_norm(inputs[0], **attrs)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return (int(attrs["size"]) + 25) * prod(output)

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("lrn", _lrn.Lrn, ctx.view(node.output), ctx.view(node.inputs[0]), *_settings(node))

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("LRNGrad", grad, node.inputs[0], **node.attrs)]


class LRNGrad(LRN):
    """Gradient of LRN from grad and x."""

    name = "LRNGrad"
    arguments = ("grad", "x")
    required = 2
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x = super().infer(attrs, shapes[1:])
        if shapes[0] != x:
            raise ValueError(f"grad.shape={shapes[0]}, expected that of x, {x}")
        return x

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x = inputs
        assert grad is not None and x is not None
        return reference.local_response_norm_grad(grad, x, **attrs)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 2 * super().flops(attrs, shapes, output)

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        ctx.emit("lrngrad", _lrn.LrnGrad, *views, *_settings(node))


def _settings(node: Node) -> tuple[int, float, float, float]:
    attrs = node.attrs
    return attrs["size"], attrs["alpha"], attrs["beta"], attrs["bias"]


OPS = (BatchNormalization(), LRN(), LRNGrad())
