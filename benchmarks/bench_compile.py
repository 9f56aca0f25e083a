"""Times the compiling of a network's plan and of its training step, also against another tree of the project.

    python benchmarks/bench_compile.py [--networks mobilenet_v2,resnet50] [--turns 5] [--compiles 5] [--against TREE]
                                       [--json FILE]

The output has median milliseconds of fresh compiles. "plan" is the plan of a single image, and packs the weights.
"again" is the same with weights that are packed already, as for a second input shape. "step" is a training step of 16
images, from the forward graph to the plan. Compiling is the work of one thread. Its processor time is measured, so that
other processes do not count.

`--against` names a built tree, such as a checkout of the previous commit. It compiles in turns with the package that is
installed, in processes of their own. The ratio is the installed package's time divided by the tree's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve()
NETWORKS = "mobilenet_v2,resnet50"
KINDS = ("plan", "again", "step")
BATCH = 16


class Worker:
    """A process that compiles one network, with the package of a tree or, for None, with the one that is installed."""

    def __init__(self, tree: Path | None, network: str) -> None:
        if tree and not (tree / "src" / "fastcnn").is_dir():
            raise SystemExit(f"--against: {tree} has no package in src")
        environment = {**os.environ, "PYTHONPATH": str(tree / "src")} if tree else dict(os.environ)
        command = [sys.executable, str(HERE), "--worker", network]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{tree or 'fastcnn'}: its package cannot be imported: is it built?")

    def turn(self, compiles: int) -> None:
        """Compile each kind `compiles` times."""
        self.process.stdin.write(f"{compiles}\n")
        self.process.stdin.flush()
        for kind, times in json.loads(self.process.stdout.readline()).items():
            self.times[kind] += times

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def serve(network: str) -> None:
    """Run a worker: print the path of its package, then compile as often as each line of its input says."""
    import fastcnn

    print(json.dumps(fastcnn.__file__), flush=True)
    compiles = prepare(network)
    for compile_once in compiles.values():
        compile_once()  # imports and packing that happen once do not count
    for line in sys.stdin:
        times = {kind: [processor_time(once) for _ in range(int(line))] for kind, once in compiles.items()}
        print(json.dumps(times), flush=True)


def processor_time(once: Callable[[], object]) -> float:
    """Return the processor time of one call in seconds."""
    start = time.process_time()
    once()
    return time.process_time() - start


def prepare(network: str) -> dict[str, Callable[[], object]]:
    """Return a function for each kind, which compiles once."""
    import fastcnn

    try:
        from fastcnn.compiler.compile import compile_batch, compile_graph
    except ImportError:  # an older tree has them in another module
        from fastcnn.compiler.plan import compile_batch, compile_graph

    model = getattr(fastcnn.zoo, network)()
    image = model.input_shape or (3, 224, 224)
    graph = model.graph(image)
    trainer = fastcnn.Trainer(model, fastcnn.SGD(0.1, momentum=0.9))
    packed: dict[object, object] = {}

    def plan(weights: dict[object, object]) -> object:
        return compile_batch(graph, {"x": (1, *image)}, weights, {})

    def step() -> object:
        found = trainer._graph((BATCH, *image))
        return compile_graph(found.graph, found.shapes, parameters=found.packed)

    return {"plan": lambda: plan({}), "again": lambda: plan(packed), "step": step}


def compare(network: str, trees: list[Path | None], turns: int, compiles: int) -> list[dict[str, object]]:
    """Return a row for each kind, with the median milliseconds of each tree."""
    workers: list[Worker] = []
    try:
        for tree in trees:
            workers.append(Worker(tree, network))
        for _ in range(turns):
            for worker in workers:
                worker.turn(compiles)
    finally:
        for worker in workers:
            worker.close()
    rows: list[dict[str, object]] = []
    for kind in KINDS:
        ours, *others = (1e3 * statistics.median(worker.times[kind]) for worker in workers)
        row: dict[str, object] = {"network": network, "kind": kind, "ms": ours}
        rows.append({**row, "against": others[0], "ratio": ours / others[0]} if others else row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=NETWORKS, help="of fastcnn.zoo")
    parser.add_argument("--turns", type=int, default=5, help="of each tree")
    parser.add_argument("--compiles", type=int, default=5, help="of each kind in a turn")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another built tree")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--worker", metavar="NETWORK", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker)
        return
    trees = [None, *([options.against] if options.against else [])]
    print(f"{'network':18} {'what':6} {'ms':>8}" + (f" {'against':>8} {'ratio':>6}" if options.against else ""))
    rows = []
    for network in options.networks.split(","):
        for row in compare(network, trees, options.turns, options.compiles):
            rows.append(row)
            more = f" {row['against']:8.2f} {row['ratio']:6.2f}" if options.against else ""
            print(f"{row['network']:18} {row['kind']:6} {row['ms']:8.2f}{more}", flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
