"""Convolution and pooling over any number of dimensions: one strided slice and one product for each tap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.ops.budget import CALL, Cost
from fastcnn.ops.general.base import Array, Costs, Ints, cost_of, general, size_of, width_of
from fastcnn.ops.general.matrix import product_work
from fastcnn.ops.general.reduce import lp_norm
from fastcnn.ops.node import Attrs

MAX_TAPS = 1 << 16  # each costs a call of NumPy
Pads = list[tuple[int, int]]


def window_pads(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    auto_pad: str,
) -> Pads:
    """(before, after) of every spatial axis."""
    rank = len(sizes)
    if not len(kernel) == len(strides) == len(dilations) == rank or len(pads) != 2 * rank:
        raise ValueError(
            f"kernel {tuple(kernel)}, strides {tuple(strides)}, dilations {tuple(dilations)}, pads "
            f"{tuple(pads)}, expected numbers for {rank} axes"
        )
    if min((*kernel, *strides, *dilations), default=1) < 1 or min(pads, default=0) < 0:
        raise ValueError(
            f"kernel {tuple(kernel)}, strides {tuple(strides)}, dilations {tuple(dilations)}, pads "
            f"{tuple(pads)}, expected sizes of at least 1 and pads of at least 0"
        )
    if auto_pad == "NOTSET":
        return [(int(pads[i]), int(pads[rank + i])) for i in range(rank)]
    if auto_pad == "VALID":
        return [(0, 0)] * rank
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad={auto_pad!r}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    result = []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        result.append((small, large) if auto_pad == "SAME_UPPER" else (large, small))
    return result


def window_sizes(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
    ceil_mode: int = 0,
) -> Ints:
    """Outputs along every spatial axis."""
    result = []
    for size, taps, stride, dilation, (before, after) in zip(sizes, kernel, strides, dilations, pads, strict=True):
        room = size + before + after - (taps - 1) * dilation - 1
        count = room // stride + 1
        if ceil_mode:
            count = -(-room // stride) + 1
            if (count - 1) * stride >= size + before:  # the last window would start in the padding at the end
                count -= 1
        if room < 0 or count < 1:
            raise ValueError(f"kernel {tuple(kernel)} does not fit into {tuple(sizes)} padded by {pads}")
        result.append(count)
    return tuple(result)


def taps_of(
    x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], outputs: Sequence[int]
) -> Iterator[tuple[Ints, Array]]:
    """The place of every tap in the kernel, and the elements of the padded x that it meets."""
    if prod(kernel) > MAX_TAPS:
        raise ValueError(f"kernel {tuple(kernel)} has {prod(kernel)} taps, expected at most {MAX_TAPS}")
    for tap in np.ndindex(*kernel):
        place: Any = (
            ...,
            *(
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, s, o in zip(tap, dilations, strides, outputs, strict=True)
            ),
        )
        yield tap, x[place]


def padded(
    x: Array,
    pads: Pads,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    outputs: Sequence[int],
    value: Any,
) -> Array:
    """x with its padding, and further as far as the last window reaches."""
    grow = [(0, 0), (0, 0)]
    for size, (before, after), taps, stride, dilation, count in zip(
        x.shape[2:], pads, kernel, strides, dilations, outputs, strict=True
    ):
        reach = (count - 1) * stride + (taps - 1) * dilation + 1
        grow.append((before, max(after, reach - before - size)))
    return np.pad(x, grow, constant_values=value) if any(map(any, grow)) else x


def _defaults(rank: int, strides: Ints | None, dilations: Ints | None, pads: Ints | None) -> tuple[Ints, Ints, Ints]:
    return strides or (1,) * rank, dilations or (1,) * rank, pads or (0,) * (2 * rank)


def _plan(attrs: Attrs, inputs: Sequence[Any]) -> tuple[Ints, Ints, int]:
    """The kernel, the sizes of the output, and the elements of a padded plane."""
    x = inputs[0]
    rank = x.ndim - 2
    if rank < 0:
        raise ValueError(f"x.shape={x.shape}, expected at least 2 dimensions")
    kernel = tuple(inputs[1].shape[2:] if len(inputs) > 1 else attrs["kernel_shape"])
    strides, dilations, raw = _defaults(rank, attrs.get("strides"), attrs.get("dilations"), attrs.get("pads"))
    pads = window_pads(x.shape[2:], kernel, strides, dilations, raw, attrs.get("auto_pad", "NOTSET"))
    outputs = window_sizes(x.shape[2:], kernel, strides, dilations, pads, attrs.get("ceil_mode", 0))
    reach = [
        max(size + a + b, (count - 1) * stride + (taps - 1) * dilation + 1)
        for size, (a, b), count, stride, taps, dilation in zip(
            x.shape[2:], pads, outputs, strides, kernel, dilations, strict=True
        )
    ]
    return kernel, outputs, size_of(reach)


def convolution_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost of the convolution of x with w, the first two inputs."""
    x, w = inputs[:2]
    (n, channels), outs = x.shape[:2], w.shape[0]
    kernel, outputs, plane = _plan(attrs, inputs[:2])
    taps, places = prod(kernel), prod(outputs)
    source, part, result = n * channels * plane, n * channels * places, n * outs * places
    held = 2 * source + 2 * part + 4 * result + 2 * w.size
    dtype = np.result_type(x, w)
    adds = product_work(result * w.shape[1] * taps, np.dtype(np.float32) if dtype == np.float16 else dtype)
    return cost_of(held * max(4, dtype.itemsize), adds + taps * (part + 2 * result + 4 * CALL) + 2 * held)


def _pool_cost(source: int, result: int, places: int, width: int | None = None) -> Costs:
    """The cost of a function by the numbers of arrays that it holds at one time.

    `source` arrays have the size of the padded input, `result` that of the output, `places` that of a plane of both.
    An element takes `width` bytes, or as many as `width_of` says.
    """

    def cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
        x = inputs[0]
        planes = x.shape[0] * x.shape[1]
        kernel, outputs, plane = _plan(attrs, inputs)
        taps, written = prod(kernel), planes * prod(outputs)
        held = source * planes * plane + result * written + places * (plane + prod(outputs))
        return cost_of(held * (width or width_of(x)), taps * (result * written + 4 * CALL) + 2 * held)

    return cost


def _pool_shape(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    _, outputs, _ = _plan(attrs, inputs)
    return (*inputs[0].shape[:2], *outputs)


def _max_pool_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    """The cost; the places of maxima, if they are wanted, are numbers of 64 bits."""
    if attrs.get("output"):
        return _pool_cost(2, 8, 3, 8)(attrs, inputs)
    return _pool_cost(1, 2, 0, inputs[0].dtype.itemsize)(attrs, inputs)


def convolve(x: Array, w: Array, group: int, strides: Ints, dilations: Ints, pads: Pads) -> Array:
    """y[n, g, o] = sum over taps of w[g, o, :, tap] @ x[n, g, :, shifted], in the type of x; float16 is summed in
    float32."""
    if x.dtype == np.float16:
        return convolve(x.astype(np.float32), w.astype(np.float32), group, strides, dilations, pads).astype(x.dtype)
    n, channels = x.shape[:2]
    if group < 1 or channels % group or w.shape[0] % group or w.shape[1] != channels // group or w.ndim != x.ndim:
        raise ValueError(
            f"weight.shape={w.shape}, expected (O, {channels}/group, ...) with group={group}, x.shape={x.shape}"
        )
    kernel = w.shape[2:]
    outputs = window_sizes(x.shape[2:], kernel, strides, dilations, pads)
    source = padded(x, pads, kernel, strides, dilations, outputs, 0)
    result = np.zeros((n, group, w.shape[0] // group, prod(outputs)), np.result_type(x, w))
    weights = w.reshape(group, w.shape[0] // group, channels // group, *kernel)
    for tap, part in taps_of(source, kernel, strides, dilations, outputs):
        place: Any = (..., *tap)
        result += weights[place] @ part.reshape(n, group, channels // group, prod(outputs))
    return result.reshape(n, w.shape[0], *outputs)


def _conv_shape(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    x, w = inputs[:2]
    rank, group = x.ndim - 2, attrs.get("group", 1)
    if w.ndim != x.ndim or group < 1 or w.shape[1] * group != x.shape[1] or w.shape[0] % group:
        raise ValueError("no weights")
    strides, dilations, raw = _defaults(rank, attrs.get("strides"), attrs.get("dilations"), attrs.get("pads"))
    pads = window_pads(x.shape[2:], w.shape[2:], strides, dilations, raw, attrs.get("auto_pad", "NOTSET"))
    return (x.shape[0], w.shape[0], *window_sizes(x.shape[2:], w.shape[2:], strides, dilations, pads))


@general("Conv", convolution_cost, shape=_conv_shape)
def conv(  # type: ignore[no-untyped-def]
    x,
    w,
    b=None,
    *,
    strides: Ints | None = None,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Ints | None = None,
):
    strides, dilations, raw = _defaults(x.ndim - 2, strides, dilations, pads)
    _check_kernel(kernel_shape, w.shape[2:])
    amounts = window_pads(x.shape[2:], w.shape[2:], strides, dilations, raw, auto_pad)
    y = convolve(x, w, group, strides, dilations, amounts)
    return y if b is None else (y + b.reshape(-1, *[1] * (x.ndim - 2))).astype(x.dtype)


def _check_kernel(stated: Ints | None, actual: Ints) -> None:
    if stated is not None and tuple(stated) != tuple(actual):
        raise ValueError(f"kernel_shape={stated}, expected {tuple(actual)}, as the weights have")


def _transpose_plan(x: Any, w: Any, attrs: Attrs) -> tuple[Ints, Ints, Ints, Pads]:
    """Strides, dilations, sizes of the result before it is cut, and what is cut off."""
    rank = x.ndim - 2
    strides, dilations, raw = _defaults(rank, attrs.get("strides"), attrs.get("dilations"), attrs.get("pads"))
    extra = attrs.get("output_padding") or (0,) * rank
    window_pads(x.shape[2:], w.shape[2:], strides, dilations, raw, "NOTSET")  # checks the arguments
    whole = tuple(
        s * (n - 1) + (k - 1) * d + 1 + e
        for s, n, k, d, e in zip(strides, x.shape[2:], w.shape[2:], dilations, extra, strict=True)
    )
    cut = [(raw[i], raw[rank + i]) for i in range(rank)]
    auto, wanted = attrs.get("auto_pad", "NOTSET"), attrs.get("output_shape")
    if auto.startswith("SAME") or wanted:
        targets = wanted[-rank:] if wanted else tuple(n * s for n, s in zip(x.shape[2:], strides, strict=True))
        cut = []
        for size, target in zip(whole, targets, strict=True):
            total = size - target
            half = total // 2
            cut.append((half, total - half) if auto == "SAME_UPPER" else (total - half, half))
    return strides, dilations, whole, cut


def _transpose_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x, w = inputs[:2]
    _, _, whole, cut = _transpose_plan(x, w, attrs)
    grown = [n + max(0, -a) + max(0, -b) for n, (a, b) in zip(whole, cut, strict=True)]
    group, taps = max(1, attrs.get("group", 1)), prod(w.shape[2:])
    outs = w.shape[1] * group
    result = x.shape[0] * outs * size_of(grown)
    product = x.shape[0] * outs * prod(x.shape[2:])
    held = 4 * result + 2 * product + x.size + 2 * w.size
    adds = product_work(product * (w.shape[0] // group) * taps, np.result_type(x, w))
    return cost_of(held * width_of(x, w), adds + taps * (3 * product + 4 * CALL) + 2 * held)


@general("ConvTranspose", _transpose_cost)
def conv_transpose(  # type: ignore[no-untyped-def]
    x,
    w,
    b=None,
    *,
    strides: Ints | None = None,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
    kernel_shape: Ints | None = None,
    output_padding: Ints | None = None,
    output_shape: Ints | None = None,
):
    attrs = {
        "strides": strides,
        "dilations": dilations,
        "pads": pads,
        "auto_pad": auto_pad,
        "output_padding": output_padding,
        "output_shape": output_shape,
    }
    n, channels = x.shape[:2]
    if group < 1 or channels % group or w.shape[0] != channels or w.ndim != x.ndim:
        raise ValueError(f"weight.shape={w.shape}, expected ({channels}, O/group, ...), x.shape={x.shape}")
    steps, spread, whole, cut = _transpose_plan(x, w, attrs)
    kernel, outs = w.shape[2:], w.shape[1]
    weights = np.swapaxes(w.reshape(group, channels // group, outs, *kernel), 1, 2)
    flat = x.reshape(n, group, channels // group, -1)
    result = np.zeros((n, group * outs, *whole), x.dtype)
    for tap, part in taps_of(result, kernel, steps, spread, x.shape[2:]):
        place: Any = (..., *tap)
        part += (weights[place] @ flat).reshape(part.shape)
    kept: Any = (..., *(slice(max(0, a), size - max(0, b)) for size, (a, b) in zip(whole, cut, strict=True)))
    grow = [(max(0, -a), max(0, -b)) for a, b in cut]
    result = np.pad(result[kept], [(0, 0), (0, 0), *grow])
    return result if b is None else result + b.reshape(-1, *[1] * (x.ndim - 2))


@general("MaxPool", _max_pool_cost, shape=_pool_shape)
def max_pool(  # type: ignore[no-untyped-def]
    x,
    *,
    kernel_shape: Ints,
    strides: Ints | None = None,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    storage_order: int = 0,
    output: int = 0,
):
    steps, spread, raw = _defaults(x.ndim - 2, strides, dilations, pads)
    amounts = window_pads(x.shape[2:], kernel_shape, steps, spread, raw, auto_pad)
    outputs = window_sizes(x.shape[2:], kernel_shape, steps, spread, amounts, ceil_mode)
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    source = padded(x, amounts, kernel_shape, steps, spread, outputs, lowest)
    best = np.full((*x.shape[:2], *outputs), lowest, x.dtype)
    if output == 0:
        for _, part in taps_of(source, kernel_shape, steps, spread, outputs):
            np.maximum(best, part, out=best)
        return best
    counted: Any = np.arange(prod(x.shape[2:]), dtype=np.int64)
    numbers = counted.reshape((1, 1, *x.shape[2:]), order="F" if storage_order else "C")
    places = padded(numbers, amounts, kernel_shape, steps, spread, outputs, -1)
    where = np.full(best.shape, -1, np.int64)
    for (_, part), (_, place) in zip(
        taps_of(source, kernel_shape, steps, spread, outputs),
        taps_of(places, kernel_shape, steps, spread, outputs),
        strict=True,
    ):
        better = ((part > best) | (part != part) | (where < 0)) & (place >= 0)
        best, where = np.where(better, part, best), np.where(better, place, where)
    planes = np.arange(x.shape[0] * x.shape[1], dtype=np.int64).reshape(*x.shape[:2], *[1] * (x.ndim - 2))
    return where + planes * prod(x.shape[2:])


@general("AveragePool", _pool_cost(2, 4, 3), shape=_pool_shape)
def average_pool(  # type: ignore[no-untyped-def]
    x,
    *,
    kernel_shape: Ints,
    strides: Ints | None = None,
    pads: Ints | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Ints | None = None,
):
    steps, spread, raw = _defaults(x.ndim - 2, strides, dilations, pads)
    amounts = window_pads(x.shape[2:], kernel_shape, steps, spread, raw, auto_pad)
    outputs = window_sizes(x.shape[2:], kernel_shape, steps, spread, amounts, ceil_mode)
    source = padded(x, amounts, kernel_shape, steps, spread, outputs, 0)
    ones = np.ones((1, 1, *x.shape[2:]), x.dtype)
    if count_include_pad:  # padding counts, but not what the last window has beyond it
        ones = np.pad(ones, [(0, 0), (0, 0), *amounts], constant_values=1)
        counted = padded(ones, [(0, 0)] * len(amounts), kernel_shape, steps, spread, outputs, 0)
    else:
        counted = padded(ones, amounts, kernel_shape, steps, spread, outputs, 0)
    parts = (part for _, part in taps_of(source, kernel_shape, steps, spread, outputs))
    total = sum(parts, start=np.float64(0))  # in float32 many pixels would lose digits
    count = sum(part for _, part in taps_of(counted, kernel_shape, steps, spread, outputs))
    return np.asarray(total / count).astype(x.dtype)


@general("LpPool", _pool_cost(5, 4, 0), shape=_pool_shape)
def lp_pool(  # type: ignore[no-untyped-def]
    x,
    *,
    kernel_shape: Ints,
    strides: Ints | None = None,
    dilations: Ints | None = None,
    pads: Ints | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    p: int = 2,
):
    steps, spread, raw = _defaults(x.ndim - 2, strides, dilations, pads)
    amounts = window_pads(x.shape[2:], kernel_shape, steps, spread, raw, auto_pad)
    outputs = window_sizes(x.shape[2:], kernel_shape, steps, spread, amounts, ceil_mode)
    source = padded(np.abs(x) ** p, amounts, kernel_shape, steps, spread, outputs, 0)
    parts = (part for _, part in taps_of(source, kernel_shape, steps, spread, outputs))
    total = sum(parts, start=np.float64(0))
    return (np.asarray(total) ** (1.0 / p)).astype(x.dtype)


def _global_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    size = 3 * inputs[0].size
    return cost_of(size * width_of(*inputs), 2 * size)


def _spatial(x: Array) -> Ints:
    return tuple(range(2, x.ndim))


@general("GlobalAveragePool", _global_cost)
def global_average_pool(x):  # type: ignore[no-untyped-def]
    return x.mean(_spatial(x), np.float64, keepdims=True).astype(x.dtype)


@general("GlobalMaxPool", _global_cost)
def global_max_pool(x):  # type: ignore[no-untyped-def]
    return x.max(_spatial(x), keepdims=True)


@general("GlobalLpPool", _global_cost)
def global_lp_pool(x, *, p: int = 2):  # type: ignore[no-untyped-def]
    return lp_norm(x, p, _spatial(x), True)


OPS = (conv, conv_transpose, max_pool, average_pool, lp_pool, global_average_pool, global_max_pool, global_lp_pool)
