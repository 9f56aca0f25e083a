"""What signal handlers may do within a training step, and looks by other threads at a model of two trainers."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

import fastcnn as fc

X, Y = np.random.default_rng(0).random((8, 3, 8, 8), np.float32), np.arange(8) % 5
WEIGHT = np.full((5, 16), 0.5, np.float32)


def trained(steps: int) -> tuple[fc.Sequential, fc.Trainer]:
    model = fc.Sequential(
        fc.Conv2d(3, 16, 3, rng=0),
        fc.BatchNorm2d(16),
        fc.ReLU(),
        fc.GlobalAvgPool2d(),
        fc.Flatten(),
        fc.Linear(16, 5, rng=2),
    )
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    for _ in range(steps):
        trainer.step(X, Y)
    return model, trainer


def step_with(trainer: fc.Trainer, handler: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A step in which a signal finds this handler, where steps look for signals: before anything is updated."""
    plan = next(compiled.plan for (shape, _), compiled in trainer._plans.items() if shape == X.shape)
    run = plan.run

    def interrupted_run(*arguments):
        monkeypatch.setattr(plan, "run", run)
        handler()
        return run(*arguments)

    monkeypatch.setattr(plan, "run", interrupted_run)
    trainer.step(X, Y)


def state_of(model: fc.Model, trainer: fc.Trainer) -> dict[str, np.ndarray]:
    return {**model.state_dict(), **trainer.state_dict()}


def assert_same(states: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert states.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(states[name], array, err_msg=name)


def test_a_handler_sees_the_last_finished_step(monkeypatch):
    model, trainer = trained(2)
    seen: dict[str, np.ndarray] = {}
    step_with(trainer, lambda: seen.update(state_of(model, trainer)), monkeypatch)
    assert_same(seen, state_of(*trained(2)))
    assert_same(state_of(model, trainer), state_of(*trained(3)))


def test_a_prediction_by_a_handler_leaves_no_plan_of_old_weights(monkeypatch):
    model, trainer = trained(2)
    scores = []
    step_with(trainer, lambda: scores.append(model(X[:2])), monkeypatch)
    np.testing.assert_array_equal(scores[0], trained(2)[0](X[:2]))
    np.testing.assert_array_equal(model(X[:2]), trained(3)[0](X[:2]))


def test_what_a_handler_assigns_is_what_the_step_begins_with(monkeypatch):
    model, trainer = trained(2)
    step_with(trainer, lambda: setattr(model[-1], "weight", WEIGHT), monkeypatch)
    expected, other = trained(2)
    expected[-1].weight = WEIGHT
    other.step(X, Y)
    assert_same(state_of(model, trainer), state_of(expected, other))


def test_what_a_handler_loads_is_what_the_step_begins_with(monkeypatch):
    saved = trained(1)
    weights, means = saved[0].state_dict(), saved[1].state_dict()
    model, trainer = trained(2)
    step_with(trainer, lambda: (model.load_state_dict(weights), trainer.load_state_dict(means)), monkeypatch)
    assert_same(state_of(model, trainer), state_of(*trained(2)))


@pytest.mark.parametrize("by_another", [False, True])
def test_a_step_within_a_step_is_refused(by_another, monkeypatch):
    model, trainer = trained(1)
    inner = fc.Trainer(model, fc.SGD(0.1)) if by_another else trainer
    with pytest.raises(RuntimeError, match="within a step of the model"):
        step_with(trainer, lambda: inner.step(X, Y), monkeypatch)
    trainer.step(X, Y)
    assert_same(state_of(model, trainer), state_of(*trained(2)))


def test_a_first_step_and_a_look_at_a_model_with_an_older_trainer_do_not_wait_for_each_other(monkeypatch):
    """The look has the older trainer's turn, and waits for the step of the newer one, which reads the graph."""
    model, older = trained(1)
    newer = fc.Trainer(model, fc.SGD(0.1))
    looks = threading.Thread(target=model.state_dict, daemon=True)
    steps = threading.Thread(target=lambda: newer.step(X, Y), daemon=True)
    compile_step = newer._compile

    def compile_beside_a_look(shape, kind):
        looks.start()
        while older._inside != looks.ident:
            pass
        return compile_step(shape, kind)

    monkeypatch.setattr(newer, "_compile", compile_beside_a_look)
    steps.start()
    steps.join(60)
    looks.join(60)
    assert not steps.is_alive() and not looks.is_alive()
    assert newer.steps == 1
