"""Copies from one view to another: between NCHW and the blocked layout, with or without halo, also into a part of a
larger tensor (concatenation, padding). A table turns pixels of photos into numbers in any layout."""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset

from fastcnn.kernels._step cimport Rows, Step, Walk, blocks_of, share, walk, walks
from fastcnn.kernels._tiles cimport fc_kernels, fc_tensor


cdef struct ReorderArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor x  # IN
    bint flat    # whether neither has gaps between rows: a plane is then one row


cdef void copy_row(const ReorderArgs *a, const char *from_, char *to, ptrdiff_t channels,
                   ptrdiff_t pixels) noexcept nogil:
    """Copy one row of a block, or rows without gaps between them. The block is that of the operand with more lanes."""
    cdef ptrdiff_t lanes = max(a.x.lanes, a.y.lanes), c, p
    cdef const float *x = <const float *>from_
    cdef float *y = <float *>to
    if a.x.item == 1:
        copy_bytes(a, from_, to, channels, pixels)
    elif a.x.lanes == a.y.lanes:
        memcpy(y, x, pixels * lanes * sizeof(float))
    elif a.x.lanes == 1 and lanes == a.kernels.vl:
        a.kernels.interleave(x, a.x.block, y, channels, pixels)
    elif a.y.lanes == 1 and lanes == a.kernels.vl:
        a.kernels.deinterleave(x, y, a.y.block, channels, pixels)
    elif a.x.lanes == 1:
        a.kernels.zip_planes(x, a.x.block, y, lanes, pixels)
    else:
        for p in range(pixels):
            for c in range(channels):
                y[c * a.y.block + p] = x[p * lanes + c]


cdef void copy_bytes(const ReorderArgs *a, const char *x, char *y, ptrdiff_t channels, ptrdiff_t pixels) noexcept nogil:
    """As `copy_row`."""
    cdef ptrdiff_t x_channel = a.x.block if a.x.lanes == 1 else 1, y_channel = a.y.block if a.y.lanes == 1 else 1, c, p
    if a.x.lanes == a.y.lanes:
        memcpy(y, x, pixels * a.x.lanes)
        return
    for p in range(pixels):
        for c in range(channels):
            y[p * a.y.lanes + c * y_channel] = x[p * a.x.lanes + c * x_channel]


cdef void run_reorder(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const ReorderArgs *a = <const ReorderArgs *>raw
    cdef ptrdiff_t lanes = max(a.x.lanes, a.y.lanes), item = a.x.item, r, channels
    cdef Walk way = walk(&a.x if a.x.lanes == lanes else &a.y, tid, nthreads)
    cdef Rows at
    cdef const char *x
    cdef char *y
    while walks(&way, &at):
        x = <const char *>a.x.data + item * (
            at.image * a.x.image + at.block * (lanes // a.x.lanes) * a.x.block + at.first * a.x.row)
        y = <char *>a.y.data + item * (
            at.image * a.y.image + at.block * (lanes // a.y.lanes) * a.y.block + at.first * a.y.row)
        channels = min(lanes, a.x.c - at.block * lanes)
        if a.flat:
            copy_row(a, x, y, channels, at.count * a.x.w)
            continue
        for r in range(at.count):
            copy_row(a, x + r * a.x.row * item, y + r * a.y.row * item, channels, a.x.w)


cdef class Reorder(Step):
    """y = x, element by element, for views of any layouts. One of them is NCHW, or both have the same lanes.

    Parameters
    ----------
    y, x : View
        OUT, IN; of the same logical shape, and of the same type.
    """

    cdef ReorderArgs a

    def __init__(self, y, x):
        self.run, self.args = run_reorder, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.a.kernels = self.kernels
        self.a.flat = x.row == x.w * x.lanes and y.row == y.w * y.lanes


cdef struct LookupArgs:
    fc_tensor y      # OUT
    fc_tensor x      # IN  bytes in NHWC
    fc_tensor table  # IN  256 numbers for each channel


cdef void look_up_row(const LookupArgs *a, const unsigned char *x, float *y) noexcept nogil:
    cdef ptrdiff_t channels = a.x.c, lanes = a.y.lanes, c, p
    cdef const float *table = a.table.data
    cdef float *plane
    if channels == 3 and lanes == 3:  # RGB in NHWC: one loop over pixels is faster than a loop for each channel
        for p in range(a.x.w):
            y[3 * p] = table[x[3 * p]]
            y[3 * p + 1] = table[256 + x[3 * p + 1]]
            y[3 * p + 2] = table[512 + x[3 * p + 2]]
        return
    if channels % lanes:
        memset(y + (blocks_of(&a.y) - 1) * a.y.block, 0, a.x.w * lanes * sizeof(float))
    for c in range(channels):
        plane = y + c // lanes * a.y.block + c % lanes
        for p in range(a.x.w):
            plane[p * lanes] = table[256 * c + x[p * channels + c]]


cdef void run_lookup(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are rows: a row of pixels and the table stay in the first-level cache for all channels."""
    cdef const LookupArgs *a = <const LookupArgs *>raw
    cdef ptrdiff_t units = a.x.n * a.x.h, unit, image, r
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        image, r = unit // a.x.h, unit % a.x.h
        look_up_row(a, <const unsigned char *>a.x.data + image * a.x.image + r * a.x.row,
                    a.y.data + image * a.y.image + r * a.y.row)


cdef class Lookup(Step):
    """y = table[c, x], with one row of the table for each channel c.

    Parameters
    ----------
    y, x, table : View
        OUT of any layout; IN of a uint8 array (n, h, w, c), with strides in bytes; IN plain (c, 256).
    """

    cdef LookupArgs a

    def __init__(self, y, x, table):
        self.run, self.args = run_lookup, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.operand(2, &self.a.table, table)
