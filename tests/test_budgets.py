"""What fastcnn costs whoever depends on it: bytes of a wheel, and processor time of an import."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import fastcnn

README = Path(__file__).parents[1] / "README.md"
WHEEL_BYTES = 2_900_000
METADATA_BYTES = 35_000  # the list of files, the README and licences
SUFFIXES = {".so", ".py", ".pyi", ".pxd", ".h", ".typed", ".txt", ".NOTICE", ".html", ".css", ".js", ".svg"}
IMPORT_SECONDS = 0.040  # beyond NumPy's
NUMPY_SECONDS = 0.070  # what importing NumPy takes on a machine that has nothing else to do
IMPORT = """
from time import process_time
start = process_time()
import numpy
half = process_time()
import fastcnn
print(half - start, process_time() - half)
"""


@pytest.fixture
def wheel_bytes(tmp_path):
    """The size of a wheel with what is installed."""
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in Path(fastcnn.__file__).parent.rglob("*"):
            if file.suffix in SUFFIXES:
                wheel.write(file, file.relative_to(Path(fastcnn.__file__).parents[1]))
    return path.stat().st_size + METADATA_BYTES


def test_a_wheel_is_small(wheel_bytes):
    assert wheel_bytes <= WHEEL_BYTES


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the README's size is of a wheel with all instruction sets")
def test_a_wheel_is_as_large_as_the_readme_says(wheel_bytes):
    told = re.search(r"a wheel of ([\d.]+) MB", README.read_text(encoding="utf-8"))
    assert wheel_bytes / 1e6 == pytest.approx(float(told[1]), rel=0.15)  # compilers differ


def test_an_import_is_quick(tmp_path):
    """Processor time, not time of the clock, which others share. They share caches too, which slows every import:
    where NumPy's takes longer than it should, so may this one."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}  # compiled once, as when it was installed
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds = []
    while min(seconds, default=1.0) > IMPORT_SECONDS and len(seconds) < 40:
        command = [sys.executable, "-c", IMPORT]
        answer = subprocess.run(command, check=True, capture_output=True, env=environment)
        numpy_took, took = map(float, answer.stdout.split())
        seconds.append(took / max(1.0, numpy_took / NUMPY_SECONDS))
    assert min(seconds) <= IMPORT_SECONDS
