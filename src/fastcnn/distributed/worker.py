"""A worker: a process that computes shards, sums them, and updates its buckets of its machine's state.

team.py starts workers, and trainer.py tells them what to do. Ray calls their methods; nothing here knows of Ray.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastcnn._version import __version__
from fastcnn.distributed.memory import Address, Memory, Sizes
from fastcnn.kernels import _cpu
from fastcnn.training.loader import Batch, Batches
from fastcnn.training.shard_engine import Engine, ShardResult
from fastcnn.training.shard_sync import Meeting
from fastcnn.training.shard_updates import Recipe, Turn
from fastcnn.training.sharded import at_once, part_of
from fastcnn.training.shards import add_into, cut, tree

__all__ = ["About", "Computed", "Part", "PeerLost", "Plan", "Setup", "Task", "Worker"]

Part = tuple[int, int]  # buckets that are summed by one call: the first, and the one behind the last
_CHUNK = 1 << 16  # floats that are summed at once: those of all shards stay in the cache
_POLL = 0.0005  # seconds between looks at the marks of other processes
_LOOK = 0.1  # seconds between looks whether these processes live


class PeerLost(RuntimeError):
    """Another worker of the machine has not done its part."""


class About(NamedTuple):
    """What a worker is."""

    host: str
    pid: int
    version: str
    isas: tuple[str, ...]
    cpus: tuple[int, ...]


class Setup(NamedTuple):
    """What all workers get once."""

    recipe: Recipe
    shape: tuple[int, ...]
    isa: str
    batches: Batches | None


class Plan(NamedTuple):
    """What trainer.py must know of the engine."""

    sizes: Sizes
    statistics: tuple[bool, ...]  # of each bucket: whether it has running statistics
    state: tuple[str, ...]
    outputs: int
    print: str  # the same in all workers


class Task(NamedTuple):
    """A batch: its number in an epoch, or itself."""

    epoch: int
    number: int
    size: int
    given: Batch | None = None


class Computed(NamedTuple):
    """What a shard gives beside its slot."""

    shard: int
    result: ShardResult
    labels: np.ndarray
    seconds: float


class Worker:
    """One process of a training.

    Parameters
    ----------
    threads : int
    """

    def __init__(self, threads: int) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program that asks
        _cpu.set_num_threads(threads)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="fastcnn-ahead")
        self._ahead: dict[tuple[int, int, int], Future[Batch]] = {}
        self._memory: Memory | None = None

    def about(self) -> About:
        """Tell what this process is; it is alive if it does."""
        cpus = tuple(sorted(os.sched_getaffinity(0)))
        return About(socket.gethostname(), os.getpid(), __version__, tuple(_cpu.available_isas()), cpus)

    def prepare(self, setup: Setup) -> Plan:
        """Take over what is trained."""
        self._end()
        _cpu.set_isa(setup.isa)
        self._setup = setup
        self._engine = Engine(setup.recipe, setup.shape)
        layout = self._engine.layout
        sizes = Sizes(layout.state.floats, layout.slot.floats, setup.recipe.shards, len(layout.buckets))
        statistics = tuple(bucket.has_statistics for bucket in layout.buckets)
        self._sizes = sizes
        print_ = f"{__version__} {setup.isa} {layout.forms} {layout.buckets} {layout.momenta}"
        return Plan(sizes, statistics, tuple(layout.state), self._engine.outputs, print_)

    def _end(self) -> None:
        self._ahead.clear()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    # -- the machine's memory ------------------------------------------------------------------------

    def found(self) -> Address:
        """Make the memory of this machine."""
        self._memory = Memory(self._sizes)
        return self._memory.address

    def join(self, address: Address) -> Address:
        """Open the memory of this machine, which another process has."""
        self._memory = Memory(self._sizes, address)
        return self._memory.address

    def fill(self, state: Mapping[str, np.ndarray]) -> None:
        """Begin with a state: what is not given is as the model has it, or zero."""
        memory = self._own()
        self._engine.fill(memory.states[0], state)
        memory.states[1][...] = memory.states[0]

    def write(self, block: np.ndarray) -> None:
        """Begin with the state of another machine, as it lies there in memory."""
        for state in self._own().states:
            state[...] = block

    def block(self, side: int) -> np.ndarray:
        """Read the state for another machine."""
        return self._own().states[side]

    def state(self, side: int) -> dict[str, np.ndarray]:
        """Read the state, in the arrays' own shapes."""
        return self._engine.plain(self._own().states[side])

    def _own(self) -> Memory:
        assert self._memory is not None
        return self._memory

    # -- a step --------------------------------------------------------------------------------------

    def compute(
        self, attempt: int, task: Task, shards: Sequence[int], side: int, step: int, place: Any = None
    ) -> list[Computed]:
        """Compute shards into their slots; `place` is where workers exchange values meanwhile, if they do."""
        engine, memory = self._engine, self._own()
        state = engine.layout.state.views(memory.states[side])
        found = []
        try:
            if place is not None:
                return self._compute_at_once(attempt, task, shards, state, step, place)
            for shard in shards:
                batch = self._batch(task, shard)
                start = time.perf_counter()
                mark = partial(_mark, memory.marks[shard], attempt)
                result = engine.gradient(batch, shard, step, state, memory.slots[shard], reached=mark)
                found.append(Computed(shard, result, batch.y, time.perf_counter() - start))
        except BaseException:
            memory.marks[list(shards)] = -attempt
            raise
        self._read_ahead(task, shards)
        return found

    def _compute_at_once(
        self, attempt: int, task: Task, shards: Sequence[int], state: Mapping[str, np.ndarray], step: int, place: Any
    ) -> list[Computed]:
        """Compute shards that wait for those of other workers."""
        memory = self._own()
        parts = len(cut(task.size, self._setup.recipe.shards))

        def fetch(key: str, values: Mapping[int, np.ndarray]) -> list[np.ndarray]:
            found: list[np.ndarray] = place(attempt, key, dict(values), parts)
            return found

        given = {shard: (self._batch(task, shard), memory.slots[shard]) for shard in shards}
        start = time.perf_counter()
        results = at_once(self._engine, given, step, state, Meeting(list(shards), fetch), task.size)
        memory.marks[list(shards)] = attempt
        self._read_ahead(task, shards)
        seconds = (time.perf_counter() - start) / len(shards)
        found = zip(given.items(), results, strict=True)
        return [Computed(shard, result, batch.y, seconds) for (shard, (batch, _)), result in found]

    def _batch(self, task: Task, shard: int) -> Batch:
        if task.given is not None:
            part = cut(task.size, self._setup.recipe.shards)[shard]
            return part_of(task.given, part)
        ahead = self._ahead.pop((task.epoch, task.number, shard), None)
        if ahead is not None:
            return ahead.result()
        assert self._setup.batches is not None
        return self._setup.batches.shard(task.epoch, task.number, shard)

    def _read_ahead(self, task: Task, shards: Sequence[int]) -> None:
        """Load the shards of the next batch, as this worker will probably be asked for them."""
        batches = self._setup.batches
        if task.given is not None or batches is None or not batches.workers:
            return
        for key in [key for key in self._ahead if key[:2] <= (task.epoch, task.number)]:
            self._ahead.pop(key).cancel()
        number = task.number + 1
        if number < len(batches):
            parts = len(cut(len(batches.indices(task.epoch, number)), batches.shards))
            for shard in (shard for shard in shards if shard < parts):
                self._ahead[task.epoch, number, shard] = self._pool.submit(batches.shard, task.epoch, number, shard)

    # -- the sum -------------------------------------------------------------------------------------

    def partial(self, attempt: int, part: Part, first: int, last: int, peers: Sequence[int], keeps: bool) -> Any:
        """Sum buckets of the slots of some shards, as soon as these are complete.

        Parameters
        ----------
        attempt : int
        part : (int, int)
            The first bucket, and the one behind the last.
        first, last : int
            A branch of the tree.
        peers : sequence of int
            Processes that compute these shards.
        keeps : bool
            Whether the sum is that of all shards; else it is returned.
        """
        memory, floats = self._own(), self._floats(part)
        self._wait(memory.marks[first:last, slice(*part)], attempt, peers)
        slots = memory.slots
        for start in range(floats.start, floats.stop, _CHUNK):
            chunk = slice(start, min(floats.stop, start + _CHUNK))
            found = tree(first, last, partial(_chunk_of, slots, chunk), add_into)
            if keeps:
                memory.total[chunk] = found
        return None if keeps else slots[first][floats].copy()

    def _floats(self, part: Part) -> slice:
        """Where buckets lie in a slot: one behind the other."""
        buckets = self._engine.layout.buckets
        return slice(buckets[part[0]].start, buckets[part[1] - 1].stop)

    @staticmethod
    def _wait(marks: np.ndarray, attempt: int, peers: Sequence[int]) -> None:
        looked = time.monotonic()
        while not (marks == attempt).all():
            if (np.abs(marks) > attempt).any() or (marks == -attempt).any():
                raise PeerLost("a shard has failed, or the step is begun again")
            time.sleep(_POLL)
            if time.monotonic() - looked > _LOOK:
                looked = time.monotonic()
                for pid in peers:
                    if not _lives(pid):
                        raise PeerLost(f"process {pid} is gone")

    def combine(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the sum of two branches of the tree, from two machines."""
        total: np.ndarray = left + right
        return total

    def receive(self, part: Part, total: np.ndarray) -> None:
        """Keep the sum of all shards for this machine."""
        self._own().total[self._floats(part)] = total

    # -- the update ----------------------------------------------------------------------------------

    def begin(self, buckets: Sequence[int], turn: Turn, side: int) -> dict[int, list[float]]:
        """Begin the update of buckets; return the squared norms of their gradients, where these are clipped."""
        engine, memory = self._engine, self._own()
        old, new = memory.states[side], memory.states[1 - side]
        return {i: engine.updates.begin(engine.layout.buckets[i], turn, old, new, memory.total) for i in buckets}

    def finish(self, buckets: Sequence[int], turn: Turn, side: int, factor: float) -> None:
        """Update buckets."""
        engine, memory = self._engine, self._own()
        for i in buckets:
            engine.updates.finish(engine.layout.buckets[i], turn, memory.states[1 - side], memory.total, factor)

    def update(self, buckets: Sequence[int], turn: Turn, side: int) -> None:
        """Update buckets where gradients are not clipped."""
        self.begin(buckets, turn, side)
        self.finish(buckets, turn, side, 1.0)

    def bury(self, pids: Sequence[int]) -> None:
        """End processes of this machine that do not answer, and wait until they write no more."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            while _lives(pid):
                time.sleep(_POLL)


def _mark(marks: np.ndarray, attempt: int, bucket: int) -> None:
    marks[bucket] = attempt


def _chunk_of(slots: Sequence[np.ndarray], chunk: slice, shard: int) -> np.ndarray:
    return slots[shard][chunk]


def _lives(pid: int) -> bool:
    """Whether a process runs: one that has ended and waits for its parent does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False
