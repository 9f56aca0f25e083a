"""Types of numbers in files of weights: which dtype of NumPy each becomes, and how arrays are written.

The formats have names of their own for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn.graph.stored import StoredArray

__all__ = ["NUMBER_TYPES", "NumberType", "in_order", "rounded"]

# Numbers that `in_order` converts at a time.
_PART = 1 << 17


@dataclass(frozen=True, slots=True)
class NumberType:
    """A type of numbers: its name, NumPy's code for its bits in a file, and the dtype that it becomes."""

    name: str
    code: str
    result: np.dtype

    @property
    def item_size(self) -> int:
        """Bytes of a number in a file."""
        return np.dtype(self.code).itemsize

    def to_native(self, bits: np.ndarray) -> np.ndarray:
        """Convert numbers, viewed as ``code`` in any byte order, to a new C-contiguous array of dtype ``result``.

        Examples
        --------
        >>> NUMBER_TYPES["bfloat16"].to_native(np.array([0x3F80, 0xC000], ">u2"))
        array([ 1., -2.], dtype=float32)
        """
        if self.name == "bfloat16":  # the upper half of a float32
            wide: np.ndarray = np.left_shift(bits, 16, order="C", dtype=np.uint32)
            return wide.view(np.float32)
        return bits.astype(self.result, order="C")  # every byte but 0 becomes True


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


def rounded(array: np.ndarray | StoredArray) -> np.ndarray:
    """Round float32 to bfloat16, as uint16.

    Examples
    --------
    >>> NUMBER_TYPES["bfloat16"].to_native(rounded(np.float32([1.0, 1.00390625, -3e38])))
    array([ 1.0000000e+00,  1.0000000e+00, -3.0040553e+38], dtype=float32)
    """
    from fastcnn.kernels._conv_bf16 import round_to_bf16

    bits: np.ndarray = round_to_bf16(np.asarray(array))
    return bits


def in_order(array: np.ndarray | StoredArray) -> Iterator[memoryview]:
    """Yield an array's numbers in the order of files, little-endian and by rows, in small parts. Each part is valid
    until the next one is taken.

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
