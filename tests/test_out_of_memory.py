"""Where there is no memory, MemoryError is raised, nothing leaks, and the next call works."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import out_of_memory
import pytest
from checkpoints import storage, tensor, zipped
from PIL import Image

import fastcnn as fc
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


def test_every_allocation_may_fail(library):
    """Of arrays, arenas, packed weights and buffers: every public operation, saving, loading, training steps."""
    output = run(out_of_memory.__file__, library, "512", str(10**6), LD_PRELOAD=library)
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
    name = "net.onnx" if method == "export_onnx" else "net.safetensors"
    assert run("-c", SAVE, method, str(tmp_path / name), order, str(free)) == ""


@pytest.mark.parametrize("order", ["first", "second"])
def test_where_onnx_would_crash_it_is_not_called(tmp_path, order):
    """Protobuf follows null pointers where there is no memory."""
    assert run("-c", SAVE, "export_onnx", str(tmp_path / "net.onnx"), order, "8") == "no memory\n"


LOAD = """
import resource, sys
import numpy as np
import fastcnn as fc
import fastcnn.io.torch_checkpoint  # Python's own libraries are there
from fastcnn.io.image import load_image
from fastcnn.io.weights import read_weights
kind, path = sys.argv[1:]
read = {"photo": load_image, "weights": read_weights}.get(kind, lambda path: fc.load(path).state_dict())
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
short = 0
for free in [*range(8), *range(8, 400, 4)]:
    resource.setrlimit(resource.RLIMIT_AS, (used + (free << 20), resource.RLIM_INFINITY))
    try:
        read(path)
        break
    except MemoryError:
        short += 1
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert len(read(path))
print(short)
"""


def make_model(path):
    model = fc.Sequential(fc.Linear(1000, 2500, init=lambda rng, shape: np.zeros(shape, "f")))  # 10 MB
    model.input_shape = (1000,)
    (model.export_onnx if path.suffix == ".onnx" else model.save)(path)


def make_onnx_of_numbers(path):
    """Numbers that are not raw data go through protobuf."""
    make_model(path)
    model = onnx.load(path)
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend(np.zeros(2_500_000))
    onnx.save(model, path)


def make_checkpoint(path):
    weight = tensor(storage(2_500_000), 0, (1000, 2500), (2500, 1))
    path.write_bytes(zipped({"weight": weight}, {"0": np.zeros(2_500_000, np.float32)}))


def make_photo(path):
    Image.new("RGB", (1200, 1200), "red").save(path)


@pytest.mark.parametrize(
    ("kind", "name", "make"),
    [
        ("model", "net.onnx", make_model),
        ("model", "net.onnx", make_onnx_of_numbers),
        ("model", "net.safetensors", make_model),
        ("weights", "net.pth", make_checkpoint),
        *[("photo", f"photo.{suffix}", make_photo) for suffix in ("jpg", "png", "tif", "jp2", "avif", "webp")],
    ],
)
def test_short_memory_is_never_taken_for_damage(tmp_path, kind, name, make):
    """Whatever is free, a file is read or MemoryError is raised; and once there is more, it is read."""
    make(tmp_path / name)
    assert int(run("-c", LOAD, kind, str(tmp_path / name))) >= 5
