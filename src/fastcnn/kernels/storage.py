"""Aligned memory for tiles, which read and write vectors: arenas, scratch memory, packed weights."""

from __future__ import annotations

import numpy as np

LINE_BYTES = 64  # a cache line
ALIGNMENT = LINE_BYTES // 4  # floats
HUGE_PAGE = 1 << 19  # floats: 2 MB; docs/tuning.md, "Huge pages"


def allocate(floats: int) -> np.ndarray:
    """Allocate float32 of any content, aligned to a cache line: no vector then lies in two lines.

    Examples
    --------
    >>> allocate(100).ctypes.data % 64, allocate(100).size
    (0, 100)
    """
    return _aligned(max(1, floats), ALIGNMENT)


def allocate_arena(floats: int) -> np.ndarray:
    """Allocate an arena as `allocate` does. A large one consists of huge pages where the system has them. Layers read
    it in all orders, and each page of 4 KB needs a look-up: docs/tuning.md, "Huge pages". Pages that are never touched
    take no memory.

    Examples
    --------
    >>> allocate_arena(1_000_000).ctypes.data % (1 << 21), allocate_arena(100).size
    (0, 100)
    """
    if floats < HUGE_PAGE // 2:
        return allocate(floats)
    whole = -(-floats // HUGE_PAGE) * HUGE_PAGE
    return _aligned(whole, HUGE_PAGE)[:floats]  # NumPy asks Linux for huge pages from 4 MB on


def _aligned(floats: int, alignment: int) -> np.ndarray:
    """Allocate float32 of any content, at a multiple of `alignment` floats."""
    raw = np.empty(floats + alignment, np.float32)
    shift = -raw.ctypes.data // raw.itemsize % alignment
    return raw[shift : shift + floats]
