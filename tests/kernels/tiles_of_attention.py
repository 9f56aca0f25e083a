"""Tiles of attention and of products of two computed values: how to draw a problem of a size, call the tile, and define
its result."""

from __future__ import annotations

from types import SimpleNamespace as Problem

import numpy as np
from kernels.tiles_of_spans import act, whole
from kernels.workshop import EXACT, LANES, Workshop

from fastcnn import reference


def rows_apart(shop: Workshop, x, distance):
    """Rows so far apart, with NaN between them and nothing behind the last."""
    wide = np.full((len(x), distance), np.nan, np.float32)
    wide[:, : x.shape[1]] = x
    return shop.give(wide.ravel()[: wide.size - distance + x.shape[1]])


def draw_turn(rng, n):
    channels = int(rng.integers(1, LANES + 1))
    return Problem(x=whole(rng, channels, n), more=int(rng.integers(0, 5)), step=int(rng.integers(1, 4)))


def call_turn(shop: Workshop, p):
    """Columns `step` vectors apart; between them nothing is written."""
    channels, pixels = p.x.shape
    y = np.zeros((pixels, LANES))
    for span in shop.spans(channels):
        part, out = p.x[span], shop.take(pixels, p.step, shop.vl)
        x = rows_apart(shop, part, pixels + p.more)
        shop.call("turn", x, pixels + p.more, out, p.step * shop.vl, len(part), pixels)
        assert np.isnan(out[:, 1:]).all()
        y[:, span] = out[:, 0]
    return y


def define_turn(p):
    return np.pad(p.x.T, ((0, 0), (0, LANES - len(p.x))))


def draw_scaled(rng, n):
    channels = int(rng.integers(1, 2 * LANES + 1))
    each = bool(rng.integers(2))
    return Problem(
        name=str(rng.choice(EXACT)),
        x=whole(rng, n, channels),
        scale=whole(rng, n if each else 1),
        each=each,
        more=int(rng.integers(0, 5)),
    )


def call_scaled(shop: Workshop, p):
    """Rows with gaps, into which nothing is written."""
    pixels, channels = p.x.shape
    blocks = shop.blocked(p.x)
    x = shop.give(np.ascontiguousarray(blocks))
    out = shop.take(pixels * (channels + p.more) - p.more)
    how = shop.struct(
        "fc_scaled_pixels", x=x, scale=shop.give(p.scale), y=out, x_block=pixels * shop.vl, y_block=shop.vl,
        y_pixel=channels + p.more, scale_step=p.each, pixels=pixels, channels=channels,
        act=shop.activation(p.name),
    )  # fmt: skip
    shop.call("scale_pixels", how)
    return out


def define_scaled(p):
    y = np.full((len(p.x), p.x.shape[1] + p.more), np.nan)
    y[:, : p.x.shape[1]] = act(p.name, p.x * p.scale[:, None])
    return y.ravel()[: y.size - p.more]


def draw_softmax(rng, n):
    """Scores of some queries, a bias for each or one for all, and keys that no query sees. Some rows are special."""
    queries, keys = int(rng.integers(1, 10)), n
    x = (rng.standard_normal((queries, keys)) * 10).astype(np.float32)
    bias = None
    if rng.integers(3):
        bias = rng.standard_normal((queries if rng.integers(2) else 1, keys)).astype(np.float32)
        bias[rng.random(bias.shape) < 0.2] = -np.inf
    if not rng.integers(4):
        x[rng.integers(queries), rng.integers(keys)] = rng.choice([np.nan, np.inf, -np.inf])
    return Problem(x=x, bias=bias, scale=float(rng.choice([1.0, 0.125, -0.5])), more=int(rng.integers(0, 3)))


def call_softmax(shop: Workshop, p):
    """Weights, divided by their sums, of keys alone. Others are zero, or NaN in a row of NaN."""
    queries, keys = p.x.shape
    blocks = shop.blocked(p.x)
    x = shop.give(np.pad(blocks, ((0, 0), (0, p.more), (0, 0)), constant_values=np.nan))
    inverse = shop.take(queries)
    bias = None if p.bias is None else shop.give(p.bias)
    step = keys if p.bias is not None and len(p.bias) > 1 else 0
    strip = shop.struct(
        "fc_softmax_strip", x=x, bias=bias, inverse=inverse, x_block=(queries + p.more) * shop.vl, bias_query=step,
        queries=queries, keys=keys, scale=p.scale,
    )  # fmt: skip
    shop.call("softmax_strip", strip)
    assert np.isnan(x[:, queries:]).all()
    weights = x[:, :queries].transpose(1, 0, 2).reshape(queries, -1)
    beyond = weights[:, keys:]
    assert ((beyond == 0) | np.isnan(inverse)[:, None]).all()
    with np.errstate(all="ignore"):
        return weights[:, :keys] * inverse[:, None]


def define_softmax(p):
    with np.errstate(all="ignore"):
        scores = p.x.astype(np.float64) * p.scale
        return reference.softmax(scores if p.bias is None else scores + p.bias)
