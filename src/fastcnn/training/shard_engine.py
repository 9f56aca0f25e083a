"""What a training in shards computes: the gradients of a shard, and what a bucket of the state does with their sum.

The engine works on blocks of memory that it is given. sharded.py runs it in one process, `fastcnn.distributed` in many.
Both call the same plans in the same order, which makes their results the same to the bit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.plan import Plan
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels import _cpu
from fastcnn.kernels._program import default_float_modes
from fastcnn.kernels._update import SETTINGS
from fastcnn.kernels.parameters import from_blocks, to_blocks
from fastcnn.training.loader import Batch
from fastcnn.training.shard_layout import Layout, layout_of
from fastcnn.training.shard_sync import Exchange, Local, synchronised
from fastcnn.training.shard_updates import Recipe, Updates
from fastcnn.training.step import StepGraph, StepKind, learning_parts, scores_of, step_graph
from fastcnn.training.step_plans import CompiledStep, StepPlans
from fastcnn.training.tasks import without_ending
from fastcnn.training.updating import GATHERED, GATHERING, Updating, row_of_numbers

__all__ = ["Engine", "ShardResult"]


class ShardResult(NamedTuple):
    """What a shard gives beside its slot."""

    loss: float
    weight: float  # in the batch's mean
    inputs: int
    scores: np.ndarray


class Engine:
    """Computes what `Recipe` tells.

    Parameters
    ----------
    recipe : Recipe
    shape : tuple of int
        Of one input.
    """

    def __init__(self, recipe: Recipe, shape: tuple[int, ...]) -> None:
        self.recipe = recipe
        self._shape = shape
        self._plans = StepPlans()
        self._lock = threading.Lock()
        self._local = threading.local()  # what a thread computes, where shards wait for each other
        self.graph = without_ending(recipe.model._kernel_graph(shape), recipe.loss)
        self._trainable, self._momenta = learning_parts(recipe.model)
        applying = Updating(recipe.optimizer, averages=recipe.ema is not None)
        step = self._step((2, *shape), StepKind(recipe.loss.op, True, False))
        self.layout: Layout = layout_of(step, self._momenta, applying, _cpu.vector_length())
        self.updates = Updates(recipe, self.layout, step.packed)
        self.outputs = step.shapes[step.graph.outputs[1]][1]

    # -- the state -----------------------------------------------------------------------------------

    def fill(self, block: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Write a state: means that are not given are zero, and parameters are the model's."""
        places, vl = self.layout.state, _cpu.vector_length()
        known = {**self.layout.first, **values}
        for name in places:
            view = places.view(block, name)
            if name not in known:
                view[...] = 0
            elif self.layout.forms[name][1]:
                view[...] = to_blocks(np.ascontiguousarray(known[name], np.float32), vl)
            else:
                view[...] = known[name]

    def plain(self, block: np.ndarray, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Read a state, in the arrays' own shapes."""
        places, vl, forms = self.layout.state, _cpu.vector_length(), self.layout.forms
        return {
            name: from_blocks(places.view(block, name), forms[name][0], vl)
            if forms[name][1]
            else places.view(block, name).copy()
            for name in (places if names is None else names)
        }

    # -- a shard -------------------------------------------------------------------------------------

    def gradient(
        self,
        batch: Batch,
        shard: int,
        step: int,
        state: Mapping[str, np.ndarray],
        slot: np.ndarray,
        inputs: int = 0,
        exchange: Exchange | None = None,
        reached: Callable[[int], object] = lambda bucket: None,
    ) -> ShardResult:
        """Compute the gradients of a shard, times what it weighs.

        Parameters
        ----------
        batch : Batch
            The shard.
        shard, step : int
            Its number, and that of the step: dropout depends on them.
        state : dict of str to ndarray
            Views of a block that is laid out as `layout.state`.
        slot : ndarray
            Receives gradients and statistics, as `layout.slot` tells.
        inputs : int
            Inputs of all shards, where batch normalisation is synchronised.
        exchange : callable, optional
            How this shard gets the values of the others, then.
        reached : callable
            Is called with the number of each bucket of the slot as soon as it is complete.
        """
        loss = self.recipe.loss
        with default_float_modes():
            count = loss.count(batch.y, batch.weights)
            weights = batch.weights if count else None  # the mean of no inputs is no number
            is_outside = loss.needs_scores(weights)
            kind = StepKind("LinearLoss" if is_outside else loss.op, True, False)
            with self._lock:
                compiled = self._compiled(batch.x.shape, kind, inputs if exchange else 0)
            if exchange is not None:
                self._local.now = Local(exchange, len(batch.x), count)
            slot[...] = 0
            # Threads may run the same plan: what it writes is of this call.
            row = row_of_numbers(GATHERING, self.recipe.optimizer, 0.0, 1, count, 0.0)
            found, scores = np.zeros(1, np.float32), np.zeros_like(compiled.scores)
            words = self._clock(step * self.recipe.shards + shard)
            arrays = [*(np.array(row, np.float32) for _ in compiled.numbers), words]
            arrays += self._operands(compiled.step, state, slot)
            x = np.ascontiguousarray(batch.x, np.float32)
            if is_outside:
                value, gradient = loss.value_and_gradient(self._scores(compiled, x, arrays), batch.y, weights)
                target = np.ascontiguousarray(gradient, np.float32)
            else:
                target = loss.target(batch.y, compiled.scores.shape, weights)

            def complete(bucket: int) -> None:
                if self.layout.buckets[bucket].has_statistics:
                    for name in self.layout.momenta:
                        self.layout.slot.view(slot, name)[...] *= np.float32(len(x))
                reached(bucket)

            ends = self._ends(compiled.plan)
            compiled.plan.run_in_pieces([x, target, *arrays], [found, scores], ends, complete)
        return ShardResult(value if is_outside else float(found[0]), count, len(x), scores)

    def _ends(self, plan: Plan) -> list[int]:
        """The steps behind which each bucket is complete."""
        places = {info.name: i for i, info in enumerate(plan.steps, 1)}
        ends, last = [], 0
        for bucket in self.layout.buckets:
            suffix = ":update" if bucket.has_statistics else f"@{GATHERED}:update"
            last = max([last, *(places[name + suffix] for name in bucket.names)])
            ends.append(last)
        ends[-1] = len(plan.steps)
        return ends

    def _clock(self, step: int) -> np.ndarray:
        seed = self.recipe.seed
        words = np.array([word & 0xFFFFFFFF for word in (seed, seed >> 32, step, step >> 32)], np.uint32)
        return words.view(np.float32)

    def _operands(self, step: StepGraph, state: Mapping[str, np.ndarray], slot: np.ndarray) -> list[np.ndarray]:
        """The arrays of a step's state: statistics and gradients are the slot's."""
        places, suffix = self.layout.slot, f"@{GATHERED}"
        return [
            places.view(slot, name.removesuffix(suffix))
            if name in self.layout.momenta or name.endswith(suffix)
            else state[name]
            for name in step.state
        ]

    def _scores(self, compiled: CompiledStep, x: np.ndarray, arrays: list[np.ndarray]) -> np.ndarray:
        with self._lock:
            if not compiled.scorer:
                plan = self._plan_of(scores_of(compiled.step), compiled.step)
                compiled.scorer.append((plan, np.zeros(plan.output_shapes[0], np.float32)))
        ((plan, scores),) = compiled.scorer
        found = np.zeros_like(scores)
        plan.run([x, compiled.scores, *arrays], [found])
        return found

    def _plan_of(self, graph: Graph, step: StepGraph) -> Plan:
        """A plan; those that run at the same time do not share memory."""
        tuning = self.recipe.model.tuning
        if self.recipe.sync_batch_norm:
            plan = compile_graph(graph, step.shapes, tuning=tuning, parameters=step.packed)
        else:
            plan = self._plans.planned(graph, step.shapes, step.packed, tuning)
        plan.leaves_nothing()  # nobody reads the slot of a shard that is given up
        return plan

    def _step(self, shape: tuple[int, ...], kind: StepKind) -> StepGraph:
        """The step of a shard. A momentum of 1 leaves the batch's statistics themselves in a slot of zeros."""
        recipe = self.recipe
        momenta = dict.fromkeys(self._momenta, 1.0)
        updating = Updating(recipe.optimizer, gathers=True, applies=False)
        step = step_graph(self.graph, shape, self._trainable, momenta, kind.loss, updating, recipe.recompute)
        return replace(step, graph=replace(step.graph, nodes=_early(step.graph.nodes)))

    def _compiled(self, shape: tuple[int, ...], kind: StepKind, inputs: int) -> CompiledStep:
        key = (*shape, inputs), kind
        compiled = self._plans.recent(key)
        if compiled is None:
            step = self._step(shape, kind)
            if inputs:
                step = synchronised(step, inputs, self._local)
            plan = self._plan_of(step.graph, step)
            numbers = [np.zeros(len(SETTINGS), np.float32) for _ in step.numbers]
            scores = np.zeros(plan.output_shapes[1], np.float32)
            compiled = CompiledStep(plan, step, numbers, np.zeros(1, np.float32), scores, [])
            self._plans.keep(key, compiled)
        return compiled


def _early(nodes: list[Node]) -> list[Node]:
    """Let what a slot receives be written as soon as it is known."""
    waiting: dict[str, list[Node]] = {}
    for node in nodes:
        if node.kind.updates:
            waiting.setdefault(node.inputs[1], []).append(node)
    early = [later for node in nodes if not node.kind.updates for later in (node, *waiting.pop(node.output, ()))]
    return early + [node for rest in waiting.values() for node in rest]
