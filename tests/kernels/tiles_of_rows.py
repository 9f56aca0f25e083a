"""Rows of convolutions in their families, and the order of weights for half blocks."""

from __future__ import annotations

from types import SimpleNamespace as Problem

import numpy as np
from kernels.tiles_of_spans import act, whole
from kernels.tiles_of_windows import image, pixels_of
from kernels.workshop import BOUNDS, EXACT, LANES, Workshop

from fastcnn import reference

NARROW_MOST = 6


def draw_row(rng, pixels, taps, ins, outs, names=EXACT):
    """Inputs [tap][pixel][channel], weights [tap][channel][output] and what finishes the row."""
    finish = bool(rng.integers(3))
    return Problem(
        x=whole(rng, taps, pixels, ins), w=whole(rng, taps, ins, outs), bias=whole(rng, outs), finish=finish,
        before=whole(rng, pixels, outs) if rng.integers(2) else None, name=str(rng.choice(names)),
        residual=whole(rng, pixels, outs) if rng.integers(2) else None, kept=0, below=False, wide=None, by_rows=False,
    )  # fmt: skip


def define_row(p):
    """A convolution of as many rows as there are taps."""
    w = p.w.transpose(2, 1, 0)[..., None]
    sums = pixels_of(reference.conv2d(image(p.x), w, None if p.before is not None else p.bias))[0]
    sums += 0 if p.before is None else p.before
    if not p.finish:
        return sums
    y = sums + (0 if p.residual is None else p.residual)
    if p.below:  # maxima of 2 x 2 pixels, the rows one behind the other
        y = pixels_of(reference.max_pool2d(image(y.reshape(2, -1, y.shape[1])), (2, 2), (2, 2), (0, 0, 0, 0)))[0]
    return act(p.name, y)


class Outputs:
    """Where a call's pixels lie: side by side, with a gap where a row of the image ends; or as rows of all blocks.

    Parameters
    ----------
    shop : Workshop
    pixels : int
    width : (int, int, int) or None
        Pixels of the first row of the image and of the others, and vectors between rows.
    by_rows : bool
    """

    def __init__(self, shop: Workshop, pixels: int, width=None, by_rows: bool = False) -> None:
        self.shop, self.width, self.by_rows, self.places = shop, width, by_rows, np.arange(pixels)
        if width:
            first, others, gap = width
            self.places = self.places + np.where(self.places >= first, 1 + (self.places - first) // others, 0) * gap

    def lay_out(self, values: np.ndarray) -> np.ndarray:
        """[pixel][channel] as [block][place][VL], or [place][block][VL]."""
        blocks = self.shop.blocked(values)
        laid = np.full((len(blocks), self.places[-1] + 1, self.shop.vl), np.nan, np.float32)
        laid[:, self.places] = blocks
        return self.shop.give(laid.transpose(1, 0, 2) if self.by_rows else laid)

    def read(self, y: np.ndarray, channels: int) -> np.ndarray:
        y = y.transpose(1, 0, 2) if self.by_rows else y
        untouched = np.delete(y, self.places, axis=1)
        assert np.isnan(untouched).all()
        return y[:, self.places].transpose(1, 0, 2).reshape(len(self.places), -1)[:, :channels]

    def distances(self, y: np.ndarray) -> dict[str, int]:
        """The fields that tell where pixels lie in y, and in a residual."""
        vl, beside = self.shop.vl, y.shape[1] * self.shop.vl
        pixel, block = (beside, vl) if self.by_rows else (vl, beside)
        told = {"y_pixel": pixel, "y_block": block, "residual_block": block}
        if self.width:
            first, others, gap = self.width
            told |= {"until_gap": first, "gap_every": others, "y_gap": gap * vl, "residual_gap": gap * vl}
        return told


def call_row(shop: Workshop, family: str, p, channels, packed, row, **fields):
    """One call of a family, for some output channels, with their weights as they are packed; `row` and `fields` are
    fields of its structs. What is not finished has neither residual nor activation."""
    outputs = Outputs(shop, p.x.shape[1], p.wide, p.by_rows)
    y = outputs.lay_out(np.full((p.x.shape[1], len(channels)), np.nan) if p.before is None else p.before[:, channels])
    residual = outputs.lay_out(p.residual[:, channels]) if p.finish and p.residual is not None else None
    shared = shop.struct(
        "fc_conv_row", w=packed, bias=shop.give(shop.blocked(p.bias[None, channels])), residual=residual, y=y,
        pixels=p.x.shape[1], blocks=-(-len(channels) // shop.vl), act=shop.activation(p.name if p.finish else "none"),
        **outputs.distances(y), **row,
    )  # fmt: skip
    shop.call(f"conv_{family}", shop.struct(f"fc_conv_{family}", row=shared, **fields))
    return outputs.read(y, len(channels))


def call_taps(shop: Workshop, p, channels, packed, row, **fields):
    """One call for taps of many channels, which start from y where that holds earlier sums."""
    accumulate = p.before is not None
    ahead = {"ahead": packed, "ahead_bytes": 64}
    return call_row(shop, "blocks", p, channels, packed, row, accumulate=accumulate, **ahead, **fields)


# Blocks: taps of many channels.


def draw_blocks(rng, n):
    taps, ins, blocks = (int(v) for v in rng.integers(1, (4, 40, 5)))
    step = int(rng.integers(1, 3 if blocks > 2 else 4))
    p = draw_row(rng, n, taps, ins, LANES * blocks)
    p.blocks, p.step = blocks, step
    if step == 1 and rng.integers(2):
        width = int(rng.integers(28, 40))  # no less than the largest tile
        p.wide = int(rng.integers(1, width + 1)), width, int(rng.integers(1, 4))
    return p


def weights_of(shop: Workshop, w):
    """[tap][channel][output] as [block of channels][tap][channel][block of outputs][VL]."""
    taps, ins, outs = w.shape
    blocked = shop.blocked(w.reshape(-1, outs)).transpose(1, 0, 2).reshape(taps, ins, -1, shop.vl)
    return np.concatenate([blocked[:, i : i + shop.vl].ravel() for i in range(0, ins, shop.vl)])


def input_blocks(shop: Workshop, p):
    """Inputs in blocks, pixels `step` vectors apart: fields of the row, and numbers of taps and channels."""
    vl, (taps, pixels, ins) = shop.vl, p.x.shape
    blocks = -(-ins // vl)
    x = np.full((blocks, taps, (pixels - 1) * p.step + 1, vl), np.nan, np.float32)
    for tap in range(taps):
        x[:, tap, :: p.step] = shop.blocked(p.x[tap])
    last = taps if ins % vl else 0
    places = shop.give(np.arange(blocks * taps) * x[0, 0].size, np.intp)
    return {"x": shop.give(x), "taps": places, "x_pixel": p.step * vl}, {
        "full_taps": blocks * taps - last, "full_channels": vl,
        "partial_taps": last, "partial_channels": ins - (blocks - 1) * vl, "x_channel": 1,
    }  # fmt: skip


def call_blocks(shop: Workshop, p):
    y, (row, taps) = np.empty((p.x.shape[1], len(p.bias))), input_blocks(shop, p)
    most = min(p.blocks, shop.table.wide_blocks) * shop.vl
    for begin in range(0, len(p.bias), most):
        channels = np.arange(begin, min(begin + most, len(p.bias)))
        y[:, channels] = call_taps(shop, p, channels, shop.give(weights_of(shop, p.w[..., channels])), row, **taps)
    return y


def draw_half(rng, n):
    """Full blocks, and behind them as many halves."""
    taps, ins, whole_blocks = int(rng.integers(1, 4)), 2 * int(rng.integers(1, 20)), int(rng.integers(2))
    p = draw_row(rng, n, taps, ins, LANES * whole_blocks + LANES // 2)
    p.step = int(rng.integers(1, 4))
    return p


def call_half(shop: Workshop, p):
    y, (row, taps), vl = np.empty((p.x.shape[1], len(p.bias))), input_blocks(shop, p), shop.vl
    wholes = len(p.bias) - LANES // 2
    for call in range(LANES // vl):
        half = wholes + np.arange(vl // 2) + call * vl // 2
        channels = np.concatenate([np.arange(vl) + call * vl, half]) if wholes else half
        packed = shop.give(np.nan_to_num(weights_of(shop, p.w[..., channels])))
        blocks = -(-len(channels) // vl)
        shop.call("halve_weights", packed, packed.size // (blocks * vl), blocks)
        y[:, channels] = call_taps(shop, p, channels, packed, row, half=1, **taps)
    return y


def draw_dense(rng, n):
    p = draw_row(rng, n, 1, int(rng.integers(2, 40)), LANES * int(rng.integers(1, 3)))
    p.columns, p.by_rows = bool(rng.integers(2)), bool(rng.integers(2))
    return p


def call_dense(shop: Workshop, p):
    """A matrix product, of columns as im2col makes them, or of rows."""
    y, vl, (_, pixels, ins) = np.empty((p.x.shape[1], len(p.bias))), shop.vl, p.x.shape
    x = shop.give(p.x[0].T if p.columns else p.x[0])
    x_channel, x_pixel = (pixels, 1) if p.columns else (1, ins)
    row = {"x": x, "taps": shop.give(np.zeros(1), np.intp), "x_pixel": x_pixel}
    for begin in range(0, len(p.bias), len(p.bias) // LANES * vl):
        channels = np.arange(begin, begin + len(p.bias) // LANES * vl)
        packed = shop.give(shop.blocked(p.w[0][:, channels]).transpose(1, 0, 2))
        y[:, channels] = call_taps(
            shop, p, channels, packed, row, full_taps=1, full_channels=ins, x_channel=x_channel,
        )  # fmt: skip
    return y


# Steps: taps of a single channel.


def draw_steps(rng, n):
    p = draw_row(rng, n, int(rng.integers(1, 12)), 1, LANES * int(rng.integers(1, 3)))
    p.before = None
    p.step = [1, 2, 3, 6, 5, None][rng.integers(6)]  # None: a vector
    p.kept, p.skip = int(rng.integers(0, 4)), int(rng.integers(0, 3)) if len(p.bias) == LANES else 0
    if p.step is None and rng.integers(2):
        width = int(rng.integers(28, 40))  # no less than the largest tile
        p.wide = int(rng.integers(1, width + 1)), width, int(rng.integers(1, 4))
    return p


def step_inputs(shop: Workshop, p, step):
    """Every tap's pixels in a row of their own; the fields that tell where."""
    taps, pixels, _ = p.x.shape
    x = np.full((taps, (pixels - 1) * step + 1), np.nan, np.float32)
    x[:, ::step] = p.x[..., 0]
    places = shop.give(np.arange(taps) * x.shape[1], np.intp)
    return {"x": shop.give(x), "taps": places, "x_pixel": step}


def call_steps(shop: Workshop, p):
    y, vl, count = np.empty((p.x.shape[1], len(p.bias))), shop.vl, len(p.bias) // LANES * shop.vl
    row = step_inputs(shop, p, p.step or vl)
    given = Problem(**vars(p))
    if p.kept:  # y holds what another group has computed
        given.before = define_row(Problem(**{**vars(p), "finish": False})).astype(np.float32)
    for begin in range(0, len(p.bias), count):
        channels = np.arange(begin, begin + count)
        w = p.w[:, 0, channels].copy()
        w[:, : p.kept] = np.nan  # they are not computed
        packed = np.full((len(w), count // vl + p.skip, vl), np.nan, np.float32)
        packed[:, : count // vl] = shop.blocked(w).transpose(1, 0, 2)
        packed = shop.give(packed.ravel()[: packed.size - p.skip * vl])
        family = {"steps": len(p.x), "kept": p.kept, "w_skip": p.skip * vl}
        y[:, channels] = call_row(shop, "steps", given, channels, packed, row, **family)
    return y


# Narrow: vectors of pixels, for few output channels.


def draw_narrow(rng, n):
    """Pixels of one row; of two, the first half of them above the others, where `below` is set. Rows of blocked outputs
    may be shorter than a vector."""
    below, plain = bool(rng.integers(2)), bool(rng.integers(2))
    n = max(n, LANES) if below or plain or rng.integers(2) else int(rng.integers(1, LANES))
    n += n % 2 if below else 0
    p = draw_row(
        rng,
        2 * n if below else n,
        int(rng.integers(1, 12)),
        1,
        int(rng.integers(1, NARROW_MOST + 1)),
        BOUNDS if below else EXACT,
    )
    p.before, p.finish, p.below, p.plain = None, True, below, plain
    if below or plain:
        p.residual = None
    return p


def call_narrow(shop: Workshop, p):
    vl, taps = shop.vl, len(p.x)
    rows = 2 if p.below else 1
    pixels = p.x.shape[1] // rows
    beyond = max(0, vl - rows * pixels)  # a short row is read as a vector
    x = np.pad(p.x.reshape(taps, rows * pixels), ((0, 0), (0, beyond)), constant_values=np.nan)
    results, x = [], shop.give(x)
    places = shop.give(np.arange(taps) * x.shape[1], np.intp)
    for begin in range(0, len(p.bias), vl):
        channels = np.arange(begin, min(begin + vl, len(p.bias)))
        w, bias = (shop.give(np.nan_to_num(shop.blocked(a)[0])) for a in (p.w[:, 0, channels], p.bias[None, channels]))
        residual = None if p.residual is None else shop.give(np.nan_to_num(shop.blocked(p.residual[:, channels])[0]))
        y = shop.take(len(channels), pixels // rows) if p.plain else shop.take(pixels // rows, vl)
        row = shop.struct(
            "fc_conv_row", x=x, taps=places, w=w, bias=bias, residual=residual, y=y, pixels=pixels, x_pixel=1,
            y_pixel=1 if p.plain else vl, y_block=pixels // rows, blocks=1, act=shop.activation(p.name),
        )  # fmt: skip
        family = {"steps": taps, "channels": len(channels), "x_pool_row": pixels if p.below else 0}
        shop.call("conv_narrow", shop.struct("fc_conv_narrow", row=row, **family))
        results.append(y.T if p.plain else y[:, : len(channels)])
    return np.concatenate(results, axis=1)


# The order of weights for half blocks.


def draw_halves(rng, n):
    return Problem(w=whole(rng, 2 * n, LANES), half=whole(rng, 2 * n, LANES // 2), alone=bool(rng.integers(2)))


def call_halves(shop: Workshop, p):
    """The weights, read back from the order in which they were put: two steps side by side, interleaved. Where half
    blocks have no tiles, they stay as they are."""
    steps, vl = len(p.half), shop.vl
    wholes, halves = np.zeros(p.w.shape), np.empty(p.half.shape)
    for call in range(LANES // vl):
        part, half = slice(call * vl, (call + 1) * vl), slice(call * vl // 2, (call + 1) * vl // 2)
        padded = np.pad(p.half[:, half], ((0, 0), (0, vl // 2)))
        w = shop.give(padded if p.alone else np.hstack([p.w[:, part], padded]))
        blocks = 1 if p.alone else 2
        given = w.copy()
        shop.call("halve_weights", w, steps, blocks)
        if (w == given).all():
            halves[:, half], wholes[:, part] = given[:, -vl:][:, : vl // 2], 0 if p.alone else given[:, :vl]
            continue
        pairs = w.reshape(steps // 2, 2 * blocks * vl)[:, : (2 * blocks - 1) * vl].reshape(steps // 2, -1, 2)
        read = pairs.transpose(0, 2, 1).reshape(steps, -1)
        halves[:, half] = read[:, -vl // 2 :]
        wholes[:, part] = 0 if p.alone else read[:, :vl]
    return np.hstack([wholes, halves])


def define_halves(p):
    return np.hstack([0 * p.w if p.alone else p.w, p.half])
