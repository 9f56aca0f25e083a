"""Synchronised batch normalisation: shards of a batch tell each other their statistics, and sums of gradients.

All shards run at the same time. Wherever a step has statistics, each waits for the values of all others, and combines
them in the order of the shards: all compute with the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastcnn.graph.ir import Node, Shape
from fastcnn.training.step import StepGraph

__all__ = ["Exchange", "Local", "Meeting", "NobodyComes", "synchronised"]

# Gives the values of all shards, in their order, for a key and the values of one.
Exchange = Callable[[str, "np.ndarray"], "list[np.ndarray]"]


class NobodyComes(RuntimeError):
    """Another shard has failed, and its values do not come."""


class Local(NamedTuple):
    """What a thread computes: the exchange, and the inputs and weight of its shard."""

    exchange: Exchange
    inputs: int
    weight: float


class Meeting:
    """Where the threads of one process meet; the last that comes to a key fetches what other processes have.

    Parameters
    ----------
    shards : sequence of int
        Of this process.
    fetch : callable, optional
        Takes a key and a dict of values by shard; returns those of all shards of the batch. By default the shards of
        this process are all.
    """

    def __init__(
        self,
        shards: list[int],
        fetch: Callable[[str, Mapping[int, np.ndarray]], list[np.ndarray]] | None = None,
    ) -> None:
        self._shards, self._fetch = shards, fetch or (lambda key, values: [values[i] for i in sorted(values)])
        self._change = threading.Condition()
        self._here: dict[str, dict[int, np.ndarray]] = {}
        self._found: dict[str, list[np.ndarray]] = {}
        self._has_failed = False

    def exchange_of(self, shard: int) -> Exchange:
        """Return the exchange of a shard."""
        return lambda key, values: self._exchanged(shard, key, values)

    def _exchanged(self, shard: int, key: str, values: np.ndarray) -> list[np.ndarray]:
        with self._change:
            here = self._here.setdefault(key, {})
            here[shard] = values
            is_last = len(here) == len(self._shards)
        if is_last:
            found = self._fetch(key, here)
            with self._change:
                self._found[key] = found
                self._change.notify_all()
        with self._change:
            self._change.wait_for(lambda: key in self._found or self._has_failed)
            if key not in self._found:
                raise NobodyComes(f"{key}: another shard has failed")
            return self._found[key]

    def fail(self) -> None:
        """Let nobody wait any more."""
        with self._change:
            self._has_failed = True
            self._change.notify_all()


def synchronised(step: StepGraph, inputs: int, local: Any) -> StepGraph:
    """Return a step whose batch normalisations use the statistics of all shards.

    Parameters
    ----------
    step : StepGraph
        Of a shard.
    inputs : int
        Of all shards.
    local : object
        Its attribute `now` is the `Local` of the thread that runs the step.
    """
    nodes, shapes = [], dict(step.shapes)
    renamed: dict[str, str] = {}
    of_all: dict[str, str] = {}  # sums, which columns read as the shard has them
    for node in step.graph.nodes:
        names = of_all | renamed if node.op == "NormGrad" else renamed
        node = node.reading(names.get(name, name) for name in node.inputs)
        if node.op == "RunningUpdate" and node.attrs["index"] == 1:
            node = _unbiased(node, step, inputs)
        nodes.append(node)
        if node.op in ("BatchStats", "NormSums"):
            output = f"{node.output}:all"
            (renamed if node.op == "BatchStats" else of_all)[node.output] = output
            combine = _statistics if node.op == "BatchStats" else _sums
            function = _Combined(combine, node.output, local)
            nodes.append(Node("Exchanged", output, (node.output,), output, {"function": function}))
            shapes[output] = shapes[node.output]
    return replace(step, graph=replace(step.graph, nodes=nodes), shapes=shapes)


def _unbiased(node: Node, step: StepGraph, inputs: int) -> Node:
    """The update of a running variance, by the number of values in all shards."""
    stats = next(
        other for other in step.graph.nodes if other.op == "BatchStats" and node.inputs[1] == f"{other.output}:all"
    )
    shape: Shape = step.shapes[stats.inputs[0]]
    values = inputs * prod(shape[2:])
    return replace_attrs(node, factor=values / max(1, values - 1))


def replace_attrs(node: Node, **attrs: float) -> Node:
    """The node with other attributes."""
    return Node(node.op, node.name, node.inputs, node.output, {**node.attrs, **attrs}, node.decided)


class _Combined:
    """A call from within a step: the values of a shard become those of all."""

    def __init__(self, combine: Callable[..., np.ndarray], key: str, local: Any) -> None:
        self.combine, self.key, self.local = combine, key, local

    def __call__(self, arrays: list[np.ndarray]) -> np.ndarray:
        now: Local = self.local.now
        own = np.concatenate([[now.inputs, now.weight], arrays[0].ravel()]).astype(np.float64)
        found = now.exchange(self.key, own)
        inputs, weights = (np.array([values[i] for values in found]) for i in (0, 1))
        parts = [values[2:].reshape(arrays[0].shape) for values in found]
        return self.combine(parts, inputs, weights, now).astype(np.float32)


def _statistics(parts: list[np.ndarray], inputs: np.ndarray, weights: np.ndarray, now: Local) -> np.ndarray:
    """Mean and biased variance of the values of all shards."""
    shares = inputs / inputs.sum()
    mean = sum(share * part[:, 0] for share, part in zip(shares, parts, strict=True))
    variance = sum(share * (part[:, 1] + (part[:, 0] - mean) ** 2) for share, part in zip(shares, parts, strict=True))
    return np.stack([np.asarray(mean), np.asarray(variance)], axis=1)


def _sums(parts: list[np.ndarray], inputs: np.ndarray, weights: np.ndarray, now: Local) -> np.ndarray:
    """Sums of the gradients of all shards, in the scale of one: its gradients are of the mean loss of its inputs."""
    if not now.weight:
        raise ValueError("fit: sync_batch_norm: all inputs of a shard have the weight 0, expected some that count")
    total = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    scaled: np.ndarray = np.asarray(total) * (now.inputs / inputs.sum() / now.weight)
    return scaled
