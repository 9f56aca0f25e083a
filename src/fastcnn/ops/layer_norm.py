"""Normalisation of rows over their last axes, and of pixels over their channels.

Gradients read the mean and 1 / deviation of each row, which are a parameter (rows, 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _layer_norm
from fastcnn.kernels.view import View
from fastcnn.ops.access import Access
from fastcnn.ops.activation import same_shape
from fastcnn.ops.base import images
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

EPSILON = 1e-5


class _OfRows(Op):
    """What operations on the rows over the axes from `axis` on share."""

    by_channel = False

    def axis(self, attrs: Attrs, shape: Shape) -> int:
        """The first axis that belongs to a row, of what `moved` gives."""
        if self.by_channel:
            return 3
        if not -len(shape) <= attrs["axis"] < len(shape):
            raise ValueError(f"axis={attrs['axis']}, expected an axis of x (x.shape={shape})")
        return int(attrs["axis"]) % len(shape)

    def sizes(self, attrs: Attrs, shape: Shape) -> tuple[int, Shape]:
        """The number of rows, and the shape of one."""
        if self.by_channel:
            n, channels, height, width = images([shape])
            return n * height * width, (channels,)
        axis = self.axis(attrs, shape)
        return prod(shape[:axis]), shape[axis:]

    def moved(self, x: np.ndarray) -> np.ndarray:
        """x with the channels last, if these are normalised."""
        return np.moveaxis(x, 1, -1) if self.by_channel else x

    def back(self, y: np.ndarray) -> np.ndarray:
        """The inverse of `moved`."""
        return np.moveaxis(y, -1, 1) if self.by_channel else y

    def view(self, ctx: Lowering, name: str, attrs: Attrs) -> View:
        """A value as its kernel takes it: blocked, or as rows (rows, 1, 1, length)."""
        view, shape = ctx.view(name), ctx.shape(name)
        if self.by_channel:
            return view
        rows, sizes = self.sizes(attrs, shape)
        length = prod(sizes)
        image = view.image if len(shape) == 2 and len(sizes) == 1 else length  # rows of a matrix may have gaps
        return view._replace(n=rows, c=1, h=1, w=length, image=image, block=length, row=length)

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        same = tuple(i for i, name in enumerate(node.inputs) if i not in self.constants) if not self.packs else ()
        return Access("blocked" if self.by_channel else "plain", overwrites=same)


class LayerNormalization(_OfRows):
    """(x - mean) / sqrt(var + epsilon) * weight + bias over the axes from `axis` on; ONNX LayerNormalization."""

    name = "LayerNormalization"
    defaults: Mapping[str, Any] = {"axis": -1, "epsilon": EPSILON}
    arguments = ("x", "weight", "bias")
    required = 2
    constants = (1, 2)
    centred = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x = shapes[0]
        assert x is not None
        _, sizes = self.sizes(attrs, x)
        for name, shape in zip(self.arguments[1:], shapes[1:], strict=False):
            if shape is not None and shape != sizes:
                raise ValueError(f"{name}.shape={shape}, expected {sizes} (x.shape={x})")
        if not attrs["epsilon"] >= 0:
            raise ValueError(f"eps={attrs['epsilon']}, expected a number >= 0")
        return x

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, weight, *bias = inputs
        assert x is not None
        x = self.moved(x)
        axis = self.axis(attrs, x.shape)
        return self.back(reference.layer_norm(x, weight, bias[0] if bias else None, axis, attrs["epsilon"]))

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 8 * prod(output)

    def order(
        self, node: Node, index: int, shapes: Mapping[str, Shape], lanes: Mapping[str, int], vl: int
    ) -> dict[str, Any] | None:
        return _flat(shapes[node.inputs[index]], vl)

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, x = (self.view(ctx, name, node.attrs) for name in (node.output, node.inputs[0]))
        weight, bias = (parameter(node, ctx, i) for i in (1, 2))
        ctx.emit("layernorm", _layer_norm.LayerNorm, y, x, weight, bias, node.attrs["epsilon"], self.centred)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        x, weight, *bias = node.inputs
        attrs, kind = node.attrs, self.name.removesuffix("alization")
        sizes = self.sizes(attrs, back.shape(x))[1]
        stats = back.add(f"{kind}Stats", x, **attrs)
        grads: list[str | None] = [None, None, *[None for _ in bias]]
        if back.needs(x):
            grads[0] = back.add(f"{kind}Grad", grad, x, stats, weight, **attrs)
        wanted = [i for i, name in enumerate(node.inputs) if i > 0 and name and back.needs(name)]
        sums = back.add(f"{kind}Sums", grad, x, stats, **attrs) if wanted else ""
        for i in wanted:
            column = back.add("Column", sums, index=2 - i)
            grads[i] = column if len(sizes) == 1 else back.add("Reshape", column, shape=sizes)
        return grads


class LayerNormStats(_OfRows):
    """Mean and 1 / deviation of each row: (rows, 2)."""

    name = "LayerNormStats"
    defaults: Mapping[str, Any] = {"axis": -1, "epsilon": EPSILON}
    packs = is_internal = True
    centred = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return self.sizes(attrs, shapes[0])[0], 2

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        x = self.moved(inputs[0])
        _, mean, inverse = reference.layer_norm_parts(x, self.axis(attrs, x.shape), attrs["epsilon"])
        return np.stack([mean.ravel(), inverse.ravel()], axis=1)

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, x = ctx.view(node.output), self.view(ctx, node.inputs[0], node.attrs)
        ctx.emit("layernormstats", _layer_norm.LayerNormStats, y, x, node.attrs["epsilon"], self.centred)


class LayerNormGrad(_OfRows):
    """Gradient of LayerNormalization by x, from grad, x, `LayerNormStats` and the weight."""

    name = "LayerNormGrad"
    defaults: Mapping[str, Any] = {"axis": -1, "epsilon": EPSILON}
    arguments = ("grad", "x", "stats", "weight")
    required = 4
    constants = (2, 3)
    is_internal = True
    centred = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return same_shape(self.arguments, shapes)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x, _, weight = inputs
        assert grad is not None and x is not None
        grad, x = self.moved(grad), self.moved(x)
        return self.back(reference.layer_norm_grad(grad, x, weight, self.axis(attrs, x.shape), attrs["epsilon"]))

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 12 * prod(output)

    def order(
        self, node: Node, index: int, shapes: Mapping[str, Shape], lanes: Mapping[str, int], vl: int
    ) -> dict[str, Any] | None:
        return _flat(shapes[node.inputs[index]], vl) if index == 3 else None

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, g, x = (self.view(ctx, name, node.attrs) for name in (node.output, *node.inputs[:2]))
        weight = parameter(node, ctx, 3)
        stats = ctx.view(node.inputs[2])
        ctx.emit("layernormgrad", _layer_norm.LayerNormGrad, y, g, x, stats, weight, self.centred)


class LayerNormSums(_OfRows):
    """Sums over the rows of grad, and of grad times the normalised x: (length of a row, 2)."""

    name = "LayerNormSums"
    defaults: Mapping[str, Any] = {"axis": -1, "epsilon": EPSILON}
    arguments = ("grad", "x", "stats")
    required = 3
    constants = (2,)
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return prod(self.sizes(attrs, same_shape(self.arguments, shapes))[1]), 2

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x, stats = inputs
        assert grad is not None and x is not None and stats is not None
        grad, x = (self.moved(value).reshape(len(stats), -1) for value in (grad, x))
        h = (x - stats[:, :1]) * stats[:, 1:]
        return np.stack([grad.sum(axis=0), (grad * h).sum(axis=0)], axis=1)

    def lower(self, node: Node, ctx: Lowering) -> None:
        g, x = (self.view(ctx, name, node.attrs) for name in node.inputs[:2])
        views = ctx.view(node.output), g, x, ctx.view(node.inputs[2])
        ctx.emit("layernormsums", _layer_norm.LayerNormSums, *views)


class ChannelNormalization(LayerNormalization):
    """(x - mean) / sqrt(var + epsilon) * weight + bias of each pixel over its channels, (N, C, H, W)."""

    name = "ChannelNormalization"
    defaults = {"epsilon": EPSILON}
    is_internal = by_channel = True


class ChannelNormStats(LayerNormStats):
    """Mean and 1 / deviation of each pixel: (N * H * W, 2)."""

    name = "ChannelNormStats"
    defaults = {"epsilon": EPSILON}
    by_channel = True


class ChannelNormGrad(LayerNormGrad):
    """Gradient of ChannelNormalization by x."""

    name = "ChannelNormGrad"
    defaults = {"epsilon": EPSILON}
    by_channel = True


class ChannelNormSums(LayerNormSums):
    """Sums over all pixels of grad, and of grad times the normalised x: (C, 2)."""

    name = "ChannelNormSums"
    defaults = {"epsilon": EPSILON}
    by_channel = True


def _flat(shape: Shape, vl: int) -> dict[str, Any] | None:
    """Attributes of PackWeights: a parameter of several axes becomes one of a single axis, which blocks leave alone."""
    return {"form": "plain", "ins": 1, "size": -(-prod(shape) // vl) * vl} if len(shape) > 1 else None


def parameter(node: Node, ctx: Lowering, index: int) -> np.ndarray | View | None:
    """A parameter (C,), one vector for each block of channels; None if it is absent."""
    if index >= len(node.inputs) or not node.inputs[index]:
        return None
    return ctx.weights("vectors", lambda values: vectors(values, ctx.vl), index)


def vectors(values: np.ndarray, vl: int) -> np.ndarray:
    """One vector for each block of channels; lanes without a channel are zero."""
    padded = np.zeros(-(-values.size // vl) * vl, np.float32)
    padded[: values.size] = values.ravel()
    return padded


OPS = (
    LayerNormalization(),
    LayerNormStats(),
    LayerNormGrad(),
    LayerNormSums(),
    ChannelNormalization(),
    ChannelNormStats(),
    ChannelNormGrad(),
    ChannelNormSums(),
)
