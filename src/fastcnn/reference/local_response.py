"""Local response normalisation across channels, and its gradient, in plain float64 NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcnn.reference.base import Array, as_real, ieee


def _window_sums(values: Array, size: int, before: int) -> Array:
    """For each channel the sum of `size` channels from `before` ahead of it on; beyond the ends are zeros."""
    channels = values.shape[1]
    total = np.zeros_like(values)
    for shift in range(max(-before, 1 - channels), min(size - before, channels)):
        low, high = max(0, -shift), channels - max(0, shift)
        total[:, low:high] += values[:, low + shift : high + shift]
    return total


@ieee
def local_response_norm(
    x: npt.ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Array:
    """x / s^beta, s = bias + alpha / size * (sum of x^2 over `size` channels, (size - 1) // 2 of them before its own).

    Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, 2012, section
    3.3; as ONNX's LRN, with alpha divided by the size.

    Parameters
    ----------
    x : (N, C, ...) array
    size : int >= 1
        Channels of a window.
    alpha, beta, bias : float
        The numbers of the formula.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> local_response_norm([[3.0, 4.0]], size=3, alpha=3.0, beta=0.5, bias=0.0)
    array([[0.6, 0.8]])
    """
    x = as_real(x)
    return x / (bias + alpha / size * _window_sums(x * x, size, (size - 1) // 2)) ** beta


@ieee
def local_response_norm_grad(
    grad: npt.ArrayLike, x: npt.ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Array:
    """Gradient of `local_response_norm` by x.

    Channel j is part of the windows of those channels that the window, turned around, has about j::

        dx_j = grad_j s_j^-beta - 2 alpha beta / size x_j * sum over i of grad_i x_i s_i^(-beta - 1)

    Parameters
    ----------
    grad, x : (N, C, ...) arrays
        Gradient by the output, and the input.
    size, alpha, beta, bias
        As in `local_response_norm`.

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> local_response_norm_grad([[1.0, 0.0]], [[3.0, 4.0]], size=3, alpha=3.0, beta=0.5, bias=0.0).round(3)
    array([[ 0.128, -0.096]])
    """
    grad, x = as_real(grad), as_real(x)
    before = (size - 1) // 2
    s = bias + alpha / size * _window_sums(x * x, size, before)
    terms = _window_sums(grad * x * s ** (-beta - 1), size, size - 1 - before)
    return grad * s**-beta - 2 * alpha * beta / size * x * terms
