"""A good guest: no operation changes what belongs to the process. The calls, and what is compared, are guest.py's."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

import guest
import pytest
from c_library import c_library

from fastcnn.ops import node


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guest")
    c_library(guest.SOURCE, folder)
    return str(folder / "library.so")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, guest.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)


def test_no_operation_changes_the_process(library):
    result = run(library)
    assert result.returncode == 0, result.stderr[-3000:]
    # Attention has no kernel of its own: the compiler makes HeadAttention of it before operations are lowered.
    assert set(node._KINDS) - set(result.stdout.split()) == {"Attention"}


def test_changes_are_seen(library, monkeypatch):
    modes = ctypes.CDLL(library)
    before = guest.state(modes)
    assert not guest.changes(before, guest.state(modes))
    rounding = modes.get_rounding()
    modes.round_up()
    handler = signal.signal(signal.SIGUSR1, print)
    try:
        monkeypatch.setenv("GUEST", "was here")
        assert {"rounding mode", "signal handlers", "environment"} <= set(guest.changes(before, guest.state(modes)))
    finally:
        ctypes.CDLL("libm.so.6").fesetround(rounding)
        signal.signal(signal.SIGUSR1, handler)
    assert set(guest.changes(before, guest.state(modes))) == {"environment", "environment of C"}
