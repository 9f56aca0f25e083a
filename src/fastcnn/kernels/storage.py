"""Memory that tiles read and write by whole vectors: arenas, scratch, packed weights."""

from __future__ import annotations

import numpy as np

ALIGNMENT = 16  # floats: one cache line


def allocate(floats: int) -> np.ndarray:
    """Float32 of any content, aligned to a cache line: no vector then lies in two lines.

    Examples
    --------
    >>> allocate(100).ctypes.data % 64, allocate(100).size
    (0, 100)
    """
    raw = np.empty(max(1, floats) + ALIGNMENT, np.float32)
    shift = -raw.ctypes.data // raw.itemsize % ALIGNMENT
    return raw[shift : shift + max(1, floats)]
