"""Convolutions of bytes against integers: every table of this machine, zero tolerance."""

from __future__ import annotations

import numpy as np
from kernels.int8_layers import finish_of, place, plain_rows, room, run

from fastcnn.kernels import _cpu, _step
from fastcnn.kernels._int8_conv import Int8Conv
from fastcnn.kernels.int8_weights import narrow_lanes, pack_int8_weights
from fastcnn.kernels.view import FLOAT32, UINT8
from fastcnn.reference import quantised


def draw(rng, largest=70):
    """A convolution of any geometry."""
    groups = int(rng.choice([1, 1, 1, 2, 3, 4, 8]))
    ins, outs = (int(rng.integers(1, largest // groups + 2)) for _ in range(2))
    if groups == 1 and rng.integers(4) == 0:
        ins = int(rng.integers(1, 5))  # as a first layer
    kernel = tuple(int(k) for k in rng.choice([1, 1, 2, 3, 3, 5, 7], 2))
    strides, dilations = (tuple(int(s) for s in rng.choice([1, 1, 2, 3], 2)) for _ in range(2))
    pads = tuple(int(p) for p in rng.integers(0, 3, 4))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    size = [
        max(1, e - pads[a] - pads[2 + a]) + int(rng.integers(0, 24))
        for a, e in enumerate(extent)
    ]  # fmt: skip
    if rng.integers(4) == 0:  # as a fully connected layer
        size, kernel, pads = [1, 1], (1, 1), (0, 0, 0, 0)
    x = rng.integers(0, 256, (int(rng.integers(1, 4)), ins * groups, *size)).astype(np.uint8)
    weight = rng.integers(-128, 128, (outs * groups, ins, *kernel)).astype(np.int8)
    if rng.integers(3) == 0:  # extremes: sums of pairs that exceed 16 bits
        x[...], weight[...] = 255, rng.choice([-128, 127], weight.shape)
    return x, weight, strides, pads, dilations, groups


def check(rng, vl, problem, threads=1):
    x, weight, strides, pads, dilations, groups = problem
    outs, fill = len(weight), int(rng.integers(0, 256))
    bias = rng.integers(-(1 << 20), 1 << 20, outs).astype(np.int32)
    scale, zero, low, high = finish_of(rng, outs)
    sums = quantised.int8_conv_sums(x, weight, bias, strides, pads, dilations, groups, fill)
    if rng.integers(3):  # some exact halves
        scale[:] = 2.0 ** int(rng.integers(-18, -1))
    lanes = vl
    if x.shape[1] <= 4:
        lanes = narrow_lanes(x.shape[1], weight.shape[2:], dilations) if groups == 1 and rng.integers(3) else 4
    halo = tuple(p + int(rng.integers(0, 2)) for p in pads)
    floats, table, residual, rounded = bool(rng.integers(5) == 0), None, None, None
    given = {"residual_scale": 0.0, "residual_zero": 0}
    xs = place(x, lanes, 2, halo, fill)
    if floats:
        expected = quantised.scaled_sums(sums, scale)
    else:
        table = rng.integers(0, 256, 256).astype(np.uint8) if rng.integers(4) == 0 else None
        if rng.integers(2):
            given = {"residual_scale": np.float32(rng.random() * 3), "residual_zero": int(rng.integers(0, 256))}
            added = rng.integers(0, 256, sums.shape).astype(np.uint8)
            residual = place(added, vl, 3, (0, 1, 0, 0) if rng.integers(2) else (0, 0, 0, 0))
            given["residual"] = added
            rounded = (int(rng.integers(0, 256)), np.float32(rng.random() * 3)) if rng.integers(2) else None
        expected = quantised.finish_sums(
            sums, scale, zero=zero, low=low, high=high, table=table, rounded=rounded, **given
        )
    y_halo, y_fill = ((1, 1, 2, 0), 7) if rng.integers(2) else ((0, 0, 0, 0), 0)
    ys = room(sums.shape, vl, 1, y_halo, FLOAT32 if floats else UINT8, y_fill)
    values = [ys, xs] if residual is None else [ys, xs, residual]
    packed = pack_int8_weights(weight, groups, lanes)
    make = lambda: Int8Conv(  # noqa: E731
        ys.view, xs.view, residual and residual.view, packed, bias, scale, weight.shape[2:], strides, pads, dilations,
        groups, zero, given["residual_scale"], given["residual_zero"], low, high, table, rounded,
    )  # fmt: skip
    run(make, *values, threads=threads)
    told = f"{x.shape}, {weight.shape}, {strides}, {pads}, {dilations}, {groups}, {floats}, {residual is not None}"
    np.testing.assert_array_equal(ys.numbers(), expected, err_msg=told)


def test_any_geometry(int8_isa, budget):
    for seed in range(budget(60, 5000)):
        rng = np.random.default_rng(seed)
        check(rng, _cpu.vector_length(), draw(rng))


def check_rows(rng, floats):
    """Features and outputs of a fully connected layer, without room for the lanes of full blocks."""
    n, outs = (int(size) for size in rng.integers(1, 40, 2))
    ins, one = 4 * int(rng.integers(1, 30)), (1, 1)
    x = rng.integers(0, 256, (n, ins, 1, 1)).astype(np.uint8)
    weight = rng.integers(-128, 128, (outs, ins, 1, 1)).astype(np.int8)
    bias, scale = rng.integers(-999, 999, outs).astype(np.int32), rng.random(outs).astype(np.float32) / 1000
    sums = quantised.int8_conv_sums(x, weight, bias)
    expected = quantised.scaled_sums(sums, scale) if floats else quantised.finish_sums(sums, scale, zero=128)
    xs, ys = plain_rows(n, ins, 2, UINT8), plain_rows(n, outs, 1, FLOAT32 if floats else UINT8)
    xs.memory[:] = x.ravel()
    packed = pack_int8_weights(weight)
    views, pads = (ys.view, xs.view, None), (0, 0, 0, 0)
    run(lambda: Int8Conv(*views, packed, bias, scale, one, one, pads, one, 1, 128, 0, 0, 0, 255), ys, xs)
    np.testing.assert_array_equal(ys.numbers(), expected, err_msg=f"{n}, {ins}, {outs}, {floats}")


def test_plain_values_of_one_pixel(int8_isa, budget):
    for seed in range(budget(20, 500)):
        check_rows(np.random.default_rng(seed), bool(seed % 2))


def test_any_number_of_threads_and_pieces(int8_isa, budget, monkeypatch):
    """Rows are cut into stretches, and steps into as many pieces as possible."""
    monkeypatch.setattr(_step, "PIECE_VECTORS", 1)
    for seed in range(budget(12, 500)):
        monkeypatch.setattr(_step, "LONGEST_PIECE", 1 << 23 if seed % 2 else 40)
        for threads in (1, 2, 3):
            rng = np.random.default_rng(seed)
            check(rng, _cpu.vector_length(), draw(rng), threads)
