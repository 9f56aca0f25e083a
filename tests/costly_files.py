"""Loads one file in a process of its own, whose memory is bounded, and tells what came of it:

python tests/costly_files.py FILE MAX_BYTES
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# Beyond the budget: what the allocator and stacks of threads reserve. Nobody writes to it.
SLACK = 192 << 20


def outcome(path, max_bytes, seconds=60):
    """What became of a file: "refused", "ran" or "failed"; with the message, and the peak of new memory in bytes."""
    done = subprocess.run(
        [sys.executable, __file__, str(path), str(max_bytes)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def peak():
    """Bytes of memory in use at the most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main(path, max_bytes):
    import onnx

    import fastcnn as fc

    warm_up(fc, onnx)
    before = peak()
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + max_bytes + SLACK,) * 2)
    message, kind = "", "ran"
    try:
        model = fc.load(path, max_bytes=max_bytes)
        kind = "failed"
        model(np.zeros((1, *model.input_shape), np.float32))
        kind = "ran"
    except fc.ModelLoadError as error:
        kind, message = "refused", str(error)
    except (ValueError, MemoryError) as error:
        message = f"{type(error).__name__}: {error}"
    print(json.dumps({"outcome": kind, "message": message, "peak": peak() - before}))


def warm_up(fc, onnx):
    """All modules are imported and all libraries have what they keep."""
    node = onnx.helper.make_node("Sin", ["x"], ["y"])
    values = [onnx.helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), f"{folder}/a.onnx")
        fc.load(f"{folder}/a.onnx")(np.zeros((1, 4)))
        fc.zoo.lenet().save(f"{folder}/a.safetensors")
        fc.load(f"{folder}/a.safetensors")(np.zeros((1, 1, 28, 28)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
