"""The benchmarks run (their times are not looked at: speed never enters a test)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_pytest_benchmarks():
    command = [sys.executable, "-m", "pytest", "benchmarks/", "-q", "--benchmark-disable", "-k", "LeNet or depthwise"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
