"""What a training in shards computes: the gradients of a shard, and what a bucket of the state does with their sum.

The engine works on blocks of memory that it is given. sharded.py runs it in one process, `fastcnn.distributed` in many.
Both call the same plans in the same order, which makes their results the same to the bit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import NamedTuple

import numpy as np

from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.plan import Plan
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels import _cpu
from fastcnn.kernels._program import default_float_modes
from fastcnn.kernels._update import SETTINGS
from fastcnn.kernels.parameters import from_blocks, to_blocks
from fastcnn.network import Network
from fastcnn.training.loader import Batch
from fastcnn.training.losses import Loss
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.shard_layout import Bucket, Layout, layout_of
from fastcnn.training.shard_sync import Exchange, Local, synchronised
from fastcnn.training.step import StepGraph, StepKind, learning_parts, scores_of, step_graph
from fastcnn.training.step_plans import CompiledStep, StepPlans
from fastcnn.training.tasks import without_ending
from fastcnn.training.updating import GATHERED, GATHERING, Updating, row_of_numbers, update_nodes

__all__ = ["Engine", "Recipe", "ShardResult", "Turn", "clip_factor"]

_SCALE = "@factor"
_RUNNING = "@running"


@dataclass(frozen=True)
class Recipe:
    """What every process of a training must know: as the arguments of `Trainer`, and the number of shards."""

    model: Network
    optimizer: Optimizer
    loss: Loss
    clip_norm: float | None
    recompute: bool
    seed: int
    ema: float | None
    shards: int
    sync_batch_norm: bool = False


class ShardResult(NamedTuple):
    """What a shard gives beside its slot."""

    loss: float
    weight: float  # in the batch's mean
    inputs: int
    scores: np.ndarray


class Turn(NamedTuple):
    """What the state does with the gradients of a batch.

    Attributes
    ----------
    gathers, applies : bool
        As for `Updating`.
    number : int
        Of the update, from 1 on.
    rate : float
        The learning rate.
    share : float
        Of the batch in the mean of the gathered gradients.
    begins : bool
        Whether it is the first batch that is gathered.
    weight, inputs : float
        What all shards weigh, and their inputs.
    """

    gathers: bool
    applies: bool
    number: int
    rate: float
    share: float
    begins: bool
    weight: float
    inputs: float


class _Update(NamedTuple):
    plan: Plan
    inputs: tuple[str, ...]


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
        self._updates: dict[tuple[Bucket, bool, bool, str], _Update] = {}
        self.graph = without_ending(recipe.model._kernel_graph(shape), recipe.loss)
        self._trainable, self._momenta = learning_parts(recipe.model)
        self._applying = Updating(recipe.optimizer, averages=recipe.ema is not None)
        step = self._step((2, *shape), StepKind(recipe.loss.op, True, False))
        self.layout: Layout = layout_of(step, self._momenta, self._applying, _cpu.vector_length())
        self._packed = step.packed
        self.outputs = step.shapes[step.graph.outputs[1]][1]

    @property
    def clips(self) -> bool:
        """Whether gradients are scaled by their norm, which all buckets must know first."""
        return self.recipe.clip_norm is not None

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
        whole: int = 0,
        exchange: Exchange | None = None,
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
        whole : int
            Inputs of all shards, where batch normalisation is synchronised.
        exchange : callable, optional
            How this shard gets the values of the others, then.
        """
        loss = self.recipe.loss
        with default_float_modes():
            count = loss.count(batch.y, batch.weights)
            weights = batch.weights if count else None  # the mean of no inputs is no number
            is_outside = loss.needs_scores(weights)
            kind = StepKind("LinearLoss" if is_outside else loss.op, True, False)
            with self._lock:
                compiled = self._compiled(batch.x.shape, kind, whole if exchange else 0)
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
            compiled.plan.run([x, target, *arrays], [found, scores])
            for name in self.layout.momenta:
                self.layout.slot.view(slot, name)[...] *= np.float32(len(x))
        return ShardResult(value if is_outside else float(found[0]), count, len(x), scores)

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
            return compile_graph(graph, step.shapes, tuning=tuning, parameters=step.packed)
        return self._plans.planned(graph, step.shapes, step.packed, tuning)

    def _step(self, shape: tuple[int, ...], kind: StepKind) -> StepGraph:
        """The step of a shard. A momentum of 1 leaves the batch's statistics themselves in a slot of zeros."""
        recipe = self.recipe
        momenta = dict.fromkeys(self._momenta, 1.0)
        updating = Updating(recipe.optimizer, gathers=True, applies=False)
        return step_graph(self.graph, shape, self._trainable, momenta, kind.loss, updating, recipe.recompute)

    def _compiled(self, shape: tuple[int, ...], kind: StepKind, whole: int) -> CompiledStep:
        key = (*shape, whole), kind
        compiled = self._plans.recent(key)
        if compiled is None:
            step = self._step(shape, kind)
            if whole:
                step = synchronised(step, whole, self._local)
            plan = self._plan_of(step.graph, step)
            numbers = [np.zeros(len(SETTINGS), np.float32) for _ in step.numbers]
            scores = np.zeros(plan.output_shapes[1], np.float32)
            compiled = CompiledStep(plan, step, numbers, np.zeros(1, np.float32), scores, [])
            self._plans.keep(key, compiled)
        return compiled

    # -- a bucket ------------------------------------------------------------------------------------

    def begin(self, bucket: Bucket, turn: Turn, old: np.ndarray, new: np.ndarray, total: np.ndarray) -> list[float]:
        """Copy a bucket's part of the state, and gather its gradients.

        Parameters
        ----------
        bucket : Bucket
        turn : Turn
        old, new : ndarray
            Blocks of the state before and after the step.
        total : ndarray
            A slot: the sum of all shards' slots, which becomes their mean.

        Returns
        -------
        list of float
            Squared norms of the gradients, where they are clipped by them; else none.
        """
        places = self.layout.state
        with default_float_modes():
            weight = turn.inputs if bucket.has_statistics else turn.weight
            total[bucket.start : bucket.stop] *= np.float32(1 / weight) if weight else np.float32("nan")
            for name in self._copied(bucket, turn):
                np.copyto(places.view(new, name), places.view(old, name))
            if bucket.has_statistics:
                return []
            if turn.gathers and turn.begins:
                for name in bucket.names:
                    places.view(new, f"{name}@{GATHERED}")[...] = 0
            clips = self.clips and turn.applies
            if not (turn.gathers or clips):
                return []
            update = self._update(bucket, turn.gathers, clips, "begin")
            norms = [np.zeros(1, np.float32) for _ in bucket.names if clips]
            update.plan.run(self._values(update, turn, new, total, 1.0), norms)
            return [float(norm[0]) for norm in norms]

    def finish(self, bucket: Bucket, turn: Turn, new: np.ndarray, total: np.ndarray, factor: float) -> None:
        """Let a bucket's part of the state follow its gradients, times a factor."""
        if not (turn.applies or bucket.has_statistics):
            return
        with default_float_modes():
            update = self._update(bucket, turn.gathers, self.clips, "finish")
            update.plan.run(self._values(update, turn, new, total, factor), [])

    def _copied(self, bucket: Bucket, turn: Turn) -> list[str]:
        if bucket.has_statistics:
            return list(bucket.names)
        means = [*self._applying.means(), *([GATHERED] if turn.gathers else ())]
        own = bucket.names
        return [*own, *(f"{name}@{mean}" for name in own for mean in means)]

    def _values(
        self, update: _Update, turn: Turn, new: np.ndarray, total: np.ndarray, factor: float
    ) -> list[np.ndarray]:
        recipe, found = self.recipe, []
        for name in update.inputs:
            base, _, kind = name.partition("@")
            if name == _SCALE:
                found.append(np.array([factor], np.float32))
            elif name.startswith(_RUNNING):
                found.append(_row_of_mean(float(name.removeprefix(_RUNNING))))
            elif not base:
                row = row_of_numbers(name, recipe.optimizer, turn.rate, turn.number, turn.share, recipe.ema or 0.0)
                found.append(np.array(row, np.float32))
            else:
                found.append(
                    self.layout.slot.view(total, base) if kind == "total" else self.layout.state.view(new, name)
                )
        return found

    def _update(self, bucket: Bucket, gathers: bool, clips: bool, part: str) -> _Update:
        key = bucket, gathers, clips, part
        update = self._updates.get(key)
        if update is None:
            make = self._statistics if bucket.has_statistics else {"begin": self._begin, "finish": self._finish}[part]
            nodes, outputs = make(bucket, gathers, clips)
            update = self._updates[key] = self._planned(nodes, outputs)
        return update

    def _begin(self, bucket: Bucket, gathers: bool, clips: bool) -> tuple[list[Node], list[str]]:
        names = list(bucket.names)
        nodes = []
        if gathers:
            updating = Updating(self.recipe.optimizer, gathers=True, applies=False)
            nodes = update_nodes(names, {name: f"{name}@total" for name in names}, updating, self._packed)
        norms = [f"{name}:norm" for name in names] if clips else []
        for norm, grad in zip(norms, self._gradients(names, gathers).values(), strict=False):
            nodes.append(Node("SquaredNorm", norm, (grad, ""), norm, {}))
        return nodes, norms

    def _finish(self, bucket: Bucket, gathers: bool, clips: bool) -> tuple[list[Node], list[str]]:
        names = list(bucket.names)
        grads = self._gradients(names, gathers)
        return update_nodes(names, grads, self._applying, self._packed, _SCALE if clips else ""), []

    def _statistics(self, bucket: Bucket, gathers: bool, clips: bool) -> tuple[list[Node], list[str]]:
        nodes = []
        for name in bucket.names:
            numbers, output = f"{_RUNNING}{self.layout.momenta[name]!r}", f"{name}@update"
            inputs = (name, f"{name}@total", numbers, "", "", "", "")
            nodes.append(Node("Update", output, inputs, output, {"kind": "SGD", "nesterov": 0}))
        return nodes, []

    @staticmethod
    def _gradients(names: Sequence[str], gathers: bool) -> dict[str, str]:
        return {name: f"{name}@{GATHERED if gathers else 'total'}" for name in names}

    def _planned(self, nodes: list[Node], outputs: list[str]) -> _Update:
        made = {node.output for node in nodes}
        read = dict.fromkeys(name for node in nodes for name in node.inputs if name and name not in made)
        shapes = {name: self._shape_of(name) for name in read}
        packed = {name for name in read if name.partition("@")[0] in self._packed}
        graph = Graph(nodes, dict(shapes), outputs, {})
        plan = compile_graph(graph, shapes, tuning=self.recipe.model.tuning, parameters=packed)
        return _Update(plan, tuple(read))

    def _shape_of(self, name: str) -> tuple[int, ...]:
        base = name.partition("@")[0]
        if base:
            return self.layout.forms[base][0]
        return (1,) if name == _SCALE else (len(SETTINGS),)


def clip_factor(norms: Sequence[float], limit: float | None) -> float:
    """Return what gradients are multiplied by: at most 1, less where their norm exceeds the limit.

    Examples
    --------
    >>> clip_factor([9.0, 16.0], 10.0), round(clip_factor([9.0, 16.0], 2.5), 6)
    (1.0, 0.5)
    """
    if limit is None:
        return 1.0
    factor = limit / (fsum(norms) ** 0.5 + 1e-6)
    return factor if not factor > 1.0 else 1.0


def _row_of_mean(share: float) -> np.ndarray:
    """The numbers that let a mean follow a value, as GATHERING has them."""
    numbers = {"rate": -share, "decay": -1.0}
    return np.array([numbers.get(setting, 0.0) for setting in SETTINGS], np.float32)
