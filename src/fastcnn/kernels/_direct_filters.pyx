"""The filters and biases of direct convolution in the order in which tiles read them.

A bundle is the blocks of output channels that a tile computes at the same time. The weights of a bundle are neighbours:
a tile multiplies every input that it loads with all of them. Tiles of two blocks exist for every layout of the input,
larger ones for blocked inputs (csrc/tiles/conv_row.h). The bundles of a layer have about the same size. For 5 blocks
they are 2 + 2 + 1 with two blocks at most, and 3 + 2 with four at most.
"""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy

import numpy as np

from fastcnn.kernels._cpu cimport current
from fastcnn.kernels._step cimport ceil_div, floats, interleave_filters
from fastcnn.kernels._tiles cimport fc_kernels

from fastcnn.kernels import storage

cdef enum:
    # Floats of weights that a pair of output blocks reads in one pass. Wider bundles read the same number of input
    # channels: docs/tuning.md, "Panels".
    CHUNK_FLOATS = 4096


cdef object bundle_begins(ptrdiff_t blocks, ptrdiff_t most):
    """The first block of each bundle and the end of the last one, as an array of ptrdiff_t."""
    cdef ptrdiff_t bundles = count_bundles(blocks, most), bundle
    return np.array([bundle_begin(blocks, bundles, bundle) for bundle in range(bundles + 1)], np.intp)


def pack_weights(weight, ptrdiff_t groups, ptrdiff_t lanes, ptrdiff_t vl, ptrdiff_t chunk=-1, scale=None,
                 bint half=False, ptrdiff_t bundle=2):
    """Pack weights in the order in which the tiles of the instruction set in use read them.

    Parameters
    ----------
    weight : (out_channels, in_channels / groups, kh, kw) float32 array, C-contiguous
    groups : int
    lanes : int
        Channels in a block of the input.
    vl : int
        Channels in a block of the output: the vector length.
    chunk : int
        Blocks of input of one pass: all bundles of output blocks read them before the next pass. Default: all.
    scale : (out_channels,) float32 array, optional
        Factor of the filter of each output channel.
    half : bool
        The result of `leaves_half`.
    bundle : int
        The most blocks of output in a bundle; see `tile_blocks`.

    Returns
    -------
    float32 array
        [group][chunk][bundle of blocks][input block][kh][kw][lane][block of the bundle][VL]. Lanes without an output
        channel are zeros. Lanes without an input channel are left out. With half a block, the last bundle is in the
        order of csrc/tiles/conv_half.h.
    """
    cdef ptrdiff_t outs = weight.shape[0] // groups, ins = weight.shape[1], area = weight.shape[2] * weight.shape[3]
    cdef ptrdiff_t blocks = ceil_div(outs, vl), taps = ins * area, group, block, i, tap, first, count, step
    cdef ptrdiff_t before, size, most = ins if chunk < 0 else chunk * lanes  # input channels of a chunk
    cdef Bundle place
    cdef const fc_kernels *kernels = current()
    packed = storage.allocate(groups * blocks * vl * taps)
    rows = np.empty(taps * vl, np.float32)  # [in_channel][ky][kx][VL] of one block
    cdef const float *source = floats(weight)
    cdef const float *factors = NULL
    cdef float *out = <float *>floats(packed)
    cdef float *block_rows = <float *>floats(rows)
    cdef float *bundled
    if scale is not None:
        factors = floats(scale)
    with nogil:
        for group in range(groups):
            for block in range(blocks):
                place = bundle_of(block, blocks, bundle)
                interleave_filters(kernels, source, factors, group * outs + block * vl, min(vl, outs - block * vl),
                                   taps, block_rows)
                for i in range(ins):
                    before = i // most * most
                    size = min(most, ins - before)
                    bundled = out + (group * blocks * taps + (before * blocks + place.begin * size) * area) * vl
                    first = i // lanes * lanes
                    count = min(lanes, ins - first)
                    for tap in range(area):
                        step = (first - before) * area + tap * count + i - first  # in the order of the tiles' loops
                        memcpy(bundled + (step * place.width + block - place.begin) * vl,
                               block_rows + (i * area + tap) * vl, vl * sizeof(float))
        if half:
            place = bundle_of(blocks - 1, blocks, bundle)
            before = 0
            while before < ins:
                size = min(most, ins - before)
                bundled = out + (before * blocks + place.begin * size) * area * vl
                kernels.halve_weights(bundled, size * area, place.width)
                before += size
    return packed


def leaves_half(ptrdiff_t ins, ptrdiff_t outs, ptrdiff_t groups, ptrdiff_t lanes, ptrdiff_t vl):
    """Whether the last block of outputs is at most half full and tiles can leave the other half out. These tiles
    require blocked inputs and an even number of channels.

    Examples
    --------
    >>> leaves_half(96, 24, 1, 16, 16), leaves_half(96, 28, 1, 16, 16), leaves_half(97, 24, 1, 16, 16)
    (True, False, False)
    """
    return groups == 1 and lanes == vl <= ins and ins % 2 == 0 and 0 < outs % vl <= vl // 2


def tile_blocks(ptrdiff_t ins, ptrdiff_t outs, ptrdiff_t groups, ptrdiff_t lanes, strides, ptrdiff_t vl):
    """The most blocks of outputs that a tile computes: `bundle` of `pack_weights`."""
    blocked = lanes == vl <= ins // groups and strides[1] <= 2
    return current().wide_blocks if blocked and not leaves_half(ins, outs, groups, lanes, vl) else 2


def chunk_blocks(ptrdiff_t lanes, kernel, ptrdiff_t vl):
    """Blocks of input channels, of `lanes` each, that a convolution reads in one pass: `chunk` of `pack_weights`."""
    return max(1, CHUNK_FLOATS // (lanes * kernel[0] * kernel[1] * 2 * vl))


def block_lanes(ptrdiff_t lanes, ptrdiff_t channels):
    """Channels in a block of an input as a convolution reads it. All channels of a plain input are one block."""
    return channels if lanes == 1 else lanes


def pack_bias(bias, ptrdiff_t channels, ptrdiff_t groups, ptrdiff_t vl):
    """Pack a bias, or None, as float32 [group][block][VL]. Lanes without a channel are zeros."""
    per_group = channels // groups
    width = ceil_div(per_group, vl) * vl
    packed = storage.allocate(groups * width)
    packed[:] = 0.0
    if bias is not None:
        packed.reshape(groups, width)[:, :per_group] = np.reshape(bias, (groups, per_group))
    return packed
