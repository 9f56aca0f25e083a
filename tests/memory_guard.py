"""Arrays between pages that cannot be read or written: touching one ends the process."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0


def guarded(
    shape: tuple[int, ...], values: object = np.nan, first: bool = False, kind: type[np.number] = np.float32
) -> np.ndarray:
    """A C-contiguous array filled with `values`, between two guard pages: its last element lies before one of them, or
    its first element behind the other."""
    size = np.dtype(kind).itemsize * int(np.prod(shape))
    pages = -(-max(size, 1) // mmap.PAGESIZE)
    region = mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(region))
    for page in (0, pages + 1):
        if _libc.mprotect(ctypes.c_void_p(address + page * mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = mmap.PAGESIZE if first else (pages + 1) * mmap.PAGESIZE - size
    array = np.frombuffer(region, kind, int(np.prod(shape)), start).reshape(shape)
    array[...] = values
    return array


def fenced(array: np.ndarray) -> np.ndarray:
    """A copy of an array next to a guard page: before or behind it, as the size has it."""
    return guarded(array.shape, array, first=array.size % 2 == 0)
