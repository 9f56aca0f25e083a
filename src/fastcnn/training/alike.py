"""Finds photos that are the same: files by their content, pictures by a perceptual hash of a small copy."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

__all__ = ["Alike", "contents_of", "groups_of"]

# A hash has 64 bits, in 8 bands: of two that differ in 7 bits at most, one band is the same.
_BANDS = 8
_BITS = 7
_DIFFERENCE = 4.0  # of the small copies, mean over their pixels, of 255: more than saving or resizing changes


def contents_of(paths: Sequence[str]) -> list[str]:
    """Return what stands for the content of each file; only files of the same size are read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, text in (("a", "1"), ("b", "1"), ("c", "22")):
    ...         count = Path(folder, name).write_text(text)
    ...     groups_of(contents_of([f"{folder}/{name}" for name in "abc"]))
    [[0, 1]]
    """
    sizes = [os.path.getsize(path) for path in paths]
    same_size = {i for group in groups_of(sizes) for i in group}
    return [_digest(path) if i in same_size else f"alone {i}" for i, path in enumerate(paths)]


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def groups_of(keys: Sequence[Hashable]) -> list[list[int]]:
    """Return the positions of equal keys, where there are several.

    Examples
    --------
    >>> groups_of(["a", "b", "a"])
    [[0, 2]]
    """
    found: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        found[key].append(i)
    return [group for group in found.values() if len(group) > 1]


class Alike:
    """Pictures to compare.

    Parameters
    ----------
    thumbnails : sequence of ndarray (16, 16, 3), uint8

    Examples
    --------
    >>> picture = np.random.default_rng(0).integers(0, 200, (16, 16, 3), np.uint8)
    >>> Alike([picture, 255 - picture, picture + 2]).groups()
    [[0, 2]]
    """

    def __init__(self, thumbnails: Sequence[np.ndarray]) -> None:
        self._pictures = np.stack([*thumbnails, np.zeros((16, 16, 3), np.uint8)])[:-1].astype(np.float32)
        self._hashes = self._hash()
        self._leaders = list(range(len(self._pictures)))

    def _hash(self) -> np.ndarray:
        """Whether it gets brighter from left to right, at 64 places (Krawetz, "Kind of Like That", 2013)."""
        grey = self._pictures.mean(axis=3).reshape(-1, 8, 2, 16).mean(axis=2)
        return np.packbits(grey[:, :, 1::2] > grey[:, :, ::2], axis=2).reshape(-1, _BANDS)

    def groups(self) -> list[list[int]]:
        """Return the positions of pictures that look the same, as groups."""
        for band in range(_BANDS):
            for group in groups_of(self._hashes[:, band].tolist()):
                self._join(np.array(group))
        return groups_of([self._leader(i) for i in range(len(self._leaders))])

    def _join(self, group: np.ndarray) -> None:
        for position, i in enumerate(group[:-1].tolist()):
            rest = group[position + 1 :]
            bits = np.bitwise_count(self._hashes[rest] ^ self._hashes[i]).sum(axis=1)
            close = rest[bits <= _BITS]
            differences = np.abs(self._pictures[close] - self._pictures[i]).mean(axis=(1, 2, 3))
            for j in close[differences <= _DIFFERENCE].tolist():
                self._leaders[self._leader(j)] = self._leader(i)

    def _leader(self, i: int) -> int:
        while self._leaders[i] != i:
            self._leaders[i] = i = self._leaders[self._leaders[i]]
        return i
