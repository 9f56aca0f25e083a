"""Who holds newer values of a model's arrays than its layers do: a trainer, between steps.

Layers ask for them before anybody looks at an array, so that training need not write back after every step.
"""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakSet


class NewerValues(Protocol):
    """Who holds newer values of a model's arrays than its layers do: a trainer between steps."""

    model: Any

    def sync(self) -> None:
        """Write them back."""


_newer: WeakSet[NewerValues] = WeakSet()


def expect_newer_values(holder: NewerValues) -> None:
    """Have `holder.sync` called before anybody looks at a layer's arrays; the model keeps it alive until then."""
    holder.model.__dict__["_newer_values"] = holder
    _newer.add(holder)


def forget_newer_values(holder: NewerValues) -> bool:
    """Tell whether `holder.sync` was still expected; it is not any more."""
    expected = holder in _newer
    _newer.discard(holder)
    holder.model.__dict__.pop("_newer_values", None)
    return expected


def bring_up_to_date() -> None:
    """Have all holders write back."""
    for holder in list(_newer) if _newer else ():
        holder.sync()
