"""Losses and their gradients by the scores, in plain float64 NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastcnn.reference.activation import sigmoid, softmax
from fastcnn.reference.base import Array, as_real, ieee


@ieee
def cross_entropy(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """-sum of target * log(softmax(scores)): (N, C), (N, C) to a number. Targets carry weights and the mean.

    Parameters
    ----------
    scores, target : (N, C) arrays

    Returns
    -------
    float64 array of shape ()

    Examples
    --------
    >>> cross_entropy([[0, 0]], [[1, 0]])
    array(0.69314718)
    """
    scores, target = as_real(scores), as_real(target)
    top = scores.max(axis=1, keepdims=True)
    shifted = scores - top
    logs = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
    return np.asarray(np.where(target == 0, 0.0, target * logs).sum())


@ieee
def cross_entropy_grad(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Gradient of `cross_entropy` by the scores: softmax(scores) * (sum of a row of target) - target.

    Parameters
    ----------
    scores, target : (N, C) arrays

    Returns
    -------
    (N, C) float64 array

    Examples
    --------
    >>> cross_entropy_grad([[0, 0]], [[1, 0]])
    array([[-0.5,  0.5]])
    """
    target = as_real(target)
    total: Array = target.sum(axis=1, keepdims=True)
    return softmax(scores, axis=1) * total - target


@ieee
def mean_squared_error(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """mean of (scores - target)^2.

    Parameters
    ----------
    scores, target : (N, C) arrays

    Returns
    -------
    float64 array of shape ()

    Examples
    --------
    >>> mean_squared_error([[1, 2]], [[0, 0]])
    array(2.5)
    """
    return np.asarray(np.mean((as_real(scores) - as_real(target)) ** 2))


@ieee
def mean_squared_error_grad(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Gradient of `mean_squared_error` by the scores.

    Parameters
    ----------
    scores, target : (N, C) arrays

    Returns
    -------
    (N, C) float64 array

    Examples
    --------
    >>> mean_squared_error_grad([[1, 2]], [[0, 0]])
    array([[1., 2.]])
    """
    scores = as_real(scores)
    return 2.0 * (scores - as_real(target)) / scores.size


@ieee
def binary_cross_entropy(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """mean of -(t log p + (1 - t) log(1 - p)) for p = sigmoid(scores), as ``max(s, 0) - s t + log(1 + exp(-|s|))``.

    Parameters
    ----------
    scores, target : (N, C) arrays

    Returns
    -------
    float64 array of shape ()

    Examples
    --------
    >>> binary_cross_entropy([[0.0]], [[1]])
    array(0.69314718)
    """
    s, target = as_real(scores), as_real(target)
    return np.asarray(np.mean(np.maximum(s, 0) - s * target + np.log1p(np.exp(-np.abs(s)))))


@ieee
def binary_cross_entropy_grad(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Gradient of `binary_cross_entropy` by the scores.

    Parameters
    ----------
    scores, target : (N, C) arrays

    Returns
    -------
    (N, C) float64 array

    Examples
    --------
    >>> binary_cross_entropy_grad([[0.0]], [[1]])
    array([[-0.5]])
    """
    return (sigmoid(scores) - as_real(target)) / as_real(scores).size


@ieee
def linear_loss(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """sum of scores * target: its gradient is the target, whatever that is the gradient of.

    Parameters
    ----------
    scores, target : (N, C) arrays

    Returns
    -------
    float64 array of shape ()

    Examples
    --------
    >>> linear_loss([[1, 2]], [[3, 4]])
    array(11.)
    """
    return np.asarray(np.sum(as_real(scores) * as_real(target)))


@ieee
def linear_loss_grad(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Gradient of `linear_loss` by the scores.

    Parameters
    ----------
    scores, target : (N, C) arrays

    Returns
    -------
    (N, C) float64 array

    Examples
    --------
    >>> linear_loss_grad([[1, 2]], [[3, 4]])
    array([[3., 4.]])
    """
    whole: Array = np.broadcast_to(as_real(target), as_real(scores).shape).copy()
    return whole
