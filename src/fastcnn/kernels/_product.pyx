"""Products of strips of rows with weights that are packed in scratch memory, for matrices and attention.

The tiles of direct convolution compute them: rows are their pixels, and blocks of VL columns their taps. A bundle is
the blocks of outputs of one tile. Weights are [bundle][inner][block of the bundle][VL]. Each sum has the order of the
inner axis, however rows are divided into strips and tiles: bits depend on the operands alone.
"""

from libc.stddef cimport ptrdiff_t

import numpy as np

from fastcnn.kernels._direct_filters cimport Bundle, bundle_begin, bundle_of, count_bundles
from fastcnn.kernels._step cimport ceil_div, goes_on
from fastcnn.kernels._tiles cimport FC_NONE, fc_conv_blocks, fc_kernels, look_ahead, most_pixels

cdef enum:
    MOST_FLOATS = 64  # in a step of a tile: at least as many as `wide_blocks` vectors have

cdef float _zeros[MOST_FLOATS]
for _i in range(MOST_FLOATS):
    _zeros[_i] = 0.0


cdef object taps_of(ptrdiff_t blocks, ptrdiff_t distance):
    """Offsets of blocks of columns, as an array of ptrdiff_t with at least one element."""
    return np.arange(max(1, blocks), dtype=np.intp) * distance


cdef void set_strips(Product *p, const fc_kernels *kernels, const ptrdiff_t *taps, ptrdiff_t inner,
                     ptrdiff_t y_block) noexcept:
    """Set a product whose results are [block][row][VL], with blocks y_block apart."""
    p.kernels, p.taps, p.inner = kernels, taps, inner
    p.tile.row.bias, p.tile.row.residual = _zeros, NULL
    p.tile.row.x_pixel = p.tile.row.y_pixel = kernels.vl
    p.tile.row.y_block = y_block
    p.tile.row.act.kind = FC_NONE
    p.tile.full_channels, p.tile.x_channel = kernels.vl, 1


cdef bint multiply(const Product *p, const float *x, const float *w, float *y, ptrdiff_t rows, ptrdiff_t blocks,
                   bint accumulate) noexcept nogil:
    """Compute y = x @ w, or y += x @ w, for some rows and blocks of outputs. Returns whether the run continues."""
    cdef fc_conv_blocks tile = p.tile
    cdef ptrdiff_t vl = p.kernels.vl, most = p.kernels.wide_blocks, bundles = count_bundles(blocks, most)
    cdef ptrdiff_t bundle, begin, width, tiles, number, start, steps
    tile.row.x, tile.row.pixels = x, rows
    for bundle in range(bundles):
        begin = bundle_begin(blocks, bundles, bundle)
        width = bundle_begin(blocks, bundles, bundle + 1) - begin
        tile.row.blocks, tile.row.y = <int>width, y + begin * tile.row.y_block
        tiles = ceil_div(rows, most_pixels(p.kernels, width))
        for number in range(max(1, ceil_div(p.inner, PASS_STEPS))):
            start = number * PASS_STEPS
            steps = min(PASS_STEPS, p.inner - start)
            if p.watched and not goes_on(rows * width * steps):
                return False
            tile.accumulate = accumulate or start > 0
            tile.row.taps = p.taps + start // vl
            tile.full_taps, tile.partial_channels = steps // vl, steps % vl
            tile.partial_taps = tile.partial_channels > 0 or steps == 0  # a sum of nothing is zero
            tile.row.w = w + (begin * p.inner + width * start) * vl
            look_ahead(&tile, steps, tiles, vl)
            p.kernels.conv_blocks(&tile)
    return True


cdef float *packed_block(const fc_kernels *kernels, float *packed, ptrdiff_t inner, ptrdiff_t block, ptrdiff_t blocks,
                         ptrdiff_t *step) noexcept nogil:
    """Where the weights of a block of outputs begin. `step` is set to the distance between neighbours on the inner
    axis."""
    cdef Bundle bundle = bundle_of(block, blocks, kernels.wide_blocks)
    step[0] = bundle.width * kernels.vl
    return packed + (bundle.begin * inner + block - bundle.begin) * kernels.vl
