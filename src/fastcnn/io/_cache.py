"""Keeps decoded photos from the search for bad ones on, through all epochs: in memory, then in a temporary file.

Both are bounded. What is kept, and for how long, is training/folders.py's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Hashable
from typing import Any
from weakref import finalize

import numpy as np

from fastcnn._forks import Guard
from fastcnn._system import read_into, write_at

__all__ = ["PhotoCache"]

_MEMORY = 256 << 20
_DISK = 4 << 30
_FREE_SHARE = 2  # of what is free on the disk, a half may be taken


class PhotoCache:
    """Decoded photos by a key, which several threads may ask for.

    Photos are kept in the order in which they come, in memory first; the rest in a file without a name, which ends with
    the process. Photos that fit into neither are made each time. What comes back has the same bits in every case.

    Parameters
    ----------
    memory, disk : int
        Bytes that may be taken.

    Examples
    --------
    >>> cache = PhotoCache(memory=12, disk=0)
    >>> made = []
    >>> def make():
    ...     made.append("photo")
    ...     return np.zeros((2, 2, 3), np.uint8)
    >>> cache.get("a", make) is cache.get("a", make), cache.get("b", make) is cache.get("b", make), len(made)
    (True, False, 3)
    """

    def __init__(self, memory: int = _MEMORY, disk: int = _DISK) -> None:
        self._memory_left, self._disk_left = memory, disk
        self._kept: dict[Hashable, np.ndarray] = {}
        self._places: dict[Hashable, tuple[int, tuple[int, ...]]] = {}
        self._file: int | None = None
        self._end = 0
        self._owner = os.getpid()
        self._guard = Guard()

    def __reduce__(self) -> tuple[Any, ...]:
        return PhotoCache, ()  # a copy begins empty

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what `make` has returned for this key, read-only where it is kept in memory.

        Parameters
        ----------
        key : hashable
        make : function
            Returns a C-contiguous uint8 array.
        """
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        place = self._places.get(key)
        return self._keep(key, make()) if place is None else self._read(*place)

    def _keep(self, key: Hashable, pixels: np.ndarray) -> np.ndarray:
        with self._guard.lock:
            if os.getpid() != self._owner:  # a forked child reads the file, and writes nothing where its parent does
                self._disk_left = 0
            if pixels.nbytes <= self._memory_left:
                self._memory_left -= pixels.nbytes
                pixels = pixels.view()
                pixels.flags.writeable = False
                self._kept[key] = pixels
                return pixels
            if pixels.nbytes > self._disk_left or not self._opened():
                return pixels
            offset, self._end = self._end, self._end + pixels.nbytes
            self._disk_left -= pixels.nbytes
        try:
            assert self._file is not None
            if write_at(self._file, np.ascontiguousarray(pixels).data.cast("B"), offset) == pixels.nbytes:
                self._places[key] = offset, pixels.shape
        except OSError:
            self._disk_left = 0  # the disk is full: what there is stays
        return pixels

    def _opened(self) -> bool:
        if self._file is None:
            try:
                # It is open as long as the cache.
                file = tempfile.TemporaryFile(prefix="fastcnn-photos-")  # noqa: SIM115
                finalize(self, file.close)
                self._file = file.fileno()
                free = shutil.disk_usage(tempfile.gettempdir()).free
            except OSError:
                self._disk_left = 0
                return False
            self._disk_left = min(self._disk_left, free // _FREE_SHARE)
        return True

    def _read(self, offset: int, shape: tuple[int, ...]) -> np.ndarray:
        assert self._file is not None
        pixels = np.empty(shape, np.uint8)
        read_into(self._file, pixels.reshape(-1).data, offset)
        return pixels
