"""The definitions in fastcnn.reference, against loops written here, values worked out by hand, and algebra.

Whoever trusts the reference as an oracle trusts these tests; they use nothing else of fastcnn.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastcnn import reference

NAN, INF = math.nan, math.inf
SEEDS = range(60)
ELEMENTWISE = {
    "relu": lambda v: max(v, 0.0),
    "clip": lambda v: min(max(v, -0.5), 2.0),
    "leaky_relu": lambda v: v if v > 0 else 0.01 * v,
    "tanh": math.tanh,
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "hard_swish": lambda v: v * min(max(v + 3, 0), 6) / 6,
    "silu": lambda v: v / (1 + math.exp(-v)),
    "gelu": lambda v: v * math.erfc(-v / math.sqrt(2)) / 2,
    "erf": math.erf,
}


def apply(name, x):
    arguments = (-0.5, 2.0) if name == "clip" else ()
    return getattr(reference, name)(x, *arguments)


def integers(rng, *shape):
    """Integers, whose sums of products are exact in any order."""
    return rng.integers(-9, 10, shape).astype(np.float64)


def same(actual, expected):
    """Equal bit by bit, but for the payload of NaN: also in the sign of zero."""
    expected = np.asarray(expected, np.float64)
    assert type(actual) is np.ndarray and actual.dtype == np.float64 and actual.shape == expected.shape
    assert_array_equal(actual, expected)
    numbers = ~np.isnan(expected)
    assert_array_equal(np.signbit(actual)[numbers], np.signbit(expected)[numbers])


# --- loops that follow the formula, pixel by pixel ---


def draw_windows(rng):
    """A random image size, kernel, stride and dilation, and pads of at most half a kernel, as in PyTorch."""
    kernel, stride, dilation = (tuple(int(v) for v in rng.integers(1, high, 2)) for high in (5, 4, 3))
    pads = tuple(int(rng.integers(0, kernel[axis % 2] // 2 + 1)) for axis in range(4))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(int(e + rng.integers(0, 6)) for e in extent)
    return size, kernel, stride, pads, dilation


def output_size(size, kernel, stride, pads, dilation, ceil_mode):
    """Count the starts of windows, one after the other, instead of dividing."""
    counts = []
    for axis in range(2):
        begin, end = -pads[axis], size[axis] + pads[axis + 2]
        extent = dilation[axis] * (kernel[axis] - 1) + 1
        starts = [start for start in range(begin, end, stride[axis]) if start + extent <= end]
        following = starts[-1] + stride[axis]
        if ceil_mode and starts[-1] + extent < end and following < size[axis]:
            starts.append(following)
        counts.append(len(starts))
    return counts


def window_pixels(i, j, size, kernel, stride, pads, dilation=(1, 1)):
    """Coordinates of the taps of window (i, j); they may lie outside the image."""
    for u, v in itertools.product(range(kernel[0]), range(kernel[1])):
        y, x = i * stride[0] + u * dilation[0], j * stride[1] + v * dilation[1]
        yield (u, v), (y - pads[0], x - pads[1])


def is_inside(pixel, size, margin=(0, 0, 0, 0)):
    return all(-margin[axis] <= pixel[axis] < size[axis] + margin[axis + 2] for axis in range(2))


@pytest.mark.parametrize("seed", SEEDS)
def test_conv2d_follows_its_formula(seed):
    rng = np.random.default_rng(seed)
    size, kernel, stride, pads, dilation = draw_windows(rng)
    n, groups, inputs, outputs = (int(v) for v in rng.integers(1, 4, 4))
    x = integers(rng, n, groups * inputs, *size)
    weight = integers(rng, groups * outputs, inputs, *kernel)
    bias = integers(rng, groups * outputs)
    expected = np.zeros((n, len(weight), *output_size(size, kernel, stride, pads, dilation, False)))
    for image, o, i, j in np.ndindex(*expected.shape):
        expected[image, o, i, j] = bias[o]
        for (u, v), pixel in window_pixels(i, j, size, kernel, stride, pads, dilation):
            for c in range(inputs):
                if is_inside(pixel, size):
                    source = x[image, o // outputs * inputs + c, pixel[0], pixel[1]]
                    expected[image, o, i, j] += weight[o, c, u, v] * source
    assert_array_equal(reference.conv2d(x, weight, bias, stride, pads, dilation, groups), expected)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_max_pool2d_follows_its_formula(seed, ceil_mode):
    rng = np.random.default_rng(seed)
    size, kernel, stride, pads, dilation = draw_windows(rng)
    x = integers(rng, 2, 3, *size)
    expected = np.zeros((2, 3, *output_size(size, kernel, stride, pads, dilation, ceil_mode)))
    for n, c, i, j in np.ndindex(*expected.shape):
        pixels = [pixel for _, pixel in window_pixels(i, j, size, kernel, stride, pads, dilation)]
        inside = (x[n, c][pixel] for pixel in pixels if is_inside(pixel, size))
        expected[n, c, i, j] = max(inside, default=-INF)
    assert_array_equal(reference.max_pool2d(x, kernel, stride, pads, dilation, ceil_mode), expected)


@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_avg_pool2d_follows_its_formula(seed, ceil_mode, count_include_pad):
    rng = np.random.default_rng(seed)
    size, kernel, stride, pads, _ = draw_windows(rng)
    x = integers(rng, 2, 3, *size)
    expected = np.zeros((2, 3, *output_size(size, kernel, stride, pads, (1, 1), ceil_mode)))
    counted = pads if count_include_pad else (0, 0, 0, 0)
    for n, c, i, j in np.ndindex(*expected.shape):
        pixels = [pixel for _, pixel in window_pixels(i, j, size, kernel, stride, pads)]
        total = sum(x[n, c][pixel] for pixel in pixels if is_inside(pixel, size))
        expected[n, c, i, j] = total / sum(is_inside(pixel, size, counted) for pixel in pixels)
    actual = reference.avg_pool2d(x, kernel, stride, pads, ceil_mode, count_include_pad)
    assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_follow_their_formula(name):
    x = np.concatenate([np.linspace(-9, 9, 181), [-50, -3, -0.5, 0, 1e-9, 3, 50]]).reshape(4, 47)
    expected = np.vectorize(ELEMENTWISE[name], otypes=[np.float64])(x)
    actual = apply(name, x)
    assert actual.dtype == np.float64 and actual.shape == x.shape
    assert_allclose(actual, expected, rtol=1e-14, atol=1e-300)


def test_linear_follows_its_formula():
    rng = np.random.default_rng(0)
    x, weight, bias = integers(rng, 2, 3, 4), integers(rng, 5, 4), integers(rng, 5)
    y = reference.linear(x, weight, bias)
    assert y.shape == (2, 3, 5)
    for i, j, o in np.ndindex(*y.shape):
        assert y[i, j, o] == bias[o] + sum(x[i, j, k] * weight[o, k] for k in range(4))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_batch_norm_follows_its_formula(shape):
    rng = np.random.default_rng(0)
    x, (mean, weight, bias), var = rng.normal(size=shape), rng.normal(size=(3, 3)), rng.uniform(size=3)
    y = reference.batch_norm(x, mean, var, weight, bias, eps=0.25)
    plain = reference.batch_norm(x, mean, var, eps=0.25)
    for index in np.ndindex(*shape):
        c = index[1]
        z = (x[index] - mean[c]) / math.sqrt(var[c] + 0.25)
        assert math.isclose(plain[index], z, rel_tol=1e-14)
        assert math.isclose(y[index], z * weight[c] + bias[c], rel_tol=1e-12, abs_tol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_follows_its_formula(axis):
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    rows = np.moveaxis(x, axis, -1)
    y = np.moveaxis(reference.softmax(x, axis), axis, -1)
    for index in np.ndindex(*rows.shape):
        total = math.fsum(math.exp(v) for v in rows[index[:-1]])
        assert math.isclose(y[index], math.exp(rows[index]) / total, rel_tol=1e-14)


# --- worked out by hand ---

IMAGE = [[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 4], [112, 100, 25, 12]]
WINDOW = ((2, 2), (2, 2), (0, 0, 0, 0))


def test_pools_of_a_4x4_image():
    assert_array_equal(reference.max_pool2d([[IMAGE]], *WINDOW), [[[[20, 30], [112, 37]]]])
    assert_array_equal(reference.avg_pool2d([[IMAGE]], *WINDOW), [[[[13, 8], [79, 19.5]]]])
    assert_array_equal(reference.global_avg_pool2d([[IMAGE]]), [[[[29.875]]]])


def test_ceil_mode_adds_a_window_that_starts_in_the_image():
    x = np.arange(1.0, 6.0).reshape(1, 1, 1, 5)
    settings = ((1, 2), (1, 2), (0, 0, 0, 0))
    assert_array_equal(reference.max_pool2d(x, *settings)[0, 0], [[2, 4]])
    assert_array_equal(reference.max_pool2d(x, *settings, ceil_mode=True)[0, 0], [[2, 4, 5]])
    assert_array_equal(reference.avg_pool2d(x, *settings, ceil_mode=True)[0, 0], [[1.5, 3.5, 5]])


def test_ceil_mode_leaves_out_a_window_that_starts_in_the_padding():
    # Windows start at -1, 2 and 5; 5 is right of the last pixel, 4.
    x = np.arange(1.0, 6.0).reshape(1, 1, 1, 5)
    settings = ((1, 2), (1, 3), (0, 1, 0, 1))
    assert_array_equal(reference.max_pool2d(x, *settings, ceil_mode=True)[0, 0], [[1, 4]])
    assert_array_equal(reference.avg_pool2d(x, *settings, True, True)[0, 0], [[0.5, 3.5]])
    assert_array_equal(reference.avg_pool2d(x, *settings, True, False)[0, 0], [[1, 3.5]])


def test_ceil_mode_allows_a_window_larger_than_the_image():
    x = [[[[1.0, 2.0], [3.0, 4.0]]]]
    settings = ((3, 3), (2, 2), (0, 0, 0, 0))
    assert_array_equal(reference.max_pool2d(x, *settings, ceil_mode=True), [[[[4]]]])
    assert_array_equal(reference.avg_pool2d(x, *settings, ceil_mode=True), [[[[2.5]]]])


def test_average_beyond_the_padding_is_not_counted():
    # The second window covers pixels 2 and 3 of value 1, one of padding, and one beyond.
    x = np.ones((1, 1, 1, 4))
    settings = ((1, 4), (1, 3), (0, 1, 0, 1))
    assert_array_equal(reference.avg_pool2d(x, *settings, True, True)[0, 0], [[0.75, 2 / 3]])
    assert_array_equal(reference.avg_pool2d(x, *settings, True, False)[0, 0], [[1, 1]])


def test_average_of_nothing_is_nan():
    x = np.ones((1, 1, 1, 1))
    y = reference.avg_pool2d(x, (1, 1), (1, 1), (0, 1, 0, 0), count_include_pad=False)
    assert_array_equal(y, [[[[NAN, 1]]]])
    assert_array_equal(reference.global_avg_pool2d(np.ones((1, 2, 0, 3))), np.full((1, 2, 1, 1), NAN))


def test_conv2d_pads_in_the_order_top_left_bottom_right():
    y = reference.conv2d([[[[5.0]]]], [[[[1.0]]]], pads=(1, 2, 3, 4))
    assert y.shape == (1, 1, 5, 7)
    assert y[0, 0, 1, 2] == 5 and y.sum() == 5


def test_pad_takes_beginnings_then_ends():
    same(reference.pad([[1, 2]], (1, 0, 0, 2), -0.0), [[-0.0] * 4, [1, 2, -0.0, -0.0]])
    same(reference.pad([1, 2], (0, 1), NAN), [1, 2, NAN])


def test_concat_and_flatten():
    x = np.arange(24.0).reshape(2, 3, 2, 2)
    same(reference.concat([x[:, :1], x[:, 1:]]), x)
    same(reference.concat([x[..., :1], x[..., 1:]], axis=-1), x)
    for axis, shape in {0: (1, 24), 1: (2, 12), 2: (6, 4), 4: (24, 1), -1: (12, 2)}.items():
        same(reference.flatten(x, axis), x.reshape(shape))
    assert reference.flatten(np.zeros((0, 3, 2))).shape == (0, 6)


# --- algebra ---


def test_conv2d_is_linear_and_commutes_with_shifts():
    rng = np.random.default_rng(1)
    a, b = integers(rng, 2, 1, 4, 9, 9)
    weight = integers(rng, 3, 4, 3, 3)
    whole = reference.conv2d(2 * a + b, weight)
    assert_array_equal(whole, 2 * reference.conv2d(a, weight) + reference.conv2d(b, weight))
    assert_array_equal(reference.conv2d(a[:, :, 2:, 1:], weight), reference.conv2d(a, weight)[:, :, 2:, 1:])


def test_conv2d_with_a_kernel_of_one_pixel_is_linear_by_pixel():
    rng = np.random.default_rng(2)
    x, weight, bias = integers(rng, 2, 4, 3, 5), integers(rng, 6, 4), integers(rng, 6)
    expected = np.moveaxis(reference.linear(np.moveaxis(x, 1, -1), weight, bias), -1, 1)
    assert_array_equal(reference.conv2d(x, weight[:, :, None, None], bias), expected)


def test_conv2d_in_groups_is_convolutions_side_by_side():
    rng = np.random.default_rng(3)
    x, weight = integers(rng, 2, 6, 5, 5), integers(rng, 4, 3, 2, 2)
    halves = [reference.conv2d(x[:, :3], weight[:2]), reference.conv2d(x[:, 3:], weight[2:])]
    assert_array_equal(reference.conv2d(x, weight, groups=2), reference.concat(halves))


def test_dilation_is_a_kernel_with_holes_and_stride_a_selection():
    rng = np.random.default_rng(4)
    x, weight = integers(rng, 1, 2, 11, 12), integers(rng, 3, 2, 3, 2)
    holes = np.zeros((3, 2, 5, 4))
    holes[:, :, ::2, ::3] = weight
    dense = reference.conv2d(x, holes)
    assert_array_equal(reference.conv2d(x, weight, dilation=(2, 3)), dense)
    assert_array_equal(reference.conv2d(x, weight, stride=(3, 2), dilation=(2, 3)), dense[:, :, ::3, ::2])


def test_average_pool_is_a_depthwise_convolution():
    x = integers(np.random.default_rng(5), 2, 3, 8, 9)
    mean = reference.conv2d(x, np.ones((3, 1, 2, 4)), stride=(2, 3), pads=(1, 2, 0, 1), groups=3) / 8
    assert_array_equal(reference.avg_pool2d(x, (2, 4), (2, 3), (1, 2, 0, 1)), mean)


def test_images_do_not_depend_on_their_batch():
    rng = np.random.default_rng(6)
    x, weight = rng.normal(size=(5, 6, 9, 9)), rng.normal(size=(4, 3, 3, 3))
    together = reference.conv2d(x, weight, groups=2)
    for n in range(5):
        assert_array_equal(reference.conv2d(x[n : n + 1], weight, groups=2), together[n : n + 1])


def test_symmetries_of_the_activations():
    x = np.linspace(-40, 40, 801)
    assert_array_equal(reference.tanh(-x), -reference.tanh(x))
    assert_allclose(reference.sigmoid(x) + reference.sigmoid(-x), 1, rtol=1e-15)
    assert_allclose(reference.silu(x) - reference.silu(-x), x, rtol=1e-14, atol=1e-15)
    assert_allclose(reference.gelu(x) - reference.gelu(-x), x, rtol=1e-14, atol=1e-15)
    assert_array_equal(reference.erf(-x), -reference.erf(x))
    assert_array_equal(reference.relu(x) - reference.relu(-x), x)
    assert_array_equal(reference.leaky_relu(x, 2.0), 2 * x - reference.relu(x))
    same(reference.leaky_relu([0.0, -0.0], -1.0), [-0.0, 0.0])


def test_softmax_is_a_distribution_and_ignores_shifts():
    x = np.random.default_rng(7).integers(-50, 50, (6, 10)).astype(np.float64)
    y = reference.softmax(x)
    assert_allclose(y.sum(axis=-1), 1, rtol=1e-15)
    assert_array_equal(reference.softmax(x + 1e6), y)
    assert_allclose(reference.softmax([[0.3, -1.1]])[0, 0], reference.sigmoid(1.4), rtol=1e-15)


# --- special values; pytest is configured to turn warnings into errors, so that there are none either ---

SPECIAL = [NAN, INF, -INF, 0.0, -0.0, 1e308, -1e308, 5e-324, -5e-324]
SPECIAL_RESULTS = {
    "relu": [NAN, INF, 0.0, 0.0, -0.0, 1e308, 0.0, 5e-324, 0.0],
    "clip": [NAN, 2.0, -0.5, 0.0, -0.0, 2.0, -0.5, 5e-324, -5e-324],
    "leaky_relu": [NAN, INF, -INF, 0.0, -0.0, 1e308, -1e306, 5e-324, -0.0],
    "tanh": [NAN, 1.0, -1.0, 0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324],
    "sigmoid": [NAN, 1.0, 0.0, 0.5, 0.5, 1.0, 0.0, 0.5, 0.5],
    "hard_swish": [NAN, INF, NAN, 0.0, -0.0, 1e308, -0.0, 0.0, -0.0],
    "silu": [NAN, INF, NAN, 0.0, -0.0, 1e308, -0.0, 0.0, -0.0],
    "gelu": [NAN, INF, NAN, 0.0, -0.0, 1e308, -0.0, 0.0, -0.0],
    "erf": [NAN, 1.0, -1.0, 0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324],
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_special_values_of_elementwise_functions(name):
    # Once as a long array and once alone, for NumPy's vector and scalar loops.
    same(apply(name, SPECIAL * 7), SPECIAL_RESULTS[name] * 7)
    for value, expected in zip(SPECIAL, SPECIAL_RESULTS[name], strict=True):
        same(apply(name, value), expected)


def test_sigmoid_keeps_tiny_results():
    x = np.array([-700.0, -40.0])
    assert_allclose(reference.sigmoid(x), np.exp(x), rtol=1e-15)


def test_gelu_keeps_tiny_results():
    x = np.concatenate([-np.geomspace(0.01, 35, 200), [-11.3, -11.4]])
    expected = [v * math.erfc(-v / math.sqrt(2)) / 2 for v in x]
    assert_allclose(reference.gelu(x), expected, rtol=2e-13)
    assert_allclose(reference.erf(x), [math.erf(v) for v in x], rtol=1e-15)
    tanh = [v / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x if v > -15]
    assert_allclose(reference.gelu(x[x > -15], "tanh"), tanh, rtol=1e-12)


def test_layer_norm_follows_the_formula():
    x = np.random.default_rng(3).integers(-9, 10, (3, 4, 5)).astype(np.float64)
    weight, bias = np.arange(20.0).reshape(4, 5), np.ones((4, 5))
    y = reference.layer_norm(x, weight, bias, axis=1, eps=0.5)
    for row, result in zip(x, y, strict=True):
        values = row.ravel().tolist()
        mean = math.fsum(values) / 20
        deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / 20 + 0.5)
        assert_allclose(result, (row - mean) / deviation * weight + bias, rtol=1e-13)
    same(reference.layer_norm([[INF, 1.0], [NAN, 1.0]]), np.full((2, 2), NAN))


def test_special_values_of_softmax():
    same(reference.softmax([[1e308, 1e308], [-1e308, 1e308], [-INF, 0]]), [[0.5, 0.5], [0, 1], [0, 1]])
    same(reference.softmax([[-INF, -INF], [INF, 0], [NAN, 0]]), np.full((3, 2), NAN))
    same(reference.softmax([-2000, -2000]), [0.5, 0.5])
    same(reference.softmax([]), [])


def test_nan_wins_in_max_pool_and_padding_never_does():
    row = [[[[-INF, 1, NAN, 3, -INF, -INF, 7]]]]
    y = reference.max_pool2d(row, (1, 2), (1, 1), (0, 1, 0, 1))
    same(y, [[[[-INF, 1, NAN, NAN, 3, -INF, 7, 7]]]])
    negative = np.full((1, 1, 3, 3), -1e308)
    same(reference.max_pool2d(negative, (3, 3), (1, 1), (1, 1, 1, 1)), negative)


def test_special_values_of_sums():
    row = [[[[NAN, 1, INF, -INF, 1e308, 1e308]]]]
    sums = [[[[NAN, INF, NAN, -INF, INF]]]]
    same(reference.conv2d(row, np.ones((1, 1, 1, 2))), sums)
    same(reference.avg_pool2d(row, (1, 2), (1, 1), (0, 0, 0, 0)), sums)
    same(reference.global_avg_pool2d([[[[INF, -INF]]]]), [[[[NAN]]]])
    same(reference.linear([[INF, 1], [1, 1]], [[0, 1], [1, -INF]]), [[NAN, NAN], [1, -INF]])
    same(reference.add([INF, 1e308, -0.0], [-INF, 1e308, -0.0]), [NAN, INF, -0.0])
    same(reference.multiply([INF, 1e308, -0.0], [0, 10, 1]), [NAN, INF, -0.0])
    # A zero of the padding takes part in the products.
    same(reference.conv2d([[[[1.0]]]], [[[[INF, 2.0]]]], pads=(0, 1, 0, 0)), [[[[NAN]]]])


def test_special_values_of_batch_norm():
    y = reference.batch_norm([[1.0, 2.0, 1.0, INF]], [0, 2, 0, INF], [0, 0, -1, 1], eps=0)
    same(y, [[INF, NAN, NAN, NAN]])


# --- what all have in common ---
