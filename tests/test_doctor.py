"""The self-examination covers every kernel, and notices when one is wrong."""

from __future__ import annotations

import pytest

import fastcnn
from fastcnn import doctor, doctor_training
from fastcnn.kernels import _cpu


@pytest.fixture(scope="module")
def results():
    return doctor.run_checks()


def test_all_are_right_on_every_instruction_set(results):
    assert not [result for result in results if not result.passed]
    assert {result.isa for result in results} == set(_cpu.available_isas())


@pytest.mark.parametrize(
    "part",
    [
        *("winograd", "winograd2", "winograd_lean", "winograd6", "local_response_norm", "gradient by weight"),
        *("gradient by input", "max_pool2d gradient", "batch_norm gradient", "CrossEntropy loss"),
        *("SGD update", "Adam update", "AdamW update", "RMSprop update", "layer_norm", "rms_norm", "group_norm"),
        *("layer_norm gradient", "rms_norm gradient", "group_norm gradient", "matmul", "attention with a mask", "erf"),
    ],
)
def test_what_was_left_out_is_covered(part, results):
    assert any(part in result.name for result in results)


@pytest.mark.parametrize("name", ["sigmoid_grad", "conv2d_grad_weight", "local_response_norm_grad"])
def test_a_wrong_gradient_is_noticed(name, monkeypatch):
    right = getattr(doctor_training.F, name)
    monkeypatch.setattr(doctor_training.F, name, lambda *arrays, **settings: 1.01 * right(*arrays, **settings))
    monkeypatch.setitem(
        doctor_training._ACTIVATIONS, "sigmoid", (doctor_training.F.sigmoid_grad, fastcnn.reference.sigmoid_grad, 8)
    )
    assert any(not result.passed for result in doctor.run_checks())


def test_a_wrong_update_is_noticed(monkeypatch):
    settings = tuple(reversed(doctor_training.SETTINGS))
    monkeypatch.setattr(doctor_training, "SETTINGS", settings)
    wrong = {result.name for result in doctor.run_checks() if not result.passed}
    assert wrong == {f"{kind} update" for kind in ("SGD", "Adam", "AdamW", "RMSprop")}
