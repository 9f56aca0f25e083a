"""Training by many processes has the bits of a training in one, whoever dies meanwhile."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest
from distributed_networks import same, trained

import fastcnn as fc
from fastcnn.distributed import Ray

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def alone():
    return trained(3)


@pytest.mark.parametrize(("workers", "threads"), [(1, 2), (2, 1), (3, 1), (5, 1)])
def test_any_number_of_workers_and_threads_has_the_bits_of_one_process(nodes, alone, workers, threads):
    assert same(trained(3, distributed=Ray(workers, threads=threads)), alone)


def test_synchronised_batch_normalisation_has_the_bits_of_one_process(nodes):
    chaos = Chaos(kill, 1, every=3)
    found = trained(2, sync_batch_norm=True, distributed=Ray(3), callbacks=[chaos])
    assert same(found, trained(2, sync_batch_norm=True))


class Chaos(fc.training.Callback):
    """Does harm after some steps, within the next one."""

    def __init__(self, harm, times, every=2, seed=0):
        self.harm, self.times, self.every, self.random = harm, times, every, random.Random(seed)
        self.done = self.steps = 0
        self.threads = []

    def on_batch(self, run):
        """Let a thread do the harm while the next step runs."""
        self.trainer, self.steps = run.trainer, self.steps + 1
        if self.steps % self.every == 0 and self.done < self.times:
            self.done += 1
            self.threads.append(threading.Thread(target=self.soon, args=(run.trainer,)))
            self.threads[-1].start()

    def soon(self, trainer):
        """Do it at a random time."""
        time.sleep(self.random.uniform(0, 0.05))
        self.harm(self.random, trainer)


def kill(random, trainer):
    os.kill(random.choice(trainer.team.members).pid, signal.SIGKILL)


def test_killed_workers_change_no_bit(nodes, budget):
    kills = budget(5, 50)
    epochs = 1 + kills
    chaos = Chaos(kill, kills)
    with pytest.warns(
        fc.FastcnnWarning, match=r"fit: worker \d+ on .* \(process \d+\) died: others compute its shards"
    ):
        found = trained(epochs, distributed=Ray(3, timeout=60), callbacks=[chaos])
    assert chaos.done == kills
    assert same(found, trained(epochs))


def test_all_workers_may_die_at_once(nodes, alone):
    def kill_all(random, trainer):
        for member in trainer.team.members:
            os.kill(member.pid, signal.SIGKILL)

    for workers in (1, 3):
        found = trained(3, distributed=Ray(workers, timeout=60), callbacks=[Chaos(kill_all, 1, every=6)])
        assert same(found, alone)


def test_a_worker_that_hangs_is_replaced(nodes, alone):
    def stop(random, trainer):
        os.kill(trainer.team.members[trainer._owners[0]].pid, signal.SIGSTOP)

    with pytest.warns(fc.FastcnnWarning, match="hangs: others compute its shards"):
        found = trained(3, distributed=Ray(3, timeout=5), callbacks=[Chaos(stop, 1, every=4)])
    assert same(found, alone)


def test_a_machine_that_dies_and_one_that_comes_late_change_no_bit(nodes, budget):
    rounds = budget(1, 10)
    state = {"removed": 0}

    def remove(random, trainer):
        nodes.remove()
        state["removed"] += 1

    class Late(Chaos):
        def on_epoch(self, run):
            for _ in range(state["removed"]):
                nodes.add(2)
                state["removed"] -= 1

    epochs = 3 * rounds
    chaos = Late(remove, rounds, every=10)
    found = trained(epochs, distributed=Ray(3, timeout=20), callbacks=[chaos])
    chaos.on_epoch(None)
    assert chaos.done == rounds
    assert same(found, trained(epochs))
