"""What a bucket of the state does with the gradients of a batch, which are the sum over its shards.

Buckets are apart from each other, so that each may be another process's; only where gradients are clipped by their
norm, all wait for the norms of all.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import fsum
from typing import NamedTuple

import numpy as np

from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.plan import Plan
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels._program import default_float_modes
from fastcnn.kernels._update import SETTINGS
from fastcnn.network import Network
from fastcnn.training.losses import Loss
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.shard_layout import Bucket, Layout
from fastcnn.training.updating import GATHERED, Updating, row_of_numbers, update_nodes

__all__ = ["Recipe", "Turn", "Updates", "clip_factor"]

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


class Updates:
    """Updates the buckets of a state.

    Parameters
    ----------
    recipe : Recipe
    layout : Layout
    packed : collection of str
        Arrays that are stored as parameters.
    """

    def __init__(self, recipe: Recipe, layout: Layout, packed: Collection[str]) -> None:
        self.recipe, self.layout, self._packed = recipe, layout, packed
        self._applying = Updating(recipe.optimizer, averages=recipe.ema is not None)
        self._updates: dict[tuple[Bucket, bool, bool, str], _Update] = {}

    @property
    def clips(self) -> bool:
        """Whether gradients are scaled by their norm, which all buckets must know first."""
        return self.recipe.clip_norm is not None

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
