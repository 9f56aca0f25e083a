"""Changes of layers. Watchers are told of them. A holder has newer values of arrays than the layer.

Watchers are trainers and caches of compiled plans. Holders are trainers. Both are kept with the layer, so that
different models never disturb each other. A trainer need not write back after every step: the layer asks for its values
when an array is read.
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
    """Return a number that grows whenever a layer is built or trained, or one of its attributes is assigned.

    Returns
    -------
    int
        The current number; 0 at import.

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
    """An object that is told when a layer changes. Any thread may tell it, so that it must not wait for a lock."""

    def layer_changed(self) -> None:
        """Note that the layer has changed, or that a trainer holds newer values."""


class Holder(ABC):
    """Base of trainers, which hold newer values of arrays than their layers.

    A look reads the layers. Steps of the holder and looks of other threads exclude each other. A look waits for one
    step at most: the next step begins after it. A layer has at most one holder at a time.
    """

    def __init__(self) -> None:
        self._guard, self._turn = Guard(self._orphaned), Guard()
        self._inside = 0  # the thread that is in a step or a look
        self._steps_in = 0  # the thread that is in a step
        self._serial = next(_serials)
        self._held: list[Any] = []  # the layers
        self._holds = False  # whether all of the layers are marked

    def sync(self) -> None:
        """Bring the layers' arrays up to date. Reading an array does the same.

        Examples
        --------
        >>> import fastcnn as fc
        >>> trainer = fc.Trainer(fc.Sequential(fc.Linear(2, 2)), fc.SGD(0.1))
        >>> trainer.layer_changed()
        >>> trainer.sync()
        """
        self._look(lambda: None)

    @abstractmethod
    def _write_back(self) -> None:
        """Write newer values to the layers."""

    def _orphaned(self) -> None:
        """Repair the state in a forked child, where the thread that held the lock does not exist."""
        self._inside = self._steps_in = 0

    def _work(self, step: Callable[[], T]) -> T:
        """Return `step()`, called while no other thread looks."""
        self._refuse_within_step()
        with self._turn.lock:
            pass  # waiting looks come first
        with self._guard.lock:
            self._inside = self._steps_in = get_ident()
            try:
                return step()
            finally:
                self._inside = self._steps_in = 0

    def _refuse_within_step(self) -> None:
        if self._inside == get_ident():
            raise RuntimeError(
                "step: this thread is within a step of the model, expected a call between steps: "
                "a signal handler may read the model but not train it"
            )

    def _look(self, look: Callable[[], T]) -> T:
        """Return `look()`, called between steps and with the layers' arrays up to date."""
        if self._inside == get_ident():  # the step itself traces the model, or a signal handler runs within it
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
        """Mark all layers as held, so that reading them asks for newer values. Where one of them has another holder,
        mark none and return False."""
        for i, layer in enumerate(self._held):
            if layer.__dict__.setdefault("_holder", self) is not self:
                self._release(i)
                return False
        self._holds = True
        return True

    def _release(self, first: int | None = None) -> None:
        """Remove the mark from the layers, or from the first of them."""
        self._holds = False
        for layer in self._held[:first]:
            if layer.__dict__.get("_holder") is self:
                del layer.__dict__["_holder"]

    def _rivals(self) -> set[Holder]:
        """Return other holders of the layers."""
        return set() if self._holds else {layer.__dict__.get("_holder") for layer in self._held} - {None, self}


def watch(layer: Any, watcher: Watcher) -> None:
    """Tell `watcher` of changes as long as it exists. A second call has no effect."""
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
    """Tell all watchers of a layer but `but`, which has changed it."""
    global _generation
    _generation = next(_changes)  # no lock: each thread takes a new number
    for watcher in _watchers(layer):
        if watcher is not but:
            watcher.layer_changed()


def bring_up_to_date(layer: Any) -> None:
    """Make the holder of newer values write them to the layer."""
    holder = layer.__dict__.get("_holder")
    if holder is not None:
        holder.sync()


def settled(layers: Iterable[Any], look: Callable[[], T]) -> T:
    """Return `look()`, during which no trainer changes the layers. All arrays are then those of one step."""
    holders = {holder._serial: holder for layer in layers for holder in _watchers(layer) if isinstance(holder, Holder)}
    for holder in holders.values():
        if holder._steps_in == get_ident():  # a thread within a step could wait for another holder for ever
            return holder._look(look)
    return _among([holders[serial] for serial in sorted(holders)], look)  # always in the same order, against deadlocks


def _among(holders: list[Holder], look: Callable[[], T]) -> T:
    if not holders:
        return look()
    return holders[0]._look(lambda: _among(holders[1:], look))
