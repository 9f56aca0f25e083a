"""A trainer that cuts each batch into shards, computes them one after the other, and sums what they give.

shard_engine.py computes. `fastcnn.distributed` has the same trainer whose shards are computed by other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_int
from fastcnn.kernels import _cpu, storage
from fastcnn.network import Network
from fastcnn.training.loader import Batch
from fastcnn.training.losses import Loss
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.shard_engine import Engine, ShardResult
from fastcnn.training.shard_sync import Meeting, NobodyComes
from fastcnn.training.shard_updates import Recipe, Turn, clip_factor
from fastcnn.training.shards import add_into, cut, tree
from fastcnn.training.step import Account
from fastcnn.training.tasks import task_of_loss
from fastcnn.training.trainer import Trainer
from fastcnn.training.updating import GATHERED

__all__ = ["ShardedTrainer", "at_once", "mean_loss", "next_turn", "part_of"]


class ShardedTrainer(Trainer):
    """Trains a model with gradients that are sums over shards.

    The result depends on the number of shards, as rounding does, and batch normalisation uses the statistics of each
    shard. Running statistics follow the mean of the shards' statistics.

    Parameters
    ----------
    model, optimizer, loss, clip_norm, recompute, seed, ema
        As for `Trainer`.
    shards : int
        Into which each batch is cut.

    Examples
    --------
    >>> import fastcnn as fc
    >>> model = fc.Sequential(fc.Linear(2, 2, rng=0))
    >>> trainer = ShardedTrainer(model, fc.SGD(0.5), shards=2)
    >>> x = np.float32([[1, 0], [0, 1], [1, 1]])
    >>> losses = [trainer.step(x, [0, 1, 0]) for _ in range(10)]
    >>> losses[-1] < losses[0]
    True
    """

    def __init__(
        self,
        model: Network,
        optimizer: Optimizer,
        loss: str | Loss | Callable[..., Any] = "cross_entropy",
        *,
        shards: int,
        sync_batch_norm: bool = False,
        clip_norm: float | None = None,
        recompute: bool = False,
        seed: int = 0,
        ema: float | None = None,
    ) -> None:
        super().__init__(model, optimizer, loss, clip_norm=clip_norm, recompute=recompute, seed=seed, ema=ema)
        self.shards, self.sync_batch_norm = as_int(shards, "Trainer: shards", 1), sync_batch_norm
        self._engine: Engine | None = None
        self._blocks: list[np.ndarray] = []  # of the state: as it is, and as it becomes
        self._slots: list[np.ndarray] = []  # that are free

    def _recipe(self) -> Recipe:
        return Recipe(
            self.model,
            self.optimizer,
            self.loss,
            self.clip_norm,
            bool(self.recompute),
            self.seed,
            self.ema,
            self.shards,
            self.sync_batch_norm,
        )

    def _step(self, batch: Any, labels: np.ndarray, weights: ArrayLike | None, update: bool) -> float | None:
        if self._changes is not self._seen or _cpu.isa() != self._isa:
            self._take_over()
        if not (self._holds or self._claim()) or self._changes is not self._seen:
            return None
        self._account = self._counted()
        given = Batch(batch, labels, None if weights is None else np.asarray(weights))
        engine = self._engine or self._start(given)
        results = self._attempt(engine, given, update)
        if self._changes is not self._seen:  # a signal handler has changed the model meanwhile
            return None
        self._tell()
        self._begun = update, sum(result.weight for result in results)
        self._done.append(None)
        self._commit()
        self.outputs = np.concatenate([result.scores for result in results])
        return mean_loss(results)

    def _start(self, batch: Batch) -> Engine:
        """Make the engine, and its state from the model's arrays and the loaded means."""
        engine = Engine(self._recipe(), batch.x.shape[1:])
        layout = engine.layout
        self._forms = dict(layout.forms)
        block = zeros(layout.state.floats)
        engine.fill(block, self._means)
        self._means = {name: array for name, array in self._means.items() if name not in self._forms}
        self._state = layout.state.views(block)
        task = task_of_loss(self.loss, engine.outputs)
        if task is not None and task != self.model.task:
            self.model.task = task
        self._seen = self._changes  # forward methods may have set attributes; other threads wait for the step
        self._keep(engine, block)
        self._engine = engine
        return engine

    def _keep(self, engine: Engine, block: np.ndarray) -> None:
        """Take over the first state."""
        self._blocks = [block, block.copy()]

    def _attempt(self, engine: Engine, batch: Batch, update: bool) -> list[ShardResult]:
        """Compute the state behind a step, beside the present one."""
        parts = cut(len(batch.x), self.shards)
        results: list[ShardResult] = []

        def add(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            self._slots.append(right)
            return add_into(left, right)

        def leaf(shard: int) -> np.ndarray:
            slot = self._slot(engine)
            results.append(engine.gradient(part_of(batch, parts[shard]), shard, self.steps, self._state, slot))
            return slot

        if self.sync_batch_norm:
            slots = [self._slot(engine) for _ in parts]
            given = {i: (part_of(batch, part), slots[i]) for i, part in enumerate(parts)}
            results += at_once(engine, given, self.steps, self._state, Meeting(list(given)), len(batch.x))
            total = tree(0, len(parts), slots.__getitem__, add)
        else:
            total = tree(0, len(parts), leaf, add)
        turn = next_turn(results, update, self.learning_rate, self._account)
        old, new = self._blocks
        norms = [
            norm for bucket in engine.layout.buckets for norm in engine.updates.begin(bucket, turn, old, new, total)
        ]
        factor = clip_factor(norms, self.clip_norm)
        for bucket in engine.layout.buckets:
            engine.updates.finish(bucket, turn, new, total, factor)
        self._slots.append(total)
        return results

    def _slot(self, engine: Engine) -> np.ndarray:
        return self._slots.pop() if self._slots else zeros(engine.layout.slot.floats)

    def _commit(self) -> None:
        """Let the state that `_attempt` has left be the present one."""
        assert self._engine is not None
        self._blocks.reverse()
        self._state = self._engine.layout.state.views(self._blocks[0])

    def _plain_means(self) -> dict[str, np.ndarray]:
        means, suffix = super()._plain_means(), f"@{GATHERED}"
        gathers = self._counted().gathered > 0
        return {name: array for name, array in means.items() if gathers or not name.endswith(suffix)}

    def _begin_again(self, means: dict[str, np.ndarray]) -> None:
        super()._begin_again(means)
        self._engine, self._blocks, self._slots = None, [], []


def part_of(batch: Batch, part: slice) -> Batch:
    """Return a part of a batch."""
    return Batch(batch.x[part], batch.y[part], None if batch.weights is None else batch.weights[part])


def at_once(
    engine: Engine,
    given: Mapping[int, tuple[Batch, np.ndarray]],
    step: int,
    state: Mapping[str, np.ndarray],
    meeting: Meeting,
    inputs: int,
) -> list[ShardResult]:
    """Compute shards that wait for each other, each in a thread; they share the threads of this process.

    Parameters
    ----------
    engine : Engine
    given : dict of int to (Batch, ndarray)
        Shards by their numbers, and their slots.
    step, state, inputs
        As for `Engine.gradient`.
    meeting : Meeting
    """
    threads = max(1, _cpu.get_num_threads() // len(given))

    def compute(shard: int) -> ShardResult:
        batch, slot = given[shard]
        try:
            with _cpu.num_threads(threads):
                return engine.gradient(batch, shard, step, state, slot, inputs, meeting.exchange_of(shard))
        except BaseException:
            meeting.fail()
            raise

    with ThreadPoolExecutor(len(given), thread_name_prefix="fastcnn-shards") as pool:
        futures = [pool.submit(compute, shard) for shard in given]
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, NobodyComes)):
        raise error  # what the others miss a shard for
    return [future.result() for future in futures]


def next_turn(results: list[ShardResult], update: bool, rate: float, account: Account) -> Turn:
    """Return what the state does with the gradients of a batch.

    Parameters
    ----------
    results : list of ShardResult
    update : bool
        Whether parameters follow them.
    rate : float
        The learning rate.
    account : Account
        Before the step.
    """
    weight, gathered = sum(result.weight for result in results), account.gathered
    return Turn(
        gathers=not update or gathered > 0,
        applies=update,
        number=account.updates + 1,
        rate=rate,
        share=weight / (gathered + weight) if gathered else 1.0,
        begins=not gathered,
        weight=weight,
        inputs=sum(result.inputs for result in results),
    )


def zeros(floats: int) -> np.ndarray:
    """Return zeros, aligned as kernels need it."""
    block = storage.allocate(floats)
    block[...] = 0
    return block


def mean_loss(results: list[ShardResult]) -> float:
    """Return the loss of a batch from those of its shards.

    Examples
    --------
    >>> scores = np.zeros((1, 2), np.float32)
    >>> mean_loss([ShardResult(1.0, 1.0, 1, scores), ShardResult(2.0, 3.0, 3, scores)])
    1.75
    """
    weight = sum(result.weight for result in results)
    return sum(result.loss * result.weight for result in results if result.weight) / weight if weight else float("nan")
