"""Group, instance and RMS normalisation and batch normalisation of rows, with gradients, against the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from kernels.graphs_of_nodes import gradients, run, single
from memory_guard import guarded

import fastcnn
from fastcnn import functional as F
from fastcnn import reference

# Shapes and numbers of groups, which begin and end within blocks and across them.
CASES = [
    ((2, 4, 3, 5), 2),
    ((1, 21, 6, 7), 3),
    ((3, 40, 1, 9), 5),
    ((2, 64, 4, 4), 1),
    ((2, 6, 1, 1), 3),
    ((1, 30, 67, 70), 2),
    ((2, 12, 5), 4),
    ((2, 6, 2, 3, 2), 2),
]


def draw(rng, shape):
    return (rng.standard_normal(shape) * 3 + 5).astype(np.float32)


@pytest.mark.parametrize("threads", THREADS)
def test_group_norm(threads, isa, poisoned):
    rng = np.random.default_rng(1)
    for shape, groups in CASES:
        x, weight, bias = draw(rng, shape), draw(rng, shape[1]), draw(rng, shape[1])
        with fastcnn.num_threads(threads):
            y = F.group_norm(x, groups, weight, bias, 1e-3, out=guarded(shape))
            plane = F.instance_norm(x, weight, bias, 1e-3, out=guarded(shape))
        np.testing.assert_allclose(y, reference.group_norm(x, groups, weight, bias, 1e-3), rtol=1e-5, atol=1e-4)
        expected = reference.group_norm(x, shape[1], weight, bias, 1e-3)
        np.testing.assert_allclose(plane, expected, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("threads", THREADS)
def test_rms_norm(threads, isa, poisoned):
    rng = np.random.default_rng(2)
    for shape in [(3, 7), (5, 16), (2, 3, 40), (50, 192), (3, 2000)]:
        x, weight = draw(rng, shape), draw(rng, shape[-1])
        with fastcnn.num_threads(threads):
            y = F.rms_norm(x, shape[-1], weight, 1e-3, out=guarded(shape))
        np.testing.assert_allclose(y, reference.layer_norm(x, weight, eps=1e-3, centred=False), rtol=2e-6)


@pytest.mark.parametrize("threads", THREADS)
def test_gradients_of_groups(threads, isa, poisoned):
    rng = np.random.default_rng(3)
    for shape, groups in CASES:
        x, g, weight, bias = draw(rng, shape), draw(rng, shape), draw(rng, shape[1]), draw(rng, shape[1])
        for op, number, attrs in (
            ("GroupNormalization", groups, {"num_groups": groups}),
            ("InstanceNormalization", shape[1], {}),
        ):
            with fastcnn.num_threads(threads):
                dx, dweight, dbias = gradients(op, (x, weight, bias), g, epsilon=0.1, **attrs)
            expected = reference.group_norm_grad(g, x, number, weight, 0.1)
            np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max() + 1e-4)
            h = reference.group_norm(x, number, eps=0.1)
            axes = (0, *range(2, len(shape)))
            expected = (g * h).sum(axis=axes)
            np.testing.assert_allclose(dweight, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max() + 1e-4)
            np.testing.assert_allclose(dbias, g.sum(axis=axes, dtype=np.float64), rtol=1e-5)


def test_gradients_of_rms_norm(isa, poisoned):
    rng = np.random.default_rng(4)
    for shape in [(2, 3), (9, 40), (3, 2, 33)]:
        x, g, weight = draw(rng, shape), draw(rng, shape), draw(rng, shape[-1])
        dx, dweight = gradients("RMSNormalization", (x, weight), g, epsilon=0.1)
        expected = reference.layer_norm_grad(g, x, weight, eps=0.1, centred=False)
        np.testing.assert_allclose(dx, expected, rtol=1e-4, atol=1e-4)
        h = reference.layer_norm(x, eps=0.1, centred=False)
        np.testing.assert_allclose(dweight, (g * h).sum(axis=tuple(range(len(shape) - 1))), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", THREADS)
def test_batch_norm_of_rows(threads, isa, poisoned):
    rng = np.random.default_rng(5)
    for shape in [(1, 1), (3, 7), (5, 16), (2, 40), (17, 131), (2, 9000)]:
        x, g, mean, weight, bias = draw(rng, shape), draw(rng, shape), *(draw(rng, shape[1]) for _ in range(3))
        var = rng.random(shape[1], np.float32)
        with fastcnn.num_threads(threads):
            y = F.batch_norm(x, mean, var, weight, bias, eps=0.1, out=guarded(shape))
        expected = reference.batch_norm(x, mean, var, weight, bias, 0.1)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)
        graph = single("BatchNormalization", g, weight, 0 * bias, 0 * mean, var, epsilon=0.1)
        constants = {"v1": weight, "v2": 0 * bias, "v3": 0 * mean, "v4": var}
        graph = type(graph)(graph.nodes, {"v0": g.shape}, ["y"], constants)
        np.testing.assert_allclose(run(graph, {"v0": g})[0], g * weight / np.sqrt(var + 0.1), rtol=1e-5)


def test_groups_that_do_not_fit_are_named():
    x = np.zeros((1, 4, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"group_norm: num_groups=3, expected a divisor of 4 channels"):
        F.group_norm(x, 3)
    with pytest.raises(ValueError, match=r"group_norm: weight.shape=\(3,\), expected \(4,\)"):
        F.group_norm(x, 2, np.ones(3))
    with pytest.raises(ValueError, match=r"instance_norm: x.shape=\(2, 3\), expected at least 3 dimensions"):
        F.instance_norm(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"GroupNorm: num_groups=3, expected a divisor of num_channels=4"):
        fastcnn.GroupNorm(3, 4)
