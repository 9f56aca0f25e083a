"""Losses and what networks end in: which task a loss tells, and training on what goes into a last softmax or sigmoid.

Losses take scores. A network that ends in the function which belongs to its loss is trained on what goes into it: the
function applied twice has hardly any gradient.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from fastcnn.errors import FastcnnWarning
from fastcnn.graph.ir import Graph, last_function
from fastcnn.training.losses import Loss

__all__ = ["ending_of", "hits", "scores_of", "task_of_loss", "warn_of_ending", "without_ending"]

_ENDINGS = {"CrossEntropy": "Softmax", "BinaryCrossEntropy": "Sigmoid"}
_WORDS = {"CrossEntropy": "cross_entropy", "BinaryCrossEntropy": "binary_cross_entropy"}


def task_of_loss(loss: Loss, outputs: int) -> str | None:
    """Return the task that a network learns; None where the loss does not tell."""
    if loss.op == "BinaryCrossEntropy":
        return "binary" if outputs == 1 else "multi_label"
    return "single_label" if loss.op == "CrossEntropy" else None


def ending_of(graph: Graph, loss: Loss) -> str:
    """Return "Softmax" or "Sigmoid" where the graph ends in the function that belongs to the loss, else ""."""
    node = last_function(graph)
    used = [name for other in graph.nodes for name in other.inputs]
    if node is None or node.op != _ENDINGS.get(loss.op) or used.count(node.output) > 1:
        return ""
    return node.op if node.op == "Sigmoid" or node.attrs["axis"] in (1, -1) else ""


def without_ending(graph: Graph, loss: Loss) -> Graph:
    """Return the graph without the last softmax or sigmoid that belongs to the loss."""
    if not ending_of(graph, loss):
        return graph
    node = last_function(graph)
    assert node is not None
    (before,) = node.inputs

    def renamed(name: str) -> str:
        return before if name == node.output else name

    nodes = [replace(n, inputs=tuple(map(renamed, n.inputs))) for n in graph.nodes if n is not node]
    return replace(graph, nodes=nodes, outputs=[renamed(name) for name in graph.outputs])


def warn_of_ending(graph: Graph, loss: Loss) -> None:
    """Warn of a last softmax or sigmoid that belongs to another loss."""
    node = last_function(graph)
    others = {ending: op for op, ending in _ENDINGS.items() if op != loss.op}
    if node is None or loss.op not in _ENDINGS or node.op not in others:
        return
    function, wanted = node.op.lower(), _WORDS[others[node.op]]
    warnings.warn(
        f"fit: the network ends in a {function}, but {_WORDS[loss.op]} takes scores: leave the {function} out, or use "
        f"loss={wanted!r}",
        FastcnnWarning,
        stacklevel=5,
    )


def scores_of(outputs: np.ndarray, ending: str) -> np.ndarray:
    """Return scores whose softmax or sigmoid are the outputs of a network that ends in it.

    Examples
    --------
    >>> scores_of(np.float32([[0.5, 0.5]]), "Sigmoid").tolist()
    [[0.0, 0.0]]
    """
    if not ending:
        return outputs
    tiny = np.finfo(np.float32).tiny
    logs: np.ndarray = np.log(np.maximum(outputs, tiny))
    if ending == "Sigmoid":
        logs = logs - np.log(np.maximum(1 - outputs, np.finfo(np.float32).eps / 2))
    return logs


def hits(loss: Loss, scores: np.ndarray, y: np.ndarray) -> int:
    """Return how many inputs are recognised: the class is right, or all labels are."""
    if loss.op == "BinaryCrossEntropy" and (y.ndim == 2 or scores.shape[1] == 1):
        return int(((scores > 0) == (y.reshape(scores.shape) > 0.5)).all(axis=1).sum())
    labels = y if y.ndim == 1 else y.argmax(axis=1)
    return int((scores.argmax(axis=1) == labels).sum())
