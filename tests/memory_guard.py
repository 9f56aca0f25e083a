"""Arrays whose last element is followed by a page that cannot be read or written: touching it ends the process."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_PROT_NONE = 0


def guarded(shape: tuple[int, ...], values: object = np.nan) -> np.ndarray:
    """A C-contiguous float32 array in front of a guard page, filled with `values`."""
    size = 4 * int(np.prod(shape))
    pages = -(-max(size, 1) // mmap.PAGESIZE)
    region = mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(region))
    guard = ctypes.c_void_p(address + pages * mmap.PAGESIZE)
    if _libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), _PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")
    array = np.frombuffer(region, np.float32, int(np.prod(shape)), pages * mmap.PAGESIZE - size).reshape(shape)
    array[...] = values
    return array
