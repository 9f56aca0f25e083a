"""A model of the time of a distributed step: measured here, fitted, checked, and read off for larger clusters.

    python benchmarks/distributed/scaling.py measure steps.json     # minutes; alone on the machine
    python benchmarks/distributed/scaling.py show steps.json        # the fit, the check, and the tables of the docs

A step takes, in seconds::

    compute   what the slowest worker computes: images * time of one, times 1 + spread * sqrt(2 ln machines)
    add       bytes of all shards of a machine, through its memory
    update    bytes of the parameters of a worker's buckets
    wire      what Ray moves between machines: copies into and out of object stores, and the link itself
    call      calls that the asking process makes, one after the other

`add`, `update`, `wire` (without a link) and `call` are fitted by least squares, none below zero. The steps are those of
1 to 4 workers on 1 to 3 nodes of this machine. A node has an object store of its own: what nodes exchange takes all of
the way but the link. Every third measurement is left out of the fit, and checks it.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn as fc
from fastcnn.distributed.trainer import parts_of

BATCHES = {"resnet18": 16, "mobilenet_v2": 16, "resnet20": 64, "lenet": 128}
LAYOUTS = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 4), (3, 3)]  # nodes, workers
SHARDS = (4, 8)
BUCKETS, HOST_CORES, IMAGES = 9, 16, 64  # of the tables: buckets, cores and images of a machine
LINKS = (10, 100)  # Gbit/s
MACHINES = (1, 8, 64, 512)
LATENCY = 1e-3  # seconds of a hop: a call of Ray, and the link's
PARAMETERS = ("add", "update", "wire", "call")


def parameter_bytes(name: str) -> int:
    """The bytes of a network's parameters."""
    return 4 * sum(array.size for _, array in getattr(fc.zoo, name)().named_parameters())


def calls_of(nodes: int, workers: int, buckets: int) -> int:
    """The calls of a step: shards, sums, and updates."""
    parts = len(parts_of(buckets, nodes))
    sums = parts if nodes == 1 else parts * (nodes + nodes - 1 + nodes)
    return workers + sums + workers


def features(step: dict[str, Any]) -> list[float]:
    """What the fitted times are multiplied by."""
    size, nodes, workers = step["bytes"], step["nodes"], step["workers"]
    local = workers / nodes
    wire = 2 * size * math.log2(nodes) if nodes > 1 else 0.0
    return [size * step["shards"] / nodes / local, size / local, wire, calls_of(nodes, workers, step["buckets"])]


def measured(networks: list[str], layouts: list[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Steps of all networks, on all layouts."""
    import ray
    from ray.cluster_utils import Cluster

    from fastcnn.distributed import Ray
    from fastcnn.training.data import Dataset
    from fastcnn.training.loader import Batches

    settings = {"include_dashboard": False, "object_store_memory": 300 << 20}
    for nodes in sorted({nodes for nodes, _ in layouts}):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4 if nodes == 1 else 2, **settings})
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=2, object_store_memory=300 << 20)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        for name, batch in ((name, BATCHES[name]) for name in networks):
            for workers in (workers for count, workers in layouts if count == nodes):
                for shards in SHARDS:
                    model = getattr(fc.zoo, name)(rng=0)
                    x = np.random.default_rng(0).standard_normal((2 * batch, *model.input_shape)).astype(np.float32)
                    batches = Batches(Dataset.of(x, np.arange(2 * batch) % 10), batch, shards=shards)
                    team = Ray(workers)
                    trainer = team._trainer(model, fc.SGD(0.01), "cross_entropy", shards=shards)
                    yield {"network": name, "nodes": nodes, "shards": shards, **steps_of(trainer, team, batches)}
                    team._close()
        ray.shutdown()
        cluster.shutdown()


def steps_of(trainer: Any, team: Any, batches: Any, steps: int = 8) -> dict[str, Any]:
    """The median of some steps, and of what the slowest worker computed in each."""
    given = team._reads(trainer, batches)
    times, computing = [], []
    attempted = trainer._attempted

    def watched(*arguments: Any) -> Any:
        found = attempted(*arguments)
        of_workers: dict[int, float] = {}
        for item, owner in zip(found, trainer._owners, strict=True):
            of_workers[owner] = of_workers.get(owner, 0.0) + item.seconds
        computing.append(max(of_workers.values()))
        return found

    trainer._attempted = watched
    for i in range(steps):
        start = time.perf_counter()
        trainer._learn(next(given.epoch(0, i % 2)), True)
        times.append(time.perf_counter() - start)
    rest = [step - compute for step, compute in zip(times[2:], computing[2:], strict=True)]
    return {
        "workers": len(trainer.team.members),
        "nodes": len({member.node for member in trainer.team.members}),
        "buckets": len(trainer._plan.statistics),
        "bytes": 4 * trainer._plan.sizes.slot,
        "images": batches.batch_size,
        "seconds": statistics.median(times[2:]),
        "compute": statistics.median(computing[2:]),
        "rest": statistics.median(rest),
        "spread": statistics.pstdev(computing[2:]) / statistics.mean(computing[2:]),
    }


def fitted(steps: list[dict[str, Any]]) -> np.ndarray:
    """The times by least squares of relative errors, of which none is below zero."""
    used = list(range(len(PARAMETERS)))
    rows = np.array([features(step) for step in steps])
    rest = np.array([step["rest"] for step in steps])
    weights = 1 / np.array([step["seconds"] for step in steps])
    while True:
        found = np.zeros(len(PARAMETERS))
        found[used] = np.linalg.lstsq(rows[:, used] * weights[:, None], rest * weights, rcond=None)[0]
        if (found >= 0).all():
            return found
        used.remove(int(found.argmin()))


def predicted(step: dict[str, Any], found: np.ndarray) -> float:
    """The time of a step that was measured, but for what is computed."""
    return step["compute"] + float(np.dot(features(step), found))


def projected(
    image: float, size: int, machines: int, gbit: float, found: np.ndarray, spread: float
) -> dict[str, float]:
    """The parts of a step of `machines`, one worker on each."""
    add, update, wire, call = found
    depth = math.log2(machines) if machines > 1 else 0.0
    link = wire + 8 / (gbit * 1e9)
    compute = IMAGES * image / HOST_CORES * (1 + spread * math.sqrt(2 * math.log(machines)))
    # Parts go one after the other through the levels of the tree, up and down.
    parts = len(parts_of(BUCKETS, machines))
    moved = 2 * size * link * (1 + depth / parts) if machines > 1 else 0.0
    hidden = min(moved * (1 - 1 / parts), compute / 3)  # all but the last overlap about a third of the work
    return {
        "compute": compute,
        "exposed": moved - hidden + 2 * depth * LATENCY,
        "call": call * calls_of(machines, machines, BUCKETS) if machines > 1 else call * calls_of(1, 1, BUCKETS),
        "rest": size * (add + update),
    }


def show(steps: list[dict[str, Any]]) -> None:
    """Print the fit, what it says of measurements that it does not know, and the tables."""
    fit = [step for i, step in enumerate(steps) if i % 3]
    held = [step for i, step in enumerate(steps) if i % 3 == 0]
    found = fitted(fit)
    for name, value in zip(PARAMETERS, found, strict=True):
        shown = f"{1e6 * value:.0f} µs a call" if name == "call" else f"{1e9 * value:.2f} s for 1 GB"
        print(f"{name}: {shown}")
    for networks in (*((name,) for name in dict.fromkeys(step["network"] for step in held)), BATCHES):
        checked = [step for step in held if step["network"] in networks]
        errors = [abs(predicted(step, found) / step["seconds"] - 1) for step in checked]
        print(f"{len(checked)} measurements that were left out, {', '.join(networks)}: "
              f"median error {statistics.median(errors):.1%}, largest {max(errors):.1%}")  # fmt: skip
    spread = statistics.median(step["spread"] for step in steps)
    print(f"spread of a worker's time: {spread:.1%}\n")
    alone = [step for step in steps if step["workers"] == 1]  # more than two share the cores of a small machine
    images = {step["network"]: step["compute"] / step["images"] for step in alone}
    for name in ("resnet50", "mobilenet_v2") if {"resnet18", "mobilenet_v2"} <= images.keys() else ():
        image, like = images["mobilenet_v2"], "mobilenet_v2"
        if name == "resnet50":  # by its operations, at the rate of ResNet-18
            image, like = images["resnet18"] * 4.1 / 1.8, "resnet18"
        print(f"{name}: {parameter_bytes(name) / 1e6:.0f} MB, {1000 * image:.0f} ms an image and core, by {like}")
        print("| machines | link | compute | network | calls | rest | step | of ideal |")
        print("|--:" * 8 + "|")
        for gbit in LINKS:
            for machines in MACHINES:
                parts = projected(image, parameter_bytes(name), machines, gbit, found, spread)
                total = sum(parts.values())
                cells = " | ".join(f"{1000 * value:.0f} ms" for value in (*parts.values(), total))
                print(f"| {machines} | {gbit} Gbit/s | {cells} | {IMAGES * image / HOST_CORES / total:.0%} |")
        print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "show"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--networks", default=",".join(BATCHES))
    parser.add_argument("--layouts", default=",".join(f"{nodes}x{workers}" for nodes, workers in LAYOUTS))
    options = parser.parse_args()
    layouts = [
        (int(nodes), int(workers)) for nodes, workers in (text.split("x") for text in options.layouts.split(","))
    ]
    if options.what == "measure":
        steps = []
        for step in measured(options.networks.split(","), layouts):
            print(step, flush=True)
            steps.append(step)
            options.file.write_text(json.dumps(steps))
    show(json.loads(options.file.read_text()))


if __name__ == "__main__":
    main()
