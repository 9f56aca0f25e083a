"""Gradients in float32 against their definitions: odd sizes, every instruction set, poisoned memory, any threads."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import random_case

import fastcnn as fc
from fastcnn import functional, reference
from fastcnn.compiler.eager import run_node

pytestmark = pytest.mark.usefixtures("isa", "poisoned")


def close(got, expected, terms=1):
    scale = np.abs(expected).max(initial=0) + 1e-30
    assert got.dtype == np.float32 and got.shape == expected.shape
    assert np.abs(got - expected).max(initial=0) <= 3e-7 * np.sqrt(terms + 16) * scale + 1e-30


def window(case):
    return case.stride, case.pads, case.dilation, case.groups


def test_convolution_gradients_are_the_definitions(budget):
    rng = np.random.default_rng(0)
    for i in range(budget(200, 2_000)):
        case = random_case(rng, integers=False)
        grad = rng.standard_normal(case.expected().shape).astype(np.float32)
        kernel = case.weight.shape[2:]
        with fc.num_threads(1 + i % 3):
            dw = functional.conv2d_grad_weight(case.x, grad, kernel, *window(case))
            dx = functional.conv2d_grad_input(grad, case.weight, case.x.shape[2:], *window(case))
            db = functional.conv2d_grad_bias(grad)
        close(dw, reference.conv2d_grad_weight(case.x, grad, kernel, *window(case)), grad[:, 0].size)
        terms = case.weight[:, 0].size
        expected = reference.conv2d_grad_input(grad, case.weight, case.x.shape[2:], *window(case))
        close(dx, expected, 400 + terms)  # Winograd's rounding is larger
        close(db, reference.conv2d_grad_bias(grad), grad[:, 0].size)


def test_adjoints_are_exact_on_integers():
    """<conv(x), y> = <x, conv^T(y)> = <weight, dw(x, y)>."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        case = random_case(rng, integers=True)
        x, weight = np.sign(case.x), np.sign(case.weight)
        out = functional.conv2d(x, weight, None, *window(case), algorithm="im2col")
        y = rng.integers(-1, 2, out.shape).astype(np.float32)
        expected = float((out.astype(np.float64) * y).sum())
        dw = functional.conv2d_grad_weight(x, y, weight.shape[2:], *window(case))
        assert float((dw.astype(np.float64) * weight).sum()) == expected
        if weight.shape[2:] != (3, 3):  # no Winograd
            dx = functional.conv2d_grad_input(y, weight, x.shape[2:], *window(case))
            assert float((dx.astype(np.float64) * x).sum()) == expected


def test_linear_gradients():
    rng = np.random.default_rng(2)
    for n, ins, outs in [(1, 1, 1), (7, 130, 33), (64, 25, 10), (3, 200, 70)]:
        x, w, g = (rng.standard_normal(s).astype(np.float32) for s in ((n, ins), (outs, ins), (n, outs)))
        close(functional.linear_grad_weight(x, g), reference.linear_grad_weight(x, g), n)
        close(functional.linear_grad_input(g, w), reference.linear_grad_input(g, w), outs)
        close(functional.linear_grad_bias(g), reference.linear_grad_bias(g), n)


def test_pooling_gradients_with_ties_and_nan():
    rng = np.random.default_rng(3)
    for _ in range(60):
        kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
        stride, dilation = (tuple(int(k) for k in rng.integers(1, 3, 2)) for _ in range(2))
        pads = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel * 2)
        ceil_mode = bool(rng.integers(2))
        x = rng.integers(-2, 3, (2, int(rng.integers(1, 20)), *rng.integers(5, 12, 2))).astype(np.float32)
        x[rng.random(x.shape) < 0.05] = np.nan
        x[rng.random(x.shape) < 0.05] = -np.inf
        y = functional.max_pool2d(x, kernel, stride, pads, dilation, ceil_mode)
        g = rng.integers(1, 9, y.shape).astype(np.float32)
        got = functional.max_pool2d_grad(g, x, kernel, stride, pads, dilation, ceil_mode)
        expected = reference.max_pool2d_grad(g, x, kernel, stride, pads, dilation, ceil_mode)
        np.testing.assert_array_equal(got, expected)
        for include in (True, False):
            g = rng.standard_normal(functional.avg_pool2d(x, kernel, stride, pads, ceil_mode).shape).astype(np.float32)
            got = functional.avg_pool2d_grad(g, x.shape[2:], kernel, stride, pads, ceil_mode, include)
            expected = reference.avg_pool2d_grad(g, x.shape[2:], kernel, stride, pads, ceil_mode, include)
            close(got, expected, 9)
    g = rng.standard_normal((3, 11, 1, 1)).astype(np.float32)
    close(functional.global_avg_pool2d_grad(g, (5, 3)), reference.global_avg_pool2d_grad(g, (5, 3)))


def test_batch_norm_gradient_keeps_its_digits_far_from_zero():
    rng = np.random.default_rng(4)
    for channels, size, mean in [(1, (3, 5), 0.0), (19, (7, 4), 3.0), (33, (2, 2), -100.0)]:
        x = (rng.standard_normal((4, channels, *size)) + mean).astype(np.float32)
        g, w = rng.standard_normal(x.shape).astype(np.float32), rng.standard_normal(channels).astype(np.float32)
        got, expected = functional.batch_norm_grad(g, x, w), reference.batch_norm_grad(g, x, w)
        assert np.abs(got - expected).max() <= 1e-5 * (1 + abs(mean)) * np.abs(expected).max()


def test_local_response_norm_gradient_for_any_window_and_any_threads():
    rng = np.random.default_rng(8)
    for i in range(40):
        n, channels, height, width = (int(rng.integers(1, most)) for most in (4, 40, 7, 9))
        x, g = rng.standard_normal((2, n, channels, height, width)).astype(np.float32)
        attrs = {
            "size": int(rng.integers(1, 2 * channels + 2)),
            "alpha": float(rng.choice([1e-4, 0.5, 3.0])),
            "beta": (0.75, 0.5, 1.0, 0.6)[i % 4],
            "bias": float(rng.choice([1.0, 2.0])),
        }
        results = []
        for threads in (1, 2, 3):
            with fc.num_threads(threads):
                results.append(np.full_like(x, np.nan))
                run_node("LRNGrad", attrs, [g, x], results[-1])
        assert all(np.array_equal(result, results[0]) for result in results)
        close(results[0], reference.local_response_norm_grad(g, x, **attrs), attrs["size"] + 64)


def test_local_response_norm_gradient_is_that_of_the_function():
    rng = np.random.default_rng(9)
    x, g, v = rng.standard_normal((3, 2, 19, 3, 4)).astype(np.float32)
    grad = functional.local_response_norm_grad(g, x, 5, 2.0, 0.75, 1.5)
    step = 1e-2 * v  # along which the function changes by <grad, step>
    ends = [functional.local_response_norm(x + sign * step, 5, 2.0, 0.75, 1.5).astype(np.float64) for sign in (1, -1)]
    expected = float(((ends[0] - ends[1]) / 2 * g).sum())
    assert abs(float((grad.astype(np.float64) * step).sum()) - expected) <= 2e-3 * abs(expected)
    with pytest.raises(ValueError, match="local_response_norm: size=4, expected an odd number"):
        functional.local_response_norm(x, 4)
    with pytest.raises(ValueError, match=r"local_response_norm_grad: grad.shape=\(1, 19, 3, 4\), expected that of x"):
        functional.local_response_norm_grad(g[:1], x, 5)


ACTIVATIONS = [
    ("relu", "relu", {}, {}),
    ("tanh", "tanh", {}, {}),
    ("sigmoid", "sigmoid", {}, {}),
    ("hardswish", "hard_swish", {}, {}),
    ("silu", "silu", {}, {}),
    ("gelu", "gelu", {}, {}),
    ("gelu", "gelu", {"approximate": "tanh"}, {"approximate": "tanh"}),
    ("erf", "erf", {}, {}),
    ("leaky_relu", "leaky_relu", {"negative_slope": 0.2}, {"alpha": 0.2}),
    ("clip", "clip", {"low": -1.0, "high": 0.5}, {"low": -1.0, "high": 0.5}),
]


@pytest.mark.parametrize(("name", "define", "settings", "defined"), ACTIVATIONS)
def test_activation_gradients(name, define, settings, defined):
    rng = np.random.default_rng(5)
    v = np.concatenate([rng.uniform(-4, 4, 1001), [0.0, -0.0, -3.0, 3.0, -1.0, 0.5, np.nan]]).astype(np.float32)
    g = rng.standard_normal(v.shape).astype(np.float32)
    got = getattr(functional, f"{name}_grad")(g, v, **settings)
    expected = getattr(reference, f"{define}_grad")(g, v, **defined)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def test_softmax_gradient_along_any_axis():
    rng = np.random.default_rng(6)
    for shape in [(5,), (4, 7), (2, 3, 4), (2, 5, 3, 4)]:
        for dim in range(len(shape)):
            y = functional.softmax(rng.standard_normal(shape).astype(np.float32), dim)
            g = rng.standard_normal(shape).astype(np.float32)
            np.testing.assert_allclose(functional.softmax_grad(g, y, dim), reference.softmax_grad(g, y, dim), atol=1e-6)


def test_what_does_not_fit_is_named():
    x, w = np.zeros((1, 2, 5, 5), np.float32), np.zeros((3, 2, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"conv2d_grad_input: grad.shape=\(1, 3, 4, 4\), expected \(1, 3, 3, 3\)"):
        functional.conv2d_grad_input(np.zeros((1, 3, 4, 4), np.float32), w, 5)
    with pytest.raises(ValueError, match="conv2d_grad_weight: groups=3"):
        functional.conv2d_grad_weight(x, np.zeros((1, 3, 3, 3), np.float32), 3, groups=3)
    with pytest.raises(ValueError, match="relu_grad: grad.shape"):
        functional.relu_grad(np.zeros(3, np.float32), np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="max_pool2d_grad: grad.shape"):
        functional.max_pool2d_grad(x, x, 2)
