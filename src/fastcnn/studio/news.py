"""Numbers for what pages are told, so that a page can tell newer from older.

A page hears of a run from events and from answers to its own requests. These may come in another order than they were
made in. A value that changes and changes back between two looks is news as well: a page may have seen it between them.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

__all__ = ["News"]


class News:
    """What was told last, by name.

    Examples
    --------
    >>> news = News()
    >>> first = news.number("run 001", {"status": "stopped"})
    >>> news.number("run 001", {"status": "stopped"}) == first
    True
    >>> first < news.number("run 001", {"status": "training"}) < news.number("run 001", {"status": "stopped"})
    True
    """

    def __init__(self) -> None:
        self._count = time.time_ns() // 1000  # pages outlive servers: numbers go on from those of the last one
        self._told: dict[str, tuple[int, str]] = {}
        self._lock = threading.Lock()

    def number(self, name: str, value: Any) -> int:
        """Return the number of a value that is about to be told: a larger one where the last was different."""
        text = json.dumps(value)
        with self._lock:
            number, before = self._told.get(name, (0, ""))
            if text != before:
                self._count = number = self._count + 1
                self._told[name] = number, text
            return number
