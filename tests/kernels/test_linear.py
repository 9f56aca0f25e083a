"""Fully connected layers: exact on integers, and an input has the same bits alone and in any batch."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from memory_guard import guarded

import fastcnn
from fastcnn import functional as F


@pytest.mark.parametrize("outputs", [1, 4, 8, 10, 16, 17, 32, 33, 48, 120, 200])
def test_exact_and_independent_of_company(outputs, isa, poisoned):
    rng = np.random.default_rng(outputs)
    for inputs in (1, 2, 3, 4, 7, 64, 250):
        x = rng.integers(-31, 32, (15, inputs)).astype(np.float32)
        weight = rng.integers(-31, 32, (outputs, inputs)).astype(np.float32)
        bias = rng.integers(-31, 32, outputs).astype(np.float32)
        for threads in THREADS:
            with fastcnn.num_threads(threads):
                for rows in (1, 2, 5, 15):
                    out = guarded((rows, outputs))
                    F.linear(x[:rows], weight, bias, out=out)
                    assert np.array_equal(out, x[:rows] @ weight.T + bias)
        reals, factors = rng.standard_normal(x.shape, np.float32), rng.standard_normal(weight.shape, np.float32)
        whole = F.linear(reals, factors)
        for i in range(len(x)):
            assert np.array_equal(F.linear(reals[i : i + 1], factors)[0], whole[i])


def test_activation_after_few_and_many_outputs(isa):
    x = np.random.default_rng(0).standard_normal((3, 20)).astype(np.float32)
    for outputs in (5, 100):
        linear = fastcnn.Linear(20, outputs)
        for layer, function in ((fastcnn.Tanh(), np.tanh), (fastcnn.ReLU(), lambda v: np.maximum(v, 0))):
            for batch in (x, x[:1]):
                expected = function(batch @ linear.weight.T + linear.bias)
                np.testing.assert_allclose(fastcnn.Sequential(linear, layer)(batch), expected, rtol=1e-5, atol=1e-6)
