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
import os, resource, sys
import numpy as np
import fastcnn as fc
method, path, first, free = sys.argv[1], sys.argv[2], sys.argv[3] == "first", int(sys.argv[4]) << 20
model = fc.Sequential(fc.Linear(4000, 2500, init=lambda rng, shape: np.zeros(shape, "f")))  # 40 MB
model.input_shape = (4000,)
write = getattr(model, method)
if not first:
    write(path)
    before = open(path, "rb").read(1000)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + free, resource.RLIM_INFINITY))
try:
    write(path)
except MemoryError:
    print("no memory")
    assert first or open(path, "rb").read(1000) == before
    assert os.listdir(os.path.dirname(path)) == ([] if first else [os.path.basename(path)])
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write(path)
assert np.array_equal(fc.load(path).state_dict()["0.bias"], model[0].bias)
"""


@pytest.mark.parametrize(("method", "order", "free"), [("save", "first", 16), ("export_onnx", "second", 24)])
def test_writing_takes_no_memory_for_weights(tmp_path, method, order, free):
    assert run("-c", SAVE, method, str(tmp_path / "net.onnx"), order, str(free)) == ""


@pytest.mark.parametrize("order", ["first", "second"])
def test_where_onnx_would_crash_it_is_not_called(tmp_path, order):
    """Protobuf follows null pointers where there is no memory."""
    assert run("-c", SAVE, "export_onnx", str(tmp_path / "net.onnx"), order, "8") == "no memory\n"
