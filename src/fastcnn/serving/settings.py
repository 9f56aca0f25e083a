"""What a service is told: how much it takes, how long it waits, and who may ask."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from fastcnn._arguments import as_float, as_int
from fastcnn._web import Limits, Policy

__all__ = ["Settings"]


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@dataclass(frozen=True)
class Settings:
    """Checked settings of `fastcnn.serving.app`, whose parameters they are.

    Examples
    --------
    >>> Settings(queue=8).queue
    8
    """

    max_batch: int = 32
    max_wait_ms: float = 2.0
    queue: int = 256
    timeout: float = 30.0
    threads: int | None = None
    decoders: int | None = None
    reload_seconds: float = 1.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("max_batch", "queue"):
            object.__setattr__(self, name, as_int(getattr(self, name), f"serving: {name}", 1))
        for name in ("threads", "decoders"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_int(getattr(self, name), f"serving: {name}", 1))
        for name, least in (("max_wait_ms", 0.0), ("timeout", 0.0), ("reload_seconds", 0.0)):
            value = as_float(getattr(self, name), f"serving: {name}")
            if not least <= value < 1e6 or (name == "timeout" and not value):
                raise ValueError(
                    f"serving: {name}={value}, expected a number of at least {least:g}, and a timeout above 0"
                )
            object.__setattr__(self, name, value)
        if not isinstance(self.limits, Limits):
            raise TypeError(f"serving: limits={self.limits!r}, expected Limits")

    @property
    def decoding_threads(self) -> int:
        """Threads that decode photos."""
        return self.decoders or _cores()


class AnyHost(Policy):
    """A policy of an application within another one, which answers for the names that it is called by."""

    def knows_host(self, header: str) -> bool:
        """Every name will do."""
        return True
