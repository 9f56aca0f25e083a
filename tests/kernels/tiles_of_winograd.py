"""Winograd's transforms and products, of vectors: how to draw a problem, call the tile, and define its result. See
csrc/tiles/winograd.h."""

from __future__ import annotations

from types import SimpleNamespace as Problem

import numpy as np
from kernels.tiles_of_spans import act, whole
from kernels.tiles_of_windows import image, pixels_of
from kernels.workshop import BOUNDS, EXACT, LANES, Workshop

from fastcnn import reference
from fastcnn.kernels._winograd_filters import basis_matrix, filter_matrix

_STRIDED = 3  # the last of each field's functions; the others are of m = 2, 4, 6


def output_matrix(kind):
    """A^T: powers of the points, and infinity; for m = 4 the last two points count half."""
    if kind == _STRIDED:
        return np.array([[1.0, 1, 0], [0, 1, 1]])
    m, p, q = 2 * kind + 2, np.sqrt(0.5), np.sqrt(2)
    points = np.array([[0, 1, -1], [0, p, -p, q, -q], [0, p, -p, 1, -1, q, -q]][kind])
    scale = np.array([1, 1, 1, 0.5, 0.5]) if m == 4 else 1.0
    return np.column_stack([scale * points ** np.arange(m)[:, None], np.arange(m) == m - 1])


def input_matrix(kind):
    """B^T: what makes A^T [(G g) * (B^T d)] the convolution of d with g."""
    if kind == _STRIDED:
        return np.array([[1.0, 0, -1, 0, 0], [0, 0, 1, 0, 0], [0, 0, -1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]])
    outputs, filters = output_matrix(kind), filter_matrix(2 * kind + 2)
    products = (outputs[:, None] * filters.T).reshape(-1, len(filters))  # [output, tap][component]
    sees = np.add.outer(np.arange(len(outputs)), np.arange(3)).reshape(-1, 1) == np.arange(len(filters))
    return np.linalg.lstsq(products, sees.astype(float), rcond=None)[0]


def on_both_sides(matrix, x):
    """matrix x matrix^T of every lane."""
    return np.einsum("ri,ijl,cj->rcl", matrix, x, matrix)


def draw_input(rng, n):
    kind = int(rng.integers(4))
    side = input_matrix(kind).shape[1]
    return Problem(kind=kind, x=rng.standard_normal((side, side + n % 3, LANES)).astype(np.float32))


def call_input(shop: Workshop, p):
    n, vl = len(p.x), shop.vl
    y = np.empty((n, n, LANES))
    for span in shop.spans():
        out = shop.take(n, n, vl)
        shop.call("winograd_input", shop.give(p.x[..., span]), p.x.shape[1] * vl, out, vl, index=p.kind)
        y[..., span] = out
    return y


def define_input(p):
    return on_both_sides(input_matrix(p.kind), p.x[:, : len(p.x)].astype(float))


def draw_output(rng, n):
    kind = int(rng.integers(4))
    m, side = output_matrix(kind).shape
    rows, columns = (int(v) for v in rng.integers(1, m + 1, 2))
    residual = whole(rng, m, m, LANES) if rng.integers(2) else None
    return Problem(
        kind=kind,
        x=rng.standard_normal((side, side, LANES)).astype(np.float32),
        bias=whole(rng, LANES),
        rows=rows,
        columns=columns,
        residual=residual,
        name=str(rng.choice(EXACT)),
        bounds=str(rng.choice(BOUNDS)),
    )


def call_output(shop: Workshop, p, field="winograd_output", pool=1):
    """All m x m outputs: those outside the image are not written."""
    side, vl = len(output_matrix(p.kind)) // pool, shop.vl
    y = np.empty((side, side, LANES))
    for span in shop.spans():
        out = shop.take(side, side, vl)
        residual = None if p.residual is None or pool > 1 else shop.give(p.residual[..., span])
        shop.call(field, shop.struct(
            "fc_winograd_output", m=shop.give(p.x[..., span]), bias=shop.give(p.bias[span]), residual=residual, y=out,
            component=vl, y_row=side * vl, residual_row=side * vl, rows=-(-p.rows // pool),
            columns=-(-p.columns // pool), act=shop.activation(p.name if pool == 1 else p.bounds),
        ), index=p.kind)  # fmt: skip
        y[..., span] = out
    return y


def define_output(p):
    y = on_both_sides(output_matrix(p.kind), p.x.astype(float)) + p.bias
    y = act(p.name, y + (0 if p.residual is None else p.residual))
    y[p.rows :], y[:, p.columns :] = np.nan, np.nan
    return y


def call_pooled(shop: Workshop, p):
    return call_output(shop, p, "winograd_pooled", 2)


def define_pooled(p):
    y = on_both_sides(output_matrix(p.kind), p.x.astype(float)) + p.bias
    y = act(p.bounds, pixels_of(reference.max_pool2d(image(y), (2, 2), (2, 2), (0, 0, 0, 0))))
    y[-(-p.rows // 2) :], y[:, -(-p.columns // 2) :] = np.nan, np.nan
    return y


def draw_filter(rng, n):
    return Problem(matrix=filter_matrix((2, 4, 6)[rng.integers(3)]), x=whole(rng, 3, 3, LANES))


def call_filter(shop: Workshop, p):
    n, vl = len(p.matrix), shop.vl
    y = np.empty((n, n, LANES))
    for span in shop.spans():
        out = shop.take(n, n, vl)
        shop.call("winograd_filter", shop.give(p.matrix), n, shop.give(p.x[..., span]), out, vl)
        y[..., span] = out
    return y


def define_filter(p):
    return on_both_sides(p.matrix, p.x)


def draw_spread(rng, n):
    rows, columns = (int(v) for v in rng.integers(1, 5, 2))
    return Problem(x=whole(rng, rows, columns, LANES))


def call_spread(shop: Workshop, p):
    y, vl = np.empty((6, 6, LANES)), shop.vl
    for span in shop.spans():
        out, (rows, columns, _) = shop.take(6, 6, vl), p.x.shape
        shop.call("winograd_spread", shop.give(p.x[..., span]), columns * vl, rows, columns, out, vl)
        y[..., span] = out
    return y


def define_spread(p):
    rows, columns, _ = p.x.shape
    return on_both_sides(output_matrix(1).T, np.pad(p.x, ((0, 4 - rows), (0, 4 - columns), (0, 0))))


def draw_weight(rng, n):
    return Problem(x=whole(rng, 6, 6, LANES))


def call_weight(shop: Workshop, p):
    y, vl = np.empty((3, 3, LANES)), shop.vl
    for span in shop.spans():
        out = shop.take(3, 3, vl)
        shop.call("winograd_weight", shop.give(filter_matrix(4)), shop.give(p.x[..., span]), vl, out)
        y[..., span] = out
    return y


def define_weight(p):
    return on_both_sides(filter_matrix(4).T, p.x)


_PATCHES = 4  # of a problem: a multiple of what one call takes, in every table


def draw_winograd_sums(rng, n):
    tall = [(0, 0), (0, 1), (1, 2), (0, 2), (2, 4), (3, 4), (0, 3), (1, 4), (0, 4)][rng.integers(9)]
    return Problem(
        v=whole(rng, n, 6, 6, _PATCHES),
        w=whole(rng, n, 3, 3, LANES),
        broad=int(rng.integers(-1, 6)),
        tall=tall,
        before=whole(rng, 6, 6, _PATCHES, LANES) if rng.integers(2) else None,
    )


def needed(p):
    """Which components which patches need."""
    patch = np.arange(_PATCHES)
    mask = np.ones((6, 6, _PATCHES, 1), bool)
    mask[:, 5, :, 0] &= patch < p.broad
    mask[5, :, :, 0] &= (p.tall[0] <= patch) & (patch < p.tall[1])
    return mask


def call_winograd_sums(shop: Workshop, p):
    channels, vl, together = len(p.v), shop.vl, shop.table.winograd_patches
    y = np.empty((6, 6, _PATCHES, LANES))
    for begin in range(0, _PATCHES, together):
        patches = slice(begin, begin + together)
        v = shop.give(blocks_of_channels(shop, p.v[..., patches]))
        first, last = (int(np.clip(edge - begin, 0, together)) for edge in p.tall)
        for span in shop.spans():
            out = shop.take(6, 6, together, vl)
            if p.before is not None:
                out[...] = p.before[:, :, patches, span]
            shop.call("winograd_sums", shop.struct(
                "fc_winograd_sums", v=v, w=shop.give(p.w[..., span]), m=out, channels=channels,
                accumulate=p.before is not None, ahead=v, ahead_bytes=64, broad=p.broad - begin, tall=last - first,
                first_tall=together // 2 if first >= together // 2 else 0,
            ))  # fmt: skip
            y[:, :, patches, span] = out
    return np.where(needed(p), y, 0)


def blocks_of_channels(shop: Workshop, v):
    """[channel][row][column][patch] as [block][row][column][patch][VL]."""
    blocks = -(-len(v) // shop.vl)
    padded = np.full((blocks * shop.vl, *v.shape[1:]), np.nan, np.float32)
    padded[: len(v)] = v
    return np.moveaxis(padded.reshape(blocks, shop.vl, *v.shape[1:]), 1, -1)


def define_winograd_sums(p):
    """Filters are in a basis, from which the rows of G are sums."""
    transform = np.rint(filter_matrix(4) @ np.linalg.inv(basis_matrix()))
    filters = np.einsum("ra,iabo,cb->irco", transform, p.w, transform)
    sums = np.einsum("irco,ircp->rcpo", filters, p.v) + (0 if p.before is None else p.before)
    return np.where(needed(p), sums, 0)
