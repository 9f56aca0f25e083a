"""Compares fastcnn with ONNX Runtime and OpenVINO on the files that export.py has written.

    python benchmarks/zoo/run.py FOLDER [--names swin_t,levit] [--threads 1,2] [--page docs/architectures.md]

Processes and rounds are those of benchmarks/peers/run.py. Of each network the table has the largest difference from
ONNX Runtime, relative to the largest output; the time of the best peer by ours; the peak of memory, ours and that of
the leaner peer; the steps that only NumPy computes; and whether a step of training runs on it.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np

import fastcnn as fc
from fastcnn._table import Columns

PEERS_FOLDER = Path(__file__).parents[1] / "peers"
sys.path.insert(0, str(PEERS_FOLDER))
from run import race  # noqa: E402

ENGINES = ["fastcnn", "onnxruntime", "openvino"]
HEAD = ["network", "difference", "1 thread", "2 threads", "MiB", "peers' MiB", "in NumPy", "trains"]
PEAK = """
import json, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, sys.argv[3])
import worker
folder = Path(sys.argv[2])
getattr(worker, sys.argv[1] + "_engine")(folder, np.load(folder / "x.npy"), 1)()
print(json.dumps(worker.peak_bytes() >> 20))
"""


def peak(engine: str, folder: Path) -> int:
    """The peak of memory of a process that predicts once, in MiB."""
    command = [sys.executable, "-c", PEAK, engine, str(folder), str(PEERS_FOLDER)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def difference(model: fc.Model, path: Path, x: np.ndarray) -> float:
    """The largest difference from ONNX Runtime, relative to the largest output."""
    import onnxruntime

    wanted = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    return float(np.abs(model(x) - wanted).max() / np.abs(wanted).max())


def trains(model: fc.Model, x: np.ndarray) -> str:
    """Whether a step of training runs; else why not."""
    try:
        fc.Trainer(model, fc.SGD(1e-3)).step(np.repeat(x, 2, 0), [0, 1])
    except (ValueError, MemoryError) as error:
        return f"no: {str(error).splitlines()[0][:60]}"
    return "yes"


def row(path: Path, threads: list[int]) -> dict[str, object]:
    """What is measured of one file."""
    x = np.load(path.with_suffix(".npy"))
    model = fc.load(path)
    found: dict[str, object] = {"network": path.stem.replace("-", " "), "difference": difference(model, path, x)}
    steps = model.profile(x).steps
    found["in NumPy"] = sum(step.kernel == "numpy" for step in steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.onnx").symlink_to(path.resolve())
        model.save(folder / "model.safetensors")
        np.save(folder / "x.npy", x)
        for count in threads:
            times, quiet = race(path.stem, folder, count, ENGINES)
            ours = times.pop("fastcnn")
            found[f"{count} thread{'s' * (count > 1)}"] = f"{min(times.values()) / ours:.2f}{'' if quiet else '*'}"
        found["MiB"] = peak("fastcnn", folder)
        found["peers' MiB"] = min(peak(engine, folder) for engine in ENGINES[1:])
    found["trains"] = trains(model, x)
    return found


def page(rows: list[dict[str, object]]) -> str:
    """The table as a page of the documentation."""
    machine = platform.processor() or platform.machine()
    text = [
        "# Architectures",
        "",
        "Classifiers of torchvision and timm, exported to ONNX with random weights, batch 1. Columns of threads",
        "have the time of the best of ONNX Runtime and OpenVINO by ours: above 1, fastcnn is faster. Made by",
        "`python benchmarks/zoo/export.py FOLDER` and `run.py FOLDER --page docs/architectures.md` beside it.",
        "",
        f"{machine}, {date.today()}. * marks rows during which the machine was disturbed.",
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
    ]
    text += ["| " + " | ".join(cell(found.get(key, "-")) for key in HEAD) + " |" for found in rows]
    return "\n".join(text) + "\n"


def cell(value: object) -> str:
    return f"{value:.0e}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", default="", help="parts of names, with commas (default: all)")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--page", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = Columns([36, 10, 8, 9, 5, 10, 8, 6], left={0})
    print(columns.line(HEAD))
    rows = []
    for path in sorted(options.folder.glob("*.onnx")):
        if any(part in path.stem for part in options.names.split(",")):
            rows.append(row(path, [*map(int, options.threads.split(","))]))
            print(columns.line([cell(rows[-1].get(key, "-")) for key in HEAD]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows))
    if options.page:
        options.page.write_text(page(rows))


if __name__ == "__main__":
    main()
