"""Memory for large arrays, and a check of free memory before packages run that crash without it.

ops/budget.py decides how much memory may be taken.
"""

from __future__ import annotations

import errno
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fastcnn._system import map_memory

__all__ = ["LARGE", "allocate", "ask_memory", "memory_errors"]

# Bytes from which on an array has memory of its own, which returns to the system with it. An array of a file that is
# as large can stay in the file.
LARGE = 1 << 17


def allocate(size: int) -> np.ndarray:
    """Allocate bytes of any content. Freed memory of NumPy's may stay with the process. A network whose weights are
    read one by one and packed would then need twice its memory.

    Raises
    ------
    MemoryError
        If there is too little memory.

    Examples
    --------
    >>> allocate(3).shape
    (3,)
    """
    if size < LARGE:
        return np.empty(size, np.uint8)
    return np.frombuffer(_map(size), np.uint8)


def ask_memory(size: int) -> None:
    """Check that there is address space for `size` bytes, and leave it free.

    It precedes code that crashes without memory: protobuf follows null pointers. Another thread may still take the
    memory first.

    Raises
    ------
    MemoryError
        If there is too little.

    Examples
    --------
    >>> ask_memory(1 << 50)
    Traceback (most recent call last):
    MemoryError: 1125899906842624 bytes
    """
    _map(max(1, size)).close()


# What the dynamic linker says where a compiled module finds no memory.
_NO_PLACE = ("failed to map segment", "annot allocate memory")


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise MemoryError where the system says ENOMEM. Python reports that as OSError, of a file or of a module that is
    imported on first use. Of a compiled module it is an ImportError. Both would be taken for faults of the file.

    Raises
    ------
    MemoryError
        If the system had no memory.

    Examples
    --------
    >>> with memory_errors():
    ...     raise OSError(errno.ENOMEM, "Cannot allocate memory")
    Traceback (most recent call last):
    MemoryError: [Errno 12] Cannot allocate memory
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        raise MemoryError(str(error)) from error
    except ImportError as error:
        if not any(reason in str(error) for reason in _NO_PLACE):
            raise
        raise MemoryError(str(error)) from error


def _map(size: int) -> mmap.mmap:
    try:
        return map_memory(size)
    except (OSError, OverflowError):  # mmap raises these where there is no memory
        raise MemoryError(f"{size} bytes") from None
