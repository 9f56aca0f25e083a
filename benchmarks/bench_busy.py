"""Times predictions on a busy machine, and those of ONNX Runtime where it is installed.

    python benchmarks/bench_busy.py [--networks LeNet,ResNet-18] [--batches 1,16] [--busy 0,1,2,4] [--seconds 4]

Each engine has a process with two threads. Engines measure in turns, beside 0 to 4 processes that compute all the time.
The output has the median and the 99th percentile of single predictions in milliseconds. The rows "quota" have no busy
processes. There the engine's control group has a quota of one processor, as containers may have. They need the right to
make control groups.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fastcnn._table import Columns

sys.path.insert(0, str(Path(__file__).parent / "peers"))

THREADS, TURNS = 2, 4
NETWORKS = "LeNet,CIFAR CNN,MobileNetV2,ResNet-18"
CONTROL_GROUPS = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")  # of version 1, of version 2


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Run `count` processes that only compute."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def quota_of_one(process: int) -> Iterator[None]:
    """Put a process into a control group with a quota of one processor."""
    root = next(root for root in CONTROL_GROUPS if root.is_dir())
    group = root / "fastcnn_bench_busy"
    group.mkdir()
    try:
        if root.name == "cpu":
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("100000")
        else:
            (group / "cpu.max").write_text("100000 100000")
        (group / "cgroup.procs").write_text(str(process))
        yield
        (root / "cgroup.procs").write_text(str(process))
    finally:
        group.rmdir()


def measure(name: str, batch: int, busy: str, engines: list[str], seconds: float) -> dict[str, list[float]]:
    """Return the seconds of single predictions of each engine."""
    from networks import save_all
    from run import Worker

    with tempfile.TemporaryDirectory() as folder:
        save_all(name, batch, Path(folder), engines)
        workers = [Worker(engine, Path(folder), THREADS) for engine in engines]
        times: dict[str, list[float]] = {engine: [] for engine in engines}
        with busy_processes(0 if busy == "quota" else int(busy)):
            for turn in range(-1, TURNS):  # the first one warms up
                for worker in workers:
                    time.sleep(0.1)
                    with quota_of_one(worker.process.pid) if busy == "quota" else contextlib.nullcontext():
                        own = worker.run(seconds / TURNS if turn >= 0 else 0.1)
                    times[worker.engine] += own if turn >= 0 else []
        for worker in workers:
            worker.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--busy", default="0,1,2,4", help="numbers of busy processes; or quota")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each engine")
    options = parser.parse_args()
    engines = ["fastcnn", *[peer for peer in ("onnxruntime",) if importlib.util.find_spec(peer)]]
    pairs = [heading for engine in engines for heading in (f"{engine} median", "p99")]
    headings = ["network", "batch", "busy", *pairs, *(["theirs / ours"] if len(engines) > 1 else [])]
    columns = Columns.under(headings, 11, left={0})
    print(columns.line(headings))
    for name in options.networks.split(","):
        for batch in map(int, options.batches.split(",")):
            for busy in options.busy.split(","):
                times = measure(name, batch, busy, engines, options.seconds)
                medians = [1e3 * float(np.median(times[engine])) for engine in engines]
                worst = [1e3 * float(np.percentile(times[engine], 99)) for engine in engines]
                cells = [f"{value:.3f}" for pair in zip(medians, worst, strict=True) for value in pair]
                ratio = [f"{medians[1] / medians[0]:.2f}"] if len(engines) > 1 else []
                print(columns.line([name, str(batch), busy, *cells, *ratio]), flush=True)


if __name__ == "__main__":
    main()
