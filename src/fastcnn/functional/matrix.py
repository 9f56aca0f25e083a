"""Products of matrices, and attention, which consists of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply, prefixed
from fastcnn.graph.trace import Symbol


def matmul(a: Array, b: Array, out: np.ndarray | None = None) -> Any:
    """a @ b: the matrix product of the last two axes, with the others broadcast as by NumPy.

    Parameters
    ----------
    a : (..., M, K) or (K,) array
        One dimension is a row. It is not in the result.
    b : (..., K, N) or (K,) array
        One dimension is a column. It is not in the result.
    out : array, optional

    Returns
    -------
    (..., M, N) array

    Examples
    --------
    >>> matmul([[1.0, 2.0]], [[3.0], [4.0]])
    array([[11.]])
    >>> matmul([[1.0, 2.0]], [3.0, 4.0])
    array([11.])
    """
    with prefixed("matmul"):
        a, b = (
            value if value is None or isinstance(value, Symbol) else arguments.as_real_array(value, name)
            for name, value in (("a", a), ("b", b))
        )
    vectors = [isinstance(value, np.ndarray) and value.ndim == 1 for value in (a, b)]
    if not any(vectors):
        return apply("matmul", "MatMul", {"a": a, "b": b}, dict, out)
    if isinstance(a, Symbol) or isinstance(b, Symbol):
        raise ValueError("matmul: one operand has 1 dimension, expected at least 2 while a model is traced")
    return _matmul_of_vectors(a, b, vectors, out)


def _matmul_of_vectors(a: np.ndarray, b: np.ndarray, vectors: list[bool], out: np.ndarray | None) -> Any:
    """`matmul` where one operand at least has one dimension, which becomes a row or a column."""
    matrix = matmul(a[None] if vectors[0] else a, b[:, None] if vectors[1] else b)
    result = matrix.reshape(matrix.shape[: -2 if vectors[0] else -1] + (() if vectors[1] else matrix.shape[-1:]))
    if out is None:
        return result
    with prefixed("matmul"):
        arguments.check_out(out, result.shape, result.dtype)
        arguments.check_overlap(out, [a, b], False)
    out[...] = result
    return out
