"""Operations of training alone: the steps of optimizers, in place, the clipping of gradients, and dropout."""

from __future__ import annotations

from fastcnn.kernels import _pointwise, _pointwise_grad, _update
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

# The running means that optimizers keep: of gradients or steps, of squared gradients, and of gradients beside steps.
MEANS = ("first", "second", "third")


class Update(Op):
    """One step of an optimizer on a parameter, in place; `scale` and the three running means may be absent."""

    name = "Update"
    defaults = {"kind": "SGD", "nesterov": 0}
    arguments = ("param", "grad", "settings", "scale", *MEANS)
    required = 3
    layout = "parameter"
    constants = (0, 1)
    updates = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None and shapes[0] == shapes[1]
        return shapes[0]

    def lower(self, node: Node, ctx: Lowering) -> None:
        param, grad, settings, scale, *means = (ctx.view(name) if name else None for name in node.inputs)
        written = sum(view is not None for view in (param, *means))
        ctx.emit(
            "update",
            _update.Update,
            param,
            *means,
            grad,
            settings,
            scale,
            node.attrs["kind"],
            bool(node.attrs["nesterov"]),
            writes=written,
        )


class SquaredNorm(Op):
    """previous (or 0) + the sum of grad * grad."""

    name = "SquaredNorm"
    arguments = ("grad", "previous")
    layout = "parameter"
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return (1,)

    def lower(self, node: Node, ctx: Lowering) -> None:
        grad, previous = node.inputs
        ctx.emit(
            "norm", _update.SquaredNorm, ctx.view(node.output), ctx.view(grad), ctx.view(previous) if previous else None
        )


class ClipScale(Op):
    """min(1, limit / norm) from the squared norm of all gradients."""

    name = "ClipScale"
    defaults = {"limit": 1.0}
    arguments = ("norm",)
    layout = "parameter"
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return (1,)

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("clip", _update.ClipScale, ctx.view(node.output), ctx.view(node.inputs[0]), node.attrs["limit"])


class Filled(Op):
    """An array of one value, of the shape of x: stored as a parameter, or plain."""

    defaults = {"value": 0.0}
    layout = "parameter"
    is_internal = True

    def __init__(self, name: str, packs: bool) -> None:
        self.name, self.packs = name, packs

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit("fill", _pointwise.Fill, ctx.view(node.output), node.attrs["value"])


class Bounded(Op):
    """min(max(x, low), high), in place. It makes a sign of a large number."""

    name = "Bounded"
    defaults = {"low": 0.0, "high": 0.0}
    layout = "parameter"
    updates = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def lower(self, node: Node, ctx: Lowering) -> None:
        view = ctx.view(node.output)
        ctx.emit(
            "clip", _pointwise.Activate, view, view, ("Clip", {"min": node.attrs["low"], "max": node.attrs["high"]})
        )


class DropoutTraining(Op):
    """x / (1 - ratio), or 0 for a random share `ratio` of the elements.

    The clock, the number of the `layer` and the index of an element alone decide whether it is 0. The clock is the seed
    and the step, two 64-bit numbers in the bits of four floats.
    """

    name = "DropoutTraining"
    defaults = {"ratio": 0.5, "layer": 0}
    arguments = ("x", "clock")
    required = 2
    layout = "follow"
    constants = (1,)
    is_elementwise = is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        return shapes[0]

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("DropoutTraining", grad, node.inputs[1], **node.attrs), None]

    def lower(self, node: Node, ctx: Lowering) -> None:
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        ctx.emit("dropout", _pointwise_grad.Dropout, *views, float(node.attrs["ratio"]), node.attrs["layer"])


OPS = (
    Update(),
    SquaredNorm(),
    ClipScale(),
    Filled("Filled", packs=False),
    Filled("FilledParameter", packs=True),
    Bounded(),
    DropoutTraining(),
)
