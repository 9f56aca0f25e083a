"""The types of number that files of weights hold, how each becomes a dtype that NumPy has, and how arrays are written.

Which name each has in which format is left to the formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn.graph.stored import StoredArray

__all__ = ["NUMBER_TYPES", "NumberType", "in_order"]

# Numbers that are put in order at a time.
_PART = 1 << 17


@dataclass(frozen=True, slots=True)
class NumberType:
    """A type of number: its name, NumPy's code for its bits, and the dtype to return."""

    name: str
    code: str
    result: np.dtype

    @property
    def item_size(self) -> int:
        """Bytes a number takes in the file."""
        return np.dtype(self.code).itemsize

    def to_native(self, bits: np.ndarray) -> np.ndarray:
        """Return numbers, viewed in the file as ``code`` in any byte order, as a new C-contiguous array.

        Examples
        --------
        >>> NUMBER_TYPES["bfloat16"].to_native(np.array([0x3F80, 0xC000], ">u2"))
        array([ 1., -2.], dtype=float32)
        """
        if self.name == "bfloat16":  # the upper half of a float32
            wide: np.ndarray = np.left_shift(bits, 16, order="C", dtype=np.uint32)
            return wide.view(np.float32)
        return bits.astype(self.result, order="C")  # of bool: every byte but 0 is True


NUMBER_TYPES = {
    name: NumberType(name, code, np.dtype(result))
    for name, code, result in (
        ("float64", "f8", "f8"),
        ("float32", "f4", "f4"),
        ("float16", "f2", "f2"),
        ("bfloat16", "u2", "f4"),
        ("int64", "i8", "i8"),
        ("int32", "i4", "i4"),
        ("int16", "i2", "i2"),
        ("int8", "i1", "i1"),
        ("uint64", "u8", "u8"),
        ("uint32", "u4", "u4"),
        ("uint16", "u2", "u2"),
        ("uint8", "u1", "u1"),
        ("bool", "u1", "?"),
    )
}


def in_order(array: np.ndarray | StoredArray) -> Iterator[memoryview]:
    """An array's numbers as files have them, little-endian and by rows, in parts that take little memory; each is
    valid until the next is asked for.

    Examples
    --------
    >>> b"".join(map(bytes, in_order(np.arange(6, dtype=">u2").reshape(2, 3).T))).hex()
    '000003000100040002000500'
    """
    numbers = np.asarray(array)
    wanted = numbers.dtype.newbyteorder("<")
    if numbers.flags.c_contiguous and numbers.dtype == wanted:
        yield numbers.reshape(-1).view(np.uint8).data
        return
    parts = np.nditer(
        numbers,
        ["external_loop", "buffered", "zerosize_ok"],
        ["readonly"],
        wanted,
        order="C",
        casting="equiv",
        buffersize=_PART,
    )
    yield from (np.ascontiguousarray(part).view(np.uint8).data for part in parts)
