"""A training step in float64 NumPy, from the definitions of the operations: the oracle of the trainer's tests. And a
network of every operation that has a gradient."""

from __future__ import annotations

import numpy as np
from definitions import evaluate

import fastcnn as fc
from fastcnn import functional as F
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node


def gradients(graph: Graph, values: dict[str, np.ndarray], loss: str) -> tuple[float, dict[str, np.ndarray]]:
    """The loss, and the gradients of all constants, by autodiff's graph run on the definitions."""
    shapes = {name: values[name].shape for name in graph.inputs}
    backward, names, _ = differentiate(graph, shapes, loss, set(graph.constants))
    values = evaluate(backward, **{**graph.constants, **values})
    return float(values[loss][0]), {name: values[grad] for name, grad in names.items()}


def with_loss(graph: Graph, op: str, shape: tuple[int, ...]) -> Graph:
    """A network's graph with a loss at its end."""
    nodes = [*graph.nodes, Node(op, "loss", (graph.outputs[0], "target"), "loss", {})]
    return Graph(nodes, {**graph.inputs, "target": shape}, ["loss"], graph.constants)


def numeric(graph: Graph, values: dict[str, np.ndarray], name: str, index: tuple[int, ...], step: float) -> float:
    """A difference quotient of the loss by one number of a constant."""

    def loss(change: float) -> float:
        changed = {k: np.array(v, np.float64) for k, v in {**graph.constants, **values}.items()}
        changed[name][index] += change
        return float(evaluate(graph, **changed)["loss"][0])

    return (loss(step) - loss(-step)) / (2 * step)


class Everything(fc.Model):
    """Every operation that has a gradient, parameters used as operands, a value read many times."""

    def __init__(self, channels=12):
        self.stem = fc.Conv2d(3, channels, 3, padding="same", stride=2, rng=0)
        self.bn = fc.BatchNorm2d(channels)
        self.depthwise = fc.Conv2d(channels, channels, 3, padding=1, groups=channels, rng=1)
        self.grouped = fc.Conv2d(channels, 8, 3, stride=2, dilation=2, padding=2, groups=4, bias=False, rng=2)
        self.dense = fc.Conv2d(channels, 8, 3, padding=1, rng=3)
        self.scale = fc.layers.base.Parameter(np.full((8, 1, 1), 0.5))
        self.head = fc.Linear(8 + channels, 5, rng=4)

    def forward(self, x):
        x = F.silu(self.bn(self.stem(x)))
        y = F.hardswish(self.depthwise(x)) + x
        left = F.leaky_relu(self.grouped(y), 0.1)
        right = F.max_pool2d(F.tanh(self.dense(y)), 2) * self.scale
        left = F.sigmoid(left)
        both = F.concat([F.avg_pool2d(x, 2), left * right])
        return self.head(F.flatten(F.global_avg_pool2d(F.relu6(F.pad(both, (1, 1, 1, 1))))))


def batch(n=6, size=16, classes=5, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3, size, size)).astype(np.float32), rng.integers(0, classes, n)
