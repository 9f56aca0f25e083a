"""Memory that is asked for in time: large arrays of their own, and room for packages that do not survive without.

What may be asked for at all is decided by ops/budget.py.
"""

from __future__ import annotations

import mmap

import numpy as np

__all__ = ["LARGE", "allocate", "ask_memory"]

# Arrays of so many bytes have memory of their own, which goes back to the system with them, and can stay in the file.
LARGE = 1 << 17


def allocate(size: int) -> np.ndarray:
    """Bytes of any content. NumPy's memory might stay with the process once it is freed, which doubles that of a
    network whose weights are read one by one and packed.

    Raises
    ------
    MemoryError
        If there is none.

    Examples
    --------
    >>> allocate(3).shape
    (3,)
    """
    if size < LARGE:
        return np.empty(size, np.uint8)
    return np.frombuffer(_map(size), np.uint8)


def ask_memory(size: int) -> None:
    """Find out whether there is address space for so many bytes, and leave it free.

    It is for code that crashes without memory: protobuf's follows null pointers. Another thread may still be faster.

    Raises
    ------
    MemoryError
        If there is not.

    Examples
    --------
    >>> ask_memory(1 << 50)
    Traceback (most recent call last):
    MemoryError: 1125899906842624 bytes
    """
    _map(max(1, size)).close()


def _map(size: int) -> mmap.mmap:
    try:
        return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError):  # what mmap calls it when there is no memory
        raise MemoryError(f"{size} bytes") from None
