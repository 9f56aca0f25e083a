"""Memory that the processes of one machine share.

It has no name in any file system: it goes with the last process that has it open, also where all are killed.
"""

from __future__ import annotations

import mmap
import os
from typing import NamedTuple

import numpy as np

from fastcnn.kernels.storage import ALIGNMENT

__all__ = ["Address", "Memory", "Sizes"]


class Address(NamedTuple):
    """Where another process of the machine finds the memory."""

    pid: int
    descriptor: int


class Sizes(NamedTuple):
    """What the memory holds.

    Attributes
    ----------
    state, slot : int
        Floats of a block.
    shards, buckets : int
    """

    state: int
    slot: int
    shards: int
    buckets: int


class Memory:
    """Blocks of a training: the state twice, the sum of the shards, and a slot for each shard.

    Pages that nobody has touched take no memory, so that a slot costs nothing where another machine has the shard.

    Parameters
    ----------
    sizes : Sizes
    address : Address, optional
        Of memory that exists; without it, new memory is made.

    Attributes
    ----------
    states : list of ndarray
        Before and after a step, in turns.
    total : ndarray
        The sum of the slots.
    slots : list of ndarray
    marks : ndarray (shards, buckets), int64
        The attempt for which a bucket of a slot is complete; its negative where the shard has failed.

    Examples
    --------
    >>> sizes = Sizes(4, 4, 2, 1)
    >>> one = Memory(sizes)
    >>> other = Memory(sizes, one.address)
    >>> one.slots[1][:] = 7
    >>> other.slots[1].tolist()
    [7.0, 7.0, 7.0, 7.0]
    """

    def __init__(self, sizes: Sizes, address: Address | None = None) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("fit: distributed needs Linux: processes share memory by memfd_create")
        marks = _rounded(2 * sizes.shards * sizes.buckets)  # of 8 bytes
        parts = [marks, *[_rounded(sizes.state)] * 2, *[_rounded(sizes.slot)] * (1 + sizes.shards)]
        if address is None:
            self._descriptor = os.memfd_create("fastcnn")
            os.ftruncate(self._descriptor, 4 * sum(parts))
        else:
            self._descriptor = os.open(f"/proc/{address.pid}/fd/{address.descriptor}", os.O_RDWR)
        floats = np.frombuffer(mmap.mmap(self._descriptor, 4 * sum(parts)), np.float32)
        ends = np.cumsum(parts)
        blocks = [floats[end - size : end] for end, size in zip(ends, parts, strict=True)]
        self.marks = blocks[0].view(np.int64)[: sizes.shards * sizes.buckets].reshape(sizes.shards, sizes.buckets)
        self.states = [block[: sizes.state] for block in blocks[1:3]]
        self.total, *self.slots = (block[: sizes.slot] for block in blocks[3:])

    @property
    def address(self) -> Address:
        """Where other processes find it, as long as this one keeps it."""
        return Address(os.getpid(), self._descriptor)

    def close(self) -> None:
        """Let go of the descriptor; the memory goes with the last array."""
        os.close(self._descriptor)


def _rounded(floats: int) -> int:
    """A multiple of pages, so that blocks begin with one."""
    page = max(ALIGNMENT, mmap.PAGESIZE // 4)
    return max(page, -(-floats // page) * page)
