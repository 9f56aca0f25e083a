"""Normalisation over groups of channels and all pixels of an image; of single channels, and of rows by their size.

The mean and variance of each channel of each image are a parameter (C, 2 N), and so are the sums of its gradients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _group_norm
from fastcnn.ops.access import Access
from fastcnn.ops.activation import same_shape
from fastcnn.ops.base import images
from fastcnn.ops.layer_norm import EPSILON, LayerNormalization, LayerNormGrad, LayerNormStats, parameter
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

MOST = 1 << 20  # channels of a group: no signal interrupts their sum


class GroupNormalization(Op):
    """(x - mean) / sqrt(var + epsilon) * weight + bias over groups of channels; ONNX GroupNormalization."""

    name = "GroupNormalization"
    defaults: Mapping[str, Any] = {"num_groups": 1, "epsilon": EPSILON}
    arguments = ("x", "weight", "bias")
    required = 3
    constants = (1, 2)
    opset = 21

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x = shapes[0]
        if x is None or len(x) < 3:
            raise ValueError(f"x.shape={x}, expected at least 3 dimensions (N, C, ...)")
        groups = self.groups(attrs, x[1])
        if groups < 1 or x[1] % groups:
            raise ValueError(f"num_groups={groups}, expected a divisor of {x[1]} channels (x.shape={x})")
        if x[1] // groups > MOST:
            raise ValueError(f"x.shape={x}, expected groups of at most {MOST} channels")
        for name, shape in zip(self.arguments[1:], shapes[1:], strict=False):
            if shape != (x[1],):
                raise ValueError(f"{name}.shape={shape}, expected {(x[1],)} (x.shape={x})")
        if not attrs["epsilon"] >= 0:
            raise ValueError(f"eps={attrs['epsilon']}, expected a number >= 0")
        return x

    def groups(self, attrs: Attrs, channels: int) -> int:
        """The number of groups."""
        return int(attrs["num_groups"])

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, weight, bias = inputs
        assert x is not None and weight is not None and bias is not None
        return reference.group_norm(x, self.groups(attrs, x.shape[1]), weight, bias, attrs["epsilon"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 8 * prod(output)

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        """Moments of the channels, then the normalisation; of images, as which other values are taken."""
        shape, (x, *parameters) = shapes[node.output], node.inputs
        moments = f"{node.name}:moments"
        attrs = {"groups": self.groups(node.attrs, shape[1]), "epsilon": node.attrs["epsilon"]}
        made = [Node("GroupMoments", moments, (x,), moments, {})]
        if len(shape) == 4:
            return [*made, Node("GroupNorm", node.name, (x, moments, *parameters), node.output, attrs)]
        image, result = f"{node.name}:images", f"{node.name}:result"
        return [
            Node("Reshape", image, (x,), image, {"shape": (shape[0], shape[1], -1, 1)}),
            Node("GroupMoments", moments, (image,), moments, {}),
            Node("GroupNorm", result, (image, moments, *parameters), result, attrs),
            Node("Reshape", node.name, (result,), node.output, {"shape": shape}),
        ]

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        x, weight, _ = node.inputs
        shape = back.shape(x)
        attrs = {"groups": self.groups(node.attrs, shape[1]), "epsilon": node.attrs["epsilon"]}
        if len(shape) != 4:
            grad, x = (back.add("Reshape", name, shape=(shape[0], shape[1], -1, 1)) for name in (grad, x))
        moments = back.add("GroupMoments", x)
        sums = back.add("GroupSums", grad, x, moments)
        grads: list[str | None] = [None, None, None]
        if back.needs(node.inputs[0]):
            dx = back.add("GroupNormGrad", grad, x, moments, sums, weight, **attrs)
            grads[0] = dx if len(shape) == 4 else back.add("Reshape", dx, shape=shape)
        wanted = [i for i in (1, 2) if back.needs(node.inputs[i])]
        total = back.add("GroupTotal", sums, moments, **attrs) if wanted else ""
        for i in wanted:
            grads[i] = back.add("Column", total, index=2 - i)
        return grads


class InstanceNormalization(GroupNormalization):
    """The same with a group for each channel; ONNX InstanceNormalization."""

    name = "InstanceNormalization"
    defaults = {"epsilon": EPSILON}
    opset = 17

    def groups(self, attrs: Attrs, channels: int) -> int:
        return channels


class GroupMoments(Op):
    """Mean and biased variance of each channel of each image, (N, C, H, W) to (C, 2 N)."""

    name = "GroupMoments"
    layout = "blocked"
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, _, _ = images(shapes)
        return channels, 2 * n

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        x = inputs[0]
        return _pairs(x.mean(axis=(2, 3)), x.var(axis=(2, 3)))

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, node.inputs[0])]
        ctx.emit("groupmoments", _group_norm.GroupMoments, *views, None, None)


def _pairs(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, C) twice to (C, 2 N)."""
    pairs: np.ndarray = np.stack([first, second], axis=1).transpose(2, 0, 1)
    return pairs.reshape(first.shape[1], -1)


class GroupSums(Op):
    """Sums of grad and of grad * (x - mean) of each channel of each image: (C, 2 N)."""

    name = "GroupSums"
    arguments = ("grad", "x", "moments")
    required = 3
    layout = "blocked"
    constants = (2,)
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, _, _ = images([same_shape(self.arguments, shapes)], "grad")
        return channels, 2 * n

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x, _ = inputs
        assert grad is not None and x is not None
        away = x - x.mean(axis=(2, 3), keepdims=True)
        return _pairs(grad.sum(axis=(2, 3)), (grad * away).sum(axis=(2, 3)))

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, g, x, moments = (ctx.view(name) for name in (node.output, *node.inputs))
        ctx.emit("groupsums", _group_norm.GroupMoments, y, x, g, moments)


class GroupNorm(Op):
    """GroupNormalization by known moments of the channels."""

    name = "GroupNorm"
    defaults = {"groups": 1, "epsilon": EPSILON}
    arguments = ("x", "moments", "weight", "bias")
    required = 4
    layout = "blocked"
    constants = (1, 2, 3)
    is_elementwise = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return images(shapes)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, _, weight, bias = inputs
        assert x is not None
        return reference.group_norm(x, attrs["groups"], weight, bias, attrs["epsilon"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 8 * prod(output)

    def access_as(self, node: Node, layout: str) -> Access:
        return Access(layout, overwrites=(0,))

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs[:2])]
        parameters = [parameter(node, ctx, i) for i in (2, 3)]
        attrs = node.attrs
        ctx.emit("groupnorm", _group_norm.GroupNorm, *views, *parameters, attrs["groups"], attrs["epsilon"])


class GroupNormGrad(Op):
    """Gradient of GroupNormalization by x, from grad, x, its moments, `GroupSums` and the weight."""

    name = "GroupNormGrad"
    defaults = {"groups": 1, "epsilon": EPSILON}
    arguments = ("grad", "x", "moments", "sums", "weight")
    required = 5
    layout = "blocked"
    constants = (2, 3, 4)
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return images([same_shape(self.arguments, shapes)], "grad")

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x, _, _, weight = inputs
        assert grad is not None and x is not None
        return reference.group_norm_grad(grad, x, attrs["groups"], weight, attrs["epsilon"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 12 * prod(output)

    def access_as(self, node: Node, layout: str) -> Access:
        return Access(layout, overwrites=(0, 1))

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs[:4])]
        attrs = node.attrs
        weight = parameter(node, ctx, 4)
        ctx.emit("groupnormgrad", _group_norm.GroupNormGrad, *views, weight, attrs["groups"], attrs["epsilon"])


class GroupTotal(Op):
    """Sums over all images of grad, and of grad times the normalised x: (C, 2)."""

    name = "GroupTotal"
    defaults = {"groups": 1, "epsilon": EPSILON}
    arguments = ("sums", "moments")
    required = 2
    layout = "parameter"
    constants = (0, 1)
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0][0], 2

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        sums, moments = inputs
        assert sums is not None and moments is not None
        channels, groups = len(sums), attrs["groups"]
        pairs, own = (values.reshape(channels, -1, 2) for values in (sums, moments))
        split = own.reshape(groups, channels // groups, -1, 2)
        mean = split[..., 0].mean(axis=1, keepdims=True)
        var = (split[..., 1] + (split[..., 0] - mean) ** 2).mean(axis=1, keepdims=True)
        mean, inverse = (np.broadcast_to(v, split.shape[:3]).reshape(channels, -1) for v in (mean, var))
        inverse = 1 / np.sqrt(inverse + attrs["epsilon"])
        h = inverse * (pairs[..., 1] + pairs[..., 0] * (own[..., 0] - mean))
        return np.stack([pairs[..., 0].sum(axis=1), h.sum(axis=1)], axis=1)

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        ctx.emit("grouptotal", _group_norm.GroupTotal, *views, node.attrs["groups"], node.attrs["epsilon"])


class RMSNormalization(LayerNormalization):
    """x / sqrt(mean of x^2 + epsilon) * weight over the axes from `axis` on; ONNX RMSNormalization."""

    name = "RMSNormalization"
    arguments = ("x", "weight")
    constants = (1,)
    opset = 23
    centred = False


class RMSNormStats(LayerNormStats):
    """Zero and 1 / root of the mean square of each row: (rows, 2)."""

    name = "RMSNormStats"
    centred = False


class RMSNormGrad(LayerNormGrad):
    """Gradient of RMSNormalization by x."""

    name = "RMSNormGrad"
    centred = False


OPS = (
    GroupNormalization(),
    InstanceNormalization(),
    GroupMoments(),
    GroupSums(),
    GroupNorm(),
    GroupNormGrad(),
    GroupTotal(),
    RMSNormalization(),
    RMSNormStats(),
    RMSNormGrad(),
)
