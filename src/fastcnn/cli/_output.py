"""Stdout as a command needs it: open, and able to print every name of a file and of a class."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["printable_output"]

_ERRORS = "fastcnn.names"


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


@contextmanager
def printable_output() -> Iterator[None]:
    """Within it, stdout prints every name; where the caller has closed it, what is printed goes nowhere.

    Raises
    ------
    OSError
        At its end, if stdout was closed: a command whose answer nobody gets has not run.
    """
    if sys.stdout is None or sys.stdout.closed:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            before, sys.stdout = sys.stdout, nowhere
            try:
                yield
            finally:
                sys.stdout = before
        raise OSError("stdout is closed: the answer is lost")
    errors = getattr(sys.stdout, "errors", None)
    if isinstance(sys.stdout, io.TextIOWrapper) and errors == "strict":
        sys.stdout.reconfigure(errors=_ERRORS)
    try:
        yield
    finally:
        if isinstance(sys.stdout, io.TextIOWrapper) and errors == "strict":
            sys.stdout.reconfigure(errors=errors)
