"""Locks and forks: no forked child finds a lock held by a thread that it does not have.

A child has only the thread that forked. A lock that another thread held at that moment would stay locked in it for
ever. So every lock of the package is a `Guard`'s; what lies behind it is put right by whoever owns it. Nobody waits for
a lock before a fork, but for modules that other threads are importing: their locks are Python's.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from types import MethodType
from typing import Any, Generic, TypeVar
from weakref import WeakMethod, WeakSet

__all__ = ["Guard", "computed_once"]

T = TypeVar("T")


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


class computed_once(Generic[T]):
    """A property whose value is kept, without the lock of `functools.cached_property`.

    Up to Python 3.11 that lock is one for all objects, and another thread can hold it while the process forks. Here two
    threads may compute the same value; one of them stays.

    Examples
    --------
    >>> class Circle:
    ...     @computed_once
    ...     def area(self):
    ...         print("computed")
    ...         return 3.14
    >>> circle = Circle()
    >>> circle.area + circle.area
    computed
    6.28
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.__doc__ = compute, compute.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        if instance is None:
            return self  # type: ignore[return-value]
        value: T = instance.__dict__.setdefault(self.compute.__name__, self.compute(instance))
        return value


_guards: WeakSet[Guard] = WeakSet()

# Packages of which modules are imported only when they are needed, by whichever thread is first.
_LAZY = frozenset(["fastcnn", "numpy", "PIL", "onnx", "safetensors"])


def _before_fork() -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] in _LAZY:
            with suppress(Exception):  # what another thread fails to import is its own affair
                import_module(name)  # returns at once, unless another thread is at it


def _child_started() -> None:
    for guard in _guards:
        guard.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_child_started)
