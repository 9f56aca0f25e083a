"""What every tile is tested with: guarded memory for its arguments, structs filled in by name, and calls."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
from c_header import constants, structs
from memory_guard import guarded

LANES = 16  # of a problem: a multiple of the vectors of every instruction set


class Workshop:
    """Calls the tiles of one table.

    Parameters
    ----------
    table : fc_kernels
    first : bool
        Whether arrays begin behind a guard page, or end before one.
    """

    def __init__(self, table: ctypes.Structure, first: bool) -> None:
        self.table, self.first, self.vl = table, first, table.vl
        self.calls: list[tuple[Any, tuple[object, ...]]] = []  # to be repeated
        self._kept: list[object] = []

    def give(self, values: np.ndarray, kind: type = np.float32) -> np.ndarray:
        """An operand with these values; float64 and integers have no guard."""
        values = np.ascontiguousarray(values, kind)
        if kind != np.float32:
            return values
        return guarded(values.shape, values, self.first)

    def take(self, *shape: int) -> np.ndarray:
        """Room for a result, full of NaN."""
        return guarded(shape, np.nan, self.first)

    def address(self, array: np.ndarray | None) -> int | None:
        """Of an array that is kept as long as the workshop."""
        if array is None:
            return None
        self._kept.append(array)
        return array.ctypes.data

    def struct(self, name: str, **fields: object) -> ctypes.Structure:
        """A struct of the header; fields that are not named are zero."""
        made = structs()[name]()
        known = {field for field, _ in made._fields_}
        for field, value in fields.items():
            assert field in known, f"{name} has no {field}"
            setattr(made, field, self.address(value) if isinstance(value, np.ndarray) else value)
        return made

    def call(self, field: str, *arguments: object, index: int | None = None) -> object:
        """Call a tile with arrays, structs and numbers."""
        function = getattr(self.table, field)
        function = function if index is None else function[index]
        passed = tuple(self._passed(argument) for argument in arguments)
        self.calls.append((function, passed))
        return function(*passed)

    def _passed(self, argument: object) -> object:
        if isinstance(argument, ctypes.Structure):
            self._kept.append(argument)
            return ctypes.addressof(argument)
        return self.address(argument) if isinstance(argument, np.ndarray) else argument

    def spans(self, lanes: int = LANES) -> Iterator[slice]:
        """The lanes of a problem, a vector at a time."""
        for begin in range(0, lanes, self.vl):
            yield slice(begin, begin + self.vl)

    def blocked(self, x: np.ndarray) -> np.ndarray:
        """[pixels][channels] as [block][pixel][VL]: lanes without a channel are NaN."""
        blocks = -(-x.shape[1] // self.vl)
        padded = np.full((len(x), blocks * self.vl), np.nan, np.float32)
        padded[:, : x.shape[1]] = x
        return padded.reshape(len(x), blocks, self.vl).transpose(1, 0, 2)

    def activation(self, name: str) -> ctypes.Structure:
        kind, low, high = KINDS[name]
        return self.struct("fc_activation", kind=constants()[kind], low=low, high=high, alpha=0.5)


_ALL = (-np.inf, np.inf)
KINDS = {
    "none": ("FC_NONE", *_ALL), "relu": ("FC_RELU", 0.0, np.inf), "clip": ("FC_CLIP", -2.0, 5.0),
    "leaky": ("FC_LEAKY_RELU", *_ALL), "tanh": ("FC_TANH", *_ALL), "sigmoid": ("FC_SIGMOID", *_ALL),
    "hard_swish": ("FC_HARD_SWISH", *_ALL), "silu": ("FC_SILU", *_ALL),
    "gelu": ("FC_GELU", *_ALL), "gelu_tanh": ("FC_GELU_TANH", *_ALL), "erf": ("FC_ERF", *_ALL),
}  # fmt: skip
BOUNDS = ("none", "relu", "clip")
EXACT = (*BOUNDS, "leaky")
