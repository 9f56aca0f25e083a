"""Activations: functions of single elements; and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply


def as_approximation(approximate: Any) -> dict[str, str]:
    """The attributes of GELU and of its gradient."""
    return {"approximate": arguments.as_choice(approximate, "approximate", ("none", "tanh"))}


def relu(x: Array, out: np.ndarray | None = None) -> Any:
    """max(x, 0): positives stay, negatives become zero (Nair and Hinton, 2010).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> relu([-1.5, 0.0, 2.0])
    array([0., 0., 2.])
    """
    return apply("relu", "Relu", {"x": x}, dict, out)


def relu6(x: Array, out: np.ndarray | None = None) -> Any:
    """min(max(x, 0), 6) (Krizhevsky, 2010).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> relu6([-1.0, 2.0, 9.0])
    array([0., 2., 6.])
    """
    return apply("relu6", "Clip", {"x": x}, lambda: {"min": 0.0, "max": 6.0}, out)


def clip(x: Array, min: float | None = None, max: float | None = None, out: np.ndarray | None = None) -> Any:
    """Values below `min` become `min`, above `max` `max`.

    Parameters
    ----------
    x : array
    min, max : float, optional
        Bounds; none where absent.
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> clip([-2.0, 0.5, 3.0], -1, 1)
    array([-1. ,  0.5,  1. ])
    """

    def attrs() -> dict[str, float]:
        low = float("-inf") if min is None else arguments.as_float(min, "min")
        return {"min": low, "max": float("inf") if max is None else arguments.as_float(max, "max")}

    return apply("clip", "Clip", {"x": x}, attrs, out)


def hardsigmoid(x: Array, out: np.ndarray | None = None) -> Any:
    """clip(x / 6 + 1 / 2, 0, 1) (Courbariaux, Bengio and David, 2015; slope of Howard and others, 2019).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> hardsigmoid([-4.0, 0.0, 3.0])
    array([0. , 0.5, 1. ])
    """
    scaled = apply("hardsigmoid", "Mul", {"x": x, "y": 1 / 6}, dict)
    shifted = apply("hardsigmoid", "Add", {"x": scaled, "y": 0.5}, dict)
    return apply("hardsigmoid", "Clip", {"x": shifted}, lambda: {"min": 0.0, "max": 1.0}, out)


def leaky_relu(x: Array, negative_slope: float = 0.01, out: np.ndarray | None = None) -> Any:
    """x where positive, else negative_slope * x (Maas, Hannun and Ng, 2013).

    Parameters
    ----------
    x : array
    negative_slope : float
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> leaky_relu([-1.0, 2.0], 0.5)
    array([-0.5,  2. ])
    """

    def attrs() -> dict[str, float]:
        return {"alpha": arguments.as_float(negative_slope, "negative_slope")}

    return apply("leaky_relu", "LeakyRelu", {"x": x}, attrs, out)


def tanh(x: Array, out: np.ndarray | None = None) -> Any:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> tanh([0.0, 100.0])
    array([0., 1.])
    """
    return apply("tanh", "Tanh", {"x": x}, dict, out)


def sigmoid(x: Array, out: np.ndarray | None = None) -> Any:
    """1 / (1 + exp(-x)).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> sigmoid([0.0, 100.0])
    array([0.5, 1. ])
    """
    return apply("sigmoid", "Sigmoid", {"x": x}, dict, out)


def gelu(x: Array, approximate: str = "none", out: np.ndarray | None = None) -> Any:
    """x times the share of a normal variable below x (Hendrycks and Gimpel, 2016).

    Parameters
    ----------
    x : array
    approximate : {"none", "tanh"}
        "tanh" takes x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) instead.
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> gelu([0.0, 100.0])
    array([  0., 100.])
    """
    return apply("gelu", "Gelu", {"x": x}, lambda: as_approximation(approximate), out)


def erf(x: Array, out: np.ndarray | None = None) -> Any:
    """The error function: 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> erf([0.0, 100.0])
    array([0., 1.])
    """
    return apply("erf", "Erf", {"x": x}, dict, out)


def hardswish(x: Array, out: np.ndarray | None = None) -> Any:
    """x * clip(x / 6 + 1/2, 0, 1) (Howard and others, Searching for MobileNetV3, 2019).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> hardswish([-3.0, 0.0, 3.0])
    array([-0.,  0.,  3.])
    """
    return apply("hardswish", "HardSwish", {"x": x}, dict, out)


def silu(x: Array, out: np.ndarray | None = None) -> Any:
    """x * sigmoid(x), also called swish (Elfwing, Uchibe and Doya, 2017).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> silu([0.0, 100.0])
    array([  0., 100.])
    """
    return apply("silu", "Swish", {"x": x}, dict, out)


def softmax(x: Array, dim: int = -1, out: np.ndarray | None = None) -> Any:
    """exp(x) / sum of exp(x) along an axis: scores to probabilities.

    Parameters
    ----------
    x : array
    dim : int
        The axis.
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> softmax([0.0, 0.0])
    array([0.5, 0.5])
    """
    return apply("softmax", "Softmax", {"x": x}, lambda: {"axis": arguments.as_axis(dim, "dim")}, out)
