"""Tiles of elements, pixels and parameters: how to draw a problem of a size, call the tile, and define its result."""

from __future__ import annotations

from types import SimpleNamespace as Problem

import numpy as np
from c_header import constants
from kernels.workshop import BOUNDS, EXACT, KINDS, LANES, Workshop

from fastcnn import reference


def whole(rng, *shape):
    """Numbers whose sums and products are exact."""
    return rng.integers(-4, 5, shape).astype(np.float32)


def gate_of(rng):
    """What `fc_gate` holds: scale and shift of each lane, and bounds."""
    low, high = [np.nan, -3.0][rng.integers(2)], [np.nan, 5.0][rng.integers(2)]
    return Problem(affine=whole(rng, 2, LANES), low=low, high=high)


def act(name, x):
    """The definition of an activation of the workshop."""
    if name in BOUNDS:
        return reference.clip(x, *KINDS[name][1:])
    if name == "leaky":
        return reference.leaky_relu(x, 0.5)
    if name == "gelu_tanh":
        return reference.gelu(x, "tanh")
    return getattr(reference, name)(x)


def act_grad(name, g, v):
    if name in BOUNDS:
        return reference.clip_grad(g, v, *KINDS[name][1:])
    if name == "leaky":
        return reference.leaky_relu_grad(g, v, 0.5)
    if name == "gelu_tanh":
        return reference.gelu_grad(g, v, "tanh")
    return getattr(reference, f"{name}_grad")(g, v)


# Elements.

OPERATIONS = {
    "FC_ADD": np.add, "FC_MULTIPLY": np.multiply, "FC_SUBTRACT": np.subtract, "FC_DIVIDE": np.divide,
    "FC_MINIMUM": np.minimum, "FC_MAXIMUM": np.maximum, "FC_BELOW": lambda x, y: (x < y) + 0.5 * (x == y),
    "FC_EQUAL": np.equal,
}  # fmt: skip


def draw_activate(rng, n):
    name = str(rng.choice(list(KINDS)))
    return Problem(name=name, x=(rng.standard_normal(n) * 4).astype(np.float32), in_place=bool(rng.integers(2)))


def call_activate(shop: Workshop, p):
    x = shop.give(p.x)
    y = x if p.in_place else shop.take(len(x))
    shop.call("activate", shop.activation(p.name), x, y, len(x))
    return y


def draw_activate_grad(rng, n):
    p = draw_activate(rng, n)
    p.g = whole(rng, n)
    if p.name in ("tanh", "sigmoid"):
        p.x = act(p.name, p.x).astype(np.float32)
    return p


def call_activate_grad(shop: Workshop, p):
    y = shop.take(len(p.x))
    bounds = [value if np.isfinite(value) else np.nan for value in KINDS[p.name][1:]]
    how = shop.activation(p.name)
    how.low, how.high = bounds
    shop.call("activate_grad", how, shop.give(p.g), shop.give(p.x), y, len(y))
    return y


def draw_affine(rng, n):
    """Pixels, of which the last one has `channels`; behind these nothing is written."""
    residual = whole(rng, n, LANES) if rng.integers(2) else None
    return Problem(
        name=str(rng.choice(EXACT)),
        x=whole(rng, n, LANES),
        scale=whole(rng, LANES),
        shift=whole(rng, LANES),
        residual=residual,
        channels=int(rng.integers(1, LANES + 1)),
    )


def call_affine(shop: Workshop, p):
    y = np.full(p.x.shape, np.nan)
    for span in shop.spans():
        length = (len(y) - 1) * shop.vl + int(np.clip(p.channels - span.start, 0, shop.vl))
        x, residual = (None if a is None else shop.give(a[:, span].ravel()[:length]) for a in (p.x, p.residual))
        out = shop.take(length)
        scale, shift = shop.give(p.scale[span]), shop.give(p.shift[span])
        shop.call("affine", shop.activation(p.name), scale, shift, x, residual, out, length)
        y[:, span] = np.append(out, np.full(y[:, span].size - length, np.nan)).reshape(-1, shop.vl)
    return y


def define_affine(p):
    y = act(p.name, p.x * p.scale + p.shift + (0 if p.residual is None else p.residual))
    y[-1, p.channels :] = np.nan
    return y


def draw_binary(rng, n):
    steps = [(0, 1), (1, 0), (1, 1), (1, LANES), (LANES, 1)][rng.integers(5)]
    x, y = (np.resize(whole(rng, 4), LANES) if step > 1 else whole(rng, n if step else 1) for step in steps)
    op = str(rng.choice(list(OPERATIONS)))
    return Problem(op=op, name=str(rng.choice(EXACT)), steps=steps, x=x, y=y, n=n)


def call_binary(shop: Workshop, p):
    """Of LANES repeated floats, a vector is repeated: the definition takes the same."""
    z = shop.take(p.n)
    steps = [min(step, shop.vl) for step in p.steps]
    x, y = (shop.give(v[: shop.vl] if step > 1 else v) for v, step in zip((p.x, p.y), p.steps, strict=True))
    shop.call("binary", constants()[p.op], shop.activation(p.name), x, steps[0], y, steps[1], z, p.n)
    return z


def define_binary(p):
    x, y = (np.resize(v, p.n) for v in (p.x, p.y))
    with np.errstate(all="ignore"):
        return act(p.name, OPERATIONS[p.op](x, y))


def draw_softmax(rng, n):
    return Problem(x=(rng.standard_normal(n) * 10).astype(np.float32))


def call_softmax(shop: Workshop, p):
    y = shop.take(len(p.x))
    shop.call("softmax", shop.give(p.x), y, len(y))
    return y


def draw_burst(rng, n):
    return Problem(n=n)


def call_burst(shop: Workshop, p):
    sink = shop.take(1)
    chains = shop.call("multiply_add_burst", p.n, sink) / (2 * shop.vl * p.n)
    return np.array([chains % 12, sink[0] / shop.vl / (chains * (chains + 1) / 2)])


def define_burst(p):
    """Twelve sums or a multiple, which begin with 1, 2, 3 ...: each grows by its ten-millionth a round, rounded."""
    return np.array([0.0, (1 + 1e-7) ** p.n])


# Order in memory.


def draw_planes(rng, n):
    channels = int(rng.integers(1, LANES + 1))
    return Problem(x=whole(rng, n, channels), plane=n + int(rng.integers(0, 5)))


def planes_of(shop: Workshop, x, plane):
    """[pixels][channels] as planes so far apart; behind the last one is no gap."""
    planes = np.full((x.shape[1], plane), np.nan, np.float32)
    planes[:, : len(x)] = x.T
    return shop.give(planes.ravel()[: planes.size - plane + len(x)])


def call_interleave(shop: Workshop, p):
    y = np.zeros((len(p.x), LANES))
    for span in shop.spans(p.x.shape[1]):
        part, out = p.x[:, span], shop.take(len(p.x), shop.vl)
        shop.call("interleave", planes_of(shop, part, p.plane), p.plane, out, part.shape[1], len(out))
        y[:, span] = out
    return y


def define_interleave(p):
    return np.pad(p.x, ((0, 0), (0, LANES - p.x.shape[1])))


def call_deinterleave(shop: Workshop, p):
    """All that is written, gaps included."""
    rows = []
    for block, span in zip(shop.blocked(p.x), shop.spans(p.x.shape[1]), strict=True):
        channels = min(shop.vl, p.x.shape[1] - span.start)
        out = shop.take(channels, p.plane)
        shop.call("deinterleave", shop.give(block), out, p.plane, channels, len(p.x))
        rows.append(out)
    return np.concatenate(rows)


def define_deinterleave(p):
    return np.pad(p.x.T, ((0, 0), (0, p.plane - len(p.x))), constant_values=np.nan)


def draw_zip(rng, n):
    return Problem(x=whole(rng, n, int(rng.integers(1, 5))), plane=n + int(rng.integers(0, 5)))


def call_zip(shop: Workshop, p):
    y = shop.take(*p.x.shape)
    shop.call("zip_planes", planes_of(shop, p.x, p.plane), p.plane, y, p.x.shape[1], len(y))
    return y


def draw_copy(rng, n):
    return Problem(x=whole(rng, n, LANES), steps=[int(step) for step in rng.integers(1, 4, 2)])


def spread(shop: Workshop, block, step):
    """[pixels][VL] with gaps of NaN, so that pixels are `step` vectors apart; none behind the last."""
    wide = np.full((len(block), step, shop.vl), np.nan, np.float32)
    wide[:, 0] = block
    return wide.reshape(-1, shop.vl)[: len(wide) * step - step + 1]


def call_copy(shop: Workshop, p):
    y = []
    for span in shop.spans():
        out = shop.take((len(p.x) - 1) * p.steps[1] + 1, shop.vl)
        shop.call(
            "copy_pixels",
            shop.give(spread(shop, p.x[:, span], p.steps[0])),
            p.steps[0] * shop.vl,
            out,
            p.steps[1] * shop.vl,
            len(p.x),
        )
        y.append(out)
    return np.concatenate(y, axis=1)


def define_copy(p):
    y = np.full(((len(p.x) - 1) * p.steps[1] + 1, LANES), np.nan)
    y[:: p.steps[1]] = p.x
    return y


# Local response normalisation.


def draw_lrn(rng, n):
    channels, size = int(rng.integers(1, 40)), int(rng.integers(1, 7))
    return Problem(
        x=rng.standard_normal((n, channels)).astype(np.float32),
        g=whole(rng, n, channels),
        size=size,
        beta=float(rng.choice([0.5, 0.75, 1.0, 0.6])),
    )


def call_lrn(shop: Workshop, p, gradient=False):
    (pixels, channels), before = p.x.shape, (p.size - 1) // 2
    blocks = -(-channels // shop.vl)
    y, scratch = shop.take(blocks, pixels, shop.vl), before + channels + p.size + 2 * shop.vl
    row = shop.struct(
        "fc_lrn_row",
        x=shop.give(shop.blocked(p.x)),
        y=y,
        x_block=pixels * shop.vl,
        y_block=pixels * shop.vl,
        channels=channels,
        pixels=pixels,
        before=before,
        size=p.size,
        scale=0.5 / p.size,
        bias=2.0,
        beta=p.beta,
    )
    if gradient:
        g = shop.give(shop.blocked(p.g))
        shop.call("lrn_grad_row", row, g, pixels * shop.vl, shop.take(2 * scratch))
    else:
        shop.call("lrn_row", row, shop.take(scratch))
    return y.transpose(1, 0, 2).reshape(pixels, -1)[:, :channels]


def call_lrn_grad(shop: Workshop, p):
    return call_lrn(shop, p, gradient=True)


def define_lrn(p):
    return reference.local_response_norm(p.x, p.size, 0.5, p.beta, 2.0)


def define_lrn_grad(p):
    return reference.local_response_norm_grad(p.g, p.x, p.size, 0.5, p.beta, 2.0)


# Batch normalisation.


def draw_sums(rng, n):
    kind = str(rng.choice(["g", "x", "gated", "moments"]))
    return Problem(
        kind=kind,
        g=whole(rng, 3, n, LANES),
        x=whole(rng, 3, n, LANES),
        shift=whole(rng, LANES),
        before=whole(rng, 2, LANES),
        gate=gate_of(rng),
    )


def call_sums(shop: Workshop, p):
    y, (rows, pixels, _) = p.before.astype(np.float64), p.g.shape
    for span in shop.spans():
        sums = shop.give(p.before[: 1 if p.kind == "g" else 2, span], np.float64)
        x = shop.give(p.x[..., span]) if p.kind in ("x", "gated") else None
        gate = shop.struct(
            "fc_gate",
            low=p.gate.low,
            high=p.gate.high,
            affine=shop.give(p.gate.affine[:, span]) if p.kind == "gated" else None,
        )
        shop.call("pixel_sums", shop.struct(
            "fc_pixel_sums", g=shop.give(p.g[..., span]), x=x, shift=shop.give(p.shift[span]), sums=sums,
            g_row=pixels * shop.vl, x_row=pixels * shop.vl, rows=rows, pixels=pixels,
            moments=p.kind == "moments", gate=gate,
        ))  # fmt: skip
        y[: len(sums), span] = sums
    return y


def passed(gate, g, x):
    v = x * gate.affine[0] + gate.affine[1]
    return np.where((v <= gate.low) | (v >= gate.high), 0, g)


def define_sums(p):
    g = passed(p.gate, p.g, p.x) if p.kind == "gated" else p.g - p.shift if p.kind == "moments" else p.g
    other = 0 * g if p.kind == "g" else g if p.kind == "moments" else p.x - p.shift
    return p.before + np.stack([g.sum((0, 1), np.float64), (g * other).sum((0, 1), np.float64)])


def draw_blend(rng, n):
    return Problem(
        abc=whole(rng, 3, LANES),
        g=whole(rng, n, LANES),
        x=whole(rng, n, LANES),
        gate=gate_of(rng),
        gated=bool(rng.integers(2)),
    )


def call_blend(shop: Workshop, p):
    y = np.empty(p.x.shape)
    for span in shop.spans():
        out = shop.take(len(p.x), shop.vl)
        gate = shop.struct(
            "fc_gate", low=p.gate.low, high=p.gate.high, affine=shop.give(p.gate.affine[:, span]) if p.gated else None
        )
        abc, g, x = (shop.give(a[:, span]) for a in (p.abc, p.g, p.x))
        shop.call("blend", gate, abc, g, x, out, out.size)
        y[:, span] = out
    return y


def define_blend(p):
    a, b, c = p.abc
    return a * (passed(p.gate, p.g, p.x) if p.gated else p.g) + b * p.x + c


# Optimizers.


def draw_update(rng, n):
    kind = str(rng.choice(["FC_SGD", "FC_ADAM", "FC_ADAMW", "FC_RMSPROP"]))
    momentum = float(rng.choice([0.0, 0.5])) if kind in ("FC_SGD", "FC_RMSPROP") else 0.0
    states = {
        "m": momentum > 0 or kind.startswith("FC_ADAM"),
        "v": kind != "FC_SGD",
        "c": kind == "FC_RMSPROP" and bool(rng.integers(2)),
    }
    p, g = rng.standard_normal((2, n)).astype(np.float32)
    values = {name: rng.random(n).astype(np.float32) if has else None for name, has in states.items()}
    if values["c"] is not None:
        values["v"] += 1  # a mean of squares is no less than the square of a mean
    return Problem(kind=kind, momentum=momentum, nesterov=bool(rng.integers(2)), p=p, g=g, **values)


SETTINGS = {"scale": 0.5, "rate": 0.25, "decay": 0.125, "epsilon": 0.0625, "beta2": 0.875, "one_minus_beta1": 0.25,
            "one_minus_beta2": 0.125, "correction1": 0.5, "correction2": 0.75}  # fmt: skip


def call_update(shop: Workshop, p):
    given = [None if a is None else shop.give(a) for a in (p.p, p.g, p.m, p.v, p.c)]
    how = shop.struct("fc_update", kind=constants()[p.kind], nesterov=p.nesterov, momentum=p.momentum, **SETTINGS)
    shop.call("update", how, *given, len(p.p))
    return np.stack([given[0], *(array for array in given[2:] if array is not None)])


def define_update(p):
    """As the formulas in training/optimizers.py."""
    s, w = SETTINGS, p.p.astype(np.float64)
    g = s["scale"] * p.g
    m, v, c = (None if a is None else a.astype(np.float64) for a in (p.m, p.v, p.c))
    if p.kind == "FC_ADAMW":
        w = w * (1 - s["rate"] * s["decay"])
    else:
        g = g + s["decay"] * w
    if p.kind in ("FC_ADAM", "FC_ADAMW"):
        m, v = m + s["one_minus_beta1"] * (g - m), s["beta2"] * v + s["one_minus_beta2"] * g * g
        w = w - s["rate"] * m / s["correction1"] / (np.sqrt(v) / s["correction2"] + s["epsilon"])
        return np.stack([w, m, v])
    if p.kind == "FC_RMSPROP":
        v, spread = s["beta2"] * v + s["one_minus_beta2"] * g * g, 0.0
        if c is not None:
            c = c + s["one_minus_beta2"] * (g - c)
            spread = c * c
        g = g / (np.sqrt(v - spread) + s["epsilon"])
    if p.momentum:
        m = p.momentum * m + g
        g = g + p.momentum * m if p.nesterov and p.kind == "FC_SGD" else m
    return np.stack([w - s["rate"] * g, *(array for array in (m, v, c) if array is not None)])
