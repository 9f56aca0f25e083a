"""Who must know that a layer has changed, and who holds newer values of its arrays than the layer: a trainer.

Both belong to the layer, so that whoever calls or trains one model never troubles another. Layers tell the caches of
compiled plans and the trainers that watch them. A trainer need not write back after every step: layers ask it to before
anybody looks at an array.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import count
from threading import get_ident
from typing import Any, Protocol, TypeVar
from weakref import ref

from fastcnn._forks import Guard

__all__ = ["Holder", "Watcher", "bring_up_to_date", "generation", "settled", "tell_watchers", "watch"]

T = TypeVar("T")

_serials = count()
_changes = count(1)
_generation = 0


def generation() -> int:
    """Return a number that grows whenever any layer is built, is trained, or any of its attributes is assigned.

    Returns
    -------
    int
        The current count, 0 at import.

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> layer = Linear(2, 1)
    >>> before = generation()
    >>> layer.bias = [0.5]
    >>> generation() > before
    True
    """
    return _generation


class Watcher(Protocol):
    """Who is told when a layer changes; may be told by any thread, and must not wait for anything then."""

    def layer_changed(self) -> None:
        """Note that something of the layer has changed, or that a trainer holds newer values of it."""


class Holder(ABC):
    """Base of trainers: holds newer values of some layers' arrays than the layers do.

    Its own work, steps, and the looks of others exclude each other. Whoever wants to look waits for one step at most:
    the next one begins after the look. Each layer has at most one holder at a time.
    """

    def __init__(self) -> None:
        self._guard, self._turn = Guard(self._orphaned), Guard()
        self._inside = 0  # the thread that holds the lock,
        self._steps_in = 0  # and the one that is in a step
        self._serial = next(_serials)
        self._held: list[Any] = []  # the layers
        self._holds = False  # whether all of them are marked

    def sync(self) -> None:
        """Bring the layers' arrays up to date; done by itself when they are looked at."""
        self._look(lambda: None)

    @abstractmethod
    def _write_back(self) -> None:
        """Write newer values to the layers."""

    def _orphaned(self) -> None:
        """In a forked child: another thread, which does not exist there, was at work or looking."""
        self._inside = self._steps_in = 0

    def _work(self, step: Callable[[], T]) -> T:
        """Return `step()`, called while nobody looks."""
        self._refuse_within_step()
        with self._turn.lock:
            pass  # those who wait to look come first
        with self._guard.lock:
            self._inside = self._steps_in = get_ident()
            try:
                return step()
            finally:
                self._inside = self._steps_in = 0

    def _refuse_within_step(self) -> None:
        if self._inside == get_ident():
            raise RuntimeError(
                "step: this thread is within a step of the model, expected a call between steps; "
                "a signal handler may look at the model, not train it"
            )

    def _look(self, look: Callable[[], T]) -> T:
        """Return `look()`, called between steps, the layers' arrays up to date."""
        if self._inside == get_ident():  # within its own work: a step traces the model, or runs a signal handler
            self._write_back()
            return look()
        with self._turn.lock, self._guard.lock:
            self._inside = get_ident()
            try:
                self._write_back()
                self._release()
                return look()
            finally:
                self._inside = 0

    def _claim(self) -> bool:
        """Have all layers ask for newer values before anybody looks; False, and none of them, where one has another
        holder."""
        for i, layer in enumerate(self._held):
            if layer.__dict__.setdefault("_holder", self) is not self:
                self._release(i)
                return False
        self._holds = True
        return True

    def _release(self, first: int | None = None) -> None:
        """Have the layers, or the first of them, not ask any more."""
        self._holds = False
        for layer in self._held[:first]:
            if layer.__dict__.get("_holder") is self:
                del layer.__dict__["_holder"]

    def _rivals(self) -> set[Holder]:
        """Other holders of the layers."""
        return set() if self._holds else {layer.__dict__.get("_holder") for layer in self._held} - {None, self}


def watch(layer: Any, watcher: Watcher) -> None:
    """Have `watcher` told of changes as long as it exists; a second time nothing happens."""
    watchers = layer.__dict__.setdefault("_watchers", {})
    key = id(watcher)
    if key not in watchers:
        watchers[key] = ref(watcher, lambda gone: watchers.pop(key) if watchers.get(key) is gone else None)


def _watchers(layer: Any) -> list[Watcher]:
    references = layer.__dict__.get("_watchers")
    if not references:
        return []
    found = [reference() for reference in list(references.values())]
    return [watcher for watcher in found if watcher is not None]


def tell_watchers(layer: Any, but: Watcher | None = None) -> None:
    """Tell all watchers of a layer, but the one that has changed it."""
    global _generation
    _generation = next(_changes)  # without a lock: threads take different numbers, each of which is new
    for watcher in _watchers(layer):
        if watcher is not but:
            watcher.layer_changed()


def bring_up_to_date(layer: Any) -> None:
    """Have whoever holds newer values of the layer's arrays write them back."""
    holder = layer.__dict__.get("_holder")
    if holder is not None:
        holder.sync()


def settled(layers: Iterable[Any], look: Callable[[], T]) -> T:
    """Return `look()`, called while the arrays of all layers are up to date and no trainer changes them: all are of the
    same step."""
    holders = {holder._serial: holder for layer in layers for holder in _watchers(layer) if isinstance(holder, Holder)}
    for holder in holders.values():
        if holder._steps_in == get_ident():  # it holds the layers: to wait for others within its step could be for ever
            return holder._look(look)
    return _among([holders[serial] for serial in sorted(holders)], look)  # always in the same order: no deadlock


def _among(holders: list[Holder], look: Callable[[], T]) -> T:
    if not holders:
        return look()
    return holders[0]._look(lambda: _among(holders[1:], look))
