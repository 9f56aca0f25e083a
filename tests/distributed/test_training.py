"""Training by many processes has the bits of a training in one, whoever dies meanwhile."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from distributed_networks import X, Y, network, same, trained
from PIL import Image

import fastcnn as fc
from fastcnn.cli import main
from fastcnn.distributed import Ray

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def alone():
    return trained(3)


@pytest.mark.parametrize(("workers", "threads"), [(1, 2), (2, 1), (3, 1), (5, 1)])
def test_any_number_of_workers_and_threads_has_the_bits_of_one_process(nodes, alone, workers, threads):
    assert same(trained(3, distributed=Ray(workers, threads=threads)), alone)


def test_seven_workers_on_four_machines_have_the_bits_of_one_process(nodes, alone):
    members = []

    class Count(fc.training.Callback):
        def on_batch(self, run):
            members.append(len(run.trainer.team.members))

    nodes.add(2)
    try:
        assert same(trained(3, distributed=Ray(7), callbacks=[Count()]), alone)
    finally:
        nodes.remove()
    assert min(members) == 7


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
    """Kill a worker; while a team is asked anew, nobody is in it."""
    while not (members := list(trainer.team.members)):
        time.sleep(0.001)
    os.kill(random.choice(members).pid, signal.SIGKILL)


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


def test_a_checkpoint_goes_on_at_another_number_of_workers_though_the_object_store_is_full(nodes, alone, tmp_path):
    filler = [nodes.ray.put(np.zeros(10 << 20, np.uint8)) for _ in range(10)]  # of 120 MB
    run = tmp_path / "run"
    trained(1, checkpoint=run, checkpoint_steps=2, distributed=Ray(3))
    found = trained(3, checkpoint=run, resume=True, distributed=Ray(2))
    assert same(found, alone)
    assert len(filler) == 10


def test_batches_of_an_iterable_travel_to_the_workers_and_their_errors_come_back(nodes):
    states = []
    for settings in ({"shards": 4}, {"distributed": Ray(2), "shards": 4}):
        model = network()
        model.fit([(X[:20], Y[:20]), (X[20:], Y[20:])], epochs=2, progress=False, **settings)
        states.append(model.state_dict())
    assert all(np.array_equal(array, states[1][name]) for name, array in states[0].items())
    with pytest.raises(ValueError, match=r"y: labels from 0 to \d, expected 0 to 3"):
        network().fit([(X, 2 * Y + Y // 3)], progress=False, epochs=1, distributed=Ray(2))


def test_the_command_trains_on_photos_that_workers_read(nodes, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    states = []
    for words in ((), ("--workers", "2", "--ray")):
        file = str(tmp_path / f"{len(words)}.safetensors")
        command = ["train", str(tmp_path / "photos"), "-o", file, "--size", "24", "--epochs", "2", "--batch-size", "6"]
        assert main([*command, "--shards", "3", *words]) == 0
        states.append(fc.load(file).state_dict())
    assert all(np.array_equal(array, states[1][name]) for name, array in states[0].items())


def test_large_gradients_travel_though_the_object_stores_are_full(nodes):
    """Buckets of a megabyte are objects of the stores; the processes of a machine have the same memory."""
    filler = [nodes.ray.put(np.zeros(10 << 20, np.uint8)) for _ in range(10)]  # of 120 MB
    states, found = [], set()

    class Look(fc.training.Callback):
        def on_batch(self, run):
            assert len(run.trainer._plan.statistics) > 2
            found.update((member.node, mapped(member.pid)) for member in run.trainer.team.members)

    for settings in ({}, {"distributed": Ray(6), "callbacks": [Look()]}):
        layers = (layer for i in range(3) for layer in (fc.Linear(432 if i == 0 else 600, 600, rng=i), fc.Tanh()))
        model = fc.Sequential(fc.Flatten(), *layers, fc.Linear(600, 4, rng=3))
        model.fit(X, Y, 2, 13, shards=7, optimizer=fc.SGD(0.01, momentum=0.9), progress=False, **settings)
        states.append(model.state_dict())
    assert all(np.array_equal(array, states[1][name]) for name, array in states[0].items())
    assert len(found) == len({node for node, _ in found}) > 1  # the third machine may come too late
    assert len(filler) == 10


def mapped(pid):
    """The shared memory of a process, by its number."""
    lines = Path("/proc", str(pid), "maps").read_text().splitlines()
    (number,) = {line.split()[4] for line in lines if "/memfd:fastcnn" in line}
    return number


DIES = """
import os, signal, sys
import psutil
from distributed_networks import trained
import fastcnn as fc
from fastcnn.distributed import Ray

class Die(fc.training.Callback):
    batches = 0
    def on_batch(self, run):
        self.batches += 1
        if self.batches == 6:
            for process in psutil.Process().children(recursive=True):
                process.kill()
            os.kill(os.getpid(), signal.SIGKILL)

trained(3, checkpoint=sys.argv[1], checkpoint_steps=1, distributed=Ray(2), callbacks=[Die()])
"""


def test_a_training_goes_on_where_the_machine_of_the_asking_process_died(nodes, alone, tmp_path):
    """The head of a cluster and all of its processes are killed; another cluster goes on."""
    run = tmp_path / "run"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    result = subprocess.run([sys.executable, "-c", DIES, str(run)], env=environment, capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr[-2000:]
    steps = []

    class Count(fc.training.Callback):
        def on_batch(self, run):
            steps.append(run.step)

    found = trained(3, checkpoint=run, resume=True, distributed=Ray(3), callbacks=[Count()])
    assert 0 < len(steps) <= 7  # of 12
    assert same(found, alone)
