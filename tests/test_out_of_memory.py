"""Where there is no memory, MemoryError is raised, nothing leaks, and the next call works."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import out_of_memory
import pytest

from fastcnn import functional as F

SOURCE = Path(__file__).with_name("failing_malloc.c")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The allocator that fails on demand."""
    path = tmp_path_factory.mktemp("library") / "failing_malloc.so"
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    flags = ["-O1", "-Wall", "-Werror", "-fPIC", "-shared", "-ftls-model=initial-exec"]
    subprocess.run([compiler, *flags, str(SOURCE), "-o", str(path)], check=True)
    return str(path)


def run(*command: str, **environment: str) -> str:
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1", **environment}
    result = subprocess.run([sys.executable, *command], env=settings, capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, (result.returncode, result.stdout[-500:], result.stderr[-3000:])
    return result.stdout


def test_every_allocation_may_fail(library, budget):
    """Of arrays, arenas, packed weights and buffers: every public operation, saving, loading, training steps."""
    output = run(out_of_memory.__file__, library, "512", str(budget(12, 10**6)), LD_PRELOAD=library)
    assert len(output.splitlines()) == len(out_of_memory.ACTIONS)


def test_every_operation_is_swept():
    texts = Path(out_of_memory.__file__).read_text(encoding="utf-8")
    missing = [name for name in F.__all__ if f"F.{name}(" not in texts and name not in out_of_memory.ACTIONS]
    assert not missing


SAVE = """
import resource, sys
import numpy as np
import fastcnn as fc
model = fc.Sequential(fc.Linear(4000, 4000, init=lambda rng, shape: np.zeros(shape, "f")))  # 64 MB
model.input_shape = (4000,)
model.graph()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), resource.RLIM_INFINITY))
model.save(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert np.array_equal(fc.load(sys.argv[1]).state_dict()["0.bias"], model[0].bias)
"""


def test_saving_takes_no_memory_for_weights(tmp_path):
    run("-c", SAVE, str(tmp_path / "net"))
