"""Tuning: the fastest algorithm for each convolution of a network, measured inside the network.

The network is compiled once for every algorithm, which computes each convolution that it can. All steps are timed, so
every candidate finds the caches as it will in use. The speed of a shared machine changes from one second to the next.
Candidates therefore take turns with the untuned network, and their times count as fractions of its time.
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
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    repeats: int,
    progress: bool | None = False,
    bfloat16: bool = False,
) -> dict[str, dict[str, float]]:
    """Seconds of every algorithm for every kind of convolution in a network.

    Parameters
    ----------
    graph : Graph
    inputs : dict
        Arrays for the graph's inputs.
    repeats : int
        Turns; the median counts.
    progress : bool, optional
        As for `Progress`.
    bfloat16 : bool
        As for `compile_graph`.

    Returns
    -------
    dict
        Seconds by `Problem.key`, then by algorithm.
    """
    shapes = {name: array.shape for name, array in inputs.items()}
    arrays = [inputs[name] for name in graph.inputs]
    usual = compile_graph(graph, shapes, whole=True, bfloat16=bfloat16)
    keys = {step.problem for step in usual.steps if step.problem}
    whole = float(np.median(np.sum(usual.times(arrays, repeats), axis=1)))
    found: dict[str, dict[str, list[float]]] = {key: {} for key in keys}
    for entry in walk(ALGORITHMS, "tuning", progress, "algorithms"):
        tuning = dict.fromkeys(keys, entry.name)
        plan = compile_graph(graph, shapes, tuning=tuning, whole=True, bfloat16=bfloat16)
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
    """The time of each step of a plan, as a fraction of a run of the usual plan right before.

    The first of two runs does not count: it allocates memory and fills the caches. The run of the usual plan only tells
    how fast the machine is.
    """
    turns = []
    for _ in range(repeats):
        whole = sum(usual.times(arrays, 1)[0])
        turns.append(np.divide(plan.times(arrays, 2)[1], whole))
    return list(np.median(turns, axis=0))
