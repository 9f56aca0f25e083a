"""Gradients of pooling, on the blocked layout. Windows overlap, so that each thread owns planes of the result."""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memset

from fastcnn.kernels._step cimport Step, blocks_of, ceil_div, goes_on, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_pool_row, fc_tensor


cdef struct PoolGradArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT gradient of the input
    fc_tensor g  # IN  gradient of the output
    fc_tensor x  # IN  the input of a maximum; data is NULL for averages
    fc_pool_row row
    ptrdiff_t kh, stride_h, dilation_h, top, bottom
    ptrdiff_t at_a_time  # windows of a row between two calls of `goes_on`; 0: no calls
    ptrdiff_t taps       # the most taps of a window


cdef void add_row(const PoolGradArgs *a, fc_pool_row *row, const float *g, float *y, ptrdiff_t y_row) noexcept nogil:
    """Add the gradients of a row of windows to y, some windows at a time."""
    cdef ptrdiff_t first = 0
    if a.at_a_time == 0:
        a.kernels.pool_grad_row(row, g, y, y_row)
        return
    while first < a.g.w:
        row.pixels = min(a.at_a_time, a.g.w - first)
        row.pad_left = a.row.pad_left - first * row.stride
        if not goes_on(row.pixels * a.taps):
            return
        a.kernels.pool_grad_row(row, g + first * a.kernels.vl, y, y_row)
        first += row.pixels


cdef void run_pool_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const PoolGradArgs *a = <const PoolGradArgs *>raw
    cdef fc_pool_row row = a.row
    cdef ptrdiff_t blocks = blocks_of(&a.y), units = a.y.n * blocks, vl = a.kernels.vl, unit, image, block, r, start
    cdef ptrdiff_t first, last
    cdef float *y
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        block, image = unit % blocks, unit // blocks
        y = a.y.data + image * a.y.image + block * a.y.block
        for r in range(a.y.h):
            memset(y + r * a.y.row, 0, a.y.w * vl * sizeof(float))
        for r in range(a.g.h):
            start = r * a.stride_h - a.top
            first = ceil_div(-start, a.dilation_h) if start < 0 else 0
            last = min(a.kh, ceil_div(a.y.h - start, a.dilation_h)) if start < a.y.h else 0
            row.rows = max(0, last - first)
            row.row_extent = (min(start + a.kh, a.y.h + a.bottom) - start) if row.count_include_pad else row.rows
            start += first * a.dilation_h
            if a.x.data != NULL:
                row.x = a.x.data + image * a.x.image + block * a.x.block + start * a.x.row
            add_row(a, &row, a.g.data + image * a.g.image + block * a.g.block + r * a.g.row, y + start * a.y.row,
                    a.dilation_h * a.y.row)


cdef class PoolGrad(Step):
    """Gradient of a pooling: of a maximum to the first largest input of a window, of an average in equal shares.

    Parameters
    ----------
    y, g, x : View
        OUT, IN blocked; IN the blocked input of a maximum, None for averages.
    kernel, strides, pads, dilations : tuples of int
    count_include_pad : bool
    """

    cdef PoolGradArgs a

    def __init__(self, y, g, x, kernel, strides, pads, dilations, count_include_pad):
        cdef PoolGradArgs *a = &self.a
        self.run, self.args = run_pool_grad, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.operand(2, &a.x, x)
        a.kernels = self.kernels
        a.kh, a.stride_h, a.dilation_h, a.top, a.bottom = kernel[0], strides[0], dilations[0], pads[0], pads[2]
        a.row.average, a.row.count_include_pad = x is None, count_include_pad
        a.row.kw, a.row.stride, a.row.dilation = kernel[1], strides[1], dilations[1]
        a.row.pad_left, a.row.pad_right, a.row.width = pads[1], pads[3], a.y.w
        a.row.pixels, a.row.lanes, a.row.x_row = a.g.w, a.y.lanes, dilations[0] * a.x.row
        planes = a.y.n * blocks_of(&a.y)
        # A maximum takes two passes over a window: one finds it, one adds the gradient.
        a.taps = min(a.kh, a.y.h) * min(a.row.kw, a.y.w) * (1 if x is None else 2)
        self.work(planes, planes * (a.y.h * a.y.w + a.g.h * a.g.w * a.taps))
        a.at_a_time = self.at_a_time(a.g.w, a.taps)


cdef struct MeanGradArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor g  # IN  1 x 1


cdef void run_mean_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const MeanGradArgs *a = <const MeanGradArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.y), vl = a.kernels.vl, units = a.y.n * blocks, unit, r, i, k
    cdef float share_of = 1.0 / <float>(a.y.h * a.y.w)
    cdef const float *g
    cdef float *y
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        g = a.g.data + unit // blocks * a.g.image + unit % blocks * a.g.block
        for r in range(a.y.h):
            y = a.y.data + unit // blocks * a.y.image + unit % blocks * a.y.block + r * a.y.row
            for i in range(a.y.w):
                for k in range(vl):
                    y[i * vl + k] = g[k] * share_of


cdef class GlobalMeanGrad(Step):
    """y = g / (height * width) at every pixel: y (n, c, h, w), g (n, c, 1, 1), both blocked."""

    cdef MeanGradArgs a

    def __init__(self, y, g):
        self.run, self.args = run_mean_grad, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.g, g)
        self.a.kernels = self.kernels
