"""Elementwise kernels, pooling, normalisation and softmax against their definitions; special values at every lane."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from memory_guard import guarded

import fastcnn
from fastcnn import functional as F
from fastcnn import reference

ACTIVATIONS = {
    "relu": (F.relu, reference.relu, 0),
    "relu6": (F.relu6, lambda x: reference.clip(x, 0, 6), 0),
    "leaky_relu": (F.leaky_relu, lambda x: reference.leaky_relu(x, np.float32(0.01)), 1),
    "tanh": (F.tanh, reference.tanh, 4),
    "sigmoid": (F.sigmoid, reference.sigmoid, 4),
    "hardswish": (F.hardswish, reference.hard_swish, 4),
    "silu": (F.silu, reference.silu, 4),
    "gelu": (F.gelu, reference.gelu, 8),
    "erf": (F.erf, reference.erf, 2),
}
SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 1e-40, -1e-40, 3e38, -3e38, 88.8, -88.8, -104.0, 0.625]


def assert_close(y, expected, ulp):
    """Within `ulp` units in the last place of float32, subnormal numbers among them."""
    assert y.dtype == np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = expected.astype(np.float32)
        error = np.abs(y.astype(np.float64) - expected)
        allowed = (ulp + 0.5) * np.spacing(np.abs(rounded)).astype(np.float64)
    same = (np.isnan(y) & np.isnan(expected)) | (y == rounded) | (error <= allowed)
    assert same.all(), (y[~same][:5], expected[~same][:5])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_of_special_values_at_every_lane(name, isa):
    function, define, ulp = ACTIVATIONS[name]
    for length in range(1, 48):
        x = np.linspace(-3, 3, length, dtype=np.float32)
        for lane in range(length):
            row = np.tile(x, (len(SPECIAL), 1))
            row[:, lane] = SPECIAL
            out = guarded(row.shape)
            assert_close(function(row, out=out), define(row), ulp)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_over_the_whole_range(name, isa):
    function, define, ulp = ACTIVATIONS[name]
    x = np.concatenate([np.linspace(-120, 120, 200_001), np.geomspace(1e-38, 1e38, 10_000)]).astype(np.float32)
    for values in (x, -x):
        assert_close(function(values), define(values), ulp)


def test_sigmoid_and_silu_where_the_other_exponential_overflows(isa):
    x = np.float32([-88.8, -95, -103, -104, -108, -200, -np.inf])
    for function, define in ((F.sigmoid, reference.sigmoid), (F.silu, reference.silu)):
        y, expected = function(x), define(x)
        np.testing.assert_allclose(y, expected, rtol=1e-2, atol=np.finfo(np.float32).smallest_subnormal)
        assert y[0] != 0 and np.array_equal(np.isnan(y), np.isnan(expected))
    assert F.sigmoid(x)[0] == pytest.approx(2.7205e-39, rel=1e-2)
    assert F.silu(x)[0] == pytest.approx(-2.416e-37, rel=1e-3)


def test_gelu_in_its_form_with_tanh(isa):
    """Its tail is an exponential, which multiplies the error of its argument."""
    x = np.concatenate([np.linspace(-12, 12, 100_001), [-np.inf, np.inf, np.nan, -0.0, 3e38, -3e38]]).astype(np.float32)
    y, expected, size = F.gelu(x, "tanh"), reference.gelu(x, "tanh"), np.abs(x.astype(np.float64))
    argument = 1.6 * size + 0.0714 * size**3
    with np.errstate(invalid="ignore"):
        allowed = (4 + 3 * argument * (x < 0)) * np.spacing(np.abs(expected.astype(np.float32))) + 1e-44
        error = np.abs(y - expected)
    fits = (y == expected) | (error <= allowed) | (np.isnan(y) & np.isnan(expected))
    assert fits.all(), (x[~fits][:5], y[~fits][:5], expected[~fits][:5])
    assert np.signbit(y[-3]) and np.isnan(y[-6])


@pytest.mark.parametrize("threads", THREADS)
def test_activation_is_shared_by_threads(threads, isa, poisoned):
    x = np.random.default_rng(0).standard_normal((3, 5, 67, 131)).astype(np.float32)
    with fastcnn.num_threads(threads):
        assert np.array_equal(F.relu(x, out=guarded(x.shape)), np.maximum(x, 0))
        y = x.copy()
        assert F.relu(y, out=y) is y and np.array_equal(y, np.maximum(x, 0))


@pytest.mark.parametrize("threads", THREADS)
def test_pooling(threads, isa, poisoned, budget):
    rng = np.random.default_rng(6)
    for _ in range(budget(400, 20_000)):
        kernel, stride = (tuple(int(v) for v in rng.integers(1, 5, 2)) for _ in range(2))
        dilation = tuple(int(d) for d in rng.choice([1, 1, 2], 2))
        pads = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel * 2)
        least = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        shape = (int(rng.integers(1, 3)), int(rng.integers(1, 36)), *(int(v + rng.integers(0, 12)) for v in least))
        x = rng.integers(-50, 50, shape).astype(np.float32)
        ceil, include = bool(rng.integers(2)), bool(rng.integers(2))
        with fastcnn.num_threads(threads):
            y = F.max_pool2d(x, kernel, stride, pads, dilation, ceil)
            assert np.array_equal(y, reference.max_pool2d(x, kernel, stride, pads, dilation, ceil))
            y = F.avg_pool2d(x, kernel, stride, pads, ceil, include)
            expected = reference.avg_pool2d(x, kernel, stride, pads, ceil, include)
            np.testing.assert_allclose(y, expected, rtol=3e-7, atol=1e-12)
            np.testing.assert_allclose(F.global_avg_pool2d(x), reference.global_avg_pool2d(x), rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("size", [(1500, 1500), (3, 400_000), (400_000, 1), (1, 70_000), (1000, 65)])
def test_the_mean_of_many_pixels_loses_no_digits(size, isa):
    """Where values are alike, what is rounded off each time adds up."""
    rng = np.random.default_rng(0)
    for x in (np.full((1, 2, *size), 0.1, np.float32), rng.random((1, 2, *size), np.float32)):
        expected = x.mean(axis=(2, 3), dtype=np.float64)
        bits = []
        for threads in THREADS:
            with fastcnn.num_threads(threads):
                bits.append((F.global_avg_pool2d(x).ravel(), F.avg_pool2d(x, size).ravel()))
        for whole, window in bits:
            np.testing.assert_allclose(whole, expected[0], rtol=6e-7)
            np.testing.assert_allclose(window, expected[0], rtol=6e-7)
            np.testing.assert_array_equal((whole, window), bits[0])


def test_means_of_infinite_values_are_infinite(isa):
    x = np.ones((1, 20, 40, 40), np.float32)
    x[0, 3, 5, 5], x[0, 4, 39, 39], x[0, 5, 0, 0] = np.inf, -np.inf, np.nan
    for y in (F.global_avg_pool2d(x), F.avg_pool2d(x, 40)):
        np.testing.assert_array_equal(y.ravel()[:6], [1, 1, 1, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("channels", [1, 20])
@pytest.mark.parametrize("kernel", [2, 3, 4])
def test_max_pool_keeps_nan_and_infinity(kernel, channels, isa):
    """Wherever in a window they are."""
    rng = np.random.default_rng(31)
    for pad in (0, 1):
        x = rng.standard_normal((8, channels, 18, 18)).astype(np.float32)
        for value in (np.nan, np.inf, -np.inf):
            x[rng.random(x.shape) < 0.03] = value
        expected = reference.max_pool2d(x, (kernel, kernel), (2, 2), (pad,) * 4)
        assert np.isnan(expected).any() and not np.isnan(expected).all()
        assert np.array_equal(F.max_pool2d(x, kernel, 2, pad), expected, equal_nan=True)


@pytest.mark.parametrize("shape", [(2, 5), (3, 17, 4), (2, 21, 3, 5), (1, 1, 1, 1), (4, 64, 7, 7), (2, 3, 2, 2, 2)])
def test_batch_norm(shape, isa, poisoned):
    rng = np.random.default_rng(7)
    x = rng.standard_normal(shape).astype(np.float32)
    mean, var, weight, bias = (rng.random(shape[1]).astype(np.float32) for _ in range(4))
    y = F.batch_norm(x, mean, var, weight, bias, eps=1e-3)
    np.testing.assert_allclose(y, reference.batch_norm(x, mean, var, weight, bias, 1e-3), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", THREADS)
def test_softmax(threads, isa, poisoned):
    rng = np.random.default_rng(8)
    for shape in [(1,), (7,), (3, 10), (1, 1000), (2, 3, 4), (2, 5, 3, 2), (2, 2, 2, 3, 2)]:
        x = (rng.standard_normal(shape) * 20).astype(np.float32)
        for axis in range(-len(shape), len(shape)):
            with fastcnn.num_threads(threads):
                y = F.softmax(x, axis, out=guarded(shape))
            np.testing.assert_allclose(y, reference.softmax(x, axis), rtol=2e-6, atol=1e-12)


def test_softmax_of_special_values(isa):
    for values in ([np.nan, 1], [np.inf, 1], [-np.inf, 1], [1e38, -1e38], [-np.inf, -np.inf]):
        for tail in range(20):
            x = np.array(values + [0.5] * tail, np.float32)
            with np.errstate(invalid="ignore"):
                expected = reference.softmax(x)
            np.testing.assert_allclose(F.softmax(x), expected, rtol=2e-6, atol=1e-12)


SHAPES = [
    ((), ()),
    ((5,), ()),
    ((3, 4), (4,)),
    ((3, 1), (1, 4)),
    ((2, 3, 4), (3, 1)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 20, 6, 7), (2, 20, 6, 7)),
    ((2, 20, 6, 7), (2, 20, 1, 1)),
    ((2, 3, 4, 5), (4, 5)),
    ((1, 3, 1, 5), (2, 1, 4, 1)),
    ((2, 3, 2, 2, 2), (2, 3, 2, 2, 2)),
    ((2, 3, 2, 2, 2), (3, 1, 1, 1)),
    ((33,), (33,)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_add_and_mul_broadcast_as_numpy(left, right, isa, poisoned):
    rng = np.random.default_rng(9)
    x, y = rng.standard_normal(left).astype(np.float32), rng.standard_normal(right).astype(np.float32)
    for threads in THREADS:
        with fastcnn.num_threads(threads):
            for a, b in ((x, y), (y, x)):
                assert np.array_equal(F.add(a, b), a + b)
                assert np.array_equal(F.mul(a, b), a * b)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 16, 3, 5), (2, 3, 4, 5), (2, 2, 3, 2, 2)])
def test_concat(shape, isa, poisoned):
    rng = np.random.default_rng(10)
    for axis in range(-len(shape), len(shape)):
        parts = []
        for size in (1, 16, 3):
            part = list(shape)
            part[axis] = size
            parts.append(rng.standard_normal(part).astype(np.float32))
        assert np.array_equal(F.concat(parts, axis), np.concatenate(parts, axis))


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 17, 3, 5)])
def test_pad(shape, isa, poisoned):
    rng = np.random.default_rng(11)
    x = rng.standard_normal(shape).astype(np.float32)
    for _ in range(20):
        padding = [int(v) for v in rng.integers(0, 4, 2 * int(rng.integers(1, len(shape) + 1)))]
        pairs = [(0, 0)] * (len(shape) - len(padding) // 2) + list(zip(padding[::2], padding[1::2], strict=True))[::-1]
        assert np.array_equal(F.pad(x, padding, 2.5), np.pad(x, pairs, constant_values=2.5))


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (2, 17, 3, 5), (2, 20, 1, 1), (2, 2, 3, 2, 2)])
def test_flatten_and_dropout_move_nothing(shape, isa, poisoned):
    x = np.random.default_rng(12).standard_normal(shape).astype(np.float32)
    assert np.array_equal(F.dropout(x), x)
    for axis in range(len(shape)):
        assert np.array_equal(F.flatten(x, axis), x.reshape(*shape[:axis], -1))
