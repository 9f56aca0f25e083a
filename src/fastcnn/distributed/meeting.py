"""Where workers exchange the values of synchronised batch normalisation: an actor that waits for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.training.shard_sync import NobodyComes

__all__ = ["MeetingPlace"]


class _Table:
    """The values for one key, and who has fetched them."""

    def __init__(self) -> None:
        self.values: dict[int, np.ndarray] = {}
        self.fetched = 0
        self.is_full = asyncio.Event()


class MeetingPlace:
    """Gathers the values of all shards, and gives them to all workers."""

    def __init__(self) -> None:
        self._tables: dict[tuple[int, str], _Table] = {}
        self._given_up = 0

    async def exchange(self, attempt: int, key: str, values: Mapping[int, np.ndarray], shards: int) -> list[Any]:
        """Return the values of all shards, in their order, as soon as they are here."""
        table = self._tables.setdefault((attempt, key), _Table())
        table.values.update(values)
        if len(table.values) == shards:
            table.is_full.set()
        if attempt > self._given_up:
            await table.is_full.wait()
        if len(table.values) < shards:
            raise NobodyComes(f"{key}: a worker is lost")
        table.fetched += len(values)
        if table.fetched == shards:
            del self._tables[attempt, key]
        return [table.values[i] for i in range(shards)]

    async def give_up(self, attempt: int) -> None:
        """Let nobody wait for this attempt any more."""
        self._given_up = max(self._given_up, attempt)
        for key in [key for key in self._tables if key[0] <= attempt]:
            self._tables.pop(key).is_full.set()
