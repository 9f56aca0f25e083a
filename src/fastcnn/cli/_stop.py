"""`fastcnn train --stop-file FILE`: another program ends a training by making a file.

A signal may be lost: Python drops what a handler raises within the callbacks of an import, and a job in the background
starts with Ctrl-C ignored. A file is there until somebody looks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastcnn._progress import watched
from fastcnn.kernels._program import stop_where

__all__ = ["stopping_at"]


class _Stop:
    """Looks for the file; that it is there counts as one Ctrl-C."""

    def __init__(self, path: str) -> None:
        self._path, self._is_heard = path, False

    def asked(self) -> bool:
        """Whether to stop now: true once, in the main thread."""
        if self._is_heard or threading.current_thread() is not threading.main_thread():
            return False
        self._is_heard = os.path.lexists(self._path)
        return self._is_heard

    def look(self, *_: Any) -> None:
        """Raise KeyboardInterrupt if the file is there."""
        if self.asked():
            raise KeyboardInterrupt


@contextmanager
def stopping_at(path: str | None) -> Iterator[None]:
    """A block that a file ends by KeyboardInterrupt: at its begin, between batches, and while a network runs.

    Examples
    --------
    >>> try:
    ...     with stopping_at("."):
    ...         print("goes on")
    ... except KeyboardInterrupt:
    ...     print("stopped")
    stopped
    """
    if path is None:
        yield
        return
    stop = _Stop(path)
    stop.look()
    before = stop_where(stop.asked)
    try:
        with watched(stop.look):
            yield
    finally:
        stop_where(before)
