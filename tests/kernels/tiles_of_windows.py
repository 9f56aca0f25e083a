"""Tiles of windows and products: how to draw a problem of a size, call the tile, and define its result."""

from __future__ import annotations

from types import SimpleNamespace as Problem

import numpy as np
from kernels.tiles_of_spans import act, whole
from kernels.workshop import BOUNDS, EXACT, LANES, Workshop

from fastcnn import reference
from fastcnn.kernels._winograd_filters import basis_matrix, filter_matrix


def image(x):
    """[rows][pixels][channels] as the (1, channels, rows, pixels) that references take."""
    return x.transpose(2, 0, 1)[None]


def pixels_of(y):
    """And back."""
    return y[0].transpose(1, 2, 0)


# Poolings.


def draw_pool(rng, n):
    kw, stride, average = int(rng.integers(1, 5)), int(rng.integers(1, 4)), bool(rng.integers(2))
    dilation = 1 if average else int(rng.integers(1, 3))
    rows = kw if rng.integers(2) else int(rng.integers(1, 5))
    left, right = (int(pad) for pad in rng.integers(0, kw // 2 + 1, 2))
    width = max(1, (n - 1) * stride + (kw - 1) * dilation + 1 - left - right)
    pixels = (width + left + right - (kw - 1) * dilation - 1) // stride + 1
    return Problem(x=whole(rng, rows, width, LANES), g=whole(rng, 1, pixels, LANES),
                   before=whole(rng, rows, width, LANES), kernel=(rows, kw), stride=(1, stride),
                   pads=(0, left, 0, right), dilation=(1, dilation), average=average,
                   include=bool(rng.integers(2)), plain=bool(rng.integers(2)))


def pool_row(shop: Workshop, p, x, lanes, **fields):
    (rows, width, _), (_, left, _, right) = p.x.shape, p.pads
    return shop.struct("fc_pool_row", x=x, x_row=width * lanes, rows=rows, row_extent=rows, width=width, pad_left=left,
                       pad_right=right, kw=p.kernel[1], stride=p.stride[1], dilation=p.dilation[1],
                       pixels=p.g.shape[1], lanes=lanes, average=p.average, count_include_pad=p.include, **fields)


def call_pool(shop: Workshop, p):
    pixels, lanes, y = p.g.shape[1], 1 if p.plain else shop.vl, []
    for begin in range(0, 1 if p.plain else LANES, lanes):
        out = shop.take(pixels, lanes)
        shop.call("pool_row", pool_row(shop, p, shop.give(p.x[..., begin : begin + lanes]), lanes, y=out))
        y.append(out)
    return np.concatenate(y, axis=1)


def define_pool(p):
    x = image(p.x[..., :1] if p.plain else p.x)
    if p.average:
        return pixels_of(reference.avg_pool2d(x, p.kernel, p.stride, p.pads, count_include_pad=p.include))[0]
    return pixels_of(reference.max_pool2d(x, p.kernel, p.stride, p.pads, p.dilation))[0]


def call_pool_grad(shop: Workshop, p):
    y = np.empty(p.x.shape)
    for span in shop.spans():
        out, width = shop.give(p.before[..., span]), p.x.shape[1]
        row = pool_row(shop, p, shop.give(p.x[..., span]), shop.vl)
        shop.call("pool_grad_row", row, shop.give(p.g[..., span]), out, width * shop.vl)
        y[..., span] = out
    return y


def define_pool_grad(p):
    x, g = image(p.x), image(p.g)
    if p.average:
        gradient = reference.avg_pool2d_grad(g, x.shape[2:], p.kernel, p.stride, p.pads, count_include_pad=p.include)
    else:
        gradient = reference.max_pool2d_grad(g, x, p.kernel, p.stride, p.pads, p.dilation)
    return p.before + pixels_of(gradient)


def draw_mean(rng, n):
    return Problem(x=whole(rng, int(rng.integers(1, 5)), n, LANES))


def call_mean(shop: Workshop, p):
    y, (rows, width, _) = shop.take(LANES), p.x.shape
    for span in shop.spans():
        out = shop.take(shop.vl)
        shop.call("mean_pixels", shop.give(p.x[..., span]), width * shop.vl, rows, width, out)
        y[span] = out
    return y


def define_mean(p):
    return reference.global_avg_pool2d(image(p.x)).ravel()


# Depthwise convolution.


def draw_depthwise(rng, n):
    kernel, strides = [[int(v) for v in rng.integers(low, high, 2)] for low, high in ((1, 7), (1, 4))]
    dilation = int(rng.choice([1, 1, 2]))
    rows = int(rng.integers(1, 4))
    size = [(count - 1) * step + (taps - 1) * apart + 1
            for count, step, taps, apart in zip((rows, n), strides, kernel, (1, dilation), strict=True)]
    residual = whole(rng, rows, n, LANES) if rng.integers(2) else None
    return Problem(name=str(rng.choice(EXACT)), x=whole(rng, *size, LANES), w=whole(rng, *kernel, LANES),
                   g=whole(rng, rows, n, LANES), before=whole(rng, *kernel, LANES), bias=whole(rng, LANES),
                   residual=residual, strides=strides, dilation=dilation)


def call_depthwise(shop: Workshop, p):
    (kh, kw, _), (rows, pixels, _), vl, width = p.w.shape, p.g.shape, shop.vl, p.x.shape[1]
    y = np.empty(p.g.shape)
    for span in shop.spans():
        out = shop.take(rows, pixels, vl)
        residual = None if p.residual is None else shop.give(p.residual[..., span])
        shop.call("depthwise", shop.struct(
            "fc_depthwise", x=shop.give(p.x[..., span]), w=shop.give(p.w[..., span]), bias=shop.give(p.bias[span]),
            residual=residual, y=out, x_row=width * vl, x_col=p.dilation * vl, x_pixel=p.strides[1] * vl, y_pixel=vl,
            x_step=p.strides[0] * width * vl, y_row=pixels * vl, residual_row=pixels * vl, kh=kh, kw=kw, rows=rows,
            pixels=pixels, act=shop.activation(p.name),
        ))  # fmt: skip
        y[..., span] = out
    return y


def define_depthwise(p):
    w = p.w.transpose(2, 0, 1)[:, None]
    y = pixels_of(reference.conv2d(image(p.x), w, p.bias, p.strides, dilation=(1, p.dilation), groups=LANES))
    return act(p.name, y + (0 if p.residual is None else p.residual))


def call_depthwise_grad(shop: Workshop, p):
    (kh, kw, _), (rows, pixels, _), vl, width = p.w.shape, p.g.shape, shop.vl, p.x.shape[1]
    y = np.empty(p.before.shape)
    for span in shop.spans():
        out = shop.give(p.before[..., span])
        shop.call("depthwise_grad", shop.struct(
            "fc_depthwise_grad", x=shop.give(p.x[..., span]), g=shop.give(p.g[..., span]), y=out, x_row=width * vl,
            x_col=p.dilation * vl, x_pixel=p.strides[1] * vl, x_step=p.strides[0] * width * vl, g_row=pixels * vl,
            kh=kh, kw=kw, rows=rows, pixels=pixels,
        ))  # fmt: skip
        y[..., span] = out
    return y


def define_depthwise_grad(p):
    x, g, dilation = image(p.x), image(p.g), (1, p.dilation)
    gradient = reference.conv2d_grad_weight(x, g, p.w.shape[:2], p.strides, (0, 0, 0, 0), dilation, LANES)
    return p.before + gradient[:, 0].transpose(1, 2, 0)


# Gradients of filters.


def draw_conv_grad(rng, n):
    images, rows, lanes = (int(v) for v in rng.integers(1, (4, 4, 20)))
    outs, blocks = LANES * int(rng.integers(1, 4)), int(rng.integers(1, 4))
    return Problem(x=whole(rng, images, rows, n, lanes), g=whole(rng, images, rows, n, outs), blocks=blocks,
                   order=rng.permutation(lanes), before=whole(rng, outs, lanes) if rng.integers(2) else None)


def call_conv_grad(shop: Workshop, p):
    (images, rows, pixels, lanes), outs, vl = p.x.shape, p.g.shape[-1], shop.vl
    x, to = shop.give(p.x), shop.give(p.order * vl, np.intp)
    y = np.empty((outs, lanes))
    for begin in range(0, outs, p.blocks * vl):
        blocks = min(p.blocks, (outs - begin) // vl)
        part = slice(begin, begin + blocks * vl)
        g = shop.give(p.g[..., part].reshape(-1, blocks, vl).transpose(1, 0, 2))
        out = shop.take(blocks, lanes, vl)
        if p.before is not None:
            out[:, p.order] = p.before[part].reshape(blocks, vl, lanes).transpose(0, 2, 1)
        shop.call("conv_grad", shop.struct(
            "fc_conv_grad", x=x, g=g, y=out, to=to, images=images, rows=rows, pixels=pixels, lanes=lanes,
            x_image=rows * pixels * lanes, x_row=pixels * lanes, x_pixel=lanes, g_image=rows * pixels * vl,
            g_row=pixels * vl, g_block=images * rows * pixels * vl, y_block=lanes * vl, blocks=blocks,
            accumulate=p.before is not None,
        ))  # fmt: skip
        y[part] = out[:, p.order].transpose(0, 2, 1).reshape(-1, lanes)
    return y


def define_conv_grad(p):
    g, x = (a.transpose(0, 3, 1, 2) for a in (p.g, p.x))
    gradient = reference.conv2d_grad_weight(x, g, (1, 1), (1, 1), (0, 0, 0, 0))[..., 0, 0]
    return gradient + (0 if p.before is None else p.before)


# Products with a vector.


def draw_matvec(rng, n, most=9):
    outs = LANES * int(rng.integers(1, most + 1))
    return Problem(name=str(rng.choice(EXACT)), x=whole(rng, n), w=whole(rng, n, outs), bias=whole(rng, outs))


def draw_matvec_split(rng, n):
    return draw_matvec(rng, n, 2)


def call_matvec(shop: Workshop, p, field="matvec", most=10**6):
    outs, vl = len(p.bias), shop.vl
    y = np.empty(outs)
    for begin in range(0, outs, min(most, outs // vl) * vl):
        blocks = min(most, (outs - begin) // vl)
        part = slice(begin, begin + blocks * vl)
        packed = [p.w[:, first : min(first + 2 * vl, part.stop)].ravel() for first in range(begin, part.stop, 2 * vl)]
        out = shop.take(blocks * vl)
        shop.call(field, shop.struct("fc_matvec", x=shop.give(p.x), w=shop.give(np.concatenate(packed)),
                                     bias=shop.give(p.bias[part]), y=out, inner=len(p.x), blocks=blocks,
                                     act=shop.activation(p.name)))
        y[part] = out
    return y


def call_matvec_split(shop: Workshop, p):
    return call_matvec(shop, p, "matvec_split", len(p.bias) // LANES)


def define_matvec(p):
    return act(p.name, reference.linear(p.x[None], p.w.T, p.bias)[0])


# Winograd's transforms, of vectors; see csrc/tiles/winograd.h.

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
    return Problem(kind=kind, x=rng.standard_normal((side, side, LANES)).astype(np.float32), bias=whole(rng, LANES),
                   rows=rows, columns=columns, residual=residual, name=str(rng.choice(EXACT)),
                   bounds=str(rng.choice(BOUNDS)))


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


_PATCHES = 4  # of a problem: a whole number of calls of every table


def draw_winograd_sums(rng, n):
    tall = [(0, 0), (0, 1), (1, 2), (0, 2), (2, 4), (3, 4), (0, 3), (1, 4), (0, 4)][rng.integers(9)]
    return Problem(v=whole(rng, n, 6, 6, _PATCHES), w=whole(rng, n, 3, 3, LANES),
                   broad=int(rng.integers(-1, 6)), tall=tall,
                   before=whole(rng, 6, 6, _PATCHES, LANES) if rng.integers(2) else None)


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
