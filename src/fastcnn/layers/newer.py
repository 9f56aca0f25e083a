"""Who holds newer values of a model's arrays than its layers do: a trainer, between steps.

Layers ask for them before anybody looks at an array, so that training need not write back after every step.
"""

from __future__ import annotations

from typing import Any, Protocol
from weakref import ref


class NewerValues(Protocol):
    """Who holds newer values of a model's arrays than its layers do: a trainer between steps."""

    model: Any

    def sync(self) -> None:
        """Write them back."""


# By identity. Not a WeakSet: to ask that whether it is empty takes longer than all else that a prediction asks.
_newer: dict[int, ref[NewerValues]] = {}


def expect_newer_values(holder: NewerValues) -> None:
    """Have `holder.sync` called before anybody looks at a layer's arrays; the model keeps it alive until then."""
    holder.model.__dict__["_newer_values"] = holder
    key = id(holder)
    _newer[key] = ref(holder, lambda gone: _newer.pop(key) if _newer.get(key) is gone else None)


def forget_newer_values(holder: NewerValues) -> bool:
    """Tell whether `holder.sync` was still expected; it is not any more."""
    expected = _newer.pop(id(holder), None) is not None
    holder.model.__dict__.pop("_newer_values", None)
    return expected


def bring_up_to_date() -> None:
    """Have all holders write back."""
    if _newer:
        for reference in list(_newer.values()):
            holder = reference()
            if holder is not None:
                holder.sync()
