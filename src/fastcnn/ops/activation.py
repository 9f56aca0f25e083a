"""Activations, which are functions of single elements, and softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _pointwise, _pointwise_grad
from fastcnn.kernels.view import View
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

# Activations whose gradients are computed from their inputs; those of the others from their outputs.
OF_INPUT = ("HardSwish", "Swish", "Gelu", "Erf")


class Activation(Op):
    """y = f(x), element by element; the output lies like the input."""

    layout = "follow"
    is_activation = is_elementwise = True

    def __init__(self, name: str, define: Callable[..., np.ndarray], defaults: Mapping[str, Any], flops: int) -> None:
        self.name, self._define, self.defaults, self._flops = name, define, defaults, flops

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        assert shapes[0] is not None
        if self.name == "Clip" and not attrs["min"] <= attrs["max"]:
            raise ValueError(f"min={attrs['min']}, expected at most max={attrs['max']}")
        if self.name == "Gelu" and attrs["approximate"] not in ("none", "tanh"):
            raise ValueError(f"approximate={attrs['approximate']!r}, expected 'none' or 'tanh'")
        return shapes[0]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        return self._define(inputs[0], *[attrs[key] for key in self.defaults])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return self._flops * prod(output)

    def lower(self, node: Node, ctx: Lowering) -> None:
        ctx.emit(
            self.name.lower(),
            _pointwise.Activate,
            ctx.view(node.output),
            ctx.view(node.inputs[0]),
            (self.name, node.attrs),
        )

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        # The output suffices for most activations. They can be fused into their producers, which store no input.
        of_input = self.name in OF_INPUT or node.attrs.get("alpha", 0.0) < 0
        return [back.add(f"{self.name}Grad", grad, node.inputs[0] if of_input else node.output, **node.attrs)]


class ActivationGrad(Op):
    """grad * f'(v), element by element.

    v is the output of f; for those of `OF_INPUT`, and LeakyRelu with a negative alpha, it is the input.
    """

    layout = "follow"
    arguments = ("grad", "v")
    required = 2
    is_elementwise = is_internal = True

    def __init__(self, name: str, define: Callable[..., np.ndarray], defaults: Mapping[str, Any]) -> None:
        self.name, self._define, self.defaults = f"{name}Grad", define, defaults

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return same_shape(self.arguments, shapes)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        return self._define(*inputs, *[attrs[key] for key in self.defaults])

    def lower(self, node: Node, ctx: Lowering) -> None:
        activation = (self.name.removesuffix("Grad"), node.attrs)
        views = [ctx.view(name) for name in (node.output, *node.inputs)]
        ctx.emit(self.name.lower(), _pointwise_grad.ActivateGrad, *views, activation)


class Softmax(Op):
    """y = exp(x) / sum of exp(x) along an axis; ONNX Softmax."""

    name = "Softmax"
    defaults = {"axis": -1}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, axis = shapes[0], attrs["axis"]
        assert shape is not None
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"dim={axis}, expected an axis of x (x.shape={shape})")
        return shape

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.softmax(inputs[0], attrs["axis"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 5 * prod(output)

    def lower(self, node: Node, ctx: Lowering) -> None:
        shape = ctx.shape(node.output)
        axis = node.attrs["axis"] % len(shape)
        views = [_along(ctx.view(name), shape, axis) for name in (node.output, node.inputs[0])]
        ctx.emit("softmax", _pointwise.Softmax, *views)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("SoftmaxGrad", grad, node.output, axis=node.attrs["axis"])]


class SoftmaxGrad(Op):
    """y * (grad - sum of grad * y along an axis), y the softmax."""

    name = "SoftmaxGrad"
    defaults = {"axis": -1}
    arguments = ("grad", "y")
    required = 2
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, axis = same_shape(self.arguments, shapes), attrs["axis"]
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"dim={axis}, expected an axis of y (y.shape={shape})")
        return shape

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, y = inputs
        assert grad is not None and y is not None
        return reference.softmax_grad(grad, y, attrs["axis"])

    def lower(self, node: Node, ctx: Lowering) -> None:
        shape = ctx.shape(node.output)
        axis = node.attrs["axis"] % len(shape)
        views = [_along(ctx.view(name), shape, axis) for name in (node.output, *node.inputs)]
        ctx.emit("softmaxgrad", _pointwise_grad.SoftmaxGrad, *views)


def same_shape(arguments: Sequence[str], shapes: Shapes) -> Shape:
    """The shape that both arguments have."""
    if shapes[0] is None or shapes[0] != shapes[1]:
        raise ValueError(f"{arguments[0]}.shape={shapes[0]}, expected that of {arguments[1]}, {shapes[1]}")
    return shapes[0]


def _along(view: View, shape: Shape, axis: int) -> View:
    """The same memory as (outer, length of the axis, 1, inner)."""
    outer, length, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    # Rows of a matrix may have gaps between them; values of other ranks have none.
    row = view.image if len(shape) == 2 else shape[-1] if shape else 1
    image, step = (row, 1) if len(shape) == 2 and axis == 1 else (length * inner, row if len(shape) == 2 else inner)
    return view._replace(n=outer, c=length, h=1, w=inner, image=image, block=step, row=inner)


OPS: tuple[Op, ...] = (
    Activation("Relu", reference.relu, {}, 1),
    Activation("Clip", reference.clip, {"min": float("-inf"), "max": float("inf")}, 2),
    Activation("LeakyRelu", reference.leaky_relu, {"alpha": 0.01}, 2),
    Activation("Tanh", reference.tanh, {}, 20),
    Activation("Sigmoid", reference.sigmoid, {}, 20),
    Activation("HardSwish", reference.hard_swish, {}, 5),
    Activation("Swish", reference.silu, {}, 20),
    Activation("Gelu", reference.gelu, {"approximate": "none"}, 40),
    Activation("Erf", reference.erf, {}, 30),
    Softmax(),
    ActivationGrad("Relu", reference.relu_grad, {}),
    ActivationGrad("Clip", reference.clip_grad, {"min": float("-inf"), "max": float("inf")}),
    ActivationGrad("LeakyRelu", reference.leaky_relu_grad, {"alpha": 0.01}),
    ActivationGrad("Tanh", reference.tanh_grad, {}),
    ActivationGrad("Sigmoid", reference.sigmoid_grad, {}),
    ActivationGrad("HardSwish", reference.hard_swish_grad, {}),
    ActivationGrad("Swish", reference.silu_grad, {}),
    ActivationGrad("Gelu", reference.gelu_grad, {"approximate": "none"}),
    ActivationGrad("Erf", reference.erf_grad, {}),
    SoftmaxGrad(),
)
