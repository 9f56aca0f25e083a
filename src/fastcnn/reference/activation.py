"""Activations and their gradients in plain float64 NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcnn.reference.base import Array, as_real, ieee


@ieee
def relu(x: npt.ArrayLike) -> Array:
    """y = max(x, 0) (Nair and Hinton, ICML 2010); NaN stays NaN, and -0 stays -0.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> relu([-1, 2, np.nan])
    array([ 0.,  2., nan])
    """
    return clip(x, 0.0, np.inf)


@ieee
def clip(x: npt.ArrayLike, low: float, high: float) -> Array:
    """y = min(max(x, low), high); NaN stays NaN. ReLU6 is clip(x, 0, 6).

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    low, high : float
        Bounds; -inf and inf are none.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> clip([-1, 5, 9, np.nan], 0, 6)
    array([ 0.,  5.,  6., nan])
    """
    x = as_real(x)
    x = np.where(x < low, low, x)  # np.maximum would be free to make 0 of -0
    return np.where(x > high, high, x)


@ieee
def leaky_relu(x: npt.ArrayLike, alpha: float = 0.01) -> Array:
    """y = x where x > 0, else alpha * x (Maas, Hannun and Ng, ICML 2013).

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.
    alpha : float
        Slope below 0.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> leaky_relu([-1, 2], alpha=0.5)
    array([-0.5,  2. ])
    """
    x = as_real(x)
    return np.where(x > 0, x, alpha * x)


@ieee
def tanh(x: npt.ArrayLike) -> Array:
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x)).

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> tanh([-np.inf, 0, 0.5])
    array([-1.        ,  0.        ,  0.46211716])
    """
    return np.tanh(as_real(x))


@ieee
def sigmoid(x: npt.ArrayLike) -> Array:
    """y = 1 / (1 + exp(-x)), and for x < 0 the same as exp(x) / (1 + exp(x)), so that exp never overflows.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> sigmoid([-np.inf, -1000, 0, 1])
    array([0.        , 0.        , 0.5       , 0.73105858])
    """
    x = as_real(x)
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


@ieee
def hard_swish(x: npt.ArrayLike) -> Array:
    """y = x * clip(x + 3, 0, 6) / 6 (Howard et al., https://arxiv.org/abs/1905.02244).

    At -inf it is inf * 0, NaN. The quotient comes first, because it cannot overflow.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> hard_swish([-2, 0, 4])
    array([-0.33333333,  0.        ,  4.        ])
    """
    x = as_real(x)
    return x * (clip(x + 3.0, 0.0, 6.0) / 6.0)


@ieee
def silu(x: npt.ArrayLike) -> Array:
    """y = x * sigmoid(x), also called Swish (Elfwing et al., https://arxiv.org/abs/1702.03118).

    At -inf it is inf * 0, NaN.

    Parameters
    ----------
    x : array_like
        Real numbers of any shape.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> silu([0, 1])
    array([0.        , 0.73105858])
    """
    return as_real(x) * sigmoid(x)


@ieee
def softmax(x: npt.ArrayLike, axis: int = -1) -> Array:
    """y = exp(x) / sum of exp(x) along an axis: shares that add up to 1 (Bridle, NIPS 1989).

    Above and below, exp(x - max x) stands for exp(x), so that exp never overflows and the sum is at least 1.
    Source: Blanchard, Higham and Higham, "Accurately computing the log-sum-exp and softmax functions", 2021. A
    slice that holds NaN or inf, or nothing but -inf, becomes NaN.

    Parameters
    ----------
    x : array_like
        Scores of any shape.
    axis : int
        The axis of the sum.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> softmax([1000, 1000, -np.inf])
    array([0.5, 0.5, 0. ])
    """
    x = as_real(x)
    e: Array = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    total: Array = e.sum(axis=axis, keepdims=True)
    return e / total


@ieee
def clip_grad(grad: npt.ArrayLike, y: npt.ArrayLike, low: float, high: float) -> Array:
    """Gradient of `clip`, from its output: none where a bound has been reached (PyTorch's hardtanh).

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    y : array_like of grad's shape
        The output of `clip`.
    low, high : float
        The bounds.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> clip_grad([1, 1, 1], [0, 3, 6], 0, 6)
    array([0., 1., 0.])
    """
    y = as_real(y)
    passes = ~((y <= low) & np.isfinite(low)) & ~((y >= high) & np.isfinite(high))
    return np.where(passes, as_real(grad), 0.0)


@ieee
def relu_grad(grad: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Gradient of `relu`, from its output: grad where y > 0, and where it is NaN.

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    y : array_like of grad's shape
        The output.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> relu_grad([5, 5], [0, 1])
    array([0., 5.])
    """
    return clip_grad(grad, y, 0.0, np.inf)


@ieee
def leaky_relu_grad(grad: npt.ArrayLike, x: npt.ArrayLike, alpha: float = 0.01) -> Array:
    """Gradient of `leaky_relu`, from its input (or, where alpha >= 0, its output): grad where x > 0, else alpha * grad.

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    x : array_like of grad's shape
        The input.
    alpha : float
        Slope below 0.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> leaky_relu_grad([2, 2], [-1, 1], alpha=0.5)
    array([1., 2.])
    """
    grad = as_real(grad)
    return np.where(as_real(x) > 0, grad, alpha * grad)


@ieee
def tanh_grad(grad: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Gradient of `tanh`, from its output: grad * (1 - y^2).

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    y : array_like of grad's shape
        The output.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> tanh_grad([4], [0.5])
    array([3.])
    """
    y = as_real(y)
    return as_real(grad) * (1.0 - y * y)


@ieee
def sigmoid_grad(grad: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Gradient of `sigmoid`, from its output: grad * y * (1 - y).

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    y : array_like of grad's shape
        The output.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> sigmoid_grad([4], [0.5])
    array([1.])
    """
    y = as_real(y)
    return as_real(grad) * (1.0 - y) * y


@ieee
def hard_swish_grad(grad: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    """Gradient of `hard_swish`: 0 up to -3, grad from 3 on, between them grad * (x / 3 + 1/2).

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    x : array_like of grad's shape
        The input.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> hard_swish_grad([1, 1, 1], [-3, 0, 3])
    array([0. , 0.5, 1. ])
    """
    grad, x = as_real(grad), as_real(x)
    return np.where(x <= -3, 0.0, np.where(x < 3, grad * (x / 3 + 0.5), grad))


@ieee
def silu_grad(grad: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    """Gradient of `silu`: grad * s * (1 + x * (1 - s)), s = sigmoid(x).

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    x : array_like of grad's shape
        The input.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> silu_grad([1], [0])
    array([0.5])
    """
    x = as_real(x)
    s = sigmoid(x)
    return as_real(grad) * s * (1.0 + x * (1.0 - s))


@ieee
def softmax_grad(grad: npt.ArrayLike, y: npt.ArrayLike, axis: int = -1) -> Array:
    """Gradient of `softmax`, from its output: y * (grad - sum of grad * y).

    Parameters
    ----------
    grad : array_like
        Gradient by the output.
    y : array_like of grad's shape
        The output.
    axis : int
        The axis of the sum.

    Returns
    -------
    float64 array of grad's shape

    Examples
    --------
    >>> softmax_grad([1, 0], [0.5, 0.5])
    array([ 0.25, -0.25])
    """
    grad, y = as_real(grad), as_real(y)
    total: Array = (grad * y).sum(axis=axis, keepdims=True)
    return y * (grad - total)
