"""The compiled steps of a trainer: a few of them are kept, and all compute in one arena.

step.py makes their graphs, and trainer.py runs them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple, TypeAlias

import numpy as np

from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.plan import Plan
from fastcnn.graph.ir import Graph, Shape
from fastcnn.kernels import storage
from fastcnn.training.step import StepGraph, StepKind

__all__ = ["CompiledStep", "StepPlans"]

MAX_PLANS = 6  # of the full batch, the last one of an epoch, and one more, with updates and without


class CompiledStep(NamedTuple):
    """A step and its plan, with what a run writes."""

    plan: Plan
    step: StepGraph
    numbers: list[np.ndarray]  # of the formulas, a row for each name in step.numbers
    loss: np.ndarray
    scores: np.ndarray
    scorer: list[tuple[Plan, np.ndarray]]  # of losses outside of the step: a plan of the scores alone, once needed


Key: TypeAlias = "tuple[tuple[int, ...], StepKind]"


class StepPlans(OrderedDict[Key, CompiledStep]):
    """Compiled steps by the shape of the batch and the kind of step; the least recently used is dropped first.

    Steps take turns, so that one arena, as large as the largest needs, serves all. The activations of a batch are most
    of the memory that training takes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._arena = np.empty(0, np.float32)

    def clear(self) -> None:
        """Drop all steps, and their arena."""
        super().clear()
        self._arena = np.empty(0, np.float32)

    def recent(self, key: Key) -> CompiledStep | None:
        """Return a step that is kept, as the most recently used one."""
        compiled = self.get(key)
        if compiled is not None:
            self.move_to_end(key)
        return compiled

    def keep(self, key: Key, compiled: CompiledStep) -> None:
        """Keep a step; the least recently used one goes, if there are too many."""
        self[key] = compiled
        if len(self) > MAX_PLANS:
            self.popitem(last=False)

    def planned(self, graph: Graph, shapes: dict[str, Shape], packed: set[str], tuning: dict[str, str]) -> Plan:
        """Compile a plan that computes in the arena; for one that needs more, all get a larger arena."""
        plan = compile_graph(graph, shapes, tuning=tuning, parameters=packed)
        if self._arena.nbytes < plan.arena_bytes:
            self._arena = storage.allocate_arena(-(-plan.arena_bytes // 4))
            for kept in self.values():
                for other in (kept.plan, *(scorer for scorer, _ in kept.scorer)):
                    other.compute_in(self._arena)
        plan.compute_in(self._arena)
        return plan
