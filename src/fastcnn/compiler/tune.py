"""Tuning: which algorithm is fastest for each convolution of a network, measured where it stands.

The network is compiled once for every algorithm, each convolution by it where it can, and all steps are timed: so every
candidate meets the caches as it will find them. A machine's speed changes, where others share it by a third and for
seconds. Candidates therefore take turns with the network as it is without tuning, and count as parts of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastcnn.compiler.choose import ALGORITHMS
from fastcnn.compiler.plan import Plan, compile_graph
from fastcnn.graph.ir import Graph


def measure(graph: Graph, inputs: Mapping[str, np.ndarray], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of every algorithm for every kind of convolution in a network.

    Parameters
    ----------
    graph : Graph
    inputs : dict
        Arrays for the graph's inputs.
    repeats : int
        Medians of so many turns.

    Returns
    -------
    dict
        By `Problem.key`, then by algorithm.
    """
    shapes = {name: array.shape for name, array in inputs.items()}
    arrays = [inputs[name] for name in graph.inputs]
    usual = compile_graph(graph, shapes, whole=True)
    keys = {step.problem for step in usual.steps if step.problem}
    parts: dict[str, dict[str, list[float]]] = {key: {} for key in keys}
    wholes: list[float] = []
    for entry in ALGORITHMS:
        plan = compile_graph(graph, shapes, tuning=dict.fromkeys(keys, entry.name), whole=True)
        if all(step.kernel != entry.name for step in plan.steps):
            continue
        times, beside = _in_turns(plan, usual, arrays, repeats)
        wholes += beside.tolist()
        for step, part in zip(plan.steps, np.median(times / beside[:, None], axis=0).tolist(), strict=True):
            if step.kernel == entry.name:
                parts[step.problem].setdefault(entry.name, []).append(part)
    whole = np.median(wholes)
    return {key: {name: float(np.mean(measured) * whole) for name, measured in candidates.items()}
            for key, candidates in sorted(parts.items()) if candidates}


def _in_turns(
    plan: Plan, usual: Plan, arrays: Sequence[np.ndarray], repeats: int
) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of a plan's steps, and each time those of all of the usual plan's together, right before.

    The first of two runs does not count: the caches, and the first time memory, are then the plan's own. The usual
    plan's only tells how fast the machine is.
    """
    times, beside = [], []
    for _ in range(repeats):
        beside.append(sum(usual.times(arrays, 1)[0]))
        times.append(plan.times(arrays, 2)[1])
    return np.array(times), np.array(beside)
