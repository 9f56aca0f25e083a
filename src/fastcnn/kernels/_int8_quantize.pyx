"""From floats to bytes and back, in any layout: blocked, plain, or four channels of a pixel side by side."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t

from fastcnn.kernels._int8 cimport fc_int8_kernels, tiles
from fastcnn.kernels._step cimport Rows, Step, Walk, walk, walks
from fastcnn.kernels._tiles cimport fc_tensor


cdef struct QuantizeArgs:
    fc_tensor y  # OUT
    fc_tensor x  # IN
    const fc_int8_kernels *tiles
    float scale
    int zero
    bint flat    # whether neither has gaps between rows: a plane is then one row


cdef void quantize_row(const QuantizeArgs *a, const float *x, uint8_t *y, ptrdiff_t channels,
                       ptrdiff_t pixels) noexcept nogil:
    """Compute a row of a block. The block is that of the operand with more lanes."""
    cdef ptrdiff_t c, p
    if a.x.lanes == a.y.lanes:
        a.tiles.quantize(x, y, pixels * a.x.lanes, a.scale, a.zero)
    elif a.x.lanes == 1 and (a.y.lanes % 4 == 0 or a.y.lanes < 4):
        for c in range(0, channels, 4):
            a.tiles.quantize_planes(x + c * a.x.block, a.x.block, y + c, a.y.lanes, min(4, channels - c), pixels,
                                    a.scale, a.zero)
    else:
        for p in range(pixels):
            for c in range(channels):
                a.tiles.quantize(x + (c * a.x.block + p if a.x.lanes == 1 else p * a.x.lanes + c),
                                 y + (c * a.y.block + p if a.y.lanes == 1 else p * a.y.lanes + c), 1, a.scale, a.zero)


cdef void dequantize_row(const QuantizeArgs *a, const uint8_t *x, float *y, ptrdiff_t channels,
                         ptrdiff_t pixels) noexcept nogil:
    """As `quantize_row`."""
    cdef ptrdiff_t c, p
    if a.x.lanes == a.y.lanes:
        a.tiles.dequantize(x, y, pixels * a.x.lanes, a.scale, a.zero)
    elif a.y.lanes == 1 and a.x.lanes % 4 == 0:
        for c in range(0, channels, 4):
            a.tiles.dequantize_planes(x + c, a.x.lanes, y + c * a.y.block, a.y.block, min(4, channels - c), pixels,
                                      a.scale, a.zero)
    else:
        for p in range(pixels):
            for c in range(channels):
                a.tiles.dequantize(x + (c * a.x.block + p if a.x.lanes == 1 else p * a.x.lanes + c),
                                   y + (c * a.y.block + p if a.y.lanes == 1 else p * a.y.lanes + c), 1, a.scale, a.zero)


cdef void run_quantize(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Compute rows of either direction: y is bytes or floats."""
    cdef const QuantizeArgs *a = <const QuantizeArgs *>raw
    cdef ptrdiff_t lanes = max(a.x.lanes, a.y.lanes), r, channels, rows, pixels
    cdef Walk way = walk(&a.x if a.x.lanes == lanes else &a.y, tid, nthreads)
    cdef Rows at
    cdef const char *x
    cdef char *y
    while walks(&way, &at):
        x = <const char *>a.x.data + a.x.item * (
            at.image * a.x.image + at.block * (lanes // a.x.lanes) * a.x.block + at.first * a.x.row)
        y = <char *>a.y.data + a.y.item * (
            at.image * a.y.image + at.block * (lanes // a.y.lanes) * a.y.block + at.first * a.y.row)
        channels = min(lanes, a.x.c - at.block * lanes)
        rows, pixels = 1 if a.flat else at.count, at.count * a.x.w if a.flat else a.x.w
        for r in range(rows):
            if a.y.item == 1:
                quantize_row(a, <const float *>x + r * a.x.row, <uint8_t *>y + r * a.y.row, channels, pixels)
            else:
                dequantize_row(a, <const uint8_t *>x + r * a.x.row, <float *>y + r * a.y.row, channels, pixels)


cdef class _Change(Step):
    """A change of type between views of the same logical shape. One of them is plain, or both have the same lanes."""

    cdef QuantizeArgs a

    def __init__(self, y, x, scale, zero):
        self.run, self.args = run_quantize, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.a.tiles, self.a.scale, self.a.zero = tiles(), scale, zero
        self.a.flat = x.row == x.w * x.lanes and y.row == y.w * y.lanes


cdef class Quantize(_Change):
    """y = saturate(rint(x / scale) + zero), element by element.

    Parameters
    ----------
    y, x : View
        OUT, uint8; IN, float32. One of them is plain, or both have the same lanes.
    scale : float
    zero : int
    """


cdef class Dequantize(_Change):
    """y = (x - zero) * scale, element by element.

    Parameters
    ----------
    y, x : View
        OUT, float32; IN, uint8. One of them is plain, or both have the same lanes.
    scale : float
    zero : int
    """
