"""Arrays that stay in their file until somebody needs the values: a network whose weights are packed for its kernels
need not hold them twice.

How a file is read is left to io/; who keeps what has been read, to the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

__all__ = ["StoredArray", "read_and_keep"]


class StoredArray:
    """A float32 array of which only the shape is known; NumPy's functions read it, anew each time, and so does `read`.

    Parameters
    ----------
    shape : tuple of int
    read : callable
        Gives the array.

    Examples
    --------
    >>> stored = StoredArray((2,), lambda: np.ones(2, np.float32))
    >>> stored.nbytes, np.asarray(stored)
    (8, array([1., 1.], dtype=float32))
    """

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> None:
        self.shape, self.read = shape, read

    @property
    def size(self) -> int:
        """Number of numbers."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the numbers take."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array that lies in a file cannot be had without a copy")
        return self.read() if dtype is None else self.read().astype(dtype, copy=False)


def read_and_keep(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The array of that name; where it is a `StoredArray`, what is read takes its place, read-only."""
    array = arrays[name]
    if isinstance(array, StoredArray):
        arrays[name] = array = array.read()
        array.flags.writeable = False
    return array
