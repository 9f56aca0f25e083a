"""Gathers photos that wait into batches, and runs these one after the other in a thread of its own.

A photo never waits while nothing runs, except for others whose photos are being decoded: `Batcher.expect`. Batches
have the sizes that calibration.py has found to pay.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

import numpy as np

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
        Takes a version and arrays, and returns a row for each.
    sizes : callable
        Returns the sizes of batches for a version, ascending from 1.
    max_wait : float
        Seconds to wait for photos that are being decoded.
    turn : lock
        Held while a batch runs: models of one process take turns.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        run: Callable[[Any, Sequence[np.ndarray]], np.ndarray],
        sizes: Callable[[Any], Sequence[int]],
        max_wait: float,
        turn: threading.Lock,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._run, self._sizes, self._max_wait, self._turn, self._clock = run, sizes, max_wait, turn, clock
        self._changed = threading.Condition()
        self._items: deque[Item] = deque()
        self._coming = self._running = 0
        self._thread: threading.Thread | None = None
        self._owner = 0  # the process that has the thread: a forked one starts its own
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
            self._changed.notify()

    def put(self, item: Item) -> None:
        """Take a photo that was expected."""
        with self._changed:
            self._coming -= 1
            self._items.append(item)
            self._changed.notify()
            if self._owner != os.getpid():
                self._owner = os.getpid()
                self._thread = threading.Thread(target=self._work, name="fastcnn-serving", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Let nothing in any more, and return when all that waits is answered."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None and self._owner == os.getpid():
            self._thread.join()

    def _work(self) -> None:
        answers: list[Any]
        while batch := self._next():
            version, answers = batch[0].version, []
            try:
                with self._turn:
                    answers = list(self._run(version, [item.pixels for item in batch]))
            except Exception as error:  # of the model, for all of the batch
                answers = [error] * len(batch)
            with self._changed:
                self._running = 0
            for item, answer in zip(batch, answers, strict=True):
                item.done(answer)

    def _next(self) -> list[Item]:
        """Wait for the next batch; it is empty once the batcher is closed."""
        with self._changed:
            deadline = None
            while True:
                while self._items and not self._items[0].is_wanted:
                    self._items.popleft()
                if not self._items:
                    if self._is_closed and not self._coming:
                        return []
                    deadline = None
                    self._changed.wait()
                    continue
                ready = self._ready()
                sizes = self._sizes(self._items[0].version)
                deadline = self._clock() + self._max_wait if deadline is None else deadline
                left = deadline - self._clock()
                if ready >= sizes[-1] or not self._coming or left <= 0:
                    break
                self._changed.wait(left)
            size = max(size for size in sizes if size <= ready)
            batch = self._taken(size)
            self._running = size
            return batch

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
