"""Beside libraries whose OpenMP runtimes are their own: equal bits, no hang, no more threads than were asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("beside.py")


@pytest.mark.parametrize("first", ["fastcnn", "others"])
def test_two_openmp_runtimes_in_one_process(first, request):
    """scikit-learn's wheel has a runtime of its own; `--beside` names further libraries."""
    libraries = ",".join(filter(None, ["sklearn", request.config.getoption("--beside")]))
    command = [sys.executable, "-W", "ignore", str(PROGRAM), libraries, first]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    # A hang is what the limit finds: the program takes seconds.
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert answer.returncode == 0, answer.stderr
    seen = json.loads(answer.stdout)
    assert len(seen["runtimes"]) >= 2, "without two runtimes this test shows nothing"
    assert seen["wrong results"] == 0
    assert seen["threads of fastcnn"] <= 1
    assert seen["threads that later rounds add"] <= 0
    assert seen["seconds of a processor in an idle second"] < 0.2
    assert seen["threads within a limit of 1"] == 1
