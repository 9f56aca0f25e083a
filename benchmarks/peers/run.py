"""Compare fastcnn with ONNX Runtime, OpenVINO, PyTorch and ncnn, as far as they are installed.

    python benchmarks/peers/run.py [--networks LeNet,ResNet-18] [--batches 1,16] [--threads 1,2] [--json FILE]

One process for each engine, one active at a time, in rounds with a pause between them: idle worker threads of one
engine would slow the others. Medians of all single predictions; machines are noisy, so only ratios within a run count.
ncnn takes single images: a batch counts as so many of them. draw.py makes a picture of the JSON; start.py measures the
time to the first prediction, and memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from networks import NETWORKS, save_all

PEERS = ("onnxruntime", "openvino", "torch", "ncnn")
ROUNDS, SECONDS, PAUSE = 7, 0.3, 0.1


class Worker:
    """An engine's process."""

    def __init__(self, engine: str, folder: Path, threads: int, script: str = "worker.py") -> None:
        command = [sys.executable, str(Path(__file__).parent / script), engine, str(folder), str(threads)]
        self.engine, self.times = engine, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.checksum = json.loads(self.process.stdout.readline())  # whatever the worker tells to begin with

    def run(self, seconds: float) -> list[float]:
        self.process.stdin.write(f"run {seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def take_turns(workers: list[Worker], rounds: int, seconds: float = SECONDS, pause: float = PAUSE) -> None:
    """Let each worker measure for a while, one after the other, round by round."""
    for _ in range(rounds):
        for worker in workers:
            time.sleep(pause)
            worker.times += worker.run(seconds)


def race(name: str, folder: Path, threads: int, engines: list[str]) -> dict[str, float]:
    """Median milliseconds of each engine on the network in a folder; their outputs must agree."""
    workers = [Worker(engine, folder, threads) for engine in engines]
    try:
        for worker in workers:
            if abs(worker.checksum - workers[0].checksum) > 1e-3 * abs(workers[0].checksum):
                raise ValueError(f"{name}: {worker.engine} computes something else than {workers[0].engine}")
            worker.run(SECONDS)  # warm up
        take_turns(workers, ROUNDS)
    finally:
        for worker in workers:
            worker.close()
    return {worker.engine: 1e3 * statistics.median(worker.times) for worker in workers}


def compare(name: str, batch: int, threads: int, engines: list[str]) -> dict[str, float]:
    """Median milliseconds of each engine."""
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
                times = compare(name, batch, threads, engines)
                ratio = min(times[peer] for peer in engines[1:]) / times["fastcnn"]
                rows.append({"network": name, "batch": batch, "threads": threads, "ms": times, "ratio": ratio})
                cells = " ".join(f"{times[engine]:12.3f}" for engine in engines)
                print(f"{name:12} {batch:5} {threads:7} {cells} {ratio:12.2f}", flush=True)
                if options.json:  # after each row: a long run may be cut off
                    Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
