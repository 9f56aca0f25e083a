"""The check of all messages notices those that are too long, in each way that a test may provoke one."""

from __future__ import annotations

import subprocess
import warnings

import pytest
from screen_of_text import lines_of

from fastcnn import cli

LONG = "a line\n" * 30


def test_lines_are_those_of_a_terminal():
    assert [lines_of(text) for text in ("", "a", "a\nb\n", "a\n\nb", "x" * 80, "x" * 81)] == [0, 1, 2, 3, 1, 2]


def raise_error(folder):
    with pytest.raises(ValueError, match="a line"):
        raise ValueError(LONG)


def warn(folder):
    with pytest.warns(UserWarning, match="a line"):
        warnings.warn(LONG, UserWarning, stacklevel=1)


def run_a_command(folder):
    cli.main(["info", "ghost"])


def run_a_process(folder):
    script = folder / "python"
    script.write_text(f"#!/bin/sh\ncat >&2 << END\n{LONG}END\n")
    script.chmod(0o700)
    subprocess.run([str(script), "-m", "fastcnn"], capture_output=True)


@pytest.mark.parametrize("provoke", [raise_error, warn, run_a_command, run_a_process])
def test_a_long_message_fails(provoke, tmp_path, monkeypatch):
    monkeypatch.setattr("fastcnn.cli.in_words", lambda error: LONG)
    with pytest.raises(AssertionError, match=r"\d+ lines of 80 letters, expected at most 24: '(fastcnn info: )?a line"):
        provoke(tmp_path)
