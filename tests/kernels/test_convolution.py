"""Convolution kernels against their definition: exact on integers, bounded on reals, the same for any thread count,
independent of what memory held before."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from convolutions import random_case
from memory_guard import guarded

import fastcnn
from fastcnn import functional, reference
from fastcnn.kernels import _cpu

CHUNKS = 20


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_exact_on_integers(chunk, isa, poisoned, budget):
    """Sums of integers below 2^24 have one right answer, in whatever order they are added."""
    rng = np.random.default_rng([1, chunk])
    for _ in range(budget(5_000, 1_000_000) // CHUNKS):
        case = random_case(rng, integers=True)
        expected = case.expected()
        for algorithm in case.algorithms():
            out = guarded(expected.shape)
            with fastcnn.num_threads(int(rng.choice(THREADS))):
                case.run(algorithm, out)
            assert np.array_equal(out, expected), (algorithm, case)


def test_error_is_bounded(isa, budget):
    """|error| <= (K + 2) 2^-24 sum |x w|, element by element."""
    rng = np.random.default_rng(2)
    for _ in range(budget(2_000, 100_000)):
        case = random_case(rng, integers=False)
        expected = case.expected()
        bias = 0 if case.bias is None else np.abs(case.bias)
        size = reference.conv2d(
            np.abs(case.x),
            np.abs(case.weight),
            bias + np.zeros(len(case.weight)),
            case.stride,
            case.pads,
            case.dilation,
            case.groups,
        )
        bound = (case.terms() + 2) * 2.0**-24 * size
        for algorithm in case.algorithms():
            error = np.abs(case.run(algorithm) - expected)
            assert np.all(error <= bound), (algorithm, case, np.max(error - bound))


@pytest.mark.parametrize("width", [5, 7, 12, 13, 14, 27, 30])
@pytest.mark.parametrize(("outs", "groups"), [(24, 1), (32, 1), (40, 1), (10, 2), (12, 2), (28, 2), (36, 4), (50, 2)])
def test_tiles_across_the_rows_of_an_output_with_halo(isa, poisoned, width, outs, groups):
    """The 3 x 3 filters read a halo, so that the 1 x 1 filters write rows with gaps in between."""
    rng = np.random.default_rng(width * outs)
    model = fastcnn.Sequential(
        fastcnn.Conv2d(16, outs, 1, groups=groups),
        fastcnn.Tanh(),
        fastcnn.Conv2d(outs, outs, 3, padding=1, groups=outs),
    )
    x = rng.standard_normal((2, 16, 9, width), np.float32)
    inner = np.tanh(reference.conv2d(x, model[0].weight, model[0].bias, groups=groups))
    expected = reference.conv2d(inner, model[2].weight, model[2].bias, pads=(1, 1, 1, 1), groups=outs)
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-5)


class Sum(fastcnn.Model):
    """Two filters of an image; the sum of one is added in the other."""

    def __init__(self, ins, outs, kernel, stride, activation):
        self.one, self.other = (
            fastcnn.Conv2d(ins, outs, kernel, stride=stride, padding=kernel // 2, rng=seed, algorithm="direct")
            for seed in range(2)
        )
        self.activation = activation

    def forward(self, x):
        return self.activation(self.one(x) + self.other(x))

    def expected(self, x):
        """What the definition says, before the activation."""
        return sum(
            reference.conv2d(x, layer.weight, layer.bias, (layer.stride,) * 2, (layer.padding,) * 4)
            for layer in (self.one, self.other)
        )


@pytest.mark.parametrize("width", [3, 7, 8, 15, 16, 17, 28, 33])
@pytest.mark.parametrize("outs", range(1, 8))
def test_few_channels_of_grey_images(isa, poisoned, width, outs):
    """Tiles of neighbouring pixels, the last of which begins before the other has ended."""
    x = np.random.default_rng(width).standard_normal((2, 1, 4, width), np.float32)
    model = Sum(1, outs, 3, 1, functional.tanh)
    np.testing.assert_allclose(model(x), np.tanh(model.expected(x)), rtol=1e-5, atol=1e-6)
    exact = np.rint(8 * x)
    weight, bias = np.rint(8 * model.one.weight), np.arange(outs)
    assert np.array_equal(functional.conv2d(exact, weight, bias), reference.conv2d(exact, weight, bias))


def test_joined_rows_of_vectors_of_pixels_end_with_a_vector(isa, poisoned):
    """1 x 1 filters join the rows of an image and cut them anew: of 399 rows, the last would have 2 pixels."""
    rng = np.random.default_rng(4)
    x = rng.integers(-8, 9, (2, 1, 290, 269)).astype(np.float32)
    weight = rng.integers(-8, 9, (3, 1, 1, 1)).astype(np.float32)
    y = functional.conv2d(x, weight, out=guarded((2, 3, 290, 269)))
    assert np.array_equal(y, x * weight.reshape(1, 3, 1, 1))


@pytest.mark.parametrize("beyond", [1, 2, 4, 5, 8, 9])
@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize(("kernel", "stride", "width"), [(1, 1, 13), (1, 2, 12), (3, 1, 16), (3, 2, 5)])
def test_half_blocks(beyond, blocks, kernel, stride, width, isa, poisoned):
    """A last block of at most half its channels is computed as half a block where inputs are even in number; in several
    chunks, onto a residual, and before all kinds of activations."""
    vl, rng = _cpu.vector_length(), np.random.default_rng(beyond)
    outs = blocks * vl + beyond
    for ins in (vl, 5 * vl + 2, 10 * vl + 6, 2 * vl + 1):
        weight, bias = rng.integers(-9, 10, (outs, ins, kernel, kernel)).astype(np.float32), np.arange(outs)
        x = rng.integers(-9, 10, (2, ins, 7, width)).astype(np.float32)
        expected = reference.conv2d(x, weight, bias, (stride, stride), (1, 1, 1, 1))
        assert np.array_equal(functional.conv2d(x, weight, bias, stride, 1, algorithm="direct"), expected), ins
    x = rng.standard_normal((2, vl + 2, 7, width), np.float32)
    definitions = {
        functional.relu: lambda sums: np.maximum(sums, 0),
        functional.relu6: lambda sums: np.clip(sums, 0, 6),
        functional.tanh: np.tanh,
    }
    for activation, definition in definitions.items():
        model = Sum(vl + 2, outs, kernel, stride, activation)
        for threads in (1, 2, 3):
            with fastcnn.num_threads(threads):
                np.testing.assert_allclose(model(x), definition(model.expected(x)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_first_layers_of_every_width(channels, stride, padding, isa, poisoned):
    """Images with few channels have tiles of their own, plane by plane or pixel by pixel: of one and of two blocks of
    outputs, with every number of pixels."""
    vl, rng = _cpu.vector_length(), np.random.default_rng([channels, stride, padding])
    for outs in (vl - 1, 2 * vl + 3):
        conv = fastcnn.Conv2d(channels, outs, 3, stride=stride, padding=padding, algorithm="direct")
        conv.weight = rng.integers(-9, 10, conv.weight.shape).astype(np.float32)
        conv.bias = np.arange(outs, dtype=np.float32)
        model = fastcnn.Sequential(conv, fastcnn.ReLU())
        for width in range(1, 31):
            x = rng.integers(-9, 10, (1, channels, 4, (width - 1) * stride + 3 - 2 * padding)).astype(np.float32)
            expected = reference.conv2d(x, conv.weight, conv.bias, (stride, stride), (padding,) * 4)
            assert np.array_equal(model(x), np.maximum(expected, 0)), (outs, width)


@pytest.mark.parametrize(("algorithm", "stride"), [("direct", 1), ("direct", 2), ("winograd", 1)])
@pytest.mark.parametrize("blocks", range(1, 10))
def test_bundles_of_every_size(algorithm, stride, blocks, isa, poisoned):
    """A tile takes up to four output blocks: every number of them, with every number of pixels in a row.

    Inputs are read in one pass and in two, and the last block is full and partial."""
    vl, rng = _cpu.vector_length(), np.random.default_rng([blocks, stride])
    kernel = 3 if algorithm == "winograd" else 1
    for ins, outs in ((vl + 2, blocks * vl), (33 * vl, blocks * vl - 1)):
        conv = fastcnn.Conv2d(ins, outs, kernel, stride=stride, padding=kernel // 2, algorithm=algorithm)
        conv.weight = rng.integers(-9, 10, conv.weight.shape).astype(np.float32)
        conv.bias = np.arange(outs, dtype=np.float32)
        model = fastcnn.Sequential(conv, fastcnn.ReLU())
        for width in range(1, 14) if ins < 2 * vl else (5, 13):
            x = rng.integers(-9, 10, (1, ins, 3, (width - 1) * stride + 1)).astype(np.float32)
            expected = np.maximum(reference.conv2d(x, conv.weight, conv.bias, (stride, stride), (kernel // 2,) * 4), 0)
            for threads in (1, 2, 3):
                with fastcnn.num_threads(threads):
                    if algorithm == "direct":
                        assert np.array_equal(model(x), expected), (outs, width, threads)
                    else:
                        np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [(9, 11), (14, 16), (6, 33), (28, 28)])
@pytest.mark.parametrize("outs", [1, 3, 4, 6, 7])
@pytest.mark.parametrize("between", [(), (fastcnn.Tanh(),), (fastcnn.ReLU(), fastcnn.MaxPool2d(2))], ids=len)
def test_few_channels_stay_planes(size, outs, between, isa, poisoned):
    """A convolution leaves them plain for one without padding: neither copies, and the bits are those of blocks."""
    first, last = fastcnn.Conv2d(1, outs, (1, 3), rng=1), fastcnn.Conv2d(outs, 9, 3, stride=2, rng=2)
    x = np.random.default_rng(outs).standard_normal((2, 1, *size), np.float32)
    inner = fastcnn.Sequential(first, *between)(x)
    expected = functional.conv2d(inner, last.weight, last.bias, stride=2)
    np.testing.assert_allclose(expected, reference.conv2d(inner, last.weight, last.bias, (2, 2)), rtol=1e-5, atol=1e-5)
    model = fastcnn.Sequential(first, *between, last)
    for threads in (1, 2, 3):
        with fastcnn.num_threads(threads):
            np.testing.assert_array_equal(model(x), expected)
    width, vl = size[1] - 2, _cpu.vector_length()
    if outs <= 6 and outs < vl and width - width % 2 >= vl:  # vectors hold the outputs of the first one
        assert [step.kernel for step in model.profile(x, repeats=1).steps] == ["direct", "direct", "reorder"]


@pytest.mark.parametrize(("ins", "outs"), [(3, 6), (4, 4)])
def test_few_channels_of_groups_do_not_stay_planes(ins, outs, isa, poisoned):
    """A group of one channel is no grey image."""
    model = fastcnn.Sequential(
        fastcnn.Conv2d(ins, outs, 3, groups=ins, algorithm="direct", rng=1), fastcnn.Conv2d(outs, 8, 1, rng=2)
    )
    x = np.random.default_rng(ins).standard_normal((2, ins, 6, 34), np.float32)
    inner = reference.conv2d(x, model[0].weight, model[0].bias, groups=ins)
    np.testing.assert_allclose(model(x), reference.conv2d(inner, model[1].weight, model[1].bias), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_stay_where_they_belong(value, isa):
    """A special pixel reaches the outputs whose windows cover it, and no other."""
    for channels in (1, 3, 8, 17):
        x = np.ones((1, channels, 9, 9), np.float32)
        x[0, channels - 1, 4, 4] = value
        weight = np.ones((5, channels, 3, 3), np.float32)
        for algorithm in ("direct", "im2col"):
            y = functional.conv2d(x, weight, padding=1, algorithm=algorithm)
            with np.errstate(invalid="ignore"):
                assert np.array_equal(y, reference.conv2d(x, weight, pads=(1, 1, 1, 1)), equal_nan=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", [None, fastcnn.ReLU, fastcnn.Tanh])
def test_special_values_stay_in_their_group(value, activation, isa):
    """Blocks that are of several groups are computed for one after the other."""
    for ins, outs, groups in [(15, 15, 5), (12, 27, 3), (34, 18, 2), (4, 40, 4)]:
        layers = [fastcnn.Conv2d(ins, outs, 1, groups=groups), *([] if activation is None else [activation()])]
        x = np.ones((1, ins, 3, 7), np.float32)
        x[0, ins // groups, 1, 5] = value  # of the second group
        model = fastcnn.Sequential(*layers)
        pure = fastcnn.Sequential(*layers)(np.ones_like(x))
        hit = model(x) != pure
        assert not hit[:, : outs // groups].any() and not hit[:, 2 * outs // groups :].any(), (ins, outs, groups)
        assert not hit[..., :5].any() and not hit[..., 0, :].any()
        assert activation is not None or hit[0, outs // groups : 2 * outs // groups, 1, 5].all()


@pytest.mark.parametrize("activation", [fastcnn.ReLU, fastcnn.ReLU6, fastcnn.Tanh])
@pytest.mark.parametrize(("outs", "kernel"), [(3, 1), (40, 1), (70, 1), (70, 5)])
def test_nan_goes_through_activations(activation, outs, kernel, isa):
    """Sums are stored by a max, by a max and a min, or as they are before an activation of its own."""
    x = np.ones((1, 8, 6, 9), np.float32)
    x[0, 5, 2, 3] = np.nan
    y = fastcnn.Sequential(fastcnn.Conv2d(8, outs, kernel, padding=kernel // 2), activation())(x)
    assert np.isnan(y[0, :, 2, 3]).all()
    assert np.isfinite(y[..., 6:]).all()


@pytest.mark.parametrize("threads", THREADS)
def test_linear(threads, isa, poisoned):
    rng = np.random.default_rng(4)
    for rows, ins, outs in [(1, 1, 1), (1, 400, 120), (3, 7, 5), (17, 33, 10), (64, 100, 31), (130, 50, 16)]:
        x, weight, bias = (rng.integers(-99, 100, s).astype(np.float32) for s in ((rows, ins), (outs, ins), (outs,)))
        out = guarded((rows, outs))
        with fastcnn.num_threads(threads):
            functional.linear(x, weight, bias, out=out)
        assert np.array_equal(out, reference.linear(x, weight, bias))


def test_large_sums_are_cut_into_chunks(isa):
    """More input channels than one pass over the weights takes: partial sums go through memory."""
    rng = np.random.default_rng(5)
    x = rng.integers(-9, 10, (1, 1500, 5, 6)).astype(np.float32)
    weight = rng.integers(-9, 10, (20, 1500, 3, 3)).astype(np.float32)
    y = functional.conv2d(x, weight, padding=1, algorithm="direct")
    assert np.array_equal(y, reference.conv2d(x, weight, pads=(1, 1, 1, 1)))
