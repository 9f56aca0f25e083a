"""Gradients of activations, by their inputs; `gradient` tells what `grad` is."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply
from fastcnn.functional.activation import as_approximation


def _of_activation(
    function: str, op: str, grad: Array, v: Array, name: str, out: Any, **numbers: tuple[str, Any]
) -> Any:
    """`numbers` are the operation's attributes, each as the argument's name and value."""

    def attrs() -> dict[str, float]:
        return {key: arguments.as_float(value, argument) for key, (argument, value) in numbers.items()}

    return apply(function, op, {"grad": grad, name: v}, attrs, out)


def relu_grad(grad: Array, y: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `relu` from its output y: grad where y > 0, else 0.

    Parameters
    ----------
    grad : array
        Gradient by the output.
    y : array of grad's shape
        The output.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> relu_grad([5.0, 5.0], [0.0, 1.0])
    array([0., 5.])
    """
    return _of_activation("relu_grad", "ReluGrad", grad, y, "y", out)


def clip_grad(grad: Array, y: Array, low: float, high: float, out: np.ndarray | None = None) -> Any:
    """Gradient of `clip` (and `relu6`) from its output y: grad where low < y < high, else 0 (PyTorch's hardtanh).

    Parameters
    ----------
    grad : array
        Gradient by the output.
    y : array of grad's shape
        The output.
    low, high : float
        The bounds, as `clip` had them; infinite for none.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> clip_grad([1.0, 1.0, 1.0], [0.0, 3.0, 6.0], 0.0, 6.0)
    array([0., 1., 0.])
    """
    return _of_activation("clip_grad", "ClipGrad", grad, y, "y", out, min=("low", low), max=("high", high))


def leaky_relu_grad(grad: Array, x: Array, negative_slope: float = 0.01, out: np.ndarray | None = None) -> Any:
    """Gradient of `leaky_relu` from its input x.

    Parameters
    ----------
    grad : array
        Gradient by the output.
    x : array of grad's shape
        The input.
    negative_slope : float
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> leaky_relu_grad([2.0, 2.0], [-1.0, 1.0], 0.5)
    array([1., 2.])
    """
    slope = ("negative_slope", negative_slope)
    return _of_activation("leaky_relu_grad", "LeakyReluGrad", grad, x, "x", out, alpha=slope)


def tanh_grad(grad: Array, y: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `tanh` from its output y: grad * (1 - y^2).

    Parameters
    ----------
    grad : array
        Gradient by the output.
    y : array of grad's shape
        The output.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> tanh_grad([4.0], [0.5])
    array([3.])
    """
    return _of_activation("tanh_grad", "TanhGrad", grad, y, "y", out)


def sigmoid_grad(grad: Array, y: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `sigmoid` from its output y: grad * y * (1 - y).

    Parameters
    ----------
    grad : array
        Gradient by the output.
    y : array of grad's shape
        The output.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> sigmoid_grad([4.0], [0.5])
    array([1.])
    """
    return _of_activation("sigmoid_grad", "SigmoidGrad", grad, y, "y", out)


def hardswish_grad(grad: Array, x: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `hardswish` from its input x.

    Parameters
    ----------
    grad : array
        Gradient by the output.
    x : array of grad's shape
        The input.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> hardswish_grad([1.0, 1.0, 1.0], [-3.0, 0.0, 3.0])
    array([0. , 0.5, 1. ])
    """
    return _of_activation("hardswish_grad", "HardSwishGrad", grad, x, "x", out)


def gelu_grad(grad: Array, x: Array, approximate: str = "none", out: np.ndarray | None = None) -> Any:
    """Gradient of `gelu` from its input x.

    Parameters
    ----------
    grad : array
        Gradient by the output.
    x : array of grad's shape
        The input.
    approximate : {"none", "tanh"}
        As `gelu` had it.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> gelu_grad([1.0], [0.0])
    array([0.5])
    """
    return apply("gelu_grad", "GeluGrad", {"grad": grad, "x": x}, lambda: as_approximation(approximate), out)


def erf_grad(grad: Array, x: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `erf` from its input x.

    Parameters
    ----------
    grad : array
        Gradient by the output.
    x : array of grad's shape
        The input.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> erf_grad([1.0], [0.0]).round(4)
    array([1.1284])
    """
    return _of_activation("erf_grad", "ErfGrad", grad, x, "x", out)


def silu_grad(grad: Array, x: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `silu` from its input x.

    Parameters
    ----------
    grad : array
        Gradient by the output.
    x : array of grad's shape
        The input.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> silu_grad([1.0], [0.0])
    array([0.5])
    """
    return _of_activation("silu_grad", "SwishGrad", grad, x, "x", out)


def softmax_grad(grad: Array, y: Array, dim: int = -1, out: np.ndarray | None = None) -> Any:
    """Gradient of `softmax` from its output y: y * (grad - sum of grad * y).

    Parameters
    ----------
    grad : array
        Gradient by the output.
    y : array of grad's shape
        The output.
    dim : int
        The axis.
    out : array of grad's shape, optional

    Returns
    -------
    array of grad's shape

    Examples
    --------
    >>> softmax_grad([1.0, 0.0], [0.5, 0.5])
    array([ 0.25, -0.25])
    """
    return apply(
        "softmax_grad", "SoftmaxGrad", {"grad": grad, "y": y}, lambda: {"axis": arguments.as_axis(dim, "dim")}, out
    )
