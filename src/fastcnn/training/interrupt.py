"""Ctrl-C while training: a step is either given up or completed, so that model and optimizer stay consistent."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from fastcnn.kernels._program import stop_where

__all__ = ["Interrupt"]


class Interrupt:
    """A block in which Ctrl-C raises KeyboardInterrupt only at chosen places.

    The places are calls of `check`, blocks of `allowed`, and a running network. A training step is given up there
    before it has changed anything. A second Ctrl-C raises at once. Handlers of the program's own, and threads other
    than the main one, are left alone. At its end the block restores Python's handler.

    Examples
    --------
    >>> import os
    >>> done = []
    >>> try:
    ...     with Interrupt() as interrupt:
    ...         os.kill(os.getpid(), signal.SIGINT)
    ...         done.append("the step")
    ...         interrupt.check()
    ... except KeyboardInterrupt:
    ...     print(done)
    ['the step']
    """

    def __init__(self) -> None:
        self._pending = self._allowed = self._installed = False
        self._asked_before: Callable[[], bool] | None = None

    def __enter__(self) -> Interrupt:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._asked_before = stop_where(self._wants_stop)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            self._installed = False
            try:
                stop_where(self._asked_before)
            finally:  # a second Ctrl-C may raise in the call above, and this one still restores the handler
                signal.signal(signal.SIGINT, signal.default_int_handler)
        if kind is None:
            self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        is_now = self._allowed or self._pending
        self._pending = True  # also where it raises: Python drops what is raised in callbacks of the garbage collector
        if is_now:
            raise KeyboardInterrupt

    def _wants_stop(self) -> bool:
        if self._pending and threading.current_thread() is threading.main_thread():
            return True
        return self._asked_before is not None and self._asked_before()

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self._pending:
            self._pending = False
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A block in which Ctrl-C raises at once, because waiting for data may take long."""
        self._allowed = True
        try:
            self.check()
            yield
        except KeyboardInterrupt:
            self._pending = False  # it is heard
            raise
        finally:
            self._allowed = False
