"""Conversion of parameters between their own shape and the layout of training: blocks of outputs [O/VL][...][VL]."""

from __future__ import annotations

from math import gcd, prod

import numpy as np

from fastcnn.kernels import _cpu, storage
from fastcnn.kernels._executor import Executor
from fastcnn.kernels._reorder import Reorder
from fastcnn.kernels.view import View

# The most rows into which the weights of an output are divided: threads share rows.
MOST_ROWS = 64


def to_blocks(value: np.ndarray, vl: int) -> np.ndarray:
    """Copy a parameter into blocks.

    Parameters
    ----------
    value : float32 array (O, ...)
        C-contiguous.
    vl : int
        Output channels in a block: the vector length of the instruction set in use.

    Returns
    -------
    float32 array of one dimension

    Examples
    --------
    >>> vl = _cpu.vector_length()
    >>> value = np.arange(12, dtype=np.float32).reshape(3, 4)
    >>> np.array_equal(from_blocks(to_blocks(value, vl), (3, 4), vl), value)
    True
    """
    blocked, plain = _views(value.shape, vl)
    result = storage.allocate(blocked.image)
    _copy(blocked._replace(slot=2), plain._replace(slot=1), [value, result])
    return result


def from_blocks(blocks: np.ndarray, shape: tuple[int, ...], vl: int) -> np.ndarray:
    """Copy a parameter out of its blocks, to an array of its own shape. It is the inverse of `to_blocks`."""
    blocked, plain = _views(shape, vl)
    result = np.empty(shape, np.float32)
    _copy(plain._replace(slot=2), blocked._replace(slot=1), [blocks, result])
    return result


def _views(shape: tuple[int, ...], vl: int) -> tuple[View, View]:
    """Views of a parameter as an image: blocked and plain."""
    outputs, length = shape[0], prod(shape[1:])
    rows = gcd(length, MOST_ROWS)
    width, count = length // rows, -(-outputs // vl)
    blocked = View(1, outputs, rows, width, count * length * vl, length * vl, width * vl, vl)
    return blocked, View(1, outputs, rows, width, outputs * length, length, width)


def _copy(y: View, x: View, arrays: list[np.ndarray]) -> None:
    threads = _cpu.get_num_threads()
    scratch = storage.allocate(threads * storage.ALIGNMENT)
    Executor([Reorder(y, x)], [False], storage.allocate(1), scratch, threads).run(arrays, threads)
