"""Tiles of softmax, normalisation, reductions and resampling: how to draw a problem, call the tile, and define its
result."""

from __future__ import annotations

from types import SimpleNamespace as Problem

import numpy as np
from c_header import constants
from kernels.tiles_of_spans import act, whole
from kernels.workshop import EXACT, Workshop

from fastcnn import reference

REDUCTIONS = {"FC_SUM": np.add.reduce, "FC_SQUARES": lambda x: (x * x).sum(axis=0), "FC_LARGEST": np.maximum.reduce}


def rows_apart(shop: Workshop, values, gap):
    """Rows with a gap behind each but the last, which nobody may write to."""
    room = np.full((len(values), values.shape[1] + gap), np.nan, np.float32)
    room[:, : values.shape[1]] = values
    return shop.give(room.ravel()[: room.size - gap])


def from_apart(flat, rows, columns, gap):
    return np.append(flat, np.full(gap, np.nan, np.float32)).reshape(rows, columns + gap)[:, :columns]


def draw_columns(rng, n):
    x = (rng.standard_normal((int(rng.integers(1, 6)), n)) * 10).astype(np.float32)
    v = reference.softmax(x, 0).astype(np.float32)
    return Problem(x=x, v=v, g=rng.standard_normal(x.shape).astype(np.float32), gaps=rng.integers(0, 4, 3).tolist())


def call_columns(shop: Workshop, p):
    (rows, n), (first, second, _) = p.x.shape, p.gaps
    y = shop.take(rows * (n + second) - second)
    shop.call("softmax_columns", rows_apart(shop, p.x, first), n + first, y, n + second, rows, n)
    return from_apart(y, rows, n, second)


def call_columns_grad(shop: Workshop, p):
    (rows, n), gaps = p.x.shape, p.gaps
    y = shop.take(rows * (n + gaps[2]) - gaps[2])
    g, v = rows_apart(shop, p.g, gaps[0]), rows_apart(shop, p.v, gaps[1])
    shop.call("softmax_grad_columns", g, n + gaps[0], v, n + gaps[1], y, n + gaps[2], rows, n)
    return from_apart(y, rows, n, gaps[2])


def call_row_grad(shop: Workshop, p):
    y = shop.take(p.x.shape[1])
    shop.call("softmax_grad", shop.give(p.g[0]), shop.give(p.v[0]), y, len(y))
    return y


def draw_affine_row(rng, n):
    return Problem(name=str(rng.choice(EXACT)), x=whole(rng, n), scale=whole(rng, n), shift=whole(rng, n))


def call_affine_row(shop: Workshop, p):
    z = shop.take(len(p.x))
    parts = [shop.give(values) for values in (p.scale, p.shift, p.x)]
    shop.call("affine_row", shop.activation(p.name), *parts, z, len(z))
    return z


def define_affine_row(p):
    return act(p.name, p.x * p.scale + p.shift)


# Normalisation.


def draw_norm(rng, n):
    """Pixels of n channels; as many of them as make strips, and some that are left."""
    pixels = int(rng.integers(1, 40))
    weight, bias = rng.standard_normal((2, n)).astype(np.float32)
    return Problem(
        x=(rng.standard_normal((pixels, n)) + 2).astype(np.float32),
        g=rng.standard_normal((pixels, n)).astype(np.float32),
        weight=weight if rng.integers(3) else None,
        bias=bias if rng.integers(3) else None,
        padded=bool(rng.integers(2)),
        in_place=bool(rng.integers(2)),
        centred=bool(rng.integers(2)),
        gap=int(rng.integers(0, 4)),
        first=int(rng.integers(0, 20)),
        epsilon=0.25,
    )


def _lay(shop: Workshop, p, values):
    """Pixels in blocks, or as rows with gaps."""
    return shop.give(shop.blocked(values)) if p.padded else rows_apart(shop, values, p.gap)


def _parameter(shop: Workshop, values):
    if values is None:
        return None
    padded = np.full(-(-len(values) // shop.vl) * shop.vl, np.nan, np.float32)
    padded[: len(values)] = values
    return shop.give(padded)


def _pixels(shop: Workshop, p, **fields):
    (pixels, channels), vl = p.x.shape, shop.vl
    block, pixel = (pixels * vl, vl) if p.padded else (vl, channels + p.gap)
    steps = {f"{name}_block": block for name in "xgy"} | {f"{name}_pixel": pixel for name in "xgy"}
    told = {"channels": channels, "pixels": pixels, "epsilon": p.epsilon, "first": p.first}
    return shop.struct("fc_layer_norm", **steps, **told, padded=p.padded, centred=p.centred, **fields)


def _taken(shop: Workshop, p, y):
    """The pixels of a result."""
    pixels, channels = p.x.shape
    if p.padded:
        return y.reshape(-1, pixels, shop.vl).transpose(1, 0, 2).reshape(pixels, -1)[:, :channels]
    return from_apart(y, pixels, channels, p.gap)


def _parts(p):
    x = p.x.astype(np.float64)
    mean = x.mean(axis=1, keepdims=True) if p.centred else np.zeros((len(x), 1))
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(axis=1, keepdims=True) + p.epsilon)
    return (x - mean) * inverse, mean, inverse


def call_norm(shop: Workshop, p):
    x = _lay(shop, p, p.x)
    y = x if p.in_place else shop.take(*x.shape)
    parts = {"weight": _parameter(shop, p.weight), "bias": _parameter(shop, p.bias)}
    shop.call("layer_norm", _pixels(shop, p, x=x, y=y, **parts))
    return _taken(shop, p, y)


def define_norm(p):
    return _parts(p)[0] * (1 if p.weight is None else p.weight) + (0 if p.bias is None else p.bias)


def _places(shop: Workshop, p):
    """Where the mean of each pixel lies."""
    number = p.first + np.arange(len(p.x))
    return number // shop.vl * 2 * shop.vl + number % shop.vl


def _stats_size(shop: Workshop, p):
    return -(-(p.first + len(p.x)) // shop.vl) * 2 * shop.vl


def call_norm_stats(shop: Workshop, p):
    stats = shop.take(_stats_size(shop, p))
    shop.call("layer_norm_stats", _pixels(shop, p, x=_lay(shop, p, p.x), stats=stats))
    at = _places(shop, p)
    assert np.isnan(np.delete(stats, [*at, *(at + shop.vl)])).all()
    return np.stack([stats[at], stats[at + shop.vl]], axis=1)


def define_norm_stats(p):
    return np.concatenate(_parts(p)[1:], axis=1)


def _given_stats(shop: Workshop, p):
    stats = np.full(_stats_size(shop, p), np.nan, np.float32)
    at = _places(shop, p)
    stats[at], stats[at + shop.vl] = define_norm_stats(p).T
    return shop.give(stats)


def call_norm_grad(shop: Workshop, p):
    x, g = _lay(shop, p, p.x), _lay(shop, p, p.g)
    y = g if p.in_place else shop.take(*g.shape)
    given = {"stats": _given_stats(shop, p), "weight": _parameter(shop, p.weight)}
    shop.call("layer_norm_grad", _pixels(shop, p, x=x, g=g, y=y, **given))
    return _taken(shop, p, y)


def define_norm_grad(p):
    h, _, inverse = _parts(p)
    gw = p.g * (1.0 if p.weight is None else p.weight)
    mean = gw.mean(axis=1, keepdims=True) if p.centred else 0.0
    return inverse * (gw - mean - h * (gw * h).mean(axis=1, keepdims=True))


def call_norm_sums(shop: Workshop, p):
    x, g, stats = _lay(shop, p, p.x), _lay(shop, p, p.g), _given_stats(shop, p)
    channels, result = p.x.shape[1], []
    for block in range(0, channels, shop.vl):
        at = block * len(p.x) if p.padded else block
        sums = shop.give(np.zeros(2 * shop.vl), np.float64)
        lanes = shop.vl if p.padded else min(shop.vl, channels - block)
        pixels = _pixels(shop, p, x=x.reshape(-1)[at:], g=g.reshape(-1)[at:], stats=stats)
        shop.call("layer_norm_sums", pixels, sums, lanes)
        result.append(sums.reshape(2, -1)[:, : channels - block])
    return np.concatenate(result, axis=1)


def define_norm_sums(p):
    return np.stack([p.g.sum(axis=0, dtype=np.float64), (p.g * _parts(p)[0]).sum(axis=0)])


# Reductions.


def draw_reduce(rng, n):
    """Three loops over integers; the innermost one or the columns are long."""
    along = bool(rng.integers(2))
    counts = [*(int(v) for v in rng.integers(1, 4, 2)), n if along else int(rng.integers(1, 5))]
    columns = 1 if along else n
    x = whole(rng, *counts, columns)
    return Problem(x=x, kind=str(rng.choice(list(REDUCTIONS))), root=bool(rng.integers(2)), divisor=4.0)


def call_reduce(shop: Workshop, p):
    *counts, columns = p.x.shape
    x, y = shop.give(p.x), shop.take(columns)
    reduction = shop.struct("fc_reduce", x=x, y=y, kind=constants()[p.kind], columns=columns, divisor=p.divisor)
    reduction.root = p.root
    for i, count in enumerate(counts):
        reduction.counts[i], reduction.steps[i] = count, int(np.prod(p.x.shape[i + 1 :]))
    shop.call("reduce", reduction)
    return y


def define_reduce(p):
    result = REDUCTIONS[p.kind](p.x.reshape(-1, p.x.shape[-1]).astype(np.float64))
    if p.kind == "FC_LARGEST":
        return result
    with np.errstate(invalid="ignore"):
        return np.sqrt(result / p.divisor) if p.root else result / p.divisor


def draw_resample(rng, n):
    """Outputs of up to three taps in each direction, of an image of a few pixels."""
    rows, columns = (int(v) for v in rng.integers(1, 6, 2))
    starts = np.concatenate([[0], np.cumsum(rng.integers(0, 4, n))])
    return Problem(
        x=whole(rng, rows, columns, 16),
        rows=rng.integers(0, rows, int(rng.integers(1, 4))),
        starts=starts,
        columns=rng.integers(0, columns, starts[-1] + 1),
        row_weights=whole(rng, 3),
        weights=whole(rng, starts[-1] + 1),
    )


def call_resample(shop: Workshop, p):
    pixels = len(p.starts) - 1
    y = np.empty((pixels, 16))
    for span in shop.spans():
        x, out = shop.give(p.x[:, :, span]), shop.take(pixels, shop.vl)
        told = {
            "rows": shop.give(p.rows * p.x.shape[1] * shop.vl, np.intp),
            "starts": shop.give(p.starts, np.intp),
            "columns": shop.give(p.columns * shop.vl, np.intp),
            "row_weights": shop.give(p.row_weights),
            "weights": shop.give(p.weights),
        }
        row = shop.struct("fc_resample", x=x, y=out, row_count=len(p.rows), pixels=pixels, **told)
        shop.call("resample", row)
        y[:, span] = out
    return y


def define_resample(p):
    lines = np.einsum("r,rcl->cl", p.row_weights[: len(p.rows)], p.x[p.rows])
    taps = [slice(*pair) for pair in zip(p.starts[:-1], p.starts[1:], strict=True)]
    return np.stack([(p.weights[tap, None] * lines[p.columns[tap]]).sum(axis=0) for tap in taps])
