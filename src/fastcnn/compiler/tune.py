"""Tuning: which algorithm is fastest for each convolution of a network, measured where it stands.

The network is compiled once for every algorithm, each convolution by it where it can, and all steps are timed: so every
candidate meets the caches as it will find them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcnn.compiler.choose import ALGORITHMS
from fastcnn.compiler.plan import compile_graph
from fastcnn.graph.ir import Graph


def measure(graph: Graph, inputs: Mapping[str, np.ndarray], repeats: int) -> dict[str, dict[str, float]]:
    """Seconds of every algorithm for every kind of convolution in a network.

    Parameters
    ----------
    graph : Graph
    inputs : dict
        Arrays for the graph's inputs.
    repeats : int
        Medians of so many runs.

    Returns
    -------
    dict
        By `Problem.key`, then by algorithm.
    """
    shapes = {name: array.shape for name, array in inputs.items()}
    arrays = [inputs[name] for name in graph.inputs]
    keys = {step.problem for step in compile_graph(graph, shapes, whole=True).steps if step.problem}
    found: dict[str, dict[str, list[float]]] = {key: {} for key in keys}
    for entry in ALGORITHMS:
        plan = compile_graph(graph, shapes, tuning=dict.fromkeys(keys, entry.name), whole=True)
        if all(step.kernel != entry.name for step in plan.steps):
            continue
        plan.run(arrays)  # memory is touched for the first time
        for step, seconds in zip(plan.steps, np.median(plan.times(arrays, repeats), axis=0).tolist(), strict=True):
            if step.kernel == entry.name:
                found[step.problem].setdefault(entry.name, []).append(seconds)
    return {key: {name: float(np.mean(times)) for name, times in candidates.items()}
            for key, candidates in sorted(found.items()) if candidates}
