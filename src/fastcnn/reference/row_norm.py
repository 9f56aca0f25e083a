"""Normalisation over the last axes, and its gradient, in plain float64 NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcnn.reference.base import Array, as_real, ieee


@ieee
def layer_norm(
    x: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    axis: int = -1,
    eps: float = 1e-5,
) -> Array:
    """Normalise over the axes from `axis` on (Ba, Kiros and Hinton, https://arxiv.org/abs/1607.06450).

    With the mean over these axes, an absent weight of 1 and an absent bias of 0::

        y = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias

    Parameters
    ----------
    x : array_like
    weight, bias : array_like, optional
        Of a shape that broadcasts with x.
    axis : int
    eps : float

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> layer_norm([[1.0, 3.0], [5.0, 5.0]], weight=[1, 10], eps=0.25).round(4)
    array([[-0.8944,  8.9443],
           [ 0.    ,  0.    ]])
    """
    y = layer_norm_parts(x, axis, eps)[0]
    y = y if weight is None else y * as_real(weight)
    return y if bias is None else y + as_real(bias)


def layer_norm_parts(x: npt.ArrayLike, axis: int = -1, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """The normalised x, and the mean and 1 / deviation of each row, which broadcast with x.

    Parameters
    ----------
    x : array_like
    axis : int
    eps : float

    Returns
    -------
    (array, array, array)
        In float64.

    Examples
    --------
    >>> [part.ravel().tolist() for part in layer_norm_parts([1.0, 3.0], eps=0.0)]
    [[-1.0, 1.0], [2.0], [1.0]]
    """
    x = as_real(x)
    axes = tuple(range(axis % x.ndim, x.ndim))
    with np.errstate(all="ignore"):
        mean = x.mean(axis=axes, keepdims=True)
        inverse = 1.0 / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + eps)
        return (x - mean) * inverse, mean, inverse


@ieee
def layer_norm_grad(
    grad: npt.ArrayLike, x: npt.ArrayLike, weight: npt.ArrayLike | None = None, axis: int = -1, eps: float = 1e-5
) -> Array:
    """Gradient of `layer_norm` by x.

    With h the normalised x, d its deviation, and means over the axes from `axis` on::

        dx = (gw - mean(gw) - h * mean(gw * h)) / d,  gw = grad * weight

    Parameters
    ----------
    grad, x : array_like
        The gradient by the output, and the input.
    weight : array_like, optional
    axis : int
    eps : float

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> layer_norm_grad([[1.0, 0.0, 0.0]], [[0.0, 3.0, 0.0]], eps=0.0).round(4) + 0.0
    array([[ 0.3536,  0.    , -0.3536]])
    """
    h, _, inverse = layer_norm_parts(x, axis, eps)
    axes = tuple(range(axis % h.ndim, h.ndim))
    g = as_real(grad) if weight is None else as_real(grad) * as_real(weight)
    mean: Array = g.mean(axis=axes, keepdims=True)
    along: Array = (g * h).mean(axis=axes, keepdims=True)
    return (g - mean - h * along) * inverse
