"""Gradients of activations that NumPy computes: each is the derivative of its function times the gradient behind it.

Other operations in NumPy have no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np

from fastcnn.kernels import _evaluate
from fastcnn.ops.general.elementwise import sigmoid, softplus
from fastcnn.ops.node import Attrs, Lowering, Node, Op, Shape, Shapes

__all__ = ["SLOPES", "InNumpyGrad"]

Array = np.ndarray


def _mish(attrs: Attrs, x: Array) -> Array:
    share = np.tanh(softplus(x))
    return np.asarray(share + x * (1 - share * share) * sigmoid(x))


def _below(x: Array, slope: Array) -> Array:
    """1 from zero on, and the slope below."""
    return np.where(x >= 0, x.dtype.type(1), slope)


# For each operation, the derivative by each of its operands.
SLOPES: dict[str, tuple[Callable[..., Array], ...]] = {
    "Elu": (lambda attrs, x: _below(x, attrs["alpha"] * np.exp(np.minimum(x, 0))),),
    "Selu": (lambda attrs, x: attrs["gamma"] * _below(x, attrs["alpha"] * np.exp(np.minimum(x, 0))),),
    "Celu": (lambda attrs, x: _below(x, np.exp(np.minimum(x, 0) / attrs["alpha"])),),
    "PRelu": (lambda attrs, x, slope: _below(x, slope), lambda attrs, x, slope: np.minimum(x, 0)),
    "Softplus": (lambda attrs, x: sigmoid(x),),
    "Softsign": (lambda attrs, x: (1 + np.abs(x)) ** -2.0,),
    "Mish": (_mish,),
    "Sin": (lambda attrs, x: np.cos(x),),
    "Cos": (lambda attrs, x: -np.sin(x),),
    "Atan": (lambda attrs, x: 1 / (1 + x * x),),
}


class InNumpyGrad(Op):
    """The gradient of an activation by one of its operands.

    The inputs are the gradient behind the activation, and its operands. The attributes are its name, its attributes and
    the number of the operand.
    """

    name = "InNumpyGrad"
    defaults = {"activation": "", "settings": {}, "of": 0}
    arguments = ("grad", "x", "slope")
    required = 2
    is_internal = True
    reasons = {"numpy": "the operation that it is the gradient of has no kernel"}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        return shapes[1 + attrs["of"]] or ()

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return prod(shapes[0] or ())

    @staticmethod
    def compute(attrs: Attrs, inputs: Sequence[Array]) -> Array:
        """The gradient, summed along the axes on which its operand was broadcast."""
        grad, operands, of = inputs[0], inputs[1:], attrs["of"]
        with np.errstate(all="ignore"):
            result = grad * SLOPES[attrs["activation"]][of](attrs["settings"], *operands)
        shape = (1,) * (result.ndim - operands[of].ndim) + operands[of].shape
        axes = tuple(i for i, size in enumerate(shape) if size != result.shape[i])
        return np.asarray(result.sum(axes, np.float64, keepdims=True)).astype(grad.dtype).reshape(operands[of].shape)

    def lower(self, node: Node, ctx: Lowering) -> None:
        names = (node.output, *node.inputs)
        function = partial(self.compute, node.attrs)
        make = partial(_evaluate.Evaluate, function, [ctx.shape(name) for name in names])
        ctx.emit("numpy", make, *map(ctx.view, names))
