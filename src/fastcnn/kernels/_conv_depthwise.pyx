"""Depthwise convolution on the blocked layout: every channel has its own filter. For strides above 1, also the gradient
of its input. Inputs carry padding as a halo of zeros."""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset

from math import gcd

import numpy as np

from fastcnn.kernels._step cimport (
    Rows, Step, Walk, address, blocks_of, ceil_div, goes_on, set_activation, share, walk, walk_units, walks,
)
from fastcnn.kernels._tiles cimport fc_depthwise, fc_kernels, fc_tensor

from fastcnn.kernels import storage


def pack_depthwise(weight, vl):
    """Pack filters (channels, 1, kh, kw) as [block][kh][kw][VL]. Lanes without a channel are zeros."""
    channels, _, kh, kw = weight.shape
    blocks = ceil_div(channels, vl)
    padded = np.zeros((blocks * vl, kh, kw), np.float32)
    padded[:channels] = weight[:, 0]
    packed = storage.allocate(padded.size)
    packed.reshape(blocks, kh, kw, vl)[...] = padded.reshape(blocks, vl, kh, kw).transpose(0, 2, 3, 1)
    return packed


cdef struct DepthwiseArgs:
    const fc_kernels *kernels
    fc_tensor y         # OUT blocked
    fc_tensor x         # IN  blocked, with its padding as halo
    fc_tensor weights   # IN  packed
    fc_tensor bias      # IN  padded to full blocks
    fc_tensor residual  # IN  like y; data is NULL without one
    fc_depthwise rows
    ptrdiff_t top, left, stride
    ptrdiff_t at_a_time  # pixels of a row between two calls of `goes_on`; 0: no calls


cdef void compute_rows(const fc_kernels *kernels, const fc_depthwise *all_rows, ptrdiff_t at_a_time) noexcept nogil:
    """Compute some rows, `at_a_time` of their pixels in one call of the tile."""
    cdef fc_depthwise rows = all_rows[0]
    cdef ptrdiff_t r, first
    if at_a_time == 0:
        kernels.depthwise(&rows)
        return
    rows.rows = 1
    for r in range(all_rows.rows):
        first = 0
        while first < all_rows.pixels:
            rows.pixels = min(at_a_time, all_rows.pixels - first)
            rows.x = all_rows.x + r * rows.x_step + first * rows.x_pixel
            rows.y = all_rows.y + r * rows.y_row + first * rows.y_pixel
            if rows.residual != NULL:
                rows.residual = all_rows.residual + r * rows.residual_row + first * kernels.vl
            if not goes_on(rows.pixels * rows.kh * rows.kw):
                return
            kernels.depthwise(&rows)
            first += rows.pixels


cdef void run_depthwise(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const DepthwiseArgs *a = <const DepthwiseArgs *>raw
    cdef fc_depthwise rows = a.rows
    cdef ptrdiff_t vl = a.kernels.vl
    cdef Walk way = walk(&a.y, tid, nthreads)
    cdef Rows at
    while walks(&way, &at):
        rows.rows = at.count
        rows.x = (a.x.data + at.image * a.x.image + at.block * a.x.block + (at.first * a.stride - a.top) * a.x.row
                  - a.left * vl)
        rows.y = a.y.data + at.image * a.y.image + at.block * a.y.block + at.first * a.y.row
        if a.residual.data != NULL:
            rows.residual = (a.residual.data + at.image * a.residual.image + at.block * a.residual.block
                             + at.first * a.residual.row)
        rows.w = a.weights.data + at.block * rows.kh * rows.kw * vl
        rows.bias = a.bias.data + at.block * vl
        compute_rows(a.kernels, &rows, a.at_a_time)


cdef class DepthwiseConv(Step):
    """Depthwise convolution of a blocked tensor.

    Parameters
    ----------
    y, x, residual : View
        OUT, IN (halo at least pads), IN or None; all blocked.
    weights, bias : float32 arrays or Views
        From `pack_depthwise`, and from `_direct_filters.pack_bias` with one group.
    kernel, strides, pads, dilations : tuples of int
    activation : None or (name, attributes)
    """

    cdef DepthwiseArgs a

    def __init__(self, y, x, residual, weights, bias, kernel, strides, pads, dilations, activation):
        cdef DepthwiseArgs *a = &self.a
        self.run = run_depthwise
        self.bind(a, sizeof(DepthwiseArgs), &a.rows.act, y, x, residual, weights, bias, activation)
        a.rows.kh, a.rows.kw = kernel
        a.rows.x_row, a.rows.x_col = dilations[0] * a.x.row, dilations[1] * a.x.lanes
        a.rows.x_pixel, a.rows.y_pixel = strides[1] * a.x.lanes, a.y.lanes
        a.rows.x_step, a.rows.y_row, a.rows.residual_row = strides[0] * a.x.row, a.y.row, a.residual.row
        a.rows.pixels = a.y.w
        a.top, a.left, a.stride = pads[0], pads[1], strides[0]
        taps = kernel[0] * kernel[1]
        self.may_be_cut(walk_units(&a.y), a.y.n * blocks_of(&a.y) * a.y.h * a.y.w * taps)
        a.at_a_time = self.at_a_time(a.y.w, taps)


cdef struct Phase:  # an entry of the result of `phases`
    ptrdiff_t before, tap, count, start


cdef struct StridedArgs:
    const fc_kernels *kernels
    fc_tensor y        # OUT blocked
    fc_tensor g        # IN  blocked, with a halo of zeros as wide as the taps reach
    fc_tensor weights  # IN  a parameter, or packed
    fc_depthwise rows
    const Phase *phases_h
    const Phase *phases_w
    ptrdiff_t kh, kw, stride_h, stride_w, step_h, step_w
    ptrdiff_t at_a_time  # as in DepthwiseArgs


cdef void run_strided(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are rows of y. Every stride-th pixel of a row has the same taps: these pixels are a convolution with stride
    1 and a smaller filter."""
    cdef const StridedArgs *a = <const StridedArgs *>raw
    cdef fc_depthwise rows = a.rows
    cdef ptrdiff_t blocks = blocks_of(&a.y), units = a.y.n * blocks * a.y.h, vl = a.kernels.vl, ready = -1
    cdef ptrdiff_t unit, image, block, r, c
    cdef float *weights = scratch + vl
    cdef Phase h, w
    memset(scratch, 0, vl * sizeof(float))
    rows.bias = scratch
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        r, block, image = unit % a.y.h, unit // a.y.h % blocks, unit // a.y.h // blocks
        if block != ready:
            sort_taps(a, a.weights.data + block * a.kh * a.kw * vl, weights)
            ready = block
        h = a.phases_h[r % a.stride_h]
        rows.kh = h.count
        rows.w = weights + h.before * a.kw * vl
        for c in range(min(a.stride_w, a.y.w)):
            w = a.phases_w[c]
            rows.kw, rows.pixels = w.count, ceil_div(a.y.w - c, a.stride_w)
            rows.x = (a.g.data + image * a.g.image + block * a.g.block + (h.start + r // a.stride_h) * a.g.row
                      + w.start * vl)
            rows.y = a.y.data + image * a.y.image + block * a.y.block + r * a.y.row + c * vl
            compute_rows(a.kernels, &rows, a.at_a_time)
            rows.w += h.count * w.count * vl


cdef void sort_taps(const StridedArgs *a, const float *weights, float *to) noexcept nogil:
    """Copy a filter [kh][kw][VL] as one filter for each phase: [phase of rows][phase of columns][kh'][kw'][VL]."""
    cdef ptrdiff_t vl = a.kernels.vl, i, k, ky, kx
    cdef Phase h, w
    for i in range(a.stride_h):
        h = a.phases_h[i]
        for k in range(a.stride_w):
            w = a.phases_w[k]
            for ky in range(h.count):
                for kx in range(w.count):
                    memcpy(to, weights + ((h.tap + ky * a.step_h) * a.kw + w.tap + kx * a.step_w) * vl,
                           vl * sizeof(float))
                    to += vl


def phases(taps, stride, before, dilation):
    """Which taps contribute to which pixels, along one dimension. The pixels c, c + stride, ... are a phase. Pixel
    stride * q + c reads the gradient at (stride * q + c + before - dilation * tap) / stride, for each tap for which
    that is an integer.

    Returns
    -------
    list of (int, int, int, int), int
        For each phase c: the number of taps of all phases before, its first tap, and the number of its taps. The fourth
        number is the gradient that its first tap reads for q = 0. The int after the list is the distance between
        neighbouring taps of a phase.

    Examples
    --------
    >>> phases(3, 2, 1, 1)  # even pixels have the middle tap, odd ones the others
    ([(0, 1, 1, 0), (1, 0, 2, 1)], 2)
    """
    found, done = [], 0
    for c in range(stride):
        meeting = [tap for tap in range(taps) if (c + before - dilation * tap) % stride == 0]
        first = meeting[0] if meeting else 0
        found.append((done, first, len(meeting), (c + before - dilation * first) // stride))
        done += len(meeting)
    return found, stride // gcd(stride, dilation)


cdef class StridedDepthwiseGrad(Step):
    """Gradient of the input of a depthwise convolution.

    Parameters
    ----------
    y, g : View
        OUT, IN (halo at least `ops.conv_grad.strided_halo`); blocked.
    weights : float32 array or View
        From `pack_depthwise`.
    kernel, strides, pads, dilations : tuples of int
    """

    cdef StridedArgs a

    def __init__(self, y, g, weights, kernel, strides, pads, dilations):
        cdef StridedArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl
        self.run, self.args = run_strided, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.weights(2, &a.weights, weights)
        a.kernels = self.kernels
        a.kh, a.kw = kernel
        a.stride_h, a.stride_w = strides
        rows, a.step_h = phases(kernel[0], strides[0], pads[0], dilations[0])
        columns, a.step_w = phases(kernel[1], strides[1], pads[1], dilations[1])
        tables = np.array(rows, np.intp), np.array(columns, np.intp)
        a.phases_h, a.phases_w = <const Phase *>address(tables[0]), <const Phase *>address(tables[1])
        self.owned = weights, tables
        set_activation(&a.rows.act, None)
        # A later tap of a phase reads an earlier gradient.
        a.rows.x_row = -(a.step_h * dilations[0] // strides[0]) * a.g.row
        a.rows.x_col = -(a.step_w * dilations[1] // strides[1]) * vl
        a.rows.x_pixel, a.rows.y_pixel = vl, a.stride_w * vl
        a.rows.rows, a.rows.x_step, a.rows.y_row, a.rows.residual_row = 1, 0, 0, 0
        self.scratch_floats = (1 + a.kh * a.kw) * vl
        # The most taps that a pixel has.
        met = max(row[2] for row in rows) * max(column[2] for column in columns)
        planes = a.y.n * blocks_of(&a.y)
        self.work(planes * a.y.h, planes * a.y.h * a.y.w * met)
        a.at_a_time = self.at_a_time(a.y.w, met)
