"""Compare fastcnn with ONNX Runtime, OpenVINO, PyTorch and ncnn, as far as they are installed.

    python benchmarks/peers/run.py [--networks LeNet,ResNet-18] [--batches 1,16] [--threads 1,2] [--json FILE]

One process for each engine, one active at a time, in rounds with a pause between them: idle worker threads of one
engine would slow the others. Medians of all single predictions; machines are noisy, so only ratios within a run count.
Where others' work shares the cores, all slow down for a while, and the more the nearer they are to the peak: turns
before or after which a small matrix product took longer than usual are not counted, and taken again, whichever
engine's they are. Rows that have not enough undisturbed turns are marked with *.
ncnn takes single images: a batch counts as so many of them. draw.py makes a picture of the JSON; start.py measures the
time to the first prediction, and memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from networks import NETWORKS, save_all

PEERS = ("onnxruntime", "openvino", "torch", "ncnn")
ROUNDS, SECONDS, PAUSE = 7, 0.3, 0.1
MOST_ROUNDS = 4  # times as many, where turns are disturbed
UNDISTURBED = 0.8  # of the highest speed; a busy neighbour on the other half of a core takes a third


class Worker:
    """An engine's process."""

    def __init__(self, engine: str, folder: Path, threads: int, script: str = "worker.py") -> None:
        command = [sys.executable, str(Path(__file__).parent / script), engine, str(folder), str(threads)]
        self.engine = engine
        self.turns: list[tuple[float, list[float]]] = []  # the machine's speed, and the times
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.checksum = json.loads(self.process.stdout.readline())  # whatever the worker tells to begin with

    def run(self, seconds: float) -> list[float]:
        self.process.stdin.write(f"run {seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def quiet_turns(self) -> list[list[float]]:
        """The times of the turns that nothing disturbed."""
        return [times for speed, times in self.turns if speed >= UNDISTURBED * MACHINE.best]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Machine:
    """How fast the machine is, and has been at best."""

    def __init__(self) -> None:
        self.best = 0.0

    def speed(self, seconds: float = 0.005) -> float:
        """Small matrix products a second on the core that others disturb most; NumPy takes one thread for them."""
        cores, square = os.sched_getaffinity(0), np.ones((64, 64), np.float32)
        speeds = []
        for core in cores:
            os.sched_setaffinity(0, {core})
            start, count = time.perf_counter(), 0
            while time.perf_counter() < start + seconds:
                square @ square
                count += 1
            speeds.append(count / (time.perf_counter() - start))
        os.sched_setaffinity(0, cores)
        self.best = max(self.best, *speeds)
        return min(speeds)


MACHINE = Machine()


def take_turns(
    workers: list[Worker], rounds: int, seconds: float = SECONDS, pause: float = PAUSE
) -> tuple[list[list[float]], bool]:
    """Let each worker measure for a while, one after the other, round by round, until each has had so many
    undisturbed turns: gives their times, and whether there were enough."""
    before = MACHINE.speed()
    for _ in range(MOST_ROUNDS * rounds):
        for worker in workers:
            time.sleep(pause)
            times = worker.run(seconds)
            after = MACHINE.speed()
            worker.turns.append((min(before, after), times))
            before = after
        if all(len(worker.quiet_turns()) >= rounds for worker in workers):
            break
    quiet = all(len(worker.quiet_turns()) > rounds // 2 for worker in workers)
    turns = [worker.quiet_turns() if quiet else [times for _, times in worker.turns] for worker in workers]
    return [[time for times in chosen for time in times] for chosen in turns], quiet


def race(name: str, folder: Path, threads: int, engines: list[str]) -> tuple[dict[str, float], bool]:
    """Median milliseconds of each engine on the network in a folder, and whether the machine was quiet; the engines'
    outputs must agree."""
    workers = [Worker(engine, folder, threads) for engine in engines]
    try:
        for worker in workers:
            if abs(worker.checksum - workers[0].checksum) > 1e-3 * abs(workers[0].checksum):
                raise ValueError(f"{name}: {worker.engine} computes something else than {workers[0].engine}")
            worker.run(SECONDS)  # warm up
        times, quiet = take_turns(workers, ROUNDS)
    finally:
        for worker in workers:
            worker.close()
    return {engine: 1e3 * statistics.median(own) for engine, own in zip(engines, times, strict=True)}, quiet


def compare(name: str, batch: int, threads: int, engines: list[str]) -> tuple[dict[str, float], bool]:
    """Median milliseconds of each engine, and whether the machine was quiet."""
    with tempfile.TemporaryDirectory() as folder:
        save_all(name, batch, Path(folder), engines)
        return race(name, Path(folder), threads, engines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batches", default="1")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    engines = ["fastcnn", *[peer for peer in PEERS if importlib.util.find_spec(peer)]]
    print(f"{'network':12} {'batch':>5} {'threads':>7} " + " ".join(f"{engine:>12}" for engine in engines)
          + f" {'best / ours':>12}")
    rows = []
    for batch in map(int, options.batches.split(",")):
        for name in options.networks.split(","):
            for threads in map(int, options.threads.split(",")):
                times, quiet = compare(name, batch, threads, engines)
                ratio = min(times[peer] for peer in engines[1:]) / times["fastcnn"]
                rows.append({"network": name, "batch": batch, "threads": threads, "ms": times, "ratio": ratio,
                             "quiet": quiet})
                cells = " ".join(f"{times[engine]:12.3f}" for engine in engines)
                print(f"{name:12} {batch:5} {threads:7} {cells} {ratio:12.2f}{' ' if quiet else '*'}", flush=True)
                if options.json:  # after each row: a long run may be cut off
                    Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
