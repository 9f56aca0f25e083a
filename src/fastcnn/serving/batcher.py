"""Gathers photos that wait into batches, and runs these in threads of its own, as many as there are lanes.

A photo never waits while nothing runs, except for others whose photos are being decoded: `Batcher.expect`. Batches
have the sizes that calibration.py has found to pay. A photo that is alone has all lanes; otherwise a batch has one.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import numpy as np

from fastcnn.serving.lanes import Lanes

__all__ = ["Batcher", "Item"]


class Item:
    """A photo that waits for its answer.

    Attributes
    ----------
    version : object
        Of the model; a batch has items of one version.
    pixels : ndarray
        What the model takes of the photo.
    done : callable
        Called once with the probabilities, or an exception, in the thread of the batcher.
    is_wanted : bool
        Set to False where nobody waits any more.
    """

    __slots__ = ("done", "is_wanted", "pixels", "version")

    def __init__(self, version: Any, pixels: np.ndarray, done: Callable[[Any], None]) -> None:
        self.version, self.pixels, self.done = version, pixels, done
        self.is_wanted = True


class Batcher:
    """Runs items in batches.

    Parameters
    ----------
    run : callable
        Takes a version, arrays and a number of lanes, and returns a row for each array.
    sizes : callable
        Returns the sizes of batches for a version, ascending from 1.
    max_wait : float
        Seconds to wait for photos that are being decoded.
    lanes : Lanes
        Which models of one process share.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        run: Callable[[Any, Sequence[np.ndarray], int], np.ndarray],
        sizes: Callable[[Any], Sequence[int]],
        max_wait: float,
        lanes: Lanes,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._run, self._sizes, self._max_wait, self._lanes, self._clock = run, sizes, max_wait, lanes, clock
        self._changed = lanes.changed
        self._items: deque[Item] = deque()
        self._coming = self._running = 0
        self._threads: list[threading.Thread] = []
        self._owner = 0  # the process that has the threads: a forked one starts its own
        self._is_closed = False

    @property
    def pending(self) -> int:
        """Photos that were let in and are not answered."""
        with self._changed:
            return len(self._items) + self._coming + self._running

    def expect(self, count: int, most: int) -> bool:
        """Let photos in that `put` or `forget` will follow for; False where more than `most` would be pending."""
        with self._changed:
            if self._is_closed or len(self._items) + self._coming + self._running + count > most:
                return False
            self._coming += count
            return True

    def forget(self, count: int) -> None:
        """Expect fewer photos: they could not be decoded, or nobody waits."""
        with self._changed:
            self._coming -= count
            self._changed.notify_all()

    def put(self, item: Item) -> None:
        """Take a photo that was expected."""
        with self._changed:
            self._coming -= 1
            self._items.append(item)
            self._changed.notify_all()
            if self._owner != os.getpid():
                self._owner = os.getpid()
                self._threads = [
                    threading.Thread(target=self._work, name="fastcnn-serving", daemon=True)
                    for _ in range(self._lanes.count)
                ]
                for thread in self._threads:
                    thread.start()

    def close(self) -> None:
        """Let nothing in any more, and return when all that waits is answered."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._owner == os.getpid():
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        answers: list[Any]
        while True:
            batch, lanes = self._next()
            if not batch:
                return
            version, answers = batch[0].version, []
            try:
                answers = list(self._run(version, [item.pixels for item in batch], lanes))
            except Exception as error:  # of the model, for all of the batch
                answers = [error] * len(batch)
            with self._changed:
                self._running -= len(batch)
            self._lanes.give_back(lanes)
            for item, answer in zip(batch, answers, strict=True):
                item.done(answer)

    def _next(self) -> tuple[list[Item], int]:
        """Wait for the next batch, and take its lanes; the batch is empty once the batcher is closed."""
        lanes = self._lanes
        with self._changed:
            deadline = None
            while True:
                while self._items and not self._items[0].is_wanted:
                    self._items.popleft()
                if not self._items:
                    if self._is_closed and not self._coming:
                        return [], 0
                    deadline = None
                if not self._items or not lanes.is_open:
                    self._changed.wait()
                    continue
                ready = self._ready()
                sizes = self._sizes(self._items[0].version)
                deadline = self._clock() + self._max_wait if deadline is None else deadline
                left = deadline - self._clock()
                if ready >= sizes[-1] or not self._coming or left <= 0:
                    break
                self._changed.wait(left)
            each = math.ceil(ready / lanes.free)  # where the other lanes take as many
            batch = self._taken(max(size for size in sizes if size <= each))
            taken = lanes.count if ready == 1 and lanes.free == lanes.count else 1
            lanes.free -= taken
            self._running += len(batch)
            return batch, taken

    def _ready(self) -> int:
        """Items at the beginning that may be of one batch."""
        version, ready = self._items[0].version, 0
        for item in self._items:
            if item.version is not version:
                break
            ready += item.is_wanted
        return ready

    def _taken(self, size: int) -> list[Item]:
        batch: list[Item] = []
        while len(batch) < size:
            item = self._items.popleft()
            if item.is_wanted:
                batch.append(item)
        return batch
