"""Layers of bytes but convolutions, against integers: every table of this machine, zero tolerance."""

from __future__ import annotations

import numpy as np
import pytest
from kernels.int8_layers import finish_of, place, room, run

from fastcnn import reference
from fastcnn.kernels import _cpu, _step
from fastcnn.kernels._int8_conv import Int8Depthwise
from fastcnn.kernels._int8_pointwise import Dequantize, Int8Add, Int8Multiply, Int8Table, Quantize
from fastcnn.kernels._pool import Int8Pool
from fastcnn.kernels.int8_weights import pack_int8_depthwise
from fastcnn.kernels.view import FLOAT32, UINT8
from fastcnn.reference import quantised

pytestmark = pytest.mark.usefixtures("int8_isa")
HALOS = ((0, 0, 0, 0), (1, 2, 0, 1))


def some_bytes(rng, *shape):
    return rng.integers(0, 256, shape).astype(np.uint8)


def some_image(rng):
    rows, columns = (int(s) for s in rng.integers(1, 24, 2))
    return some_bytes(rng, int(rng.integers(1, 3)), int(rng.integers(1, 40)), rows, columns)


def halo_of(rng):
    return HALOS[int(rng.integers(2))]


def depthwise(rng, threads):
    vl = _cpu.vector_length()
    kernel = tuple(int(k) for k in rng.choice([1, 2, 3, 3, 4, 5, 5, 7], 2))
    strides, dilations = (tuple(int(s) for s in rng.choice([1, 1, 2, 3], 2)) for _ in range(2))
    if rng.integers(3):
        dilations = (1, 1)
    pads = tuple(int(p) for p in rng.integers(0, 4, 4))
    x = some_image(rng)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    x = np.pad(x, ((0, 0), (0, 0), (0, max(0, extent[0] - x.shape[2])), (0, max(0, extent[1] - x.shape[3]))), "edge")
    channels, fill = x.shape[1], int(rng.integers(256))
    weight = rng.integers(-128, 128, (channels, 1, *kernel)).astype(np.int8)
    bias = rng.integers(-9999, 9999, channels).astype(np.int32)
    scale, zero, low, high = finish_of(rng, channels)
    sums = quantised.int8_conv_sums(x, weight, bias, strides, pads, dilations, channels, fill)
    xs, floats, table, added = place(x, vl, 2, pads, fill), rng.integers(5) == 0, None, None
    factor, centre = np.float32(rng.random()), int(rng.integers(256))
    if floats:
        expected = quantised.scaled_sums(sums, scale)
    else:
        table = some_bytes(rng, 256) if rng.integers(4) == 0 else None
        added = some_bytes(rng, *sums.shape) if rng.integers(2) else None
        expected = quantised.finish_sums(
            sums, scale, zero=zero, low=low, high=high, residual=added, residual_scale=factor, residual_zero=centre,
            table=table,
        )  # fmt: skip
    residual = None if added is None else place(added, vl, 3, halo_of(rng))
    ys = room(sums.shape, vl, 1, halo_of(rng), FLOAT32 if floats else UINT8)
    packed = pack_int8_depthwise(weight, strides, dilations)

    def make():
        return Int8Depthwise(
            ys.view, xs.view, residual and residual.view, packed, bias, scale, kernel, strides, pads, dilations,
            channels, zero, factor, centre, low, high, table,
        )  # fmt: skip

    run(make, *filter(None, (ys, xs, residual)), threads=threads)
    return ys, expected, (x.shape, kernel, strides, pads, dilations, floats, added is None)


def pool(rng, threads):
    vl, average = _cpu.vector_length(), bool(rng.integers(2))
    x = some_image(rng)
    kernel = tuple(int(k) for k in rng.choice([1, 2, 2, 3, 3, 4], 2))
    strides, dilations = (tuple(int(s) for s in rng.choice([1, 1, 2, 3], 2)) for _ in range(2))
    if rng.integers(2):
        dilations = (1, 1)
    if rng.integers(4) == 0:  # the mean of a plane
        kernel, strides, dilations = x.shape[2:], (1, 1), (1, 1)
    pads = tuple(int(rng.integers(0, k)) for k in (*kernel, *kernel))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    x = np.pad(x, ((0, 0), (0, 0), (0, max(0, extent[0] - x.shape[2])), (0, max(0, extent[1] - x.shape[3]))), "edge")
    ceil_mode, include = bool(rng.integers(2)), bool(rng.integers(2))
    scale, zero = np.float32(rng.random() * 2), int(rng.integers(256))
    floats = average and rng.integers(3) == 0
    low, high = sorted(int(b) for b in rng.integers(0, 256, 2))
    if average:
        t = quantised.int8_means(x, kernel, strides, pads, dilations, include, scale, zero, ceil_mode)
        expected = t if floats else quantised.to_bytes(t, 255 - zero, low, high)
    else:
        found = reference.max_pool2d(x, kernel, strides, pads, dilations, ceil_mode)
        expected = np.maximum(found, 0).astype(np.uint8)  # a window of padding alone has the least byte
    xs, ys = place(x, vl, 2, halo_of(rng)), room(expected.shape, vl, 1, halo_of(rng), FLOAT32 if floats else UINT8)

    def make():
        return Int8Pool(
            ys.view, xs.view, average, kernel, strides, pads, dilations, include, scale, zero,
            255 - zero, low, high,
        )  # fmt: skip

    run(make, ys, xs, threads=threads)
    return ys, expected, (x.shape, average, kernel, strides, pads, dilations, ceil_mode, include, floats)


def binary(rng, threads):
    vl, multiplies, one_pixel = _cpu.vector_length(), bool(rng.integers(2)), bool(rng.integers(2))
    lanes = vl if one_pixel or rng.integers(2) else 1
    a = some_image(rng)
    b = some_bytes(rng, *a.shape[:2], *((1, 1) if one_pixel and multiplies else a.shape[2:]))
    scales = (rng.random(2) * 3).astype(np.float32)
    zeros, floats = [int(z) for z in rng.integers(0, 256, 3)], rng.integers(4) == 0
    low, high = sorted(int(b) for b in rng.integers(0, 256, 2))
    if multiplies:
        scales[0] /= 100
        t = quantised.int8_product(a, b, scales[0], zeros[0], zeros[1])
    else:
        t = quantised.int8_sum(a, b, scales[0], zeros[0], scales[1], zeros[1])
    expected = t if floats else quantised.to_bytes(t, zeros[2], low, high)
    values = [place(a, lanes, 2, halo_of(rng)), place(b, lanes, 3, halo_of(rng))]
    ys = room(a.shape, lanes, 1, halo_of(rng), FLOAT32 if floats else UINT8)
    views = [value.view for value in values]

    def make():
        if multiplies:
            return Int8Multiply(ys.view, *views, scales[0], *zeros, low, high)
        return Int8Add(ys.view, *views, scales[0], zeros[0], scales[1], zeros[1], zeros[2], low, high)

    run(make, ys, *values, threads=threads)
    return ys, expected, (a.shape, b.shape, lanes, multiplies, floats)


def lanes_of(rng, channels):
    """Of two views, one of which is plain, or both are alike."""
    vl = _cpu.vector_length()
    pairs = [(1, 1), (vl, vl), (1, vl), (vl, 1), (channels, 1), (1, channels), (1, channels)]
    pairs += [(4, 1), (1, 4), (4, 4)] if channels <= 4 else []
    return pairs[int(rng.integers(len(pairs)))]


def table(rng, threads):
    x, entries = some_image(rng), some_bytes(rng, 256)
    x = x[:, : int(rng.integers(1, 5))] if rng.integers(2) else x
    lanes = lanes_of(rng, x.shape[1])
    xs, ys = place(x, lanes[0], 2, halo_of(rng)), room(x.shape, lanes[1], 1, halo_of(rng))
    run(lambda: Int8Table(ys.view, xs.view, entries), ys, xs, threads=threads)
    return ys, entries[x], (x.shape, lanes)


def quantize(rng, threads):
    shape = some_image(rng).shape
    shape = (shape[0], int(rng.integers(1, 5)), *shape[2:]) if rng.integers(2) else shape
    scale, zero = np.float32(2.0 ** rng.integers(-8, 3)), int(rng.integers(256))
    if rng.integers(2):
        scale = np.float32(rng.random())
    halves = rng.integers(-600, 600, shape).astype(np.float32) * scale / 2  # ties
    x = np.where(rng.integers(2, size=shape), halves, rng.standard_normal(shape) * 100).astype(np.float32)
    x[rng.random(shape) < 0.05] = rng.choice([np.nan, np.inf, -np.inf, 3e38, -3e38, -0.0])
    lanes = lanes_of(rng, shape[1])
    xs, ys = place(x, lanes[0], 2, halo_of(rng)), room(shape, lanes[1], 1, halo_of(rng))
    run(lambda: Quantize(ys.view, xs.view, scale, zero), ys, xs, threads=threads)
    return ys, quantised.quantize(x, scale, zero), (shape, lanes, scale, zero)


def dequantize(rng, threads):
    x, scale, zero = some_image(rng), np.float32(rng.random()), int(rng.integers(256))
    x = x[:, : int(rng.integers(1, 5))] if rng.integers(2) else x
    lanes = lanes_of(rng, x.shape[1])
    xs, ys = place(x, lanes[0], 2, halo_of(rng)), room(x.shape, lanes[1], 1, halo_of(rng), FLOAT32)
    run(lambda: Dequantize(ys.view, xs.view, scale, zero), ys, xs, threads=threads)
    return ys, quantised.dequantize(x, scale, zero), (x.shape, lanes, scale, zero)


@pytest.mark.parametrize("layer", [depthwise, pool, binary, table, quantize, dequantize])
def test_layers(layer, budget, monkeypatch):
    """Any geometry, any number of threads, and rows in any number of pieces."""
    monkeypatch.setattr(_step, "PIECE_VECTORS", 1)
    for seed in range(budget(60, 3000)):
        monkeypatch.setattr(_step, "LONGEST_PIECE", 1 << 23 if seed % 3 else 40)
        ys, expected, told = layer(np.random.default_rng(seed), 1 + seed % 3)
        np.testing.assert_array_equal(ys.numbers(), expected, err_msg=str((seed, *told)))


@pytest.mark.parametrize("axis", [2, 3])
def test_a_mean_counts_the_taps_in_the_padded_image(axis):
    """The last window has two of its three taps there: the third is one that ceil_mode adds beyond the padding."""
    shape, along = [1, 3, 1, 1], np.arange(2) == axis - 2
    shape[axis] = 9
    x = np.full(shape, 7, np.uint8)
    vl = _cpu.vector_length()
    xs = place(x, vl, 2)
    ys = room((1, 3, *np.where(along, 3, 1).tolist()), vl, 1)
    kernel, strides, dilations = (tuple(np.where(along, length, 1).tolist()) for length in (3, 3, 2))

    def make():
        return Int8Pool(ys.view, xs.view, True, kernel, strides, (0,) * 4, dilations, True, 1.0, 0, 0)

    run(make, ys, xs)
    np.testing.assert_array_equal(ys.numbers(), 7)
