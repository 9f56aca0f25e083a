"""Stdout as a command needs it: open, and able to print every name of a file and of a class."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate

__all__ = ["in_words", "printable_output"]

_ERRORS = "fastcnn.names"
_MOST_LINES, _COLUMNS = 23, 80  # of a message on a terminal
_WIDEST = 1000  # letters of a line of it


def _encode(error: UnicodeError) -> tuple[bytes, int]:
    """Return the bytes of a file's name as they were, and what the encoding lacks as an escape."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    parts = [
        bytes([ord(letter) - 0xDC00]) if "\udc80" <= letter <= "\udcff" else letter.encode("ascii", "backslashreplace")
        for letter in letters
    ]
    return b"".join(parts), error.end


codecs.register_error(_ERRORS, _encode)


class _Nowhere(io.TextIOBase):
    """A stream that keeps nothing."""

    was_used = False

    def write(self, text: str) -> int:
        self.was_used = True
        return len(text)


@contextmanager
def printable_output() -> Iterator[None]:
    """Within it, stdout prints every name; where the caller has closed it, what is printed goes nowhere.

    Raises
    ------
    OSError
        At its end, if stdout was closed and something was printed.
    """
    if sys.stdout is None or sys.stdout.closed:
        before, sys.stdout = sys.stdout, _Nowhere()
        try:
            yield
            if sys.stdout.was_used:
                raise OSError("stdout is closed: what was printed is lost")
        finally:
            sys.stdout = before
        return
    errors = getattr(sys.stdout, "errors", None)
    if isinstance(sys.stdout, io.TextIOWrapper) and errors == "strict":
        sys.stdout.reconfigure(errors=_ERRORS)
    try:
        yield
    except OSError as error:
        if error.filename is None and not isinstance(error, BrokenPipeError) and error.errno == errno.ENOSPC:
            error.filename = "stdout"
        raise
    finally:
        if isinstance(sys.stdout, io.TextIOWrapper) and errors == "strict":
            sys.stdout.reconfigure(errors=errors)


_EXPECTED = (ArithmeticError, ImportError, OSError, TypeError, ValueError)


def in_words(error: Exception) -> str:
    """Return what an error says, without Python's marks: at most a screen of it.

    Examples
    --------
    >>> in_words(PermissionError(13, "Permission denied", "m"))
    'm: Permission denied'
    """
    if isinstance(error, MemoryError):
        return "out of memory" + (f": {error}" if str(error) else "")
    if not isinstance(error, _EXPECTED) or not str(error):
        text = f"unexpected {type(error).__name__}: {error} (a fault of fastcnn: FASTCNN_TRACEBACK=1 shows where)"
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
    else:
        text = str(error)
    lines = [line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…" for line in text.splitlines()]
    return "\n".join(_of_a_screen(lines))


def _of_a_screen(lines: Sequence[str]) -> list[str]:
    """The first lines, and a mark where there are more than fit."""
    taken = [0, *accumulate(max(1, -(-len(line) // _COLUMNS)) for line in lines)]
    if taken[-1] <= _MOST_LINES:
        return [*lines]
    return [*lines[: bisect_right(taken, _MOST_LINES - 1) - 1], "…"]
