"""The workers of a training: started on the machines of a cluster, watched, replaced where they die.

worker.py is what they do, and trainer.py says when.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from fastcnn._version import __version__
from fastcnn.distributed.meeting import MeetingPlace
from fastcnn.distributed.memory import Address, Memory
from fastcnn.distributed.worker import About, Plan, Setup, Worker
from fastcnn.errors import FastcnnWarning

__all__ = ["Member", "Team", "balanced"]

_SLOW, _TIMES = 1.5, 5  # times the median of a shard's time, in steps one after the other: the worker is named
_NOTICED = 0.05  # seconds more than the others take, from which on it is worth a word
_WORTH = 0.8  # of a step's time, which other owners of the shards must save
_KEPT = 0.7  # of a worker's time for a shard, when a new one is measured
_FORGOTTEN = 0.98  # of the time of a worker without shards remains after a step: it is tried again some day
_START = 300.0  # seconds for a worker to be ready
_ANSWER = 20.0  # seconds within which a worker that is idle tells that it lives


@dataclass
class Member:
    """A worker that is ready, or becomes so."""

    actor: Any
    number: int
    about: About | None = None
    node: str = ""
    address: Address | None = None
    seconds: float | None = None  # for a shard, lately
    is_warm: bool = False  # its first step includes compiling
    slow_steps: int = 0

    @property
    def name(self) -> str:
        """What messages call it."""
        where = f" on {self.about.host} (process {self.about.pid})" if self.about else ""
        return f"worker {self.number}{where}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.about is not None
        return self.about.pid


@dataclass
class Place:
    """A meeting place, as workers call it."""

    actor: Any

    def __call__(self, *arguments: Any) -> Any:
        import ray

        return ray.get(self.actor.exchange.remote(*arguments))


@dataclass
class Team:
    """Workers, and who of them is ready.

    Parameters
    ----------
    ray : module
    workers, threads : int
    timeout : float
        Seconds without an answer after which a worker counts as hung.
    """

    ray: Any
    workers: int
    threads: int
    timeout: float
    members: list[Member] = field(default_factory=list)
    plan: Plan | None = None
    own: Memory | None = None  # this process keeps its machine's memory, too
    place: Any = None  # where workers exchange values of synchronised batch normalisation
    _pending: dict[Any, Member] = field(default_factory=dict)
    _count: int = 0
    _isa: str = ""

    def start(self) -> None:
        """Ask for workers, and wait for the first."""
        self._node = self.ray.get_runtime_context().get_node_id()
        while len(self._pending) + len(self.members) < self.workers:
            self._ask()
        self._wait(_START, all_of=True)
        if not self.members:
            self._complain()
        known = [set(member.about.isas) for member in self.members if member.about]
        common = set.intersection(*known)
        first = self.members[0].about
        assert first is not None
        self._isa = next(isa for isa in first.isas if isa in common)

    def _ask(self) -> None:
        options = {
            "num_cpus": self.threads,
            "max_restarts": 0,
            "concurrency_groups": {"sums": 2},
            "allow_out_of_order_execution": True,
            "scheduling_strategy": "SPREAD",
        }
        actor = self.ray.remote(**options)(Worker).remote(self.threads)
        self._pending[actor.about.remote()] = Member(actor, self._count)
        self._count += 1

    def _wait(self, timeout: float, all_of: bool = False) -> None:
        """Take over those who have become ready."""
        if not self._pending:
            return
        number = len(self._pending) if all_of else 1
        ready, _ = self.ray.wait(list(self._pending), num_returns=number, timeout=timeout)
        for answer in ready:
            member = self._pending.pop(answer)
            try:
                member.about = self.ray.get(answer)
            except self.ray.exceptions.RayActorError:
                continue
            self._check(member)
            member.node = self._node_of(member)
            self.members.append(member)
        self.members.sort(key=lambda member: (member.node, member.number))

    def _check(self, member: Member) -> None:
        assert member.about is not None
        if member.about.version != __version__:
            raise RuntimeError(f"fit: {member.name} has fastcnn {member.about.version}, expected {__version__}")
        if self._isa and self._isa not in member.about.isas:
            raise RuntimeError(f"fit: {member.name} has no {self._isa}: set FASTCNN_ISA={member.about.isas[0]}")

    def _node_of(self, member: Member) -> str:
        node: str = self.ray.get(member.actor.__ray_call__.remote(_node_id))
        return node

    # -- taking part ---------------------------------------------------------------------------------

    def prepare(self, setup: Setup, state: Mapping[str, Any]) -> Plan:
        """Let all members take over what is trained, and begin with a state."""
        self._forget()
        self._setup = setup._replace(isa=self._isa)
        self._reference = self.ray.put(self._setup)
        plans = self.ray.get([member.actor.prepare.remote(self._reference) for member in self.members])
        plan: Plan = plans[0]
        self.plan = plan
        for member, other in zip(self.members, plans, strict=True):
            self._agree(member, other)
        self.begin(state)
        return plan

    def begin(self, state: Mapping[str, Any]) -> None:
        """Let all members begin with a state, the arrays in their own shapes."""
        given = self.ray.put(dict(state))
        members, self.members = self.members, []
        for member in members:
            if not self._shares(member):
                member.address = self.ray.get(member.actor.found.remote())
                self.ray.get(member.actor.fill.remote(given))
            self._take_in(member)

    def _forget(self) -> None:
        if self.own is not None:
            self.own.close()
            self.own = None
        for member in self.members:
            member.address = None

    def _agree(self, member: Member, plan: Plan) -> None:
        if self.plan is not None and plan.print != self.plan.print:
            raise RuntimeError(f"fit: {member.name} plans another step than the others, expected the same software")

    def _shares(self, member: Member) -> bool:
        """Give a member the memory of its machine, where somebody has it."""
        held = next((other.address for other in self.members if other.node == member.node), None)
        if held is None and self.own is not None and member.node == self._node:
            held = self.own.address
        if held is not None:
            member.address = self.ray.get(member.actor.join.remote(held))
        return held is not None

    def _take_in(self, member: Member) -> None:
        if self.own is None and member.node == self._node and self.plan is not None and member.address is not None:
            self.own = Memory(self.plan.sizes, member.address)
        self.members.append(member)
        self.members.sort(key=lambda other: (other.node, other.number))

    def grow(self, side: int) -> bool:
        """Let those take part who have become ready since: replacements, and workers on new machines.

        Returns
        -------
        bool
            Whether somebody still has the state; else they wait for one.
        """
        while len(self._pending) + len(self.members) < self.workers:
            self._ask()
        before, self.members = self.members, []
        self._wait(0.0 if before else _START)
        ready, self.members = self.members, before
        if not ready and not before:
            self._complain()
        for member in ready:
            try:
                self._agree(member, self.ray.get(member.actor.prepare.remote(self._reference)))
                if not self._shares(member):
                    block = self._block(side)
                    if block is None:
                        self.members.append(member)
                        continue
                    member.address = self.ray.get(member.actor.found.remote())
                    self.ray.get(member.actor.write.remote(block))
                self._take_in(member)
            except self.ray.exceptions.RayError:  # it, or who has the state, is gone meanwhile
                self.ray.kill(member.actor)
        return all(member.address is not None for member in self.members)

    def step_done(self) -> None:
        """Let go of this machine's memory where no worker has kept it up to date."""
        if self.own is not None and all(member.node != self._node for member in self.members):
            self.own.close()
            self.own = None

    def _block(self, side: int) -> Any:
        """The state as it lies in memory, from whoever has it."""
        for other in self.members:
            if other.address is not None:
                return other.actor.block.remote(side)
        return None if self.own is None else self.ray.put(self.own.states[side])

    def _complain(self) -> None:
        cpus = self.ray.cluster_resources().get("CPU", 0)
        raise RuntimeError(
            f"fit: distributed: no worker of {self.threads} CPUs is ready after {_START:g} s; the cluster has "
            f"{cpus:g} CPUs, expected free ones"
        )

    # -- losses --------------------------------------------------------------------------------------

    def settle(self, calls: Sequence[Any], timeout: float, attempt: int) -> None:
        """Find out who is lost, and wait until the others have ended the calls of a step that is given up."""
        if self.place is not None:
            try:
                self.ray.get(self.place.actor.give_up.remote(attempt), timeout=_ANSWER)
            except (self.ray.exceptions.RayError, self.ray.exceptions.GetTimeoutError):
                self.meet()
        _, open_ = self.ray.wait(list(calls), num_returns=len(calls), timeout=timeout, fetch_local=False)
        answers = {member.actor.about.remote(): member for member in self.members}
        self.ray.wait(list(answers), num_returns=len(answers), timeout=_ANSWER if not open_ else min(5.0, timeout))
        lost = []
        for answer, member in answers.items():
            try:
                self.ray.get(answer, timeout=0)
            except (self.ray.exceptions.RayActorError, self.ray.exceptions.GetTimeoutError) as error:
                lost.append((member, "died" if isinstance(error, self.ray.exceptions.RayActorError) else "hangs"))
        self._remove(lost)
        if open_:  # those who are left end their calls, as they see that others are gone
            self.ray.wait(open_, num_returns=len(open_), timeout=timeout, fetch_local=False)

    def meet(self) -> None:
        """Make a place where workers exchange values; they call it as a function."""
        self.place = Place(self.ray.remote(num_cpus=0, max_concurrency=10_000)(MeetingPlace).remote())

    def _remove(self, lost: Iterable[tuple[Member, str]]) -> None:
        for member, how in lost:
            self.members.remove(member)
            self.ray.kill(member.actor)
            warnings.warn(
                f"fit: {member.name} {how}: others compute its shards, and the step is repeated",
                FastcnnWarning,
                stacklevel=2,
            )
        for member, how in lost:
            near = next((other for other in self.members if other.node == member.node), None)
            if how == "hangs" and near is not None:
                self.ray.get(near.actor.bury.remote([member.pid]))

    # -- who computes what ---------------------------------------------------------------------------

    def assign(self, shards: int, before: list[int]) -> list[int]:
        """Return the member that computes each shard; neighbours have the same."""
        counts = [before.count(i) for i in range(len(self.members))]
        for i, member in enumerate(self.members):
            if member.seconds is not None and i not in before:
                member.seconds *= _FORGOTTEN
        times = [member.seconds for member in self.members]
        usual = median([time for time in times if time] or [1.0])
        counts = balanced(shards, [time or usual for time in times], counts if sum(counts) == shards else None)
        return [i for i, count in enumerate(counts) for _ in range(count)]

    def note(self, owner: int, seconds: Sequence[float]) -> None:
        """Remember how long a member takes for a shard."""
        member = self.members[owner]
        now = sum(seconds) / len(seconds)
        if not member.is_warm:
            member.is_warm = True
            return
        member.seconds = now if member.seconds is None else _KEPT * member.seconds + (1 - _KEPT) * now

    def name_stragglers(self) -> None:
        """Tell who takes much longer than the others, once."""
        times = [member.seconds for member in self.members if member.seconds is not None]
        if len(times) < 2:
            return
        for member in self.members:
            others = median([other.seconds for other in self.members if other is not member and other.seconds] or [0.0])
            limit = max(_SLOW * others, others + _NOTICED)
            is_slow = member.seconds is not None and others > 0 and member.seconds > limit
            member.slow_steps = member.slow_steps + 1 if is_slow else 0
            if member.slow_steps == _TIMES:
                warnings.warn(
                    f"fit: {member.name} is slow: {member.seconds:.3g} s for a shard, others take {others:.3g} s; "
                    "it gets fewer shards",
                    FastcnnWarning,
                    stacklevel=2,
                )

    def close(self) -> None:
        """End all workers."""
        for member in [*self.members, *self._pending.values(), *([self.place] if self.place else [])]:
            self.ray.kill(member.actor)
        self.members, self._pending = [], {}
        if self.own is not None:
            self.own.close()
            self.own = None


def balanced(shards: int, seconds: Sequence[float], before: Sequence[int] | None = None) -> list[int]:
    """Return how many shards each worker gets, so that a step takes the shortest time.

    Parameters
    ----------
    shards : int
    seconds : sequence of float
        Of each worker for a shard.
    before : sequence of int, optional
        What they have: it stays unless a change is worth the while.

    Examples
    --------
    >>> balanced(8, [1.0, 1.0, 1.0]), balanced(8, [1.0, 3.0], [4, 4]), balanced(8, [1.0, 1.1], [4, 4])
    ([3, 3, 2], [6, 2], [4, 4])
    """
    counts = [0] * len(seconds)
    for _ in range(shards):
        best = min(range(len(counts)), key=lambda i: (counts[i] + 1) * seconds[i])
        counts[best] += 1

    def longest(given: Sequence[int]) -> float:
        return max(count * time for count, time in zip(given, seconds, strict=True))

    if before is None or longest(counts) < min(_WORTH * longest(before), longest(before) - _NOTICED):
        return counts
    return list(before)


def _node_id(worker: Any) -> str:
    import ray

    node: str = ray.get_runtime_context().get_node_id()
    return node
