"""The definitions of gradients against differences of the definitions of the operations, in float64."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from fastcnn import reference as r

RNG = np.random.default_rng(0)
WINDOW = {"stride": (2, 1), "pads": (1, 0, 2, 1), "dilation": (1, 2), "groups": 2}


def numeric(f, x, weights, step=1e-6):
    """Gradient of sum(weights * f(x)) by central differences."""
    x = np.array(x, np.float64)
    grad = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        value = x[i]
        x[i] = value + step
        high = (weights * f(x)).sum()
        x[i] = value - step
        grad[i] = (high - (weights * f(x)).sum()) / (2 * step)
        x[i] = value
    return grad


def check(f, x, grad_of):
    weights = RNG.standard_normal(np.shape(f(x)))
    np.testing.assert_allclose(grad_of(weights), numeric(f, x, weights), rtol=1e-6, atol=1e-7)


def test_convolution():
    x, w = RNG.standard_normal((2, 4, 7, 8)), RNG.standard_normal((6, 2, 3, 2))
    check(lambda v: r.conv2d(v, w, None, **WINDOW), x, lambda g: r.conv2d_grad_input(g, w, x.shape[2:], **WINDOW))
    check(lambda v: r.conv2d(x, v, None, **WINDOW), w, lambda g: r.conv2d_grad_weight(x, g, w.shape[2:], **WINDOW))
    check(lambda v: r.conv2d(x, w, v, **WINDOW), np.zeros(6), r.conv2d_grad_bias)


def test_linear():
    x, w = RNG.standard_normal((3, 5)), RNG.standard_normal((4, 5))
    check(lambda v: r.linear(v, w), x, lambda g: r.linear_grad_input(g, w))
    check(lambda v: r.linear(x, v), w, lambda g: r.linear_grad_weight(x, g))
    check(lambda v: r.linear(x, w, v), np.zeros(4), r.linear_grad_bias)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 0, 1, 1)])
def test_pooling(ceil_mode, pads):
    x = RNG.permutation(2 * 3 * 6 * 7).reshape(2, 3, 6, 7) / 100
    window = ((3, 2), (2, 2), pads)
    check(
        lambda v: r.max_pool2d(v, *window, ceil_mode=ceil_mode),
        x,
        lambda g: r.max_pool2d_grad(g, x, *window, ceil_mode=ceil_mode),
    )
    for include in (True, False):
        check(
            lambda v, include=include: r.avg_pool2d(v, *window, ceil_mode, include),
            x,
            lambda g, include=include: r.avg_pool2d_grad(g, x.shape[2:], *window, ceil_mode, include),
        )
    check(r.global_avg_pool2d, x, lambda g: r.global_avg_pool2d_grad(g, x.shape[2:]))


ACTIVATIONS = [
    ("relu", (), True),
    ("clip", (-1.0, 1.5), True),
    ("leaky_relu", (0.1,), False),
    ("tanh", (), True),
    ("sigmoid", (), True),
    ("hard_swish", (), False),
    ("silu", (), False),
    ("gelu", (), False),
    ("gelu", ("tanh",), False),
    ("erf", (), False),
    ("softmax", (), True),
]


@pytest.mark.parametrize(("name", "arguments", "from_output"), ACTIVATIONS)
def test_activations(name, arguments, from_output):
    x = RNG.uniform(-4, 4, (5, 9))
    f, gradient = getattr(r, name), getattr(r, f"{name}_grad")
    v = f(x, *arguments) if from_output else x
    check(lambda value: f(value, *arguments), x, lambda g: gradient(g, v, *arguments))


def test_batch_norm():
    x, w = RNG.standard_normal((3, 4, 2, 2)), RNG.standard_normal(4)
    check(lambda v: r.batch_norm(v, *r.batch_stats(v).T, w), x, lambda g: r.batch_norm_grad(g, x, w))


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_norm(axis):
    x = RNG.standard_normal((3, 4, 5))
    w = RNG.standard_normal(x.shape[axis:])
    check(lambda v: r.layer_norm(v, w, w + 1, axis, 0.3), x, lambda g: r.layer_norm_grad(g, x, w, axis, 0.3))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 11])
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0, 0.6])
def test_local_response_norm(size, beta):
    x = RNG.standard_normal((2, 5, 2, 1))
    settings = (size, 0.7, beta, 1.3)
    check(lambda v: r.local_response_norm(v, *settings), x, lambda g: r.local_response_norm_grad(g, x, *settings))


def test_broadcasting():
    x, y = RNG.standard_normal((2, 3, 1, 4)), RNG.standard_normal((3, 5, 1))
    check(lambda v: r.multiply(v, y), x, lambda g: r.sum_to(g * y, x.shape))
    check(lambda v: r.add(x, v), y, lambda g: r.sum_to(g, y.shape))


@pytest.mark.parametrize("name", ["cross_entropy", "mean_squared_error", "binary_cross_entropy"])
def test_losses(name):
    scores, target = RNG.standard_normal((4, 3)), RNG.random((4, 3))
    loss, gradient = getattr(r, name), getattr(r, f"{name}_grad")
    check(lambda v: loss(v, target), scores, lambda g: g * gradient(scores, target))


MODULES = ("activation", "forward", "gradient", "local_response", "loss", "matrix", "normal", "row_norm")


def test_examples_run():
    modules = [getattr(r, name) for name in MODULES]
    tested = [test.name.split(".")[-1] for m in modules for test in doctest.DocTestFinder().find(m) if test.examples]
    assert sorted(tested) == sorted(r.__all__) and not any(doctest.testmod(m).failed for m in modules)
