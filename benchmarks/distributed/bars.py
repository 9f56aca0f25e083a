"""Compares what Ray's workers do on this machine with one process on the same cores.

    python benchmarks/distributed/bars.py training [--network resnet18] [--batch 32] [--rounds 7]
    python benchmarks/distributed/bars.py classifying [--photos 2000] [--rounds 3]
    python benchmarks/distributed/bars.py memory [--photos 2000,10000]

Training: steps of two workers of one thread, in turns with steps of one process of two threads; the ratio is that of
the medians. Classifying: photos a second, of one worker of all threads and of `fastcnn classify`. Memory: the peak of
all processes of Ray and of this one, in steps of a second. A machine with nothing else to do tells the truth.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import fastcnn as fc
from fastcnn.distributed import Ray, classify
from fastcnn.training.data import Dataset
from fastcnn.training.loader import Batch, Batches
from fastcnn.training.trainer import Trainer

STORE = 512 << 20


def start_ray(cpus: int) -> Any:
    """Start Ray on this machine."""
    import ray

    settings = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
    ray.init(address="local", num_cpus=cpus, object_store_memory=STORE, **settings)
    return ray


def endless(batches: Batches) -> Iterator[Batch]:
    """The batches of all epochs."""
    epoch = 0
    while True:
        yield from batches.epoch(epoch)
        epoch += 1


def training(name: str, batch: int, rounds: int) -> None:
    """Print the time of a step, and the ratio of speeds."""
    fc.set_num_threads(2)
    start_ray(2)
    build = getattr(fc.zoo, name)
    shape = build().input_shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2 * batch, *shape)).astype(np.float32)
    batches = Batches(Dataset.of(x, rng.integers(0, 10, 2 * batch)), batch, shards=2)
    alone = Trainer(build(rng=0), fc.SGD(0.01, momentum=0.9))
    cluster = Ray(2, threads=1)
    remote = cluster._trainer(build(rng=0), fc.SGD(0.01, momentum=0.9), "cross_entropy", shards=2)
    runs = {"one process": (alone, endless(batches)), "two workers": (remote, endless(cluster._reads(remote, batches)))}
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    for i in range(rounds + 1):
        for kind, (trainer, given) in runs.items():
            for _ in range(2):
                start = time.perf_counter()
                trainer._learn(next(given), True)
                if i:  # the first steps compile
                    times[kind].append(time.perf_counter() - start)
    cluster._close()
    medians = {kind: statistics.median(found) for kind, found in times.items()}
    for kind, seconds in medians.items():
        print(f"{kind}: {1000 * seconds:.0f} ms a step, best {1000 * min(times[kind]):.0f} ms")
    print(f"{name} b{batch}: {medians['one process'] / medians['two workers']:.3f} of the speed of one process")


def photos(folder: Path, count: int) -> None:
    """Write photos, some of which are damaged."""
    rng = np.random.default_rng(0)
    kinds = [rng.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(20)]
    pictures = [Image.fromarray(pixels).resize((640, 480)) for pixels in kinds]
    for i in range(count):
        if i % 500 == 499:
            (folder / f"{i:06d}.jpg").write_bytes(b"damaged")
        else:
            pictures[i % len(pictures)].save(folder / f"{i:06d}.jpg", quality=80)


def timed(call: Callable[[], object]) -> float:
    """The seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def classifying(count: int, rounds: int) -> None:
    """Print photos a second, and the ratio."""
    ray = start_ray(3)
    model = fc.load_pretrained("efficientnet_lite0")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos(folder, count)
        command = [sys.executable, "-m", "fastcnn", "classify", name, "--format", "jsonl"]
        alone, remote = [], []
        for _ in range(rounds):
            alone.append(timed(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
            remote.append(timed(lambda: sum(1 for _ in classify(name, model, workers=1, threads=2).iter_rows())))
    ray.shutdown()
    one, other = (count / statistics.median(found) for found in (alone, remote))
    print(f"one process: {one:.0f} photos a second; Ray: {other:.0f}, {other / one:.3f} of it, its start included")


def rss_of_all() -> int:
    """Bytes of this process and of all that it has started, memory that they share counted once for each."""
    parents: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                parents[int(entry)] = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
                sizes[int(entry)] = int(Path("/proc", entry, "statm").read_text().split()[1]) * os.sysconf(
                    "SC_PAGE_SIZE"
                )
            except OSError:
                continue

    def is_own(pid: int) -> bool:
        while pid in parents:
            if pid == os.getpid():
                return True
            pid = parents[pid]
        return False

    return sum(size for pid, size in sizes.items() if is_own(pid))


def memory(counts: list[int]) -> None:
    """Print the peak of memory for numbers of photos."""
    ray = start_ray(3)
    model = fc.load_pretrained("efficientnet_lite0")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            photos(Path(name), count)
            peak, ended = [0], threading.Event()

            def watch(peak: list[int] = peak, ended: threading.Event = ended) -> None:
                while not ended.wait(1):
                    peak[0] = max(peak[0], rss_of_all())

            watcher = threading.Thread(target=watch)
            watcher.start()
            rows = sum(1 for _ in classify(name, model, workers=1, threads=2).iter_rows())
            ended.set()
            watcher.join()
            print(f"{rows} photos: {peak[0] / 2**20:.0f} MiB at most")
    ray.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("training", "classifying", "memory"))
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--photos", default="2000")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    counts = [int(text) for text in options.photos.split(",")]
    if options.what == "training":
        training(options.network, options.batch, options.rounds)
    elif options.what == "classifying":
        classifying(counts[0], options.rounds)
    else:
        memory(counts)


if __name__ == "__main__":
    main()
