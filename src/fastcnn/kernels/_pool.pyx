"""Pooling: maximum and average over windows, and the mean of planes. Tensors are blocked or NCHW. Windows are clipped
at the border, so that the input needs no halo."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t

from fastcnn.kernels._int8 cimport fc_int8_kernels, fc_int8_pool, set_finish, tiles
from fastcnn.kernels._step cimport Rows, Step, Walk, blocks_of, ceil_div, share, walk, walk_units, walks
from fastcnn.kernels._tiles cimport fc_kernels, fc_pool_row, fc_tensor

from fastcnn.kernels import _step


cdef struct PoolArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor x  # IN
    const fc_int8_kernels *tiles  # of bytes; NULL for floats
    fc_int8_pool bytes
    fc_pool_row row
    ptrdiff_t kh, stride_h, dilation_h, top, bottom
    ptrdiff_t stretches  # pieces of a row: with large windows, all of a row may take seconds


# A stretch of a row of outputs: where it begins, and how much of its windows lies inside the image.
cdef struct Stretch:
    ptrdiff_t x, y  # elements from the start of x and of y
    ptrdiff_t rows, row_extent, pad_left, pixels


cdef inline Stretch stretch_of(const PoolArgs *a, ptrdiff_t image, ptrdiff_t block, ptrdiff_t r,
                               int stretch) noexcept nogil:
    cdef Stretch s
    cdef ptrdiff_t start = r * a.stride_h - a.top, begin = share(a.y.w, stretch, <int>a.stretches)
    # Taps first .. last of the window lie inside the image.
    cdef ptrdiff_t first = ceil_div(-start, a.dilation_h) if start < 0 else 0
    cdef ptrdiff_t last = min(a.kh, ceil_div(a.x.h - start, a.dilation_h)) if start < a.x.h else 0
    s.x = image * a.x.image + block * a.x.block + (start + first * a.dilation_h) * a.x.row
    s.y = image * a.y.image + block * a.y.block + r * a.y.row + begin * a.y.lanes
    s.rows = max(0, last - first)
    s.row_extent = s.rows
    if a.row.count_include_pad:
        s.row_extent = min(a.kh, ceil_div(a.x.h + a.bottom - start, a.dilation_h))
    s.pad_left = a.row.pad_left - begin * a.row.stride
    s.pixels = share(a.y.w, stretch + 1, <int>a.stretches) - begin
    return s


cdef void pool_row(const PoolArgs *a, ptrdiff_t image, ptrdiff_t block, ptrdiff_t r, int stretch) noexcept nogil:
    """Compute one stretch of one row of outputs."""
    cdef Stretch s = stretch_of(a, image, block, r, stretch)
    cdef fc_int8_pool bytes
    cdef fc_pool_row row
    if a.tiles != NULL:
        bytes = a.bytes
        bytes.x, bytes.y = <const uint8_t *>a.x.data + s.x, <char *>a.y.data + a.y.item * s.y
        bytes.rows, bytes.row_extent, bytes.pad_left, bytes.pixels = s.rows, s.row_extent, s.pad_left, s.pixels
        a.tiles.pool(&bytes)
        return
    row = a.row
    row.x, row.y = a.x.data + s.x, a.y.data + s.y
    row.rows, row.row_extent, row.pad_left, row.pixels = s.rows, s.row_extent, s.pad_left, s.pixels
    a.kernels.pool_row(&row)


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


cdef class Pool(Step):
    """Maximum or average over windows.

    Parameters
    ----------
    y, x : View
        OUT, IN; of the same layout.
    average : bool
    kernel, strides, pads, dilations : tuples of int
    count_include_pad : bool
        Whether the divisor of an average counts padding.
    """

    cdef PoolArgs a

    def __init__(self, y, x, average, kernel, strides, pads, dilations, count_include_pad):
        cdef PoolArgs *a = &self.a
        self.run, self.args, self.args_size = run_pool, a, sizeof(PoolArgs)
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels = self.kernels
        a.kh, a.stride_h, a.dilation_h, a.top, a.bottom = kernel[0], strides[0], dilations[0], pads[0], pads[2]
        a.row.average, a.row.count_include_pad = average, count_include_pad
        a.row.kw, a.row.stride, a.row.dilation = kernel[1], strides[1], dilations[1]
        a.row.pad_left, a.row.pad_right, a.row.width = pads[1], pads[3], a.x.w
        a.row.pixels, a.row.lanes, a.row.x_row = a.y.w, a.x.lanes, dilations[0] * a.x.row
        rows, taps = a.y.n * blocks_of(&a.y) * a.y.h, min(kernel[0], x.h) * min(kernel[1], x.w)
        units, longest = walk_units(&a.y), _step.LONGEST_PIECE
        a.stretches = 1
        if rows * y.w * taps > units * longest:
            a.stretches = min(y.w, ceil_div(y.w, max(1, longest // taps)))
            self.run, units = run_stretches, rows * a.stretches
        self.may_be_cut(units, rows * a.y.w * taps)


cdef class Int8Pool(Pool):
    """Maximum or mean over windows of a blocked tensor of bytes. The mean of a plane is that of a window as large as
    the image.

    Parameters
    ----------
    y, x : View
        OUT, uint8, or float32 where it is a mean; IN, uint8. Both blocked.
    average, kernel, strides, pads, dilations, count_include_pad
        As in `Pool`.
    scale : float
        Of a mean: the scale of x, divided by that of y where y is uint8.
    x_zero, y_zero : int
        Zero points of a mean.
    low, high : int
        Bounds of a mean.
    """

    def __init__(self, y, x, average, kernel, strides, pads, dilations, count_include_pad, scale, x_zero, y_zero,
                 low=0, high=255):
        Pool.__init__(self, y, x, average, kernel, strides, pads, dilations, count_include_pad)
        cdef fc_int8_pool *bytes = &self.a.bytes
        cdef const fc_pool_row *row = &self.a.row
        self.args_size = 0  # _bands runs floats alone
        self.a.tiles, bytes.x_zero, bytes.scale = tiles(), x_zero, scale
        bytes.average, bytes.count_include_pad = row.average, row.count_include_pad
        bytes.kw, bytes.stride, bytes.dilation = row.kw, row.stride, row.dilation
        bytes.pad_right, bytes.width, bytes.x_row = row.pad_right, row.width, row.x_row
        set_finish(&bytes.finish, y, y_zero, low, high, None)


cdef struct MeanArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT blocked, 1 x 1
    fc_tensor x  # IN  blocked


cdef void run_mean(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const MeanArgs *a = <const MeanArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.x), units = a.x.n * blocks, unit
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        a.kernels.mean_pixels(a.x.data + unit // blocks * a.x.image + unit % blocks * a.x.block, a.x.row, a.x.h, a.x.w,
                              a.y.data + unit // blocks * a.y.image + unit % blocks * a.y.block)


cdef class GlobalMean(Step):
    """Mean of every plane: y (n, c, 1, 1), x (n, c, h, w), both blocked."""

    cdef MeanArgs a

    def __init__(self, y, x):
        self.run, self.args = run_mean, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.a.kernels = self.kernels
