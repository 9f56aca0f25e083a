"""Times the way from a started interpreter to the first prediction, and measures the peak of memory.

    python benchmarks/peers/start.py [NETWORK]

Each engine has a process for each run, in turns. The output has medians: seconds of the import, and seconds of loading
the model from its file and predicting one image.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from networks import save_all
from run import PEERS

from fastcnn._table import Columns

RUNS = 5
CODE = """
import importlib, json, sys
from pathlib import Path
from time import perf_counter
import numpy as np
sys.path.insert(0, sys.argv[3])
import worker
engine, folder = sys.argv[1], Path(sys.argv[2])
x = np.load(folder / "x.npy")
start = perf_counter()
importlib.import_module(engine)
imported = perf_counter()
call = getattr(worker, engine + "_engine")(folder, x, 2)
call()
end = perf_counter()
print(json.dumps([imported - start, end - imported, worker.peak_bytes() / 2**20]))
"""


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "ResNet-50"
    engines = ["fastcnn", *[peer for peer in PEERS if importlib.util.find_spec(peer)]]
    measured: dict[str, list[list[float]]] = {engine: [] for engine in engines}
    with tempfile.TemporaryDirectory() as folder:
        save_all(name, 1, Path(folder), engines)
        for _ in range(RUNS):
            for engine in engines:
                command = [sys.executable, "-c", CODE, engine, folder, str(Path(__file__).parent)]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                measured[engine].append(json.loads(output.splitlines()[-1]))
        size = sum(array.nbytes for array in load_weights(Path(folder))) / 2**20
    print(f"{name}: weights {size:.0f} MiB; batch 1, 2 threads, medians of {RUNS}")
    columns = Columns([19, 9, 15, 9], left={0})
    print(columns.line(["engine", "import s", "load + first s", "peak MiB"]))
    for engine, rows in measured.items():
        imported, first, peak = (statistics.median(column) for column in zip(*rows, strict=True))
        print(columns.line([engine, f"{imported:.3f}", f"{first:.3f}", f"{peak:.0f}"]))


def load_weights(folder: Path) -> list[np.ndarray]:
    """Return the arrays in the model's file."""
    from safetensors.numpy import load_file

    return list(load_file(folder / "model.safetensors").values())


if __name__ == "__main__":
    main()
