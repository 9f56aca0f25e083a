"""The benchmarks of docs/distributed.md run, on less (their times are not looked at: speed never enters a test)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from pages import ROOT, text_of

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

NAMED = set(re.findall(r"benchmarks/distributed/\w+\.py", text_of("docs/distributed.md")))
SHORT = {
    "training": ("--network", "lenet", "--batch", "8", "--rounds", "1"),
    "classifying": ("--photos", "20", "--rounds", "1"),
    "memory": ("--photos", "10,20"),
}


def run(*words):
    """What a benchmark prints. Ray waits half a minute for a node, which on a busy machine may take longer."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, *words]
    for _ in range(3):
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
        if "timed out during startup" not in result.stderr:
            break
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("training", r"lenet b8: \d+\.\d+ of the speed of one process"),
        ("classifying", r"one process: \d+ photos a second; Ray: \d+, \d+\.\d+ of it"),
        ("memory", r"10 photos: \d+ MiB at most\n20 photos: \d+ MiB at most"),
    ],
)
def test_bars(what, told):
    assert re.search(told, run("benchmarks/distributed/bars.py", what, *SHORT[what]))


def test_scaling_is_measured_fitted_and_shown(tmp_path):
    assert {"benchmarks/distributed/bars.py", "benchmarks/distributed/scaling.py"} == NAMED
    file = tmp_path / "steps.json"
    few = ("--networks", "resnet20,lenet", "--layouts", "1x1,2x2")
    text = run("benchmarks/distributed/scaling.py", "measure", str(file), *few)
    assert len(json.loads(file.read_text())) == 8
    shown = run("benchmarks/distributed/scaling.py", "show", str(file))
    assert "3 measurements that were left out" in shown and text.endswith(shown)
