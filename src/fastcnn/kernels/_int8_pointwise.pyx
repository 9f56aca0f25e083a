"""Operations on bytes, element by element. Sums and products take blocked tensors. A table changes scales, computes any
function of one value, and copies from one layout to another. Quantising leads from floats to bytes and back, in any
layout: blocked, plain, or four channels of a pixel side by side."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint8_t

from fastcnn.kernels._int8 cimport fc_int8_binary, fc_int8_kernels, set_finish, tiles
from fastcnn.kernels._step cimport Rows, Step, Walk, address, walk, walks
from fastcnn.kernels._tiles cimport fc_kernels, fc_tensor


cdef struct BinaryArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor a  # IN
    fc_tensor b  # IN  of the shape of a, or one pixel for each image
    const fc_int8_kernels *tiles
    fc_int8_binary how
    bint multiplies
    bint flat    # whether no operand has gaps between its rows: a plane is then one row


cdef inline const uint8_t *bytes_at(const fc_tensor *t, const Rows *at, ptrdiff_t r) noexcept nogil:
    return <const uint8_t *>t.data + at.image * t.image + at.block * t.block + r * t.row


cdef void binary_row(const BinaryArgs *a, const Rows *at, ptrdiff_t r, ptrdiff_t rows) noexcept nogil:
    """Compute rows from r on that count as one."""
    cdef const uint8_t *b = bytes_at(&a.b, at, 0 if a.how.one_pixel else r)
    cdef void *y = <char *>a.y.data + a.y.item * (at.image * a.y.image + at.block * a.y.block + r * a.y.row)
    cdef ptrdiff_t n = rows * a.y.w * a.y.lanes
    if a.multiplies:
        a.tiles.multiply(&a.how, bytes_at(&a.a, at, r), b, y, n)
    else:
        a.tiles.add(&a.how, bytes_at(&a.a, at, r), b, y, n)


cdef void run_binary(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const BinaryArgs *a = <const BinaryArgs *>raw
    cdef ptrdiff_t r
    cdef Walk way = walk(&a.y, tid, nthreads)
    cdef Rows at
    while walks(&way, &at):
        if a.flat:
            binary_row(a, &at, at.first, at.count)
            continue
        for r in range(at.first, at.first + at.count):
            binary_row(a, &at, r, 1)


cdef class _Binary(Step):
    """A sum or a product of two tensors of one layout. b may be one pixel for each image of a blocked tensor."""

    cdef BinaryArgs a

    cdef void describe(self, y, a, b, a_scale, a_zero, b_scale, b_zero, y_zero, low, high) except *:
        cdef BinaryArgs *args = &self.a
        self.run, self.args = run_binary, args
        args.kernels, args.tiles = self.kernels, tiles()
        self.operand(0, &args.y, y)
        self.operand(1, &args.a, a)
        self.operand(2, &args.b, b)
        args.how.a_scale, args.how.a_zero, args.how.b_scale, args.how.b_zero = a_scale, a_zero, b_scale, b_zero
        args.how.one_pixel = b.h == b.w == 1 and y.h * y.w > 1
        set_finish(&args.how.finish, y, y_zero, low, high, None)
        views = (y, a) if args.how.one_pixel else (y, a, b)
        args.flat = all([view.row == view.w * view.lanes for view in views])


cdef class Int8Add(_Binary):
    """y = clip(rint(fused(a - a_zero, a_scale, (b - b_zero) * b_scale)) + y_zero, low, high); without rounding and
    bounds where y is float32.

    Parameters
    ----------
    y, a, b : View
        OUT, uint8 or float32; IN, uint8. Of one layout.
    a_scale, b_scale : float
        Scales of a and b, divided by that of y where y is uint8.
    a_zero, b_zero, y_zero, low, high : int
    """

    def __init__(self, y, a, b, a_scale, a_zero, b_scale, b_zero, y_zero, low=0, high=255):
        self.describe(y, a, b, a_scale, a_zero, b_scale, b_zero, y_zero, low, high)


cdef class Int8Multiply(_Binary):
    """y = clip(rint((a - a_zero) * (b - b_zero) * scale) + y_zero, low, high); without rounding and bounds where y is
    float32.

    Parameters
    ----------
    y, a, b : View
        OUT, uint8 or float32; IN, uint8. Of one layout. b may have one pixel for each image: then all are blocked.
    scale : float
        The product of the scales of a and b, divided by that of y where y is uint8.
    a_zero, b_zero, y_zero, low, high : int
    """

    def __init__(self, y, a, b, scale, a_zero, b_zero, y_zero, low=0, high=255):
        self.describe(y, a, b, scale, a_zero, 0.0, b_zero, y_zero, low, high)
        self.a.multiplies = True


cdef struct TableArgs:
    fc_tensor y  # OUT
    fc_tensor x  # IN
    const fc_int8_kernels *tiles
    const uint8_t *table
    bint flat    # as in BinaryArgs


cdef void look_up_row(const TableArgs *a, const uint8_t *x, uint8_t *y, ptrdiff_t channels,
                      ptrdiff_t pixels) noexcept nogil:
    """Compute a row of a block. The block is that of the operand with more lanes."""
    cdef ptrdiff_t x_channel = a.x.block if a.x.lanes == 1 else 1, y_channel = a.y.block if a.y.lanes == 1 else 1, c, p
    if a.x.lanes == a.y.lanes:
        a.tiles.look_up(a.table, x, y, pixels * a.x.lanes)
        return
    for p in range(pixels):
        for c in range(channels):
            y[p * a.y.lanes + c * y_channel] = a.table[x[p * a.x.lanes + c * x_channel]]


cdef void run_table(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const TableArgs *a = <const TableArgs *>raw
    cdef ptrdiff_t lanes = max(a.x.lanes, a.y.lanes), r, channels
    cdef Walk way = walk(&a.x if a.x.lanes == lanes else &a.y, tid, nthreads)
    cdef Rows at
    cdef const uint8_t *x
    cdef uint8_t *y
    while walks(&way, &at):
        x = (<const uint8_t *>a.x.data + at.image * a.x.image + at.block * (lanes // a.x.lanes) * a.x.block
             + at.first * a.x.row)
        y = (<uint8_t *>a.y.data + at.image * a.y.image + at.block * (lanes // a.y.lanes) * a.y.block
             + at.first * a.y.row)
        channels = min(lanes, a.x.c - at.block * lanes)
        if a.flat:
            look_up_row(a, x, y, channels, at.count * a.x.w)
            continue
        for r in range(at.count):
            look_up_row(a, x + r * a.x.row, y + r * a.y.row, channels, a.x.w)


cdef class Int8Table(Step):
    """y = table[x], element by element. One of the views is plain, or both have the same lanes.

    Parameters
    ----------
    y, x : View
        OUT, IN; uint8, of the same logical shape.
    table : uint8 array (256,)
    """

    cdef TableArgs a

    def __init__(self, y, x, table):
        self.run, self.args = run_table, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.a.tiles, self.a.table, self.owned = tiles(), <const uint8_t *>address(table), table
        self.a.flat = x.row == x.w * x.lanes and y.row == y.w * y.lanes


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
