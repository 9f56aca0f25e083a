"""Trains one network by one engine in a process of its own: `training_worker.py ENGINE FOLDER THREADS`.

The first line of the output is JSON with the losses of the first steps and the peak of memory in bytes. After it, the
process serves requests as worker.py does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from worker import peak_bytes, serve

STEPS = 20
MOMENTUM = 0.9


def fastcnn_engine(folder: Path, threads: int) -> Callable[[np.ndarray, np.ndarray], float]:
    import fastcnn

    fastcnn.set_num_threads(threads)
    model = fastcnn.load(folder / "model.safetensors")
    rate = json.loads((folder / "graph.json").read_text())["rate"]
    return fastcnn.Trainer(model, fastcnn.SGD(rate, momentum=MOMENTUM)).step


def torch_engine(folder: Path, threads: int, channels_last: bool = False) -> Callable[[np.ndarray, np.ndarray], float]:
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    graph = json.loads((folder / "graph.json").read_text())
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with np.load(folder / "weights.npz") as arrays:
        weights = {name: torch.tensor(arrays[name]) for name in arrays.files}
    for name, tensor in weights.items():
        if tensor.ndim == 4:
            weights[name] = tensor.contiguous(memory_format=layout)
        weights[name].requires_grad_(name not in graph["buffers"])
    optimizer = torch.optim.SGD([w for w in weights.values() if w.requires_grad], graph["rate"], MOMENTUM)

    def pool(a, x):
        return F.max_pool2d(x, a["kernel_shape"], a["strides"], a["pads"][:2], ceil_mode=bool(a["ceil_mode"]))

    operations = {
        "Conv": lambda a, x, w, b=None: F.conv2d(x, w, b, a["strides"], a["pads"][:2], a["dilations"], a["group"]),
        "Gemm": lambda a, x, w, b=None: F.linear(x, w, b),
        "Relu": lambda a, x: F.relu(x),
        "Tanh": lambda a, x: x.tanh(),
        "Clip": lambda a, x: F.hardtanh(x, a["min"], a["max"]),
        "BatchNormalization": lambda a, x, w, b, m, v: F.batch_norm(x, m, v, w, b, True, 0.1, a["epsilon"]),
        "MaxPool": pool,
        "GlobalAveragePool": lambda a, x: F.adaptive_avg_pool2d(x, 1),
        "Flatten": lambda a, x: x.flatten(a["axis"]),
        "Add": lambda a, x, y: x + y,
        "Dropout": lambda a, x: x,
    }

    def step(x: np.ndarray, y: np.ndarray) -> float:
        values = {**weights, "x": torch.from_numpy(x).contiguous(memory_format=layout)}
        optimizer.zero_grad(set_to_none=True)
        for op, inputs, output, attrs in graph["nodes"]:
            values[output] = operations[op](attrs, *[values[name] if name else None for name in inputs])
        loss = F.cross_entropy(values[graph["output"]], torch.from_numpy(y))
        del values
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def torch_channels_last_engine(folder: Path, threads: int) -> Callable[[np.ndarray, np.ndarray], float]:
    return torch_engine(folder, threads, channels_last=True)


def main() -> None:
    engine, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    step = globals()[f"{engine}_engine"](folder, threads)
    x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
    losses = [step(x, y) for _ in range(STEPS)]
    print(json.dumps({"losses": losses, "peak": peak_bytes()}), flush=True)
    serve(lambda: step(x, y))


if __name__ == "__main__":
    main()
