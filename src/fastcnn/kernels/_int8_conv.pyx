"""Convolution of bytes on the blocked layout: every kernel size, stride, dilation and number of groups. The input
carries its padding as a halo of its zero point. A fully connected layer is a convolution of one pixel.

The loops are those of _direct_rows: panel of rows, bundle of output blocks, rows, tiles. Sums stay in registers: there
are no chunks of input channels. Depthwise convolutions, whose channels have a filter each, have tiles of their own.
"""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

import numpy as np

from fastcnn.kernels._int8 cimport (
    QUAD, fc_int8_conv, fc_int8_depthwise, fc_int8_kernels, first_quad, set_bounded, set_finish, tiles,
)
from fastcnn.kernels._step cimport (
    Rows, Step, Walk, address, blocks_of, ceil_div, goes_on, share, walk, walk_units, walks,
)
from fastcnn.kernels._tiles cimport fc_kernels, fc_tensor

from fastcnn.kernels._int8 import depthwise_order
from fastcnn.kernels.int8_weights import padded_bias, padded_scale, reach, row_quads

cdef enum:
    # Inputs of a panel, units that threads share, and pixels of the least panel: docs/tuning.md, "Panels of bytes".
    PANEL_BYTES = 1 << 18
    LEAST_UNITS = 16
    LEAST_PIXELS = 64
    SINGLE_TILE_AHEAD = 4096  # bytes: a single tile prefetches its own weights

cdef struct ConvArgs:
    const fc_kernels *kernels
    fc_tensor y                   # OUT blocked
    fc_tensor x                   # IN  blocked, with its padding as halo
    fc_tensor residual            # IN  like y; data is NULL without one
    const fc_int8_kernels *tiles
    fc_int8_conv tile             # the fields that all rows share
    const ptrdiff_t *first        # block of inputs that each bundle reads first
    const char *weights           # of the first bundle
    const int32_t *bias
    const float *scale
    ptrdiff_t block_bytes         # of the weights of a block of outputs
    ptrdiff_t width               # blocks of a bundle
    ptrdiff_t blocks, bundles     # of outputs
    ptrdiff_t images              # 1 where images are the pixels of a row
    ptrdiff_t rows, columns       # rows of outputs that tiles see, and pixels of each
    ptrdiff_t joined              # pixels of rows that are joined and divided evenly; 0: rows are the image's
    ptrdiff_t first_tap           # bytes from the first pixel of x to the first tap of the first output
    ptrdiff_t x_step              # bytes of x from one row to the next
    ptrdiff_t panels              # of an image: each is some rows
    ptrdiff_t at_a_time           # pixels of a row between two calls of `goes_on`; 0: no calls
    ptrdiff_t quads               # of a sum


cdef void run_conv(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (image, panel, bundle)."""
    cdef const ConvArgs *a = <const ConvArgs *>raw
    cdef ptrdiff_t units = a.images * a.panels * a.bundles, unit, panel
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        panel = unit // a.bundles % a.panels
        bundle_rows(a, unit // a.bundles // a.panels, unit % a.bundles, share(a.rows, <int>panel, <int>a.panels),
                    share(a.rows, <int>panel + 1, <int>a.panels))


cdef inline ptrdiff_t row_pixels(const ConvArgs *a, ptrdiff_t r) noexcept nogil:
    """Pixels of a row. The last of joined rows may have fewer than the others."""
    return min(a.columns, a.joined - r * a.columns) if a.joined else a.columns


cdef void bundle_rows(const ConvArgs *a, ptrdiff_t image, ptrdiff_t bundle, ptrdiff_t low,
                      ptrdiff_t high) noexcept nogil:
    """Compute some rows of the outputs of a bundle."""
    cdef fc_int8_conv tile = a.tile
    cdef ptrdiff_t block = bundle * a.width, vl = a.tiles.vl, r, count
    cdef const uint8_t *x = (<const uint8_t *>a.x.data + image * a.x.image + a.first[bundle] * a.x.block + a.first_tap)
    tile.blocks = <int>min(a.width, a.blocks - block)
    if block + tile.blocks < a.blocks:
        tile.finish.lanes = <int>vl
    tile.w = a.weights + block * a.block_bytes
    tile.bias, tile.scale = a.bias + block * vl, a.scale + block * vl
    look_ahead(a, &tile, (high - low) * ceil_div(a.columns, a.tiles.mr))
    for r in range(low, high):
        tile.x = x + r * a.x_step
        tile.pixels = row_pixels(a, r)
        if a.at_a_time == 0:
            place_outputs(a, &tile, image, block, r * a.columns)
            a.tiles.conv(&tile)
        else:
            compute_stretches(a, &tile, image, block, r * a.columns)
        if tile.full_taps:
            count = ceil_div(tile.pixels, a.tiles.mr)
            tile.ahead = <const char *>tile.ahead + count * tile.full_taps * tile.ahead_bytes


cdef void look_ahead(const ConvArgs *a, fc_int8_conv *tile, ptrdiff_t tile_count) noexcept nogil:
    """Set which weights tiles prefetch: piece by piece those of the next bundle. A single tile reads each weight once:
    it prefetches its own."""
    cdef ptrdiff_t size = tile.blocks * a.block_bytes
    tile.ahead = <const char *>tile.w + (size if tile_count > 1 else SINGLE_TILE_AHEAD)
    tile.ahead_bytes = ceil_div(size, max(1, tile_count * tile.full_taps))


cdef void place_outputs(const ConvArgs *a, fc_int8_conv *tile, ptrdiff_t image, ptrdiff_t block,
                        ptrdiff_t at) noexcept nogil:
    """Point a row at its outputs from pixel `at` of the image on, in the blocks from `block` on."""
    cdef ptrdiff_t line = 0 if a.joined else at // a.columns, pixel = at if a.joined else at % a.columns
    tile.y = <char *>a.y.data + a.y.item * (
        image * a.y.image + block * tile.y_block + line * a.y.row + pixel * tile.y_pixel)
    tile.residual = NULL
    if a.residual.data != NULL:
        tile.residual = (<const uint8_t *>a.residual.data + image * a.residual.image + block * a.residual.block
                         + line * a.residual.row + pixel * tile.residual_pixel)


cdef void compute_stretches(const ConvArgs *a, fc_int8_conv *tile, ptrdiff_t image, ptrdiff_t block,
                            ptrdiff_t at) noexcept nogil:
    """Compute a row, some of its pixels at a time."""
    cdef ptrdiff_t pixels = tile.pixels, begin = 0
    cdef const uint8_t *x = tile.x
    while begin < pixels:
        tile.pixels = min(a.at_a_time, pixels - begin)
        tile.x = x + begin * tile.x_pixel
        place_outputs(a, tile, image, block, at + begin)
        if not goes_on(tile.pixels * a.quads * tile.blocks):
            return
        a.tiles.conv(tile)
        begin += tile.pixels
    tile.pixels = pixels


cdef class Int8Conv(Step):
    """Convolution of a blocked tensor of bytes; the input's halo holds the padding.

    Parameters
    ----------
    y : View
        OUT, uint8 or float32, blocked. Where it has one pixel, it may also be plain.
    x : View
        IN, uint8, halo at least pads. Blocked, or few channels as `narrow_lanes` tells, or plain with one pixel.
    residual : View or None
        IN, uint8, blocked, of the shape of y, which is uint8.
    weights : uint8 array
        From `pack_int8_weights`.
    bias : int32 array (O,)
    scale : float32 array (O,)
    kernel, strides, pads, dilations : tuples of int
    groups : int
    y_zero, residual_zero, low, high : int
        Zero points and bounds of outputs, 0 to 255.
    residual_scale : float
    table : uint8 array (256,) or None
        Applied to the outputs last.
    rounded : (int, float) or None
        Zero point and scale of the bytes that the convolution itself becomes, before the residual is added.
    """

    cdef ConvArgs a

    def __init__(self, y, x, residual, weights, bias, scale, kernel, strides, pads, dilations, groups, y_zero,
                 residual_scale, residual_zero, low, high, table=None, rounded=None):
        cdef ConvArgs *a = &self.a
        cdef fc_int8_conv *tile = &a.tile
        self.run, self.args = run_conv, a
        a.kernels, a.tiles = self.kernels, tiles()
        self.operand(0, &a.y, as_blocks(y, a.tiles.vl))
        self.operand(1, &a.x, as_blocks(x, a.tiles.vl))
        self.operand(2, &a.residual, None if residual is None else as_blocks(residual, a.tiles.vl))
        set_finish(&tile.finish, y, y_zero, low, high, table)
        tile.finish.residual_scale, tile.finish.residual_zero = residual_scale, residual_zero
        if rounded is not None:
            tile.finish.rounds, tile.finish.own_scale = 1, rounded[1]
            tile.finish.least, tile.finish.most = -rounded[0], 255 - rounded[0]
        arrays = padded_bias(bias, weights), padded_scale(scale)
        a.bias, a.scale = <const int32_t *>address(arrays[0]), <const float *>address(arrays[1])
        a.weights = first_quad(weights, len(bias))
        tables = self.set_reach(len(bias), groups, kernel, dilations)
        self.owned = weights, arrays, tables, table
        set_bounded(&tile.finish, QUAD * a.quads, bias, scale)
        self.set_rows(kernel, strides, pads)
        units = a.images * a.panels * a.bundles
        self.may_be_cut(units, a.images * a.rows * a.columns * a.blocks * a.quads)
        a.at_a_time = self.at_a_time(a.columns, a.quads * a.width)

    cdef object set_reach(self, outs, groups, kernel, dilations):
        """Set which inputs a sum has. Returns the arrays that the arguments point into."""
        cdef ConvArgs *a = &self.a
        cdef fc_tensor *x = &a.x
        cdef ptrdiff_t vl = a.tiles.vl, full, count = kernel[0] * kernel[1], lanes = x.lanes
        cdef bint narrow = lanes < QUAD
        pixels = np.arange(kernel[1]) * (dilations[1] * lanes)
        if narrow:  # quads of the neighbouring bytes of a row
            pixels, lanes = np.array(row_quads(kernel[1] * lanes)), QUAD
            count = kernel[0] * len(pixels)
        of = reach(lanes if narrow else x.c, outs, 1 if narrow else groups, lanes, vl)
        a.width, a.blocks, a.bundles = of.width, of.blocks, len(of.first)
        if outs % vl and not is_padded(&a.y, a.blocks):
            a.tile.finish.lanes = <int>(outs % vl)
        full = of.inputs if of.quads == lanes // QUAD and lanes == vl else of.inputs - 1
        quads = of.quads
        if lanes == QUAD and lanes != vl and not narrow and dilations[1] == 1:  # the taps of a row are neighbours
            pixels, quads = pixels[:1], quads * kernel[1]
        blocks, rows, _ = np.ogrid[: of.inputs, : kernel[0], :1]
        taps = np.ravel(blocks * x.block + rows * (dilations[0] * x.row) + pixels)
        taps, first = np.ascontiguousarray(taps, np.intp), np.array(of.first, np.intp)
        a.tile.taps, a.first = <const ptrdiff_t *>address(taps), <const ptrdiff_t *>address(first)
        a.tile.full_taps = full * count
        a.tile.partial_taps, a.tile.partial_quads = (of.inputs - full) * kernel[0] * len(pixels), quads
        a.quads = a.tile.full_taps * (vl // QUAD) + a.tile.partial_taps * a.tile.partial_quads
        a.block_bytes = a.quads * a.tiles.quad_bytes
        return taps, first

    cdef void set_rows(self, kernel, strides, pads) except *:
        """Set the rows that tiles see. Where all pixels of an image lie at the same distance, in x and in y, they are
        one row; and so are images of one output."""
        cdef ConvArgs *a = &self.a
        cdef fc_int8_conv *tile = &a.tile
        cdef ptrdiff_t most, pixels
        cdef bint residual = self.operands[2] != NULL
        cdef bint itself = tuple(kernel) == tuple(strides) == (1, 1) and a.x.row == a.x.w * a.x.lanes
        cdef bint dense = a.y.row == a.y.w * a.y.lanes and (not residual or a.residual.row == a.y.w * a.y.lanes)
        a.first_tap = -(pads[0] * a.x.row + pads[1] * a.x.lanes)
        a.images, a.rows, a.columns, a.x_step = a.y.n, a.y.h, a.y.w, strides[0] * a.x.row
        tile.x_pixel, tile.y_pixel, tile.residual_pixel = strides[1] * a.x.lanes, a.y.lanes, a.residual.lanes
        tile.y_block, tile.residual_block = a.y.block, a.residual.block
        if a.y.h == a.y.w == 1:
            a.images, a.joined = 1, a.y.n
            tile.x_pixel, tile.y_pixel, tile.residual_pixel = a.x.image, a.y.image, a.residual.image
        elif itself and dense:
            a.joined = a.y.h * a.y.w
        # Pixels of a panel, by their inputs and the padding around them. Threads share the panels of few bundles.
        pixels = a.joined or a.rows * a.columns
        most = max(1, PANEL_BYTES // max(1, a.x.c * strides[0] * strides[1]))
        most = min(most, max(LEAST_PIXELS, ceil_div(a.images * pixels * a.bundles, LEAST_UNITS)))
        if a.joined:
            a.columns = ceil_div(a.joined, max(1, ceil_div(a.joined, most)))
            a.rows, a.x_step = ceil_div(a.joined, a.columns), a.columns * tile.x_pixel
        a.panels = max(1, min(a.rows, ceil_div(a.rows * a.columns, most)))


cdef object as_blocks(view, ptrdiff_t vl):
    """A view of single pixels whose channels are neighbours, as blocks; other views as they are."""
    if view.lanes == 1 and view.h == view.w == 1 and view.block == 1:
        return view._replace(lanes=vl, block=vl, row=vl)
    return view


cdef bint is_padded(const fc_tensor *y, ptrdiff_t blocks) noexcept:
    """Whether the last block of every pixel has room for all its lanes."""
    return y.h * y.w > 1 or y.image >= blocks * y.block


cdef struct DepthwiseArgs:
    const fc_kernels *kernels
    fc_tensor y         # OUT blocked
    fc_tensor x         # IN  blocked, with its padding as halo
    fc_tensor residual  # IN  like y; data is NULL without one
    const fc_int8_kernels *tiles
    fc_int8_depthwise rows
    const char *weights
    const int32_t *bias
    const float *scale
    ptrdiff_t block_bytes  # of the weights of a block
    ptrdiff_t top, left, stride
    ptrdiff_t at_a_time    # pixels of a row between two calls of `goes_on`; 0: no calls


cdef void compute_rows(const DepthwiseArgs *a, const fc_int8_depthwise *all_rows) noexcept nogil:
    """Compute some rows, `at_a_time` of their pixels in one call of the tile."""
    cdef fc_int8_depthwise rows = all_rows[0]
    cdef ptrdiff_t vl = a.tiles.vl, r, first
    if a.at_a_time == 0:
        a.tiles.depthwise(&rows)
        return
    rows.rows = 1
    for r in range(all_rows.rows):
        first = 0
        while first < all_rows.pixels:
            rows.pixels = min(a.at_a_time, all_rows.pixels - first)
            rows.x = all_rows.x + r * rows.x_step + first * rows.stride * vl
            rows.y = <char *>all_rows.y + a.y.item * (r * rows.y_row + first * vl)
            if rows.residual != NULL:
                rows.residual = all_rows.residual + r * rows.residual_row + first * vl
            if not goes_on(rows.pixels * rows.kh * rows.kw):
                return
            a.tiles.depthwise(&rows)
            first += rows.pixels


cdef void run_depthwise(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const DepthwiseArgs *a = <const DepthwiseArgs *>raw
    cdef fc_int8_depthwise rows = a.rows
    cdef ptrdiff_t vl = a.tiles.vl
    cdef const uint8_t *x = <const uint8_t *>a.x.data
    cdef Walk way = walk(&a.y, tid, nthreads)
    cdef Rows at
    rows.x_end = (x + (a.x.n - 1) * a.x.image + (blocks_of(&a.x) - 1) * a.x.block + (a.x.h + a.x.bottom - 1) * a.x.row
                  + (a.x.w + a.x.right) * vl)
    while walks(&way, &at):
        rows.rows = at.count
        rows.x = (x + at.image * a.x.image + at.block * a.x.block + (at.first * a.stride - a.top) * a.x.row
                  - a.left * vl)
        rows.y = <char *>a.y.data + a.y.item * (
            at.image * a.y.image + at.block * a.y.block + at.first * a.y.row)
        if a.residual.data != NULL:
            rows.residual = (<const uint8_t *>a.residual.data + at.image * a.residual.image
                             + at.block * a.residual.block + at.first * a.residual.row)
        rows.w = a.weights + at.block * a.block_bytes
        rows.bias, rows.scale = a.bias + at.block * vl, a.scale + at.block * vl
        compute_rows(a, &rows)


cdef class Int8Depthwise(Step):
    """Depthwise convolution of a blocked tensor of bytes.

    Parameters
    ----------
    y, x, residual : View
        OUT, uint8 or float32; IN, uint8, halo at least pads; IN, uint8, or None. All blocked.
    weights : uint8 array
        From `pack_int8_depthwise`.
    bias : int32 array (C,)
    scale : float32 array (C,)
    kernel, strides, pads, dilations : tuples of int
    groups : int
        The number of channels.
    y_zero, residual_scale, residual_zero, low, high, table
        As in `Int8Conv`.
    """

    cdef DepthwiseArgs a

    def __init__(self, y, x, residual, weights, bias, scale, kernel, strides, pads, dilations, groups, y_zero,
                 residual_scale, residual_zero, low, high, table=None):
        cdef DepthwiseArgs *a = &self.a
        self.run, self.args = run_depthwise, a
        a.kernels, a.tiles = self.kernels, tiles()
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.residual, residual)
        set_finish(&a.rows.finish, y, y_zero, low, high, table)
        a.rows.finish.residual_scale, a.rows.finish.residual_zero = residual_scale, residual_zero
        arrays = padded_bias(bias, weights), padded_scale(scale)
        a.bias, a.scale = <const int32_t *>address(arrays[0]), <const float *>address(arrays[1])
        a.weights = first_quad(weights, len(bias))
        self.owned = weights, arrays, table
        a.rows.kh, a.rows.kw = kernel
        outputs, quads = depthwise_order(kernel[1], strides[1], dilations[1])
        a.rows.by_rows = outputs > 0
        quads = kernel[0] * outputs * quads if outputs else ceil_div(kernel[0] * kernel[1], QUAD)
        a.block_bytes = quads * a.tiles.quad_bytes
        a.rows.x_row, a.rows.x_col = dilations[0] * a.x.row, dilations[1] * a.x.lanes
        a.rows.stride, a.rows.x_step = strides[1], strides[0] * a.x.row
        a.rows.y_row, a.rows.residual_row, a.rows.pixels = a.y.row, a.residual.row, a.y.w
        a.top, a.left, a.stride = pads[0], pads[1], strides[0]
        taps = kernel[0] * kernel[1]
        set_bounded(&a.rows.finish, taps, bias, scale)
        self.may_be_cut(walk_units(&a.y), a.y.n * blocks_of(&a.y) * a.y.h * a.y.w * taps)
        a.at_a_time = self.at_a_time(a.y.w, taps)
