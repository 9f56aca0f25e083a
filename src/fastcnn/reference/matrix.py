"""Matrix products and attention in plain float64 NumPy; what is common to all is told in the package's docstring."""

from __future__ import annotations

from math import sqrt

import numpy.typing as npt

from fastcnn.reference.activation import softmax, softmax_grad
from fastcnn.reference.base import Array, as_real, ieee


@ieee
def matmul(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """y = a @ b of the last two axes; the others are broadcast: ONNX MatMul.

    Parameters
    ----------
    a : (..., M, K) array
    b : (..., K, N) array

    Returns
    -------
    (..., M, N) float64 array

    Raises
    ------
    ValueError
        Where a and b differ in K, or the other axes do not broadcast.

    Examples
    --------
    >>> matmul([[1, 2]], [[3], [4]])
    array([[11.]])
    """
    y: Array = as_real(a) @ as_real(b)
    return y


@ieee
def attention(
    q: npt.ArrayLike, k: npt.ArrayLike, v: npt.ArrayLike, bias: npt.ArrayLike | None = None, scale: float = 0.0
) -> Array:
    """Scaled dot-product attention (Vaswani and others, 2017): softmax(scale * q @ k^T + bias) @ v.

    Parameters
    ----------
    q : (..., L, D) array
        Queries.
    k : (..., S, D) array
        Keys.
    v : (..., S, E) array
        Values.
    bias : array, optional
        Of a shape that broadcasts with (..., L, S). A key whose bias is -inf is not seen. A query that sees no key
        gets NaN.
    scale : float
        0: 1 / sqrt(D).

    Returns
    -------
    (..., L, E) float64 array

    Raises
    ------
    ValueError
        Where shapes do not fit.

    Examples
    --------
    >>> attention([[0, 0]], [[1, 2], [3, 4]], [[1], [3]])
    array([[2.]])
    >>> attention([[0, 0]], [[1, 2], [3, 4]], [[1], [3]], bias=[0, float("-inf")])
    array([[1.]])
    """
    q, k, v = as_real(q), as_real(k), as_real(v)
    scores = (scale or 1 / sqrt(q.shape[-1])) * (q @ k.swapaxes(-1, -2))
    if bias is not None:
        scores = scores + as_real(bias)
    y: Array = softmax(scores) @ v
    return y


def attention_grad(
    grad: npt.ArrayLike,
    q: npt.ArrayLike,
    k: npt.ArrayLike,
    v: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    scale: float = 0.0,
) -> tuple[Array, Array, Array, Array]:
    """Gradients of `attention` by queries, keys, values, and what is added to the scores.

    Parameters
    ----------
    grad : (..., L, E) array
        Gradient of its output.
    q, k, v, bias, scale
        As for `attention`.

    Returns
    -------
    tuple of float64 arrays
        Of the shapes of q, k, v and of the scores, (..., L, S).

    Examples
    --------
    >>> of_q, of_k, of_v, of_scores = attention_grad([[1]], [[0, 0]], [[1, 2], [3, 4]], [[1], [3]], scale=1.0)
    >>> of_q, of_v.ravel(), of_scores
    (array([[1., 1.]]), array([0.5, 0.5]), array([[-0.5,  0.5]]))
    """
    grad, q, k, v = as_real(grad), as_real(q), as_real(k), as_real(v)
    factor = scale or 1 / sqrt(q.shape[-1])
    scores = factor * (q @ k.swapaxes(-1, -2))
    weights = softmax(scores if bias is None else scores + as_real(bias))
    of_scores = softmax_grad(grad @ v.swapaxes(-1, -2), weights)
    of_k = factor * (of_scores.swapaxes(-1, -2) @ q)
    return factor * (of_scores @ k), of_k, weights.swapaxes(-1, -2) @ grad, of_scores
