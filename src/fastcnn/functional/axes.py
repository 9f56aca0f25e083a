"""Functions that give elements another shape, another order of axes, or take a part of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply


def reshape(x: Array, shape: Sequence[int], out: np.ndarray | None = None) -> Any:
    """The same elements in another shape.

    Parameters
    ----------
    x : array
    shape : sequence of int
        -1, once at most, takes what is left; 0 keeps the size of x at its place. Within a model the first is -1 or 0:
        the number of inputs is not known while it is traced.
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> reshape([[1.0, 2.0], [3.0, 4.0]], (-1, 1, 2)).shape
    (2, 1, 2)
    """

    def attrs() -> dict[str, Any]:
        if not isinstance(shape, (list, tuple, np.ndarray)):
            raise TypeError(f"shape={shape!r:.80}, expected a sequence of integers")
        return {"shape": tuple(arguments.as_int(size, f"shape[{i}]", -1) for i, size in enumerate(shape))}

    return apply("reshape", "Reshape", {"x": x}, attrs, out)


def permute(x: Array, dims: Sequence[int], out: np.ndarray | None = None) -> Any:
    """The axes in another order.

    Parameters
    ----------
    x : array
    dims : sequence of int
        The number of each axis, in the new order.
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> permute([[1.0, 2.0], [3.0, 4.0]], (1, 0))
    array([[1., 3.],
           [2., 4.]])
    """

    def attrs() -> dict[str, Any]:
        rank = _rank(x)
        if not isinstance(dims, (list, tuple, np.ndarray)):
            raise TypeError(f"dims={dims!r:.80}, expected a sequence of axes")
        axes = [arguments.as_axis(dim, f"dims[{i}]") for i, dim in enumerate(dims)]
        return {"perm": tuple(axis + rank if axis < 0 else axis for axis in axes)}

    return apply("permute", "Transpose", {"x": x}, attrs, out)


def narrow(x: Array, dim: int, start: int, length: int, out: np.ndarray | None = None) -> Any:
    """The part of an axis that begins at a place.

    Parameters
    ----------
    x : array of at most 4 dimensions
    dim : int
    start, length : int
        From 0 on, within the axis.
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> narrow([[1.0, 2.0, 3.0]], 1, 1, 2)
    array([[2., 3.]])
    """

    def attrs() -> dict[str, Any]:
        axis, begin = arguments.as_axis(dim, "dim"), arguments.as_int(start, "start", 0)
        count, shape = arguments.as_int(length, "length", 0), _shape(x)
        if -len(shape) <= axis < len(shape) and begin + count > shape[axis]:
            raise ValueError(f"start={begin}, length={count}, expected a part of {shape[axis]} elements")
        return {"axis": axis, "start": begin, "end": begin + count}

    return apply("narrow", "Slice", {"x": x}, attrs, out)


def _shape(x: Array) -> tuple[int, ...]:
    return arguments.shape_of(x, "x")


def _rank(x: Array) -> int:
    return len(_shape(x))
