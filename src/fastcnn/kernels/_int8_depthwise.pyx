"""Depthwise convolution of bytes on the blocked layout: every channel has its own filter. The input carries its padding
as a halo of its zero point."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, uint8_t

from fastcnn.kernels._int8 cimport (
    fc_int8_depthwise, fc_int8_kernels, fc_int8_outputs, fc_int8_quads, set_bounded, set_finish, tiles,
)
from fastcnn.kernels._int8_weights cimport first_quad, padded_bias, padded_scale
from fastcnn.kernels._step cimport (
    Rows, Step, Walk, address, blocks_of, ceil_div, goes_on, walk, walk_units, walks,
)
from fastcnn.kernels._tiles cimport fc_kernels, fc_tensor

from fastcnn.kernels._int8_weights import depthwise_outputs

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
        a.rows.by_rows = depthwise_outputs(kernel[1], strides, dilations) > 0
        quads = ceil_div(kernel[0] * kernel[1], 4)
        if a.rows.by_rows:
            quads = kernel[0] * fc_int8_outputs(kernel[1], strides[1]) * fc_int8_quads(kernel[1])
        a.block_bytes = quads * a.tiles.quad_bytes
        a.rows.x_row, a.rows.x_col = dilations[0] * a.x.row, dilations[1] * a.x.lanes
        a.rows.stride, a.rows.x_step = strides[1], strides[0] * a.x.row
        a.rows.y_row, a.rows.residual_row, a.rows.pixels = a.y.row, a.residual.row, a.y.w
        a.top, a.left, a.stride = pads[0], pads[1], strides[0]
        taps = kernel[0] * kernel[1]
        set_bounded(&a.rows.finish, taps, bias, scale)
        self.may_be_cut(walk_units(&a.y), a.y.n * blocks_of(&a.y) * a.y.h * a.y.w * taps)
        a.at_a_time = self.at_a_time(a.y.w, taps)
