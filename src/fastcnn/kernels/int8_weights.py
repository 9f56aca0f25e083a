"""Weights of 8-bit layers in the order of the tiles: quads of neighbouring inputs, each for VL outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcnn.kernels import _int8, storage

QUAD = 4  # neighbouring inputs whose products one instruction adds


@dataclass(frozen=True)
class Reach:
    """Which input channels each bundle of outputs reads: a bundle is one or two blocks of VL outputs.

    All bundles read the same number of blocks of inputs, from a first one on. Where groups are smaller than blocks, a
    bundle reads the channels of several groups. The weights between outputs and channels of different groups are zeros.

    Attributes
    ----------
    width : int
        Blocks of a bundle. The last bundle may have only one.
    blocks : int
        Blocks of outputs.
    first : list of int
        The first block of inputs that each bundle reads.
    inputs : int
        Blocks of inputs that a bundle reads.
    quads : int
        Quads of the last of them that any bundle needs.
    """

    width: int
    blocks: int
    first: list[int]
    inputs: int
    quads: int


def reach(channels: int, outs: int, groups: int, lanes: int, vl: int) -> Reach:
    """The reach of the bundles of a convolution.

    Parameters
    ----------
    channels, outs, groups : int
    lanes : int
        Channels of a block of the input.
    vl : int
        Channels of a block of outputs.

    Returns
    -------
    Reach

    Examples
    --------
    >>> reach(48, 40, 1, 16, 16)
    Reach(width=2, blocks=3, first=[0, 0], inputs=3, quads=4)
    >>> reach(64, 64, 8, 16, 16)  # two groups of eight in a block
    Reach(width=1, blocks=4, first=[0, 1, 2, 3], inputs=1, quads=4)
    """
    ins, each = channels // groups, outs // groups
    width = 2 if groups == 1 or each >= 2 * vl else 1
    blocks, total = _ceil_div(outs, vl), _ceil_div(channels, lanes)
    ranges = []
    for start in range(0, blocks, width):
        low, high = start * vl, min(outs, (start + width) * vl)
        ranges.append((low // each * ins, ((high - 1) // each + 1) * ins))
    inputs = max(_ceil_div(high, lanes) - low // lanes for low, high in ranges)
    first = [min(low // lanes, total - inputs) for low, _ in ranges]
    last = [high - (begin + inputs - 1) * lanes for begin, (_, high) in zip(first, ranges, strict=True)]
    return Reach(width, blocks, first, inputs, max(_ceil_div(max(0, channel), QUAD) for channel in last))


def pack_int8_weights(weight: np.ndarray, groups: int = 1, lanes: int | None = None) -> np.ndarray:
    """Pack the filters of a convolution for `Int8Conv`, or of a fully connected layer, whose filters are 1 x 1.

    Parameters
    ----------
    weight : int8 array (O, C / groups, kh, kw)
    groups : int
    lanes : int, optional
        Channels of a block of the input: VL, the default, or for few channels what `narrow_lanes` tells.

    Returns
    -------
    uint8 array
        The weights of each bundle, [taps][quads][blocks]: first those of all blocks of inputs that are read in full.
        `packed_path` tells for which instructions.
    """
    vl = _int8.quad_layout().lanes
    lanes = lanes or vl
    if lanes < QUAD:
        return pack_int8_weights(_row_weights(weight), 1, QUAD)
    outs, ins, kh, kw = weight.shape
    of = reach(ins * groups, outs, groups, lanes, vl)
    taps = kh * kw
    whole = of.inputs if of.quads == lanes // QUAD else of.inputs - 1
    each = taps * (whole * (lanes // QUAD) + (of.inputs - whole) * of.quads)  # quads of a block of outputs
    packed, place = _room(weight, of.blocks * each)
    for number, first in enumerate(of.first):
        dense = _bundle_weights(weight, groups, of, number, first * lanes, lanes, vl)
        # [block of outputs][VL][block of inputs][quad][4][taps], as [block of inputs][taps][quad][block][VL][4]
        shape = (-1, vl, of.inputs, lanes // QUAD, QUAD, taps)
        ordered = dense.reshape(shape).transpose(2, 5, 3, 0, 1, 4)
        for part in (ordered[:whole], ordered[whole:, :, : of.quads]):
            place = _int8.pack_quads(part, packed, place)
    return packed


def narrow_lanes(channels: int, kernel: Sequence[int], dilations: Sequence[int]) -> int:
    """How the pixels of an input of at most four channels are stored best: its channels side by side, without a gap
    where a row of the filter then has fewer quads, or in fours.

    Examples
    --------
    >>> narrow_lanes(3, (7, 7), (1, 1)), narrow_lanes(3, (3, 3), (1, 1)), narrow_lanes(1, (5, 5), (1, 1))
    (3, 4, 1)
    """
    row = kernel[1] * channels
    return channels if dilations[1] == 1 and row >= QUAD and len(row_quads(row)) < kernel[1] else QUAD


def row_quads(row: int) -> list[int]:
    """Where the quads of a row of taps begin, of `row` bytes. The last one ends with the row.

    Examples
    --------
    >>> row_quads(10)
    [0, 4, 6]
    """
    return [min(start, row - QUAD) for start in range(0, row, QUAD)]


def _row_weights(weight: np.ndarray) -> np.ndarray:
    """Filters of few channels, as those of four channels for the quads of each row. Weights of bytes that the quad
    before has are zeros."""
    outs, ins, kh, kw = weight.shape
    row = kw * ins
    taps = weight.transpose(0, 2, 3, 1).reshape(outs, kh, row)
    quads = np.zeros((outs, QUAD, kh, len(row_quads(row))), np.int8)
    for number, start in enumerate(row_quads(row)):
        fresh = number * QUAD - start  # bytes that the quad before has
        quads[:, fresh:, :, number] = taps[..., start + fresh : start + QUAD].transpose(0, 2, 1)
    return quads


def _bundle_weights(
    weight: np.ndarray, groups: int, of: Reach, number: int, begin: int, lanes: int, vl: int
) -> np.ndarray:
    """The weights between the outputs of a bundle and all channels that it reads, from channel `begin` on."""
    outs, ins = weight.shape[:2]
    each = outs // groups
    low, high = number * of.width * vl, min(outs, (number + 1) * of.width * vl)
    dense = np.zeros((min(of.width, of.blocks - number * of.width) * vl, of.inputs * lanes, *weight.shape[2:]), np.int8)
    for group in range(low // each, (high - 1) // each + 1):
        start, end = max(low, group * each), min(high, (group + 1) * each)
        channel = group * ins - begin
        dense[start - low : end - low, channel : channel + ins] = weight[start:end]
    return dense


def pack_int8_depthwise(
    weight: np.ndarray, strides: Sequence[int] = (1, 1), dilations: Sequence[int] = (1, 1)
) -> np.ndarray:
    """Pack the filters of a depthwise convolution for `Int8Depthwise`.

    Parameters
    ----------
    weight : int8 array (C, 1, kh, kw)
    strides, dilations : pairs of int

    Returns
    -------
    uint8 array
        For each block of channels, in the order that csrc/int8.h tells.
    """
    vl = _int8.quad_layout().lanes
    channels, _, kh, kw = weight.shape
    outputs, quads = _int8.depthwise_order(kw, strides[1], dilations[1])
    blocks = _ceil_div(channels, vl)
    padded = np.zeros((blocks * vl, kh, kw), np.int8)
    padded[:channels] = weight[:, 0]
    dense = padded.reshape(blocks, vl, kh, kw)
    if outputs == 0:
        quads = _ceil_div(kh * kw, QUAD)
        taps = np.zeros((blocks, vl, quads * QUAD), np.int8)
        taps[..., : kh * kw] = dense.reshape(blocks, vl, -1)
        return _packed_quads(taps.reshape(blocks, vl, quads, QUAD).transpose(0, 2, 1, 3), weight)
    moved = np.zeros((blocks, kh, outputs, vl, quads * QUAD), np.int8)
    for output in range(outputs):
        moved[:, :, output, :, output * strides[1] : output * strides[1] + kw] = dense.transpose(0, 2, 1, 3)
    return _packed_quads(moved.reshape(blocks, kh, outputs, vl, quads, QUAD).transpose(0, 1, 2, 4, 3, 5), weight)


def _packed_quads(quads: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Pack weights [...][VL][4] of a layer as the tiles take them."""
    packed, place = _room(weight, quads.size // (QUAD * _int8.quad_layout().lanes))
    _int8.pack_quads(quads, packed, place)
    return packed


def _room(weight: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """Memory for the packed weights of a layer of `count` quads of VL outputs, with what precedes them, and where they
    begin. It is taken before memory that is freed again, which then leaves no holes."""
    before = _head(weight)
    size = max(1, count * _int8.quad_layout().quad_bytes)
    packed = storage.allocate(len(before) + _ceil_div(size, before.itemsize)).view(np.uint8)
    packed[: before.nbytes] = before.view(np.uint8)
    return packed, before.nbytes


def packed_path() -> str:
    """How the tiles in use multiply, which decides on the memory that packed weights take.

    Examples
    --------
    >>> packed_path() in ("quads of bytes", "pairs of 16 bits", "floats")
    True
    """
    layout = _int8.quad_layout()
    return {1: "quads of bytes", 2: "pairs of 16 bits", 4: "floats"}[layout.quad_bytes // (QUAD * layout.lanes)]


def _head(weight: np.ndarray) -> np.ndarray:
    """What makes up for x - 128, for each output, where the tiles in use take that: 128 times the sum of its weights.
    It precedes the packed weights."""
    if not _int8.quad_layout().flips:
        return np.zeros(0, np.int32)
    return _padded(128 * weight.reshape(len(weight), -1).sum(1, dtype=np.int32))


def padded_bias(bias: np.ndarray, packed: np.ndarray) -> np.ndarray:
    """The bias of a layer in full blocks of outputs, for its packed weights."""
    padded = _padded(np.asarray(bias, np.int32))
    if _int8.quad_layout().flips:
        padded += packed.view(np.int32)[: len(padded)]
    return padded


def padded_scale(scale: np.ndarray) -> np.ndarray:
    """The factors of outputs in full blocks."""
    return _padded(np.asarray(scale, np.float32))


def _padded(values: np.ndarray) -> np.ndarray:
    """A copy of a number for each output, with zeros up to a full block."""
    lanes = _int8.quad_layout().lanes
    padded = np.zeros(_ceil_div(len(values), lanes) * lanes, values.dtype)
    padded[: len(values)] = values
    return padded


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
