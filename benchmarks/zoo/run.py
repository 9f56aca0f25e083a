"""Compares fastcnn with ONNX Runtime and OpenVINO on the files that export.py has written.

    python benchmarks/zoo/run.py FOLDER [--names swin_t,levit] [--json FILE] [--page docs/architectures.md]

Each engine has a process, and they predict in turns on one thread. The least processor time of a call counts: work of
others on the machine changes it less than the time on the clock. Rows that the JSON file has already are kept.

Of each network the table has the largest difference from ONNX Runtime, relative to the largest output; our processor
time, and that of the best peer by ours; the peak of memory of loading the file and predicting, ours and that of the
leaner peer; the steps that only NumPy computes; and whether a step of training changes the network.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np

import fastcnn as fc
from fastcnn._table import Columns
from fastcnn.kernels import _cpu

ENGINES = ["fastcnn", "onnxruntime", "openvino"]
ROUNDS = 3
HEAD = ["network", "difference", "ms", "best / ours", "MiB", "peers' MiB", "in NumPy", "fine-tunes"]


class Engine:
    """The process of an engine."""

    def __init__(self, name: str, path: Path) -> None:
        command = [sys.executable, str(Path(__file__).parent / "engine.py"), name, str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.output = np.array(self.answer())
        self.times: list[float] = []
        self.peak = 0

    def answer(self) -> list[float]:
        assert self.process.stdout is not None
        found: list[float] = json.loads(self.process.stdout.readline())
        return found

    def turn(self) -> None:
        """Predict for some time."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        milliseconds, self.peak = self.answer()
        self.times.append(milliseconds)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def raced(path: Path) -> dict[str, object]:
    """Difference, times and memory."""
    engines = [Engine(name, path) for name in ENGINES]
    try:
        for _ in range(ROUNDS):
            for engine in engines:
                engine.turn()
    finally:
        for engine in engines:
            engine.close()
    ours, *peers = engines
    wanted = peers[0].output
    return {
        "difference": float(np.abs(ours.output - wanted).max() / np.abs(wanted).max()),
        "ms": f"{min(ours.times):.1f}",
        "best / ours": f"{min(min(peer.times) for peer in peers) / min(ours.times):.2f}",
        "MiB": ours.peak,
        "peers' MiB": min(peer.peak for peer in peers),
    }


def fine_tunes(model: fc.Model, x: np.ndarray) -> str:
    """Whether a step of training changes the network; else why not."""
    before = {name: np.array(array) for name, array in model.state_dict().items()}
    try:
        loss = fc.Trainer(model, fc.SGD(1e-3)).step(np.repeat(x, 2, 0), [0, 1])
    except (ValueError, MemoryError) as error:
        return f"no: {str(error).splitlines()[0][:60]}"
    changed = any(not np.array_equal(array, before[name]) for name, array in model.state_dict().items())
    return "yes" if changed and np.isfinite(loss) else "no: nothing changes"


def row(path: Path) -> dict[str, object]:
    """What is measured of one file."""
    x = np.load(path.with_suffix(".npy"))
    found = {"network": path.stem.replace("-", " "), **raced(path)}
    fc.set_num_threads(1)
    model = fc.load(path)
    found["in NumPy"] = sum(step.kernel == "numpy" for step in model.profile(x).steps)
    found["fine-tunes"] = fine_tunes(model, x)
    return found


def page(rows: list[dict[str, object]]) -> str:
    """The table as a page of the documentation."""
    ratios = np.array([float(str(found["best / ours"])) for found in rows])
    machine = platform.processor() or platform.machine()
    text = [
        "# Architectures",
        "",
        "Classifiers of torchvision and timm, exported to ONNX with random weights; batch 1, float32, one thread.",
        "`best / ours` is the processor time of the faster of ONNX Runtime and OpenVINO by that of fastcnn: above 1,",
        "fastcnn is faster. `difference` is the largest from ONNX Runtime, by the largest output. `MiB` is the peak",
        "of memory of a process that loads the file and predicts, beside that of the leaner peer. `fine-tunes`",
        "tells whether a step of training changes the network.",
        "",
        f"Here fastcnn is the fastest on {(ratios > 1).sum()} of {len(rows)} networks; the geometric mean of the",
        f"ratios is {np.exp(np.log(ratios).mean()):.2f}.",
        "",
        f"Measured on {date.today()}, {machine}, instruction set {_cpu.isa()}. Other work shared the machine, so",
        "that processor time was measured instead of time on the clock, the engines in turns. Ratios change by a few",
        "hundredths from run to run.",
        "",
        "`python benchmarks/zoo/export.py FOLDER` exports the files, and `python benchmarks/zoo/run.py FOLDER --page",
        "docs/architectures.md` makes this page.",
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
    parser.add_argument("--page", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = Columns([44, 10, 8, 11, 6, 10, 8, 10], left={0})
    print(columns.line(HEAD))
    rows = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    done = {found["network"] for found in rows}
    for path in sorted(options.folder.glob("*.onnx")):
        if path.stem.replace("-", " ") in done or not any(part in path.stem for part in options.names.split(",")):
            continue
        rows.append(row(path))
        print(columns.line([cell(rows[-1].get(key, "-")) for key in HEAD]), flush=True)
        if options.json:  # written after each row, as a long run may be cut off
            options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if options.page:
        options.page.write_text(page(rows))


if __name__ == "__main__":
    main()
