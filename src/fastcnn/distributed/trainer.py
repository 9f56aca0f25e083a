"""The trainer whose shards are computed by workers.

A step computes the next state beside the present one, in each machine's memory. Only when all workers are done does the
next one count. Whatever fails before, the step is repeated from the same state.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn.distributed.team import Team
from fastcnn.distributed.worker import Computed, Part, PeerLost, Setup, Task
from fastcnn.kernels import _cpu
from fastcnn.network import Network
from fastcnn.training.loader import Batch, Batches
from fastcnn.training.losses import Loss
from fastcnn.training.optimizers import Optimizer
from fastcnn.training.shard_engine import ShardResult
from fastcnn.training.shard_sync import NobodyComes
from fastcnn.training.shard_updates import clip_factor
from fastcnn.training.sharded import ShardedTrainer, mean_loss, next_turn
from fastcnn.training.shards import cut, middle
from fastcnn.training.step import Account
from fastcnn.training.tasks import task_of_loss

__all__ = ["Promise", "PromisedBatches", "RemoteTrainer", "parts_of"]

_GLANCE = 0.1  # seconds between looks whether a call has failed
_PARTS = 24  # of the buckets, over all machines: docs/tuning.md, "Many machines"


class Promise:
    """The inputs of a batch that workers read; as an array, it is read here.

    Parameters
    ----------
    batches : Batches
    epoch, number : int
    shape : tuple of int
    """

    def __init__(self, batches: Batches, epoch: int, number: int, shape: tuple[int, ...]) -> None:
        self.batches, self.epoch, self.number, self.shape = batches, epoch, number, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.batches.batch(self.epoch, self.number).x, dtype)


class PromisedBatches(Batches):
    """The same batches, read by workers."""

    def __init__(self, batches: Batches) -> None:
        self.__dict__.update(batches.__dict__)
        self.read, self.workers = batches, 0

    def batch(self, epoch: int, number: int, stopped: Callable[[], bool] = lambda: False) -> Batch:
        """Return a batch whose inputs are promised."""
        indices, data = self.indices(epoch, number), self.data
        promise: Any = Promise(self.read, epoch, number, (len(indices), *data.source.shape))
        weights = None if data.weights is None else data.weights[indices]
        return Batch(promise, data.targets[indices], weights)


class Order(NamedTuple):
    """A step: its batch, and what else it depends on."""

    task: Task
    update: bool
    step: int
    rate: float
    account: Account


class Lost(Exception):
    """A step cannot be completed, as somebody is gone."""


class RemoteTrainer(ShardedTrainer):
    """Trains a model with gradients that workers compute.

    Parameters
    ----------
    team : Team
    model, optimizer, loss, **settings
        As for `ShardedTrainer`.
    """

    def __init__(
        self, team: Team, model: Network, optimizer: Optimizer, loss: str | Loss | Callable[..., Any], **settings: Any
    ) -> None:
        super().__init__(model, optimizer, loss, **settings)
        self.team = team
        self.batches: Batches | None = None
        self.repeats = 0  # steps that were begun again
        self._attempts = 0
        self._side = 0  # of the state that is the present one
        self._plan: Any = None
        self._base: dict[str, np.ndarray] = {}  # the state that this process has read last
        self._since: list[Order] = []  # the steps since then
        self._owners: list[int] = []
        self._labels = np.empty(0)
        self._slowest = 0.0  # seconds of a step

    def _learn(self, batch: Batch, update: bool) -> tuple[float, np.ndarray]:
        return self._stepped(batch.x, batch.y, batch.weights, update), self._labels

    def _step(self, batch: Any, labels: np.ndarray, weights: ArrayLike | None, update: bool) -> float | None:
        if self._changes is not self._seen or _cpu.isa() != self._isa:
            self._take_over()
        if not (self._holds or self._claim()) or self._changes is not self._seen:
            return None
        self._account = self._counted()
        if self._plan is None:
            self._prepare(batch.shape[1:])
        task = self._task(batch, labels, weights)
        order = Order(task, update, self.steps, self.learning_rate, self._account)
        computed = self._computed(order)
        results = [found.result for found in computed]
        if self._changes is not self._seen:  # a signal handler has changed the model meanwhile
            return None
        self._tell()
        self._begun = update, sum(result.weight for result in results)
        self._done.append(None)
        self._side = 1 - self._side
        self._since.append(order)
        self._labels = np.concatenate([found.labels for found in computed])
        self.outputs = np.concatenate([result.scores for result in results])
        return mean_loss(results)

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Give all workers what is trained."""
        self._plan = self.team.prepare(Setup(self._recipe(), shape, "", self.batches), self._means)
        self._base, self._since, self._side = self._means, [], 0
        if self.sync_batch_norm and self.team.place is None:
            self.team.meet()
        self._state = dict.fromkeys(self._plan.state, np.empty(0, np.float32))
        self._means = {name: array for name, array in self._means.items() if name not in self._state}
        task = task_of_loss(self.loss, self._plan.outputs)
        if task is not None and task != self.model.task:
            self.model.task = task
        self._seen = self._changes  # forward methods may have set attributes; other threads wait for the step

    @staticmethod
    def _task(batch: Any, labels: np.ndarray, weights: ArrayLike | None) -> Any:
        if isinstance(batch, Promise):
            return Task(batch.epoch, batch.number, len(batch))
        given = Batch(np.asarray(batch, np.float32), labels, None if weights is None else np.asarray(weights))
        return Task(0, 0, len(given.x), given)

    # -- a step --------------------------------------------------------------------------------------

    def _computed(self, order: Order) -> list[Computed]:
        """Compute the next state, as often as somebody is lost meanwhile."""
        given = self.team.ray.put(order.task)
        while True:
            if not self.team.grow(self._side):
                self._go_back()
            self._attempts += 1
            start, calls = time.monotonic(), list[Any]()
            try:
                found = self._attempted(given, order, calls)
                self.team.step_done()
                self._slowest = max(self._slowest, time.monotonic() - start)
                return found
            except Lost:
                self.repeats += 1
                self.team.settle(calls, self._patience(), self._attempts)

    def _go_back(self) -> None:
        """Begin again with the state that this process has, and repeat the steps since then: no machine has another."""
        if any(order.task.given is not None for order in self._since):
            raise RuntimeError(
                "fit: distributed: the workers of all machines are lost at once, and the batches since are gone: "
                "resume=True goes on from the last checkpoint"
            )
        self.team.begin(self._base)
        orders, self._since, self._side = self._since, [], 0
        for order in orders:
            self._computed(order)
            self._side = 1 - self._side
            self._since.append(order)

    def _patience(self) -> float:
        return max(self.team.timeout, 5 * self._slowest)

    def _attempted(self, given: Any, order: Order, calls: list[Any]) -> list[Computed]:
        team, attempt = self.team, self._attempts
        parts = len(cut(order.task.size, self.shards))
        owners = self._owners = team.assign(parts, self._owners)
        asked = {}
        for i, member in enumerate(team.members):
            mine = [shard for shard in range(parts) if owners[shard] == i]
            if mine:
                call = member.actor.compute.remote
                asked[i] = call(attempt, given, mine, self._side, order.step, team.place)
        calls += asked.values()
        sums = _Sums(self, owners, calls).calls()
        answers = self._answers(list(asked.values()))
        if not self.sync_batch_norm:  # shards that wait for each other take the same time
            for i, answer in zip(asked, answers, strict=True):
                team.note(i, [found.seconds for found in answer])
            team.name_stragglers()
        computed = sorted((found for answer in answers for found in answer), key=lambda found: found.shard)
        self._answers(sums)
        self._follow([found.result for found in computed], order, calls)
        return computed

    def _follow(self, results: list[ShardResult], order: Order, calls: list[Any]) -> None:
        """Let all machines update their state; each bucket is one worker's."""
        turn = next_turn(results, order.update, order.rate, order.account)
        clips = self.clip_norm is not None and order.update
        asked = [(member, mine) for member, mine in self._buckets() if mine]
        if not clips:
            calls += (done := [member.actor.update.remote(mine, turn, self._side) for member, mine in asked])
            self._answers(done)
            return
        calls += (begun := [member.actor.begin.remote(mine, turn, self._side) for member, mine in asked])
        norms: dict[int, list[float]] = {}
        for answer in self._answers(begun):
            norms.update(answer)
        factor = clip_factor([norm for i in sorted(norms) for norm in norms[i]], self.clip_norm)
        calls += (done := [member.actor.finish.remote(mine, turn, self._side, factor) for member, mine in asked])
        self._answers(done)

    def _buckets(self) -> list[tuple[Any, list[int]]]:
        """Return the buckets of each member: on each machine all of them, once."""
        buckets = len(self._plan.statistics)
        found = []
        for members in machines(self.team.members).values():
            found += [(member, list(range(i, buckets, len(members)))) for i, member in enumerate(members)]
        return found

    def _answers(self, calls: list[Any]) -> list[Any]:
        """Wait for calls; what they raise is raised here, or `Lost` where somebody is gone."""
        errors = self.team.ray.exceptions
        open_, heard = list(calls), time.monotonic()
        try:
            while open_:  # half of them at a time, as a wait looks at all; one that has failed is seen soon
                half = -(-len(open_) // 2)
                ready, open_ = self.team.ray.wait(open_, num_returns=half, timeout=_GLANCE, fetch_local=False)
                if ready:
                    self.team.ray.get(ready)
                    heard = time.monotonic()
                elif time.monotonic() - heard > self._patience():
                    raise Lost
            return list(self.team.ray.get(calls))
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, (PeerLost, NobodyComes, errors.RayError)) or cause is None:
                raise Lost from error
            raise cause from None
        except errors.RayError as error:
            raise Lost from error

    def close(self) -> None:
        """Let the model have the last state, and end the workers."""
        try:
            self.sync()
        except RuntimeError:  # nobody has it any more, which the step has told
            self._is_newer = False
            self._release()
        self._plan = None
        self.team.close()

    # -- the state -----------------------------------------------------------------------------------

    def _write_back(self) -> None:
        if self._is_newer and self._plan is not None:
            self._read_state()
        super()._write_back()

    def _plain_means(self) -> dict[str, np.ndarray]:
        if self._plan is not None and self._state:
            self._read_state()
        return super()._plain_means()

    def _read_state(self) -> None:
        """Let this process have the state."""
        ray = self.team.ray
        if not self._since and self._base is self._state:
            return
        while True:
            if not self.team.grow(self._side):
                self._go_back()
            try:
                call = self.team.members[0].actor.state.remote(self._side)
                self._state = self._base = ray.get(call, timeout=self._patience())
                self._since = []
                return
            except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError):
                self.team.settle([], self._patience(), self._attempts)

    def _plain(self, name: str) -> np.ndarray:
        return np.array(self._state[name])

    def _begin_again(self, means: dict[str, np.ndarray]) -> None:
        super()._begin_again(means)
        self._plan = None


class _Sums:
    """The calls that sum the slots of all shards, some buckets at a time, as these become complete."""

    def __init__(self, trainer: RemoteTrainer, owners: list[int], asked: list[Any]) -> None:
        self.attempt, self.owners, self.asked = trainer._attempts, owners, asked
        members = trainer.team.members
        self.members, self.machines = members, machines(members)
        self.nodes = [members[owner].node for owner in owners]
        self.parts = parts_of(len(trainer._plan.statistics), len(self.machines))

    def calls(self) -> list[Any]:
        """Ask for the sums; all machines have them once these calls are answered."""
        found = []
        for i, part in enumerate(self.parts):
            if len(self.machines) == 1:
                (node,) = self.machines
                found.append(self._partial(i, 0, len(self.nodes), node, True))
                continue
            total, _ = self._sum(i, 0, len(self.nodes), 0)
            received = [self._actor(node, i).receive.remote(part, total) for node in self.machines]
            self.asked += received
            found += received
        return found

    def _actor(self, node: str, i: int) -> Any:
        members = self.machines[node]
        return members[i % len(members)].actor

    def _partial(self, i: int, first: int, last: int, node: str, keeps: bool) -> Any:
        peers = sorted({self.members[owner].pid for owner in self.owners[first:last]})
        call = self._actor(node, i).partial.options(concurrency_group="sums")
        self.asked.append(call.remote(self.attempt, self.parts[i], first, last, peers, keeps))
        return self.asked[-1]

    def _sum(self, i: int, first: int, last: int, depth: int) -> tuple[Any, str]:
        """A branch of the tree: machines take turns in adding what two of them have."""
        found = set(self.nodes[first:last])
        if len(found) == 1:
            node = found.pop()
            return self._partial(i, first, last, node, False), node
        half = middle(first, last)
        left, one = self._sum(i, first, half, depth + 1)
        right, other = self._sum(i, half, last, depth + 1)
        node = (one, other)[(i + depth) % 2]
        call = self._actor(node, i).combine.options(concurrency_group="sums")
        self.asked.append(call.remote(left, right))
        return self.asked[-1], node


def parts_of(buckets: int, machines: int) -> list[Part]:
    """Return which buckets a call sums: all of them one by one on few machines, and larger parts on many.

    Calls are made one after the other by one process, for each machine. Two parts overlap the backward pass still.

    Examples
    --------
    >>> parts_of(3, 2), parts_of(9, 8), parts_of(9, 512)
    ([(0, 1), (1, 2), (2, 3)], [(0, 3), (3, 6), (6, 9)], [(0, 5), (5, 9)])
    """
    return [(part.start, part.stop) for part in cut(buckets, max(2, _PARTS // machines))]


def machines(members: list[Any]) -> dict[str, list[Any]]:
    """Return the members of each machine."""
    found: dict[str, list[Any]] = {}
    for member in members:
        found.setdefault(member.node, []).append(member)
    return found
