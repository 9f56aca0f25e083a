"""Tiles of windows and products: how to draw a problem of a size, call the tile, and define its result."""

from __future__ import annotations

from types import SimpleNamespace as Problem

import numpy as np
from kernels.tiles_of_spans import act, whole
from kernels.workshop import EXACT, LANES, Workshop

from fastcnn import reference


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
    return Problem(
        x=whole(rng, rows, width, LANES),
        g=whole(rng, 1, pixels, LANES),
        before=whole(rng, rows, width, LANES),
        kernel=(rows, kw),
        stride=(1, stride),
        pads=(0, left, 0, right),
        dilation=(1, dilation),
        average=average,
        include=bool(rng.integers(2)),
        plain=bool(rng.integers(2)),
    )


def pool_row(shop: Workshop, p, x, lanes, **fields):
    (rows, width, _), (_, left, _, right) = p.x.shape, p.pads
    return shop.struct(
        "fc_pool_row",
        x=x,
        x_row=width * lanes,
        rows=rows,
        row_extent=rows,
        width=width,
        pad_left=left,
        pad_right=right,
        kw=p.kernel[1],
        stride=p.stride[1],
        dilation=p.dilation[1],
        pixels=p.g.shape[1],
        lanes=lanes,
        average=p.average,
        count_include_pad=p.include,
        **fields,
    )


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
    size = [
        (count - 1) * step + (taps - 1) * apart + 1
        for count, step, taps, apart in zip((rows, n), strides, kernel, (1, dilation), strict=True)
    ]
    residual = whole(rng, rows, n, LANES) if rng.integers(2) else None
    apart = 1 if dilation == 1 and kernel[1] in (3, 5) else int(rng.integers(1, 4))  # vectors, of outputs
    return Problem(
        name=str(rng.choice(EXACT)),
        x=whole(rng, *size, LANES),
        w=whole(rng, *kernel, LANES),
        g=whole(rng, rows, n, LANES),
        before=whole(rng, *kernel, LANES),
        bias=whole(rng, LANES),
        residual=residual,
        strides=strides,
        dilation=dilation,
        apart=apart,
    )


def call_depthwise(shop: Workshop, p):
    (kh, kw, _), (rows, pixels, _), vl, width = p.w.shape, p.g.shape, shop.vl, p.x.shape[1]
    y = np.empty(p.g.shape)
    for span in shop.spans():
        out, y_row = shop.take(rows * pixels * p.apart - p.apart + 1, vl), pixels * p.apart * vl
        residual = None if p.residual is None else shop.give(p.residual[..., span])
        shop.call("depthwise", shop.struct(
            "fc_depthwise", x=shop.give(p.x[..., span]), w=shop.give(p.w[..., span]), bias=shop.give(p.bias[span]),
            residual=residual, y=out, x_row=width * vl, x_col=p.dilation * vl, x_pixel=p.strides[1] * vl,
            y_pixel=p.apart * vl, x_step=p.strides[0] * width * vl, y_row=y_row, residual_row=pixels * vl, kh=kh, kw=kw,
            rows=rows, pixels=pixels, act=shop.activation(p.name),
        ))  # fmt: skip
        assert np.isnan(np.delete(out, slice(None, None, p.apart), axis=0)).all()
        y[..., span] = out[:: p.apart].reshape(rows, pixels, vl)
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
    return Problem(
        x=whole(rng, images, rows, n, lanes),
        g=whole(rng, images, rows, n, outs),
        blocks=blocks,
        order=rng.permutation(lanes),
        before=whole(rng, outs, lanes) if rng.integers(2) else None,
    )


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
        shop.call(
            field,
            shop.struct(
                "fc_matvec",
                x=shop.give(p.x),
                w=shop.give(np.concatenate(packed)),
                bias=shop.give(p.bias[part]),
                y=out,
                inner=len(p.x),
                blocks=blocks,
                act=shop.activation(p.name),
            ),
        )
        y[part] = out
    return y


def call_matvec_split(shop: Workshop, p):
    return call_matvec(shop, p, "matvec_split", len(p.bias) // LANES)


def define_matvec(p):
    return act(p.name, reference.linear(p.x[None], p.w.T, p.bias)[0])
