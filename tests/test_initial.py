"""First weights: distributions of the bounds and deviations that torch.nn.init documents."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastcnn.layers import Conv2d, Linear

SHAPE = (40, 30, 5, 3)  # fan_in 30 * 15, fan_out 40 * 15
CASES = {  # name: deviation for (fan_in, fan_out); bound of uniform ones
    "he_normal": (math.sqrt(2 / 450), None),
    "he_uniform": (math.sqrt(2 / 450), math.sqrt(6 / 450)),
    "glorot_normal": (math.sqrt(2 / 1050), None),
    "glorot_uniform": (math.sqrt(2 / 1050), math.sqrt(6 / 1050)),
    None: (1 / math.sqrt(3 * 450), 1 / math.sqrt(450)),
}


@pytest.mark.parametrize("name", CASES)
def test_distributions(name):
    deviation, bound = CASES[name]
    weight = Conv2d(30, 40, (5, 3), init=name, rng=0).weight
    assert weight.shape == SHAPE and weight.dtype == np.float32
    assert weight.mean() == pytest.approx(0, abs=0.02 * deviation)
    assert weight.std() == pytest.approx(deviation, rel=0.02)
    if bound is None:
        within = np.mean(abs(weight) < deviation)
        assert within == pytest.approx(0.683, abs=0.01)  # of a normal distribution
    else:
        assert 0.99 * bound < abs(weight).max() <= bound


def test_groups_count_the_inputs_of_a_group():
    weight = Conv2d(64, 64, 3, groups=64, init="he_uniform", rng=0).weight
    assert 0.95 * math.sqrt(6 / 9) < abs(weight).max() <= math.sqrt(6 / 9)


def test_linear_and_functions():
    assert abs(Linear(6, 100, init="he_uniform", rng=0).weight).max() <= 1
    assert (Linear(2, 3, init=lambda rng, shape: np.full(shape, 7)).weight == 7).all()
    first, second = (Linear(3, 2, init="he_normal", rng=5) for _ in range(2))
    assert (first.weight == second.weight).all()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("xavier", "init='xavier', expected one of he_normal"),
        (3, "init=3"),
        (lambda rng, shape: np.zeros(2), r"shape \(2,\), expected \(2, 3\)"),
    ],
)
def test_bad_initialisers_are_named(init, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Linear(3, 2, init=init)
