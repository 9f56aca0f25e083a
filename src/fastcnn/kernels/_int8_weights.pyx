"""Weights of 8-bit layers in the order of the tiles: quads of neighbouring inputs, each for VL outputs."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t

from dataclasses import dataclass

import numpy as np

from fastcnn.kernels._int8 cimport fc_int8_outputs, fc_int8_quads, tiles
from fastcnn.kernels._step cimport address, ceil_div

from fastcnn.kernels import storage


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
    first: list
    inputs: int
    quads: int


def reach(channels, outs, groups, lanes, vl):
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
    blocks, total = ceil_div(outs, vl), ceil_div(channels, lanes)
    ranges = []
    for start in range(0, blocks, width):
        low, high = start * vl, min(outs, (start + width) * vl)
        ranges.append((low // each * ins, ((high - 1) // each + 1) * ins))
    inputs = max([ceil_div(high, lanes) - low // lanes for low, high in ranges])
    first = [min(low // lanes, total - inputs) for low, _ in ranges]
    last = [high - (begin + inputs - 1) * lanes for begin, (_, high) in zip(first, ranges)]
    return Reach(width, blocks, first, inputs, max([ceil_div(max(0, channel), QUAD) for channel in last]))


def pack_int8_weights(weight, groups=1, lanes=None):
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
    vl = tiles().vl
    lanes = lanes or vl
    if lanes < QUAD:
        return pack_int8_weights(row_weights(weight), 1, QUAD)
    outs, ins, kh, kw = weight.shape
    of = reach(ins * groups, outs, groups, lanes, vl)
    taps = kh * kw
    whole = of.inputs if of.quads == lanes // QUAD else of.inputs - 1
    each = taps * (whole * (lanes // QUAD) + (of.inputs - whole) * of.quads)  # quads of a block of outputs
    packed, place = room(weight, of.blocks * each), 0
    for number, first in enumerate(of.first):
        dense = bundle_weights(weight, groups, of, number, first * lanes, lanes, vl)
        # [block of outputs][VL][block of inputs][quad][4][taps], as [block of inputs][taps][quad][block][VL][4]
        shape = (-1, vl, of.inputs, lanes // QUAD, QUAD, taps)
        ordered = dense.reshape(shape).transpose(2, 5, 3, 0, 1, 4)
        for part in (ordered[:whole], ordered[whole:, :, : of.quads]):
            place = add_quads(packed, len(weight), place, part)
    return packed


def narrow_lanes(channels, kernel, dilations):
    """How the pixels of an input of at most four channels are stored best: its channels side by side, without a gap
    where a row of the filter then has fewer quads, or in fours.

    Examples
    --------
    >>> narrow_lanes(3, (7, 7), (1, 1)), narrow_lanes(3, (3, 3), (1, 1)), narrow_lanes(1, (5, 5), (1, 1))
    (3, 4, 1)
    """
    row = kernel[1] * channels
    return channels if dilations[1] == 1 and QUAD <= row and len(row_quads(row)) < kernel[1] else QUAD


def row_quads(ptrdiff_t row):
    """Where the quads of a row of taps begin, of `row` bytes. The last one ends with the row.

    Examples
    --------
    >>> row_quads(10)
    [0, 4, 6]
    """
    return [min(start, row - QUAD) for start in range(0, row, QUAD)]


cdef object row_weights(weight):
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


cdef object bundle_weights(weight, groups, of, number, begin, lanes, vl):
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


def pack_int8_depthwise(weight, strides=(1, 1), dilations=(1, 1)):
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
    cdef ptrdiff_t vl = tiles().vl, outputs = depthwise_outputs(weight.shape[3], strides, dilations), quads
    channels, _, kh, kw = weight.shape
    blocks = ceil_div(channels, vl)
    dense = np.zeros((blocks * vl, kh, kw), np.int8)
    dense[:channels] = weight[:, 0]
    dense = dense.reshape(blocks, vl, kh, kw)
    if outputs == 0:
        quads = ceil_div(kh * kw, QUAD)
        taps = np.zeros((blocks, vl, quads * QUAD), np.int8)
        taps[..., : kh * kw] = dense.reshape(blocks, vl, -1)
        return packed_quads(taps.reshape(blocks, vl, quads, QUAD).transpose(0, 2, 1, 3), weight)
    quads = fc_int8_quads(kw)
    moved = np.zeros((blocks, kh, outputs, vl, quads * QUAD), np.int8)
    for output in range(outputs):
        moved[:, :, output, :, output * strides[1] : output * strides[1] + kw] = dense.transpose(0, 2, 1, 3)
    return packed_quads(moved.reshape(blocks, kh, outputs, vl, quads, QUAD).transpose(0, 1, 2, 4, 3, 5), weight)


def depthwise_outputs(ptrdiff_t kw, strides, dilations):
    """How many neighbouring outputs share the quads of a row of a filter; 0 where quads are any four taps."""
    return fc_int8_outputs(kw, strides[1]) if dilations[1] == 1 else 0


cdef object packed_quads(quads, weight):
    """Pack weights [...][VL][4] of a layer as the tiles take them."""
    packed = room(weight, quads.size // (QUAD * tiles().vl))
    add_quads(packed, len(weight), 0, quads)
    return packed


cdef object room(weight, ptrdiff_t count):
    """Memory for the packed weights of a layer of `count` quads of VL outputs, and what precedes them. It is taken
    before memory that is freed again, which then leaves no holes."""
    before = head(weight)
    packed = storage.allocate(len(before) + ceil_div(max(1, count * tiles().quad_bytes), 4)).view(np.uint8)
    packed[: before.nbytes] = before.view(np.uint8)
    return packed


cdef ptrdiff_t add_quads(packed, ptrdiff_t outs, ptrdiff_t place, quads) except -1:
    """Pack weights [...][VL][4] from quad number `place` on. Returns the place behind them."""
    cdef ptrdiff_t count = quads.size // (QUAD * tiles().vl)
    quads = np.ascontiguousarray(quads, np.int8)
    if count:
        tiles().pack(<const int8_t *>address(quads),
                     <void *>(first_quad(packed, outs) + place * tiles().quad_bytes), count)
    return place + count


def packed_path():
    """How the tiles in use multiply, which decides on the memory that packed weights take.

    Examples
    --------
    >>> packed_path() in ("quads of bytes", "pairs of 16 bits", "floats")
    True
    """
    return {1: "quads of bytes", 2: "pairs of 16 bits", 4: "floats"}[tiles().quad_bytes // (QUAD * tiles().vl)]


cdef object head(weight):
    """What makes up for x - 128, for each output, where the tiles in use take that: 128 times the sum of its weights.
    It precedes the packed weights."""
    cdef ptrdiff_t vl = tiles().vl
    if not tiles().flips:
        return np.zeros(0, np.int32)
    sums = np.zeros(ceil_div(len(weight), vl) * vl, np.int32)
    sums[: len(weight)] = 128 * weight.reshape(len(weight), -1).sum(1, dtype=np.int32)
    return sums


cdef object padded_bias(bias, packed):
    """The bias of a layer in full blocks of outputs, for its packed weights."""
    cdef ptrdiff_t vl = tiles().vl
    padded = np.zeros(ceil_div(len(bias), vl) * vl, np.int32)
    padded[: len(bias)] = bias
    if tiles().flips:
        padded += packed.view(np.int32)[: len(padded)]
    return padded


cdef object padded_scale(scale):
    """The factors of outputs in full blocks."""
    cdef ptrdiff_t vl = tiles().vl
    padded = np.zeros(ceil_div(len(scale), vl) * vl, np.float32)
    padded[: len(scale)] = scale
    return padded


cdef const char *first_quad(object packed, ptrdiff_t outs) except NULL:
    """Where the quads of packed weights begin. The caller keeps the array alive."""
    cdef ptrdiff_t vl = tiles().vl
    return <const char *>address(packed) + (4 * ceil_div(outs, vl) * vl if tiles().flips else 0)
