"""Tuning: which algorithm is fastest for each convolution of a network, measured where it stands.

The network is compiled once for every algorithm, each convolution by it where it can, and all steps are timed: so every
candidate meets the caches as it will find them. A machine's speed changes, where others share it by a third and for
seconds. Candidates therefore take turns with the network as it is without tuning, and count as parts of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastcnn._progress import walk
from fastcnn.compiler.choose import ALGORITHMS
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.plan import Plan
from fastcnn.graph.ir import Graph


def measure(
    graph: Graph, inputs: Mapping[str, np.ndarray], repeats: int, progress: bool | None = False
) -> dict[str, dict[str, float]]:
    """Seconds of every algorithm for every kind of convolution in a network.

    Parameters
    ----------
    graph : Graph
    inputs : dict
        Arrays for the graph's inputs.
    repeats : int
        Turns whose median time counts.
    progress : bool, optional
        As for `Progress`.

    Returns
    -------
    dict
        By `Problem.key`, then by algorithm.
    """
    shapes = {name: array.shape for name, array in inputs.items()}
    arrays = [inputs[name] for name in graph.inputs]
    usual = compile_graph(graph, shapes, whole=True)
    keys = {step.problem for step in usual.steps if step.problem}
    whole = float(np.median(np.sum(usual.times(arrays, repeats), axis=1)))
    found: dict[str, dict[str, list[float]]] = {key: {} for key in keys}
    for entry in walk(ALGORITHMS, "tuning", progress, "algorithms"):
        plan = compile_graph(graph, shapes, tuning=dict.fromkeys(keys, entry.name), whole=True)
        if all(step.kernel != entry.name for step in plan.steps):
            continue
        for step, part in zip(plan.steps, _parts(plan, usual, arrays, repeats), strict=True):
            if step.kernel == entry.name:
                found[step.problem].setdefault(entry.name, []).append(part * whole)
    return {
        key: {name: float(np.mean(times)) for name, times in candidates.items()}
        for key, candidates in sorted(found.items())
        if candidates
    }


def _parts(plan: Plan, usual: Plan, arrays: Sequence[np.ndarray], repeats: int) -> list[float]:
    """The time of each of a plan's steps, as a part of all that the usual plan takes right before.

    The first of two runs does not count: the caches, and the first time memory, are then the plan's own. The usual
    plan's only tells how fast the machine is.
    """
    turns = []
    for _ in range(repeats):
        whole = sum(usual.times(arrays, 1)[0])
        turns.append(np.divide(plan.times(arrays, 2)[1], whole))
    return list(np.median(turns, axis=0))
