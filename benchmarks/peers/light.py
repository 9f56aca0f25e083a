"""Compares fastcnn with ONNX Runtime on the nine light models of the `onnx` package, with seeded random weights.

    python benchmarks/peers/light.py [--models resnet50,vgg19] [--threads 1,2]

Processes and rounds are those of run.py. The last line has the smallest and the mean ratio of the times.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from run import race

import fastcnn as fc
from fastcnn._table import Columns

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from onnx_builders import with_random_weights  # noqa: E402

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def write(path: Path, folder: Path) -> None:
    """Write a model in the form that each engine reads, and an input."""
    onnx.save(with_random_weights(onnx.load(path)), folder / "model.onnx")
    model = fc.load(folder / "model.onnx")
    model.save(folder / "model.safetensors")
    np.save(folder / "x.npy", np.random.default_rng(0).random((1, *model.input_shape), np.float32))


def compare(path: Path, threads: int) -> tuple[dict[str, float], bool]:
    """Return median milliseconds of both engines, and whether the machine was quiet."""
    with tempfile.TemporaryDirectory() as folder:
        write(path, Path(folder))
        return race(path.stem, Path(folder), threads, ["fastcnn", "onnxruntime"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="", help="part of the names (default: all)")
    parser.add_argument("--threads", default="1,2")
    options = parser.parse_args()
    columns = Columns([22, 7, 11, 16, 7], left={0})
    print(columns.line(["model", "threads", "fastcnn ms", "ONNX Runtime ms", "ratio"]))
    ratios = []
    for path in sorted(DATA.glob("light_*.onnx")):
        if not any(name in path.stem for name in options.models.split(",")):
            continue
        for threads in map(int, options.threads.split(",")):
            times, quiet = compare(path, threads)
            ratios.append(times["onnxruntime"] / times["fastcnn"])
            ratio = f"{ratios[-1]:.2f}{' ' if quiet else '*'}"
            cells = [f"{times[engine]:.2f}" for engine in ("fastcnn", "onnxruntime")]
            print(columns.line([path.stem, str(threads), *cells, ratio]), flush=True)
    print(f"smallest {min(ratios):.2f}, geometric mean {statistics.geometric_mean(ratios):.2f}")


if __name__ == "__main__":
    main()
