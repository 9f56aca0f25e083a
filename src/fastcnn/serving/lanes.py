"""Who may compute: batches run side by side in lanes, each with its share of the threads.

Two batches of a thread each take less time than one after the other of two threads: no thread waits for another one at
the end of each layer, and threads that decode photos hold up one batch, not both. docs/tuning.md, "Lanes of a service".
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Lanes"]

_MOST = 4


class Lanes:
    """The lanes of a service, which its models share.

    Parameters
    ----------
    threads : int
        Of inference, which the lanes share.

    Attributes
    ----------
    count, free : int
        Lanes, and how many of them no batch has. Only within `changed` is `free` read and written.
    changed : Condition
        Of whatever batches wait for.

    Examples
    --------
    >>> lanes = Lanes(16)
    >>> lanes.count, lanes.threads_of(1), lanes.threads_of(4)
    (4, 4, 16)
    """

    def __init__(self, threads: int) -> None:
        self.count = self.free = min(threads, _MOST)
        self.changed = threading.Condition()
        self._threads, self._claims = threads, 0

    def threads_of(self, lanes: int) -> int:
        """Return the threads of a batch that has some lanes."""
        return self._threads * lanes // self.count

    @property
    def is_open(self) -> bool:
        """Whether a batch may take a lane."""
        return self.free > 0 and not self._claims

    def give_back(self, lanes: int) -> None:
        """Let others have lanes; whoever waits is told."""
        with self.changed:
            self.free += lanes
            self.changed.notify_all()

    @contextmanager
    def all(self) -> Iterator[None]:
        """A block in which no batch runs; none begins while somebody waits for it."""
        with self.changed:
            self._claims += 1
            self.changed.wait_for(lambda: self.free == self.count)
            self._claims -= 1
            self.free = 0
        try:
            yield
        finally:
            self.give_back(self.count)
