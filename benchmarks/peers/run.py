"""Compares fastcnn with ONNX Runtime, OpenVINO, PyTorch and ncnn, as far as they are installed.

    python benchmarks/peers/run.py [--networks LeNet,ResNet-18] [--batches 1,16] [--threads 1,2] [--precision f32]
                                   [--json FILE]

Each engine has a process. One is active at a time, in rounds with a pause between turns: idle worker threads of one
engine would slow the others. The output has medians of single predictions. Machines are noisy, so that only ratios
within a run count.

Other work on the same cores slows all engines down, most of all those near the peak. A small matrix product is
therefore timed on each core before and after each turn. A turn runs on the cores that are the fastest then. Only those
turns of an engine count during which the machine was fastest. Rounds continue until each engine has enough undisturbed
turns. * marks rows for which the time ran out.

With --precision int8, all engines read one file, which onnxruntime.quantization makes: QuantizeLinear and
DequantizeLinear, weights of 8 bits for each output. With bf16, OpenVINO and fastcnn round to bfloat16. Several
precisions, as in --precision f32,bf16,int8, are measured one after the other.

ncnn takes single images: a batch counts as that many calls. draw.py makes a picture of the JSON. start.py measures the
time to the first prediction, and memory.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from networks import NETWORKS, save_all

from fastcnn._table import Columns

PEERS = ("onnxruntime", "openvino", "torch", "ncnn")
ROUNDS, SECONDS, PAUSE = 15, 0.1, 0.05
PATIENCE = 60.0  # seconds for a row where turns are disturbed
# The engines that compute in each type, and how far their outputs may be from each other, as a share of the largest.
ENGINES = {"f32": PEERS, "bf16": ("openvino",), "int8": ("onnxruntime", "openvino")}
TOLERANCES = {"f32": 1e-3, "bf16": 0.05, "int8": 0.05}
UNDISTURBED = 0.8  # of the highest speed: a core that is shared with a busy thread is slower than this


class Worker:
    """The process of an engine."""

    def __init__(
        self, engine: str, folder: Path, threads: int, script: str = "worker.py", arguments: Sequence[str] = ()
    ) -> None:
        command = [sys.executable, str(Path(__file__).parent / script), engine, str(folder), str(threads), *arguments]
        self.engine, self.threads = engine, threads
        self.turns: list[tuple[float, list[float]]] = []  # the machine's speed, and the seconds of predictions
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = json.loads(self.process.stdout.readline())  # the first line that the worker prints

    def run(self, seconds: float) -> list[float]:
        self.process.stdin.write(f"run {seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stay_on(self, cores: set[int]) -> None:
        """Let all threads run on these cores only."""
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)

    def undisturbed(self) -> int:
        """Return the number of undisturbed turns."""
        return sum(speed >= UNDISTURBED * MACHINE.best for speed, _ in self.turns)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Machine:
    """The speed of the cores, and the highest speed so far."""

    def __init__(self) -> None:
        self.best = 0.0
        self.cores = os.sched_getaffinity(0)

    def speeds(self, cores: set[int], seconds: float = 0.005) -> dict[int, float]:
        """Return small matrix products per second on each core. NumPy computes them by one thread."""
        square, speeds = np.ones((64, 64), np.float32), {}
        for core in cores:
            os.sched_setaffinity(0, {core})
            start, count = time.perf_counter(), 0
            while time.perf_counter() < start + seconds:
                square @ square
                count += 1
            speeds[core] = count / (time.perf_counter() - start)
        os.sched_setaffinity(0, self.cores)
        self.best = max(self.best, *speeds.values())
        return speeds


MACHINE = Machine()


def take_turn(worker: Worker, seconds: float, pause: float) -> None:
    """Let a worker measure on the cores that are the fastest now. Record their speed before and after it."""
    time.sleep(pause)
    before = MACHINE.speeds(MACHINE.cores)
    cores = set(sorted(before, key=before.__getitem__)[-worker.threads :])
    worker.stay_on(cores)
    times = worker.run(seconds)
    time.sleep(pause)  # the engine's threads may spin while they wait for work
    after = MACHINE.speeds(cores)
    worker.turns.append((min(min(before[core], after[core]) for core in cores), times))


def take_turns(
    workers: list[Worker], rounds: int, seconds: float = SECONDS, pause: float = PAUSE
) -> tuple[list[list[float]], bool]:
    """Let workers measure in turn, round by round, until each has enough undisturbed turns or patience ends.

    Returns the times of each worker in its `rounds` least disturbed turns, and whether all of them were undisturbed.
    """
    start = time.monotonic()
    while len(workers[0].turns) < rounds or (
        time.monotonic() < start + PATIENCE and any(worker.undisturbed() < rounds for worker in workers)
    ):
        for worker in workers:
            take_turn(worker, seconds, pause)
    chosen = [sorted(worker.turns, key=lambda turn: -turn[0])[:rounds] for worker in workers]
    quiet = all(speed >= UNDISTURBED * MACHINE.best for turns in chosen for speed, _ in turns)
    return [[time for _, times in turns for time in times] for turns in chosen], quiet


def race(
    name: str, folder: Path, threads: int, engines: list[str], precision: str = "f32"
) -> tuple[dict[str, float], bool]:
    """Return median milliseconds of each engine on the network in a folder, and whether the machine was quiet. The
    outputs of all engines must agree."""
    workers = [Worker(engine, folder, threads, arguments=[precision]) for engine in engines]
    try:
        expected = np.array(workers[0].first)
        for worker in workers:
            if np.abs(np.array(worker.first) - expected).max() > TOLERANCES[precision] * np.abs(expected).max():
                raise ValueError(f"{name}: {worker.engine} computes something else than {workers[0].engine}")
            worker.run(SECONDS)  # warm up
        times, quiet = take_turns(workers, ROUNDS)
    finally:
        for worker in workers:
            worker.close()
    return {engine: 1e3 * statistics.median(own) for engine, own in zip(engines, times, strict=True)}, quiet


def compare(name: str, batch: int, threads: int, engines: list[str], precision: str) -> tuple[dict[str, float], bool]:
    """Return median milliseconds of each engine, and whether the machine was quiet."""
    with tempfile.TemporaryDirectory() as folder:
        save_all(name, batch, Path(folder), engines, precision)
        return race(name, Path(folder), threads, engines, precision)


def measure(options: argparse.Namespace, precision: str, rows: list[dict]) -> None:
    """Print the rows of one precision, and add them to `rows`."""
    engines = ["fastcnn", *[peer for peer in ENGINES[precision] if importlib.util.find_spec(peer)]]
    headings = ["network", "batch", "threads", *engines, "best / ours"]
    columns = Columns.under(headings, 12, left={0})
    print(f"{precision}\n{columns.line(headings)}")
    for batch in map(int, options.batches.split(",")):
        for name in options.networks.split(","):
            for threads in map(int, options.threads.split(",")):
                times, quiet = compare(name, batch, threads, engines, precision)
                ratio = min([times[peer] for peer in engines[1:]], default=float("nan")) / times["fastcnn"]
                row = {"network": name, "batch": batch, "threads": threads, "precision": precision}
                rows.append({**row, "ms": times, "ratio": ratio, "quiet": quiet})
                cells = [*(f"{times[engine]:.3f}" for engine in engines), f"{ratio:.2f}{' ' if quiet else '*'}"]
                print(columns.line([name, str(batch), str(threads), *cells]), flush=True)
                if options.json:  # written after each row, as a long run may be cut off
                    Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batches", default="1")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--precision", default="f32", help=f"of {', '.join(ENGINES)}; several with commas between them")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    wanted = options.precision.split(",")
    for precision in wanted:
        if precision not in ENGINES:
            parser.error(f"--precision {precision}: expected one of {', '.join(ENGINES)}")
    rows: list[dict] = []
    for precision in wanted:
        measure(options, precision, rows)


if __name__ == "__main__":
    main()
