"""Every message that a test provokes must fit a screen: exceptions, warnings, and what the command line says.

`check_messages` puts a check into the calls by which tests provoke them, so that no test has to think of it.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from functools import wraps

import pytest

from fastcnn import cli

LINES, COLUMNS = 24, 80


def lines_of(text: str) -> int:
    """How many lines of a screen a text takes."""
    return sum(max(1, -(-len(line) // COLUMNS)) for line in text.splitlines())


def fits(text: object) -> None:
    """Fail where a message is longer than a screen."""
    count = lines_of(str(text))
    assert count <= LINES, f"{count} lines of {COLUMNS} letters, expected at most {LINES}: {str(text)[:60]!r}…"


class _Raised:
    """What `pytest.raises` gives, with a look at the exception."""

    def __init__(self, context):
        self.context = context

    def __enter__(self):
        self.caught = self.context.__enter__()
        return self.caught

    def __exit__(self, *error):
        was_expected = self.context.__exit__(*error)
        if was_expected:
            fits(self.caught.value)
        return was_expected


def _raises(raises):
    @wraps(raises)
    def checked(*arguments, **settings):
        given = raises(*arguments, **settings)
        return _Raised(given) if hasattr(given, "__enter__") else given

    return checked


def _warns(warns):
    @wraps(warns)
    @contextmanager
    def checked(*arguments, **settings):
        with warns(*arguments, **settings) as record:
            yield record
        for warning in record:
            fits(warning.message)

    return checked


def _main(main):
    """A command in this process: each text that it writes on stderr is a message, or a line of progress."""

    @wraps(main)
    def checked(*arguments):
        stderr, texts = sys.stderr, []
        write = stderr.write

        def written(text):
            texts.append(text)
            return write(text)

        stderr.write = written
        try:
            code = main(*arguments)
        finally:
            stderr.write = write
        for text in texts:
            fits(text)
        return code

    return checked


def _run(run):
    """A command in another process: all that it has told, but for the lines of epochs."""

    @wraps(run)
    def checked(command, *arguments, **settings):
        result = run(command, *arguments, **settings)
        if isinstance(command, list) and [*map(str, command)][1:3] == ["-m", "fastcnn"] and result.stderr:
            told = result.stderr if isinstance(result.stderr, str) else result.stderr.decode(errors="replace")
            fits("\n".join(line for line in told.splitlines() if not line.startswith("epoch ")))
        return result

    return checked


def check_messages() -> None:
    """Let every test's provoked messages be checked, before test modules are imported."""
    pytest.raises, pytest.warns = _raises(pytest.raises), _warns(pytest.warns)
    cli.main, subprocess.run = _main(cli.main), _run(subprocess.run)
