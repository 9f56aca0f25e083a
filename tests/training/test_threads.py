"""Training beside other threads: bits, locks, and what a prediction sees; each interleaving is forced, not met by luck.

What forked processes see is tests/test_forks.py's.
"""

from __future__ import annotations

import copy
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastcnn as fc
from fastcnn.compiler.plan import Plan

X, Y = np.random.default_rng(0).standard_normal((8, 16), np.float32), np.arange(8) % 4


def network(seed=0, width=24):
    with fc.layers.seeded(seed):
        return fc.Sequential(fc.Linear(16, width), fc.ReLU(), fc.Linear(width, width), fc.ReLU(), fc.Linear(width, 4))


def trained(steps=12, seed=0):
    model = network(seed)
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    for _ in range(steps):
        trainer.step(X, Y)
    return model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def in_thread(work):
    """Start a thread; `join` gives its result, or raises what it raised."""
    results: list[object] = []

    def run():
        try:
            results.append(work())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def join():
        thread.join(60)
        assert results, "the thread hangs"
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    return join


class Moments:
    """Calls `hook(when)` within every training step, before and after its arithmetic."""

    def __init__(self, monkeypatch, hook):
        run = Plan.run

        def hooked(plan, inputs, outputs=None, done=None):
            if done is None:
                return run(plan, inputs, outputs)
            hook("before")
            result = run(plan, inputs, outputs, done)
            hook("after")
            return result

        monkeypatch.setattr(Plan, "run", hooked)


def call_in_the_middle(monkeypatch, call, patience):
    """Have another thread call in the middle of every step of a trainer.

    If it is let, it reads the trainer's arrays half before and half after the step's arithmetic. Returns a
    function that gives the results since its last call.
    """
    resume, arrived = threading.Event(), threading.Event()
    stepping, plain, joins = threading.get_ident(), fc.Trainer._plain, []

    def halting(trainer, name):
        value = plain(trainer, name)
        if threading.get_ident() != stepping:
            arrived.set()
            assert resume.wait(60)
        return value

    def work():
        try:
            return call()
        finally:
            arrived.set()

    def hook(moment):
        if moment == "before":
            resume.clear()
            arrived.clear()
            joins.append(in_thread(work))
            arrived.wait(patience)
        else:
            resume.set()

    def collect():
        results = [join() for join in joins]
        joins.clear()
        return results

    monkeypatch.setattr(fc.Trainer, "_plain", halting)
    Moments(monkeypatch, hook)
    return collect


def test_calls_of_another_model_change_no_bits(monkeypatch, budget):
    """In the middle of every step another thread calls models that have nothing to do with it."""
    expected = trained()
    other = fc.Linear(4, 2, rng=0), fc.Sequential(fc.Linear(4, 2, rng=0))
    z = np.ones((1, 4), np.float32)
    collect = call_in_the_middle(monkeypatch, lambda: [model(z) for model in other], 60)
    for _ in range(budget(40, 200)):
        assert same(trained(), expected)
    collect()


def test_a_call_of_another_model_never_asks_a_trainer(monkeypatch):
    model, other = network(), fc.Sequential(fc.Linear(4, 2, rng=0))
    trainer = fc.Trainer(model, fc.SGD(0.1))
    z = np.ones((1, 4), np.float32)
    other(z)
    trainer.step(X, Y)

    def fail(*_):
        raise AssertionError("asked")

    monkeypatch.setattr(fc.Trainer, "_write_back", fail)
    compiled = other._cache._recent
    for _ in range(3):
        trainer.step(X, Y)
        other(z)
        _ = other[0].weight, other.state_dict()
        assert other._cache.again(z) is not None and other._cache._recent is compiled  # nor looks at its own layers
    with pytest.raises(AssertionError, match="asked"):
        model(X)


@pytest.mark.parametrize("looks_between", [False, True])
def test_a_prediction_in_the_middle_of_a_step_has_one_steps_parameters(monkeypatch, looks_between):
    """The output is the product of all layers' only weights, so that a mixture of two steps shows."""
    one = np.ones((1, 1), np.float32)

    def chain():
        model = fc.Sequential(*[fc.Linear(1, 1, bias=False) for _ in range(6)])
        for layer in model:
            layer.weight = [[1.0]]
        return model, fc.Trainer(model, fc.SGD(1e-2), "mse")

    model, trainer = chain()
    finished = [model.state_dict()]
    for _ in range(10):
        trainer.step(one, [[0.0]])
        finished.append(model.state_dict())
    model, trainer = chain()
    collect = call_in_the_middle(monkeypatch, lambda: (model(one).item(), model.state_dict()), 0.1)
    for steps in range(1, 11):
        trainer.step(one, [[0.0]])
        known = finished[steps - 1 : steps + 1]  # the last finished one before the call, and this one
        products = [np.prod([w.astype(np.float64) for w in state.values()]) for state in known]
        for output, state in collect():
            assert any(abs(output - product) < 1e-6 for product in products)
            assert any(same(state, one_step) for one_step in known)
        if looks_between:
            model(one)


def test_a_prediction_of_several_batches_has_one_steps_parameters(monkeypatch):
    model = network()
    trainer = fc.Trainer(model, fc.SGD(1.0))
    x = np.repeat(X[:1], 10, axis=0)
    run = Plan.run

    def stepping(plan, inputs, outputs=None, done=None):
        if done is None and len(inputs[0]) in (1, 3) and inputs[0].shape[1] == 16:
            trainer.step(X, Y)
        return run(plan, inputs, outputs, done)

    model.predict_proba(x, 3)
    monkeypatch.setattr(Plan, "run", stepping)
    rows = model.predict_proba(x, 3)
    assert trainer.steps == 4 and np.allclose(rows, rows[0], atol=1e-6)


def test_who_looks_waits_for_one_step_only(monkeypatch):
    """A look that comes in the middle of a step is over before the next one begins, however fast that comes."""
    model = network()
    trainer = fc.Trainer(model, fc.SGD(1e-3))
    trainer.step(X, Y)
    joins, looks, waited_for = [], [], []

    def hook(moment):
        if moment == "after":
            return
        waited_for.append(len(looks) == len(joins))
        # The note is part of the look: behind it, the thread could be late while the next step begins.
        joins.append(in_thread(lambda: model._settled(lambda: looks.append(model[0].weight.tobytes()))))
        for _ in range(10_000):
            if not trainer._turn.lock.acquire(blocking=False):
                break  # it waits
            trainer._turn.lock.release()
            time.sleep(1e-3)

    Moments(monkeypatch, hook)
    for _ in range(10):
        trainer.step(X, Y)
    for join in joins:
        join()
    assert all(waited_for) and len(set(looks)) == 10


def test_two_trainers_of_two_models_in_two_threads(budget):
    expected = [trained(seed=0), trained(seed=1)]
    for _ in range(budget(20, 200)):
        joins = [in_thread(lambda seed=seed: trained(seed=seed)) for seed in (0, 1)]
        assert all(same(join(), state) for join, state in zip(joins, expected, strict=True))


def test_two_trainers_of_one_model_take_turns():
    """In two threads: what they do is what they do one after the other, in some order."""
    model = network()
    before = model.state_dict()
    trainers = [fc.Trainer(model, fc.SGD(0.1)) for _ in range(2)]
    for join in [in_thread(lambda trainer=trainer: [trainer.step(X, Y) for _ in range(8)]) for trainer in trainers]:
        join()
    reference = network()
    reference.load_state_dict(before)
    alone = fc.Trainer(reference, fc.SGD(0.1))
    for _ in range(16):
        alone.step(X, Y)
    assert [trainer.steps for trainer in trainers] == [8, 8]
    assert same(model.state_dict(), reference.state_dict())


def test_two_trainers_of_one_model_in_turns_in_one_thread():
    model, reference = network(), network()
    trainers = [fc.Trainer(model, fc.SGD(0.1)) for _ in range(2)]
    alone = fc.Trainer(reference, fc.SGD(0.1))
    for i in range(6):
        trainers[i % 2].step(X, Y)
        alone.step(X, Y)
    assert same(model.state_dict(), reference.state_dict())


def test_one_trainer_in_two_threads():
    model = network()
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    for join in [in_thread(lambda: [trainer.step(X, Y) for _ in range(6)]) for _ in range(2)]:
        join()
    assert trainer.steps == 12 and same(model.state_dict(), trained())


def test_layers_of_several_models():
    """Two models share a layer, each has a trainer; a third model contains both."""
    shared = fc.Linear(16, 16, rng=0)
    first = fc.Sequential(shared, fc.ReLU(), fc.Linear(16, 4, rng=1))
    second = fc.Sequential(shared, fc.Tanh(), fc.Linear(16, 4, rng=2))

    class Both(fc.Model):
        def __init__(self):
            self.first, self.second = first, second

        def forward(self, x):
            return self.first(x) + self.second(x)

    both = Both()
    trainers = [fc.Trainer(model, fc.SGD(0.1)) for model in (first, second)]
    for trainer in (*trainers, trainers[0]):
        before, weight = both(X), shared.weight
        trainer.step(X, Y)
        assert not np.array_equal(shared.weight, weight)
        np.testing.assert_allclose(both(X), first(X) + second(X), rtol=1e-5)
        assert not np.array_equal(both(X), before)
    joins = [in_thread(lambda trainer=trainer: [trainer.step(X, Y) for _ in range(8)]) for trainer in trainers]
    for _ in range(8):
        both(X)
    for join in joins:
        join()
    np.testing.assert_allclose(both(X), first(X) + second(X), rtol=1e-5)


def test_a_trainer_that_is_dropped_leaves_what_it_has_learned():
    model = network()
    fc.Trainer(model, fc.SGD(0.1, momentum=0.9)).step(X, Y)
    assert same(model.state_dict(), trained(steps=1))
    assert "_holder" not in model[0].__dict__ and not model[0].__dict__["_watchers"]


def test_assignments_of_another_thread_are_kept(monkeypatch):
    """A parameter assigned in the middle of a step is what the next step begins with."""
    model = network()
    trainer = fc.Trainer(model, fc.SGD(0.0))
    trainer.step(X, Y)
    joins = []
    Moments(monkeypatch, lambda when: joins.append(in_thread(lambda: setattr(model[4], "bias", np.full(4, 7.0)))))
    trainer.step(X, Y)
    for join in joins:
        join()
    trainer.step(X, Y)
    assert (model[4].bias == 7).all() and not np.array_equal(trainer.outputs, network()(X))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("failing", [0, 3])
def test_a_step_that_raises_leaves_the_last_finished_one(monkeypatch, error, moment, failing):
    """The step counts if its arithmetic was done; the model can be used either way, and training goes on."""
    expected = [network().state_dict(), *[trained(steps) for steps in range(1, 9)]]
    model = network()
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    for _ in range(failing):
        trainer.step(X, Y)

    def fail(when):
        if when == moment:
            raise error

    with monkeypatch.context() as patch:
        Moments(patch, fail)
        with pytest.raises(error):
            trainer.step(X, Y)
    assert trainer.steps == failing + (moment == "after")
    assert same(copy.deepcopy(model).state_dict(), expected[trainer.steps])
    while trainer.steps < 8:
        trainer.step(X, Y)
    assert same(model.state_dict(), expected[8])


def test_no_memory_for_writing_back_leaves_the_model_whole(monkeypatch):
    model = network()
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    trainer.step(X, Y)
    plain, left = fc.Trainer._plain, [3]

    def failing(self, name):
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError
        return plain(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(fc.Trainer, "_plain", failing)
        with pytest.raises(MemoryError):
            model(X)
        assert all(
            np.array_equal(layer.__dict__["_parameters"]["weight"], twin.weight)
            for layer, twin in zip(list(model)[::2], list(network())[::2], strict=True)
        )
    assert same(model.state_dict(), trained(steps=1))


INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import fastcnn as fc

def make():
    with fc.layers.seeded(0):
        model = fc.Sequential(*[fc.Linear(400, 400) for _ in range(6)], fc.Linear(400, 4))
    return model, fc.Trainer(model, fc.SGD(0.01, momentum=0.9))

x, y = np.random.default_rng(0).standard_normal((32, 400), np.float32), np.arange(32) % 4
model, trainer = make()
trainer.step(x, y)
rng = np.random.default_rng(int(sys.argv[1]))
interrupted = 0
for _ in range(int(sys.argv[2])):
    delay = rng.random() * 0.02
    def strike():
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGINT)
    thread = threading.Thread(target=strike)
    try:
        thread.start()
        for _ in range(10**6):
            trainer.step(x, y)
    except KeyboardInterrupt:
        interrupted += 1
    thread.join()
twin, other = make()
while other.steps < trainer.steps:
    other.step(x, y)
assert all(np.array_equal(model.state_dict()[k], v) for k, v in twin.state_dict().items()), trainer.steps
print(interrupted)
"""


def test_ctrl_c_counts_a_step_or_leaves_it_undone(budget):
    """The number of steps always tells which parameters the model has, wherever Ctrl-C strikes."""
    count = budget(20, 400)
    output = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "0", str(count)],
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ).stdout
    assert int(output) == count
