"""A training step in float64 NumPy, from the definitions of the operations: the oracle of the trainer's tests."""

from __future__ import annotations

import numpy as np
from definitions import evaluate

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
