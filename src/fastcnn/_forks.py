"""Locks and forks: no forked child finds a lock held by a thread that it does not have.

A child has only the thread that forked. A lock that another thread held at that moment would stay locked in it for
ever. So every lock of the package is a `Guard`'s; what lies behind it is put right by whoever owns it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import MethodType
from weakref import WeakMethod, WeakSet

__all__ = ["Guard"]


class Guard:
    """A lock, `lock`, that is free in a forked child, unless the thread that forked holds it itself.

    Parameters
    ----------
    orphaned : callable, optional
        Called in a child where another thread held the lock: what that thread was doing stopped half-way there. Of a
        method's object no reference is kept.

    Attributes
    ----------
    lock : RLock
        Always by ``with guard.lock``: nothing else is safe from Ctrl-C.

    Examples
    --------
    >>> guard = Guard()
    >>> with guard.lock:
    ...     print("alone")
    alone
    """

    def __init__(self, orphaned: Callable[[], None] | None = None) -> None:
        self.lock = threading.RLock()
        self._orphaned: Callable[[], Callable[[], None] | None] = (
            WeakMethod(orphaned) if isinstance(orphaned, MethodType) else lambda: orphaned
        )
        _guards.add(self)

    def renew(self) -> None:
        """In a child, before anything else runs there."""
        if self.lock.acquire(blocking=False):  # free, or held by the thread that forked
            self.lock.release()
            return
        self.lock = threading.RLock()
        orphaned = self._orphaned()
        if orphaned is not None:
            orphaned()


_guards: WeakSet[Guard] = WeakSet()


def _child_started() -> None:
    for guard in _guards:
        guard.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_child_started)
