"""Compares the training step of fastcnn with PyTorch's, NCHW and channels_last, where it is installed.

    python benchmarks/bench_training.py [--networks LeNet,ResNet-20] [--engines fastcnn,torch] [--threads 1,2]
                                        [--rate 0.001] [--rounds 3] [--seconds 1] [--json FILE]

Each engine has a process. One is active at a time, in turns with a pause between them. All start from the same weights
and train on the same batch, by SGD with momentum and without dropout. The output has median milliseconds, and the ratio
of PyTorch's better step to ours. It also has the largest relative difference of the losses of the first 20 steps, and
the peak of memory. Machines are noisy: only ratios within a run count. * marks ratios that were disturbed (see
peers/run.py).

Losses are compared twice: ours with PyTorch's, and those of PyTorch's two layouts with each other (`others`). The
second comparison shows networks in which rounding errors grow fast over 20 steps. In some networks, even the gradients
of the first step differ between float32 and float64, in PyTorch as here: Relu passes other pixels. At a lower learning
rate, the losses show less of this.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from networks import _explicit, cifar_cnn  # noqa: E402
from run import Worker, take_turns  # noqa: E402

import fastcnn as fc  # noqa: E402
from fastcnn._table import Columns  # noqa: E402

NETWORKS = {  # network, image shape, batch
    "LeNet": (fc.zoo.lenet, (1, 28, 28), 64),
    "CIFAR CNN": (cifar_cnn, (3, 32, 32), 64),
    "ResNet-20": (fc.zoo.resnet20, (3, 32, 32), 128),
    "MobileNetV2": (fc.zoo.mobilenet_v2, (3, 224, 224), 16),
    "ResNet-18": (fc.zoo.resnet18, (3, 224, 224), 16),
}
PAUSE = 0.2


def save(name: str, folder: Path, rate: float) -> None:
    """Write a network, the learning rate and a batch for both engines."""
    build, shape, batch = NETWORKS[name]
    model = build()
    for _, layer in model.named_layers():
        if isinstance(layer, fc.Dropout):
            layer.p = 0.0
    model.input_shape = shape
    model.save(folder / "model.safetensors")
    graph = model.graph()
    shapes = graph.infer({"x": (batch, *shape)})
    nodes = [[node.op, node.inputs, node.output, _explicit(graph, node, shapes)] for node in graph.nodes]
    buffers = [name for name, _ in model.named_buffers()]
    (folder / "graph.json").write_text(
        json.dumps({"nodes": nodes, "output": graph.outputs[0], "buffers": buffers, "rate": rate})
    )
    np.savez(folder / "weights.npz", **graph.constants)
    rng = np.random.default_rng(0)
    np.save(folder / "x.npy", rng.standard_normal((batch, *shape)).astype(np.float32))
    np.save(folder / "y.npy", rng.integers(0, shapes[graph.outputs[0]][1], batch))


def compare(name: str, threads: int, engines: list[str], rate: float, rounds: int, seconds: float) -> dict[str, object]:
    """Measure median milliseconds, peaks of memory, and differences of losses."""
    with tempfile.TemporaryDirectory() as folder:
        save(name, Path(folder), rate)
        workers = []
        try:
            for engine in engines:  # one after the other: each worker begins with the steps whose losses are compared
                workers.append(Worker(engine, Path(folder), threads, "training_worker.py"))
            times, quiet = take_turns(workers, rounds, seconds, PAUSE)
        finally:
            for worker in workers:
                worker.close()
    ours, *others = map(statistics.median, times)
    losses = np.array([worker.first["losses"] for worker in workers])
    return {
        "network": name,
        "threads": threads,
        "ms": {engine: 1e3 * median for engine, median in zip(engines, (ours, *others), strict=True)},
        "peak": {worker.engine: worker.first["peak"] for worker in workers},
        "ratio": min(others, default=np.nan) / ours,
        "quiet": quiet,
        "loss_difference": _spread(losses),
        "loss_difference_of_others": _spread(losses[1:]),
    }


def _spread(losses: np.ndarray) -> float:
    """Return the largest relative difference of losses (engines, steps) from those of the first engine."""
    return float((abs(losses - losses[:1]) / abs(losses[:1])).max(initial=0.0))


def main() -> None:
    installed = ["fastcnn", *(["torch", "torch_channels_last"] if importlib.util.find_spec("torch") else [])]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--engines", default=",".join(installed), help="whose ratios to the first count")
    parser.add_argument("--rate", type=float, default=0.001, help="of learning")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of an engine in a round")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    engines = options.engines.split(",")
    headings = ["network", "threads", *engines, "ratio", "losses", "others", "peak MB"]
    columns = Columns.under(headings, 10, left={0, len(headings) - 1})
    print(columns.line(headings))
    rows = []
    for name in options.networks.split(","):
        for threads in map(int, options.threads.split(",")):
            row = compare(name, threads, engines, options.rate, options.rounds, options.seconds)
            rows.append(row)
            cells = [
                *(f"{row['ms'][engine]:.2f}" for engine in engines),
                f"{row['ratio']:.2f}{' ' if row['quiet'] else '*'}",
                f"{row['loss_difference']:.1e}",
                f"{row['loss_difference_of_others']:.1e}",
                " ".join(f"{row['peak'][engine] / 1e6:.0f}" for engine in engines),
            ]
            print(columns.line([name, str(threads), *cells]), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
