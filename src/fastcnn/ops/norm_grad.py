"""Batch normalisation in training: statistics of the batch, normalisation by them, gradients, running statistics.

The two numbers of a channel, mean and variance or the sums of gradients, are one value (C, 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _evaluate, _norm
from fastcnn.ops.base import images
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes


class BatchStats(Op):
    """Mean and biased variance of each channel over a batch, (N, C, H, W) to (C, 2)."""

    name = "BatchStats"
    layout = "blocked"
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, height, width = images(shapes)
        if n * height * width < 2:
            raise ValueError(
                f"x.shape={shapes[0]}: batch normalisation in training, expected more than one value per channel"
            )
        return channels, 2

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.batch_stats(inputs[0])

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [None]  # the gradient of BatchNormTraining includes it

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("batchstats", _norm.BatchStats, ctx.view(node.output), ctx.view(node.inputs[0]))


class BatchNormTraining(Op):
    """(x - mean) / sqrt(var + epsilon) * weight + bias, with the statistics of the batch x itself.

    The compiler may add a residual as fifth input, and an activation.
    """

    name = "BatchNormTraining"
    defaults = {"epsilon": 1e-5}
    arguments = ("x", "stats", "weight", "bias")
    required = 4
    layout = "blocked"
    constants = (1, 2, 3)
    takes_activation = is_elementwise = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return images(shapes)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, stats, weight, bias = inputs
        assert x is not None and stats is not None
        return reference.batch_norm(x, stats[:, 0], stats[:, 1], weight, bias, attrs["epsilon"])

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        x, stats, weight, bias = node.inputs
        epsilon = node.attrs["epsilon"]
        sums = back.add("NormSums", grad, x, stats, epsilon=epsilon)
        return [
            back.add("NormGrad", grad, x, stats, weight, sums, epsilon=epsilon) if back.needs(x) else None,
            None,
            back.add("Column", sums, index=1) if back.needs(weight) else None,
            back.add("Column", sums, index=0) if back.needs(bias) else None,
        ]

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        residual = views.pop() if len(node.inputs) > 4 else None
        ctx.emit("normalize", _norm.Normalize, *views, residual, node.attrs["epsilon"], node.decided.finish.activation)


class NormSums(Op):
    """Sums over a batch of grad, and of grad * h, h the normalised x: (C, 2).

    The compiler may add weight and bias. Then the gradient of the activation `Decisions.gate` is applied to grad first.
    """

    name = "NormSums"
    defaults = {"epsilon": 1e-5}
    arguments = ("grad", "x", "stats")
    required = 3
    layout = "blocked"
    constants = (2, 3, 4)
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return images(shapes, "grad")[1], 2

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x, stats = inputs
        assert grad is not None and x is not None and stats is not None
        h = reference.batch_norm(x, stats[:, 0], stats[:, 1], eps=attrs["epsilon"])
        return np.stack([grad.sum(axis=(0, 2, 3)), (grad * h).sum(axis=(0, 2, 3))], axis=1)

    def lower(self, node: Node, ctx: Lowering) -> None:
        gate = node.decided.gate
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        weight, bias = views[4:] if gate else (None, None)
        ctx.emit("normsums", _norm.NormSums, *views[:4], weight, bias, node.attrs["epsilon"], gate)


class NormGrad(Op):
    """Gradient of batch normalisation by x, from grad, x, the batch's statistics, the weight and `NormSums`.

    The compiler may add the bias. Then the gradient of the activation `Decisions.gate` is applied to grad first.
    """

    name = "NormGrad"
    defaults = {"epsilon": 1e-5}
    arguments = ("grad", "x", "stats", "weight", "sums")
    required = 5
    layout = "blocked"
    constants = (2, 3, 4, 5)
    is_elementwise = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return images(shapes, "grad")

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x, _, weight, _ = inputs
        assert grad is not None and x is not None
        return reference.batch_norm_grad(grad, x, weight, attrs["epsilon"])

    def lower(self, node: Node, ctx: Lowering) -> None:
        gate = node.decided.gate
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        bias = views.pop() if gate else None
        ctx.emit("normgrad", _norm.NormGrad, *views, bias, node.attrs["epsilon"], gate)


class BatchNormGrad(Op):
    """Gradient of batch normalisation by x, from grad, x and the weight alone: eager calls use it."""

    name = "BatchNormGrad"
    defaults = {"epsilon": 1e-5}
    arguments = ("grad", "x", "weight")
    required = 3
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x = images(shapes[1:])
        if shapes[0] != x:
            raise ValueError(f"grad.shape={shapes[0]}, expected that of x, {x}")
        if shapes[2] != (x[1],):
            raise ValueError(f"weight.shape={shapes[2]}, expected {(x[1],)} (x.shape={x})")
        return x

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, x, weight = inputs
        assert grad is not None and x is not None
        return reference.batch_norm_grad(grad, x, weight, attrs["epsilon"])

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        grad, x, weight = node.inputs
        stats, sums = f"{node.name}:stats", f"{node.name}:sums"
        return [
            Node("BatchStats", stats, (x,), stats, {}),
            Node("NormSums", sums, (grad, x, stats), sums, node.attrs),
            Node("NormGrad", node.name, (grad, x, stats, weight, sums), node.output, node.attrs),
        ]


class Column(Op):
    """One of the two numbers of each channel, (C, 2) to (C,); the same memory."""

    name = "Column"
    defaults = {"index": 0}
    layout = "parameter"
    constants = (0,)
    packs = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return (shapes[0][0],)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.array(inputs[0][:, attrs["index"]])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def lower(self, node: Node, ctx: Lowering) -> None:
        """Nothing to run: the same memory."""


class RunningUpdate(Op):
    """running += momentum * (factor * statistic - running), in place; column 0 is the mean, 1 the variance."""

    name = "RunningUpdate"
    defaults = {"index": 0, "momentum": 0.1, "factor": 1.0}
    arguments = ("running", "stats")
    required = 2
    layout = "parameter"
    constants = (0, 1)
    updates = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def lower(self, node: Node, ctx: Lowering) -> None:
        attrs, (running, stats) = node.attrs, node.inputs
        ctx.emit(
            "running",
            _norm.RunningUpdate,
            ctx.view(running),
            ctx.view(stats),
            attrs["index"],
            attrs["momentum"],
            attrs["factor"],
        )


class Exchanged(Op):
    """What shards of a batch have each computed, combined by a function that waits for the others."""

    name = "Exchanged"
    defaults = {"function": None}
    is_internal = True
    reasons = {"numpy": "the shards of a batch exchange values"}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        shapes = [ctx.shape(name) for name in (node.output, *node.inputs)]
        ctx.emit("numpy", partial(_evaluate.Evaluate, node.attrs["function"], shapes), *views)


OPS = (
    Exchanged(),
    BatchNormGrad(),
    BatchStats(),
    BatchNormTraining(),
    NormSums(),
    NormGrad(),
    Column(),
    RunningUpdate(),
)
