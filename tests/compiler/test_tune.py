"""Tuning: measured choices are used, kept by save, and cannot do harm."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn.compiler.choose import Problem, choose
from fastcnn.compiler.plan import Plan


def network() -> fastcnn.Model:
    model = fastcnn.Sequential(
        fastcnn.Conv2d(8, 16, 3, padding=1),
        fastcnn.ReLU(),
        fastcnn.Conv2d(16, 16, 3, padding=1, groups=16),
        fastcnn.Conv2d(16, 8, 3, groups=4),
    )
    model.input_shape = (8, 14, 14)
    return model


def kernels(model: fastcnn.Model, x: np.ndarray) -> list[str]:
    return [step.kernel for step in model.profile(x, 1).steps if step.kernel != "reorder"]


def test_every_candidate_is_timed_and_the_fastest_is_used(isa):
    model, x = network(), np.ones((2, 8, 14, 14), np.float32)
    expected = model(x)
    times = model.tune(x, repeats=2)
    assert {next(part for part in key.split(", ") if "groups" in part): set(found) for key, found in times.items()} == {
        "groups 1": {"direct", "winograd", "winograd2", "winograd_lean"},
        "groups 16": {"depthwise", "direct"},
        "groups 4": {"direct"},
    }
    assert all(times[key][name] == min(times[key].values()) > 0 for key, name in model.tuning.items())
    assert kernels(model, x)[0] in model.tuning.values()
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)


def test_a_machine_whose_speed_changes_does_not_mislead(monkeypatch):
    """Phases of a shared machine: for the length of many runs it takes half as long again."""
    model, seconds = network(), {"winograd": 1.0, "winograd_lean": 1.1, "winograd2": 1.2, "direct": 1.3}
    clock = [0.0]

    def times(plan, arrays, repeats):
        runs = []
        for _ in range(repeats):
            phase = 1.5 if clock[0] // 40 % 2 == 0 else 1.0
            runs.append([phase * seconds.get(step.kernel, 0.1) for step in plan.steps])
            clock[0] += sum(runs[-1])
        return runs

    monkeypatch.setattr(Plan, "times", times)
    (found,) = [found for key, found in model.tune(np.ones((1, 8, 14, 14)), 9).items() if "groups 1," in key]
    assert sorted(found, key=found.get) == ["winograd", "winograd_lean", "winograd2", "direct"]
    for name, measured in found.items():
        assert seconds[name] <= measured * 1.001 and measured <= 1.501 * seconds[name]


def test_a_network_without_convolutions_has_nothing_to_tune():
    model = fastcnn.Sequential(fastcnn.Linear(8, 3))
    assert model.tune(np.ones((2, 8), np.float32)) == model.tuning == {}


def test_choices_can_be_given_kept_and_taken_back(tmp_path):
    model, x = network(), np.ones((1, 8, 14, 14), np.float32)
    untuned = kernels(model, x)
    (key,) = [key for key in model.tune(x, 1) if "groups 1," in key]
    for name in ("direct", "winograd2"):
        model.tuning = {key: name, "a layer that is not there": "winograd"}
        assert kernels(model, x)[0] == name
        model.save(tmp_path / "model.safetensors")
        loaded = fastcnn.load(tmp_path / "model.safetensors")
        assert loaded.tuning == model.tuning and kernels(loaded, x)[0] == name
        assert np.array_equal(loaded(x), model(x))
    model.tuning = {key: "depthwise"}  # cannot: the cost model chooses
    assert kernels(model, x) == untuned
    model.tuning = {}
    assert model.tuning == {}


@pytest.mark.parametrize("wrong", [None, ["direct"], {"key": 1}, {1: "direct"}])
def test_what_is_no_tuning_is_refused(wrong):
    model = network()
    with pytest.raises(TypeError, match=r"Sequential\.tuning: expected a dict of str to str"):
        model.tuning = wrong
    with pytest.raises(ValueError, match="tune: len"):
        model.tune(np.ones((0, 8, 14, 14)))


def test_reasons_tell_of_the_measurement():
    layer = Problem(64, 64, 1, (3, 3), (1, 1), (1, 1), vl=8, size=(56, 56))
    entry, reasons = choose(layer, tuning={layer.key: "direct"})
    assert entry.name == "direct" and "direct" not in reasons
    assert reasons["winograd"] == "tuning has found direct faster" and reasons["depthwise"].startswith("not depthwise")
    assert choose(layer, "winograd2", {layer.key: "direct"})[0].name == "winograd2"  # asked for in the code
