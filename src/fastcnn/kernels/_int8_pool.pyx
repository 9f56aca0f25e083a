"""Pooling of bytes on the blocked layout: maximum and mean over windows, which are clipped at the border. The mean of a
plane is that of a window as large as the image."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t

from fastcnn.kernels._int8 cimport fc_int8_kernels, fc_int8_pool, set_finish, tiles
from fastcnn.kernels._step cimport Rows, Step, Walk, blocks_of, ceil_div, share, walk, walk_units, walks
from fastcnn.kernels._tiles cimport fc_kernels, fc_tensor

from fastcnn.kernels import _step


cdef struct PoolArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor x  # IN
    const fc_int8_kernels *tiles
    fc_int8_pool row
    ptrdiff_t kh, stride_h, dilation_h, top, bottom
    ptrdiff_t stretches  # pieces of a row: with large windows, all of a row may take seconds


cdef void pool_row(const PoolArgs *a, ptrdiff_t image, ptrdiff_t block, ptrdiff_t r, int stretch) noexcept nogil:
    """Compute one stretch of one row of outputs."""
    cdef fc_int8_pool row = a.row
    cdef ptrdiff_t start = r * a.stride_h - a.top, begin = share(a.y.w, stretch, <int>a.stretches)
    # Taps first .. last of the window lie inside the image.
    cdef ptrdiff_t first = ceil_div(-start, a.dilation_h) if start < 0 else 0
    cdef ptrdiff_t last = min(a.kh, ceil_div(a.x.h - start, a.dilation_h)) if start < a.x.h else 0
    row.rows = max(0, last - first)
    row.row_extent = row.rows
    if row.count_include_pad:
        row.row_extent = min(a.kh, ceil_div(a.x.h + a.bottom - start, a.dilation_h))
    row.x = (<const uint8_t *>a.x.data + image * a.x.image + block * a.x.block
             + (start + first * a.dilation_h) * a.x.row)
    row.y = <char *>a.y.data + a.y.item * (
        image * a.y.image + block * a.y.block + r * a.y.row + begin * a.y.lanes)
    row.pixels = share(a.y.w, stretch + 1, <int>a.stretches) - begin
    row.pad_left -= begin * row.stride
    a.tiles.pool(&row)


cdef void run_stretches(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are stretches of rows."""
    cdef const PoolArgs *a = <const PoolArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.y), units = a.y.n * blocks * a.y.h * a.stretches, unit, plane
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        plane = unit // a.stretches // a.y.h
        pool_row(a, plane // blocks, plane % blocks, unit // a.stretches % a.y.h, <int>(unit % a.stretches))


cdef void run_pool(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const PoolArgs *a = <const PoolArgs *>raw
    cdef ptrdiff_t r
    cdef Walk way = walk(&a.y, tid, nthreads)
    cdef Rows at
    while walks(&way, &at):
        for r in range(at.first, at.first + at.count):
            pool_row(a, at.image, at.block, r, 0)


cdef class Int8Pool(Step):
    """Maximum or mean over windows of a blocked tensor of bytes.

    Parameters
    ----------
    y, x : View
        OUT, uint8, or float32 where it is a mean; IN, uint8. Both blocked.
    kind : {"max", "average"}
    kernel, strides, pads, dilations : tuples of int
    count_include_pad : bool
        Whether the divisor of a mean counts padding.
    scale : float
        Of a mean: the scale of x, divided by that of y where y is uint8.
    x_zero, y_zero : int
        Zero points of a mean.
    low, high : int
        Bounds of a mean.
    """

    cdef PoolArgs a

    def __init__(self, y, x, kind, kernel, strides, pads, dilations, count_include_pad, scale, x_zero, y_zero, low=0,
                 high=255):
        cdef PoolArgs *a = &self.a
        self.run, self.args = run_pool, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels, a.tiles = self.kernels, tiles()
        a.kh, a.stride_h, a.dilation_h, a.top, a.bottom = kernel[0], strides[0], dilations[0], pads[0], pads[2]
        a.row.average, a.row.count_include_pad = kind == "average", count_include_pad
        a.row.kw, a.row.stride, a.row.dilation = kernel[1], strides[1], dilations[1]
        a.row.pad_left, a.row.pad_right, a.row.width = pads[1], pads[3], a.x.w
        a.row.x_row, a.row.x_zero, a.row.scale = dilations[0] * a.x.row, x_zero, scale
        set_finish(&a.row.finish, y, y_zero, low, high, None)
        rows, taps = a.y.n * blocks_of(&a.y) * a.y.h, min(kernel[0], x.h) * min(kernel[1], x.w)
        units, longest = walk_units(&a.y), _step.LONGEST_PIECE
        a.stretches = 1
        if rows * y.w * taps > units * longest:
            a.stretches = min(y.w, ceil_div(y.w, max(1, longest // taps)))
            self.run, units = run_stretches, rows * a.stretches
        self.may_be_cut(units, rows * a.y.w * taps)
