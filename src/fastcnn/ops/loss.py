"""Losses: scores and targets (N, C) to one number, and their gradients by the scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _loss
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

Definition = Callable[[np.ndarray, np.ndarray], np.ndarray]


class _OfScores(Op):
    """What losses and their gradients share."""

    arguments = ("scores", "target")
    required = 2
    is_internal = True

    def __init__(self, kind: str, suffix: str, define: Definition) -> None:
        self.name, self._kind, self._define = kind + suffix, kind, define

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        scores, target = shapes
        if scores is None or len(scores) != 2 or scores != target:
            raise ValueError(f"scores.shape={scores}, target.shape={target}, expected the same (N, classes)")
        return scores

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        scores, target = inputs
        assert scores is not None and target is not None
        return self._define(scores, target)


class Loss(_OfScores):
    """The loss of a batch."""

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        super().infer(attrs, shapes)
        return (1,)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        return super().reference(attrs, inputs).reshape(1)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        """`grad` is not read, because every gradient is one of the loss."""
        return [back.add(f"{self._kind}Grad", *node.inputs), None]

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        ctx.emit("loss", _loss.Loss, *views, self._kind)


class LossGrad(_OfScores):
    """Gradient of the loss by the scores."""

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        ctx.emit("lossgrad", _loss.LossGrad, *views, self._kind)


OPS = (
    Loss("CrossEntropy", "", reference.cross_entropy),
    Loss("MeanSquaredError", "", reference.mean_squared_error),
    Loss("BinaryCrossEntropy", "", reference.binary_cross_entropy),
    Loss("LinearLoss", "", reference.linear_loss),
    LossGrad("CrossEntropy", "Grad", reference.cross_entropy_grad),
    LossGrad("MeanSquaredError", "Grad", reference.mean_squared_error_grad),
    LossGrad("BinaryCrossEntropy", "Grad", reference.binary_cross_entropy_grad),
    LossGrad("LinearLoss", "Grad", reference.linear_loss_grad),
)
