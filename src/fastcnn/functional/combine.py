"""Functions that combine, move or rename elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply
from fastcnn.graph.trace import Symbol


def add(x: Array, y: Array, out: np.ndarray | None = None) -> Any:
    """x + y, broadcast as by NumPy.

    Parameters
    ----------
    x, y : arrays
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> add([1.0, 2.0], 3.0)
    array([4., 5.])
    """
    return apply("add", "Add", {"x": x, "y": y}, dict, out)


def mul(x: Array, y: Array, out: np.ndarray | None = None) -> Any:
    """x * y, broadcast as by NumPy.

    Parameters
    ----------
    x, y : arrays
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> mul([1.0, 2.0], 3.0)
    array([3., 6.])
    """
    return apply("mul", "Mul", {"x": x, "y": y}, dict, out)


def concat(arrays: Sequence[Array], dim: int = 1, out: np.ndarray | None = None) -> Any:
    """Arrays one after the other along an axis.

    Parameters
    ----------
    arrays : sequence of arrays
        Of equal shape, except along `dim`.
    dim : int
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> concat([[[1.0]], [[2.0, 3.0]]])
    array([[1., 2., 3.]])
    """
    if not isinstance(arrays, (list, tuple)) or not arrays:
        raise TypeError(f"concat: arrays={arrays!r:.80}, expected a list of at least one array")
    inputs = {f"arrays[{i}]": array for i, array in enumerate(arrays)}
    return apply("concat", "Concat", inputs, lambda: {"axis": arguments.as_axis(dim, "dim")}, out)


def pad(x: Array, padding: Sequence[int], value: float = 0.0, out: np.ndarray | None = None) -> Any:
    """A border of one value.

    Parameters
    ----------
    x : array of at most 4 dimensions
    padding : sequence of int
        In PyTorch's order: (left, right) of the last dimension, then (top, bottom) of the one before, and so on.
    value : float
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> pad([1.0, 2.0], (1, 2))
    array([0., 1., 2., 0., 0.])
    """

    def attrs() -> dict[str, Any]:
        rank = len(x.shape) if isinstance(x, Symbol) else np.ndim(x)
        if not isinstance(padding, (list, tuple, np.ndarray)) or len(padding) % 2 or len(padding) > 2 * rank:
            raise ValueError(f"padding={padding!r}, expected pairs for at most {rank} dimensions")
        sizes = [arguments.as_int(size, f"padding[{i}]", 0) for i, size in enumerate(padding)]
        begins, ends = [0] * rank, [0] * rank
        for i in range(len(sizes) // 2):
            begins[rank - 1 - i], ends[rank - 1 - i] = sizes[2 * i], sizes[2 * i + 1]
        return {"pads": (*begins, *ends), "value": arguments.as_float(value, "value")}

    return apply("pad", "Pad", {"x": x}, attrs, out)


def flatten(x: Array, start_dim: int = 1) -> Any:
    """All dimensions from `start_dim` on as one.

    Parameters
    ----------
    x : array
    start_dim : int
        1 keeps the batch axis; nothing else is possible while a model is traced.

    Returns
    -------
    (d0, ..., product of the rest) array

    Examples
    --------
    >>> flatten([[[1.0, 2.0], [3.0, 4.0]]])
    array([[1., 2., 3., 4.]])
    """

    def attrs() -> dict[str, int]:
        shape = arguments.shape_of(x, "x")
        axis, rank = arguments.as_axis(start_dim, "start_dim"), len(shape)
        if not -rank <= axis < rank:
            raise ValueError(f"start_dim={axis}, expected an axis of x (x.shape={shape})")
        if isinstance(x, Symbol) and axis != 1:
            raise ValueError(f"start_dim={axis}, expected 1 while a model is traced")
        return {"axis": axis}

    rows = apply("flatten", "Flatten", {"x": x}, attrs)
    if isinstance(rows, Symbol):
        return rows
    shape = np.shape(x)
    return rows.reshape(*shape[:start_dim], rows.shape[1])


def dropout(x: Array, p: float = 0.5) -> Any:
    """x unchanged: at inference nothing is dropped (Srivastava and others, 2014).

    Parameters
    ----------
    x : array
    p : float
        Probability with which training drops an element.

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> dropout([1.0, 2.0])
    array([1., 2.])
    """
    return apply("dropout", "Dropout", {"x": x}, lambda: {"ratio": arguments.as_float(p, "p")})


def drop_path(x: Array, p: float = 0.0) -> Any:
    """x unchanged: at inference no branch is dropped (Huang and others, 2016).

    Parameters
    ----------
    x : array
        Its first axis counts inputs.
    p : float
        Probability with which training drops an input's part, the branch of a block.

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> drop_path([[1.0, 2.0]], 0.5)
    array([[1., 2.]])
    """
    return apply("drop_path", "DropPath", {"x": x}, lambda: {"ratio": arguments.as_float(p, "p")})
