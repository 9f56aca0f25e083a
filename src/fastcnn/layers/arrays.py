"""The arrays of a layer: read-only float32, marked as parameters or buffers while they are assigned.

base.py registers them under names.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_array

__all__ = ["Buffer", "LoadResult", "Parameter", "frozen_float32"]


def frozen_float32(value: ArrayLike, name: str) -> np.ndarray:
    """Return a read-only, C-contiguous float32 copy of `value`."""
    array = as_array(value, name)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: dtype={array.dtype}, expected a real number type")
    with np.errstate(over="ignore", invalid="ignore"):  # a value beyond float32's range becomes infinite
        frozen = np.array(array, dtype=np.float32, order="C", copy=True)
    frozen.flags.writeable = False
    return frozen


class Parameter(np.ndarray):
    """An array that a layer owns and training changes: ``self.weight = Parameter(array)``.

    The class only matters during the assignment. The layer keeps and returns an ordinary read-only float32 array.

    Parameters
    ----------
    value : array_like
        Real numbers of any shape; copied to C-contiguous float32.

    Raises
    ------
    TypeError
        If `value` does not hold real numbers.

    Examples
    --------
    >>> from fastcnn.layers import Layer
    >>> class Scale(Layer):
    ...     weight: np.ndarray
    ...     def __init__(self, channels):
    ...         self.weight = Parameter(np.ones((channels, 1, 1)))
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> [(name, array.shape) for name, array in Scale(3).named_parameters()]
    [('weight', (3, 1, 1))]
    """

    def __new__(cls, value: ArrayLike) -> Parameter:
        return frozen_float32(value, cls.__name__).view(cls)


class Buffer(np.ndarray):
    """An array that a layer owns and no gradient changes: ``self.running_mean = Buffer(array)``.

    A buffer is part of the state dict and takes the same values as a `Parameter`.

    Parameters
    ----------
    value : array_like
        Real numbers of any shape; copied to C-contiguous float32.

    Raises
    ------
    TypeError
        If `value` does not hold real numbers.

    Examples
    --------
    >>> Buffer([1, 2]).dtype
    dtype('float32')
    """

    def __new__(cls, value: ArrayLike) -> Buffer:
        return frozen_float32(value, cls.__name__).view(cls)


class LoadResult(NamedTuple):
    """The names that `Layer.load_state_dict` did not match when it was not strict.

    Parameters
    ----------
    missing : list of str
        Names of the layer that the state does not have.
    unexpected : list of str
        Names of the state that the layer does not have.

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> Linear(2, 1).load_state_dict({"weight": [[1, 2]]}, strict=False)
    LoadResult(missing=['bias'], unexpected=[])
    """

    missing: list[str]
    unexpected: list[str]
