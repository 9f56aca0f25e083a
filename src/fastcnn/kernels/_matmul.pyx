"""Batched matrix products of two computed values. Both are packed strip by strip in scratch memory, as they lie."""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset

import numpy as np

from fastcnn.kernels._product cimport PASS_STEPS, Product, multiply, packed_block, set_strips, taps_of
from fastcnn.kernels._step cimport LINE_FLOATS, Step, address, ceil_div, goes_on, set_activation, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_scaled_pixels, fc_tensor

cdef enum:
    # Columns of the right matrix that are packed for many strips, and floats of a strip of the left one:
    # docs/tuning.md, "Matrix products".
    PANEL_COLUMNS = 256
    PANEL_FLOATS = 65536
    STRIP_FLOATS = 32768


# One of the two operands: where its matrices begin, and how the two axes of each lie.
cdef struct Side:
    const ptrdiff_t *offsets
    ptrdiff_t row
    bint turned


cdef struct MatMulArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor a  # IN
    fc_tensor b  # IN
    Side left, right
    const ptrdiff_t *y_offsets
    Product product
    fc_scaled_pixels results
    float scale
    ptrdiff_t batch, rows, columns, inner
    ptrdiff_t strip, strips    # rows of a strip at most, and number of strips
    ptrdiff_t panel, panels    # blocks of columns of a panel at most, and number of panels
    ptrdiff_t passes           # over the inner axis
    ptrdiff_t left_at, result_at  # places in scratch memory
    bint watched


cdef ptrdiff_t first_step(const MatMulArgs *a, ptrdiff_t number) noexcept nogil:
    """Where a pass begins on the inner axis: at a multiple of VL."""
    return min(a.inner, share(ceil_div(a.inner, a.kernels.vl), <int>number, <int>a.passes) * a.kernels.vl)


cdef void copy_part(const float *x, ptrdiff_t x_row, ptrdiff_t count, float *y, ptrdiff_t y_row, ptrdiff_t rows,
                    ptrdiff_t vl) noexcept nogil:
    """Copy `count` floats of each row to the first lanes of a vector. The other lanes become zero."""
    cdef ptrdiff_t r
    for r in range(rows):
        memcpy(y + r * y_row, x + r * x_row, count * sizeof(float))
        memset(y + r * y_row + count, 0, (vl - count) * sizeof(float))


cdef void pack_right(const MatMulArgs *a, ptrdiff_t matrix, ptrdiff_t first, ptrdiff_t blocks, ptrdiff_t start,
                     ptrdiff_t steps, float *packed) noexcept nogil:
    """Pack steps start .. start + steps of some blocks of columns, as `multiply` reads them."""
    cdef ptrdiff_t vl = a.kernels.vl, block, column, count, step = 0
    cdef const float *b = a.b.data + a.right.offsets[matrix]
    cdef float *to
    for block in range(blocks):
        column = (first + block) * vl
        count = min(vl, a.columns - column)
        to = packed_block(a.kernels, packed, steps, block, blocks, &step)
        if a.right.turned:
            a.kernels.turn(b + column * a.right.row + start, a.right.row, to, step, count, steps)
        elif count == vl:
            a.kernels.copy_pixels(b + start * a.right.row + column, a.right.row, to, step, steps)
        else:
            copy_part(b + start * a.right.row + column, a.right.row, count, to, step, steps, vl)


cdef void pack_left(const MatMulArgs *a, ptrdiff_t matrix, ptrdiff_t first, ptrdiff_t rows, ptrdiff_t start,
                    ptrdiff_t steps, float *packed) noexcept nogil:
    """Pack steps start .. start + steps of some rows: [block of VL steps][row][VL]."""
    cdef ptrdiff_t vl = a.kernels.vl, block, count, place
    cdef const float *x = a.a.data + a.left.offsets[matrix]
    cdef float *to
    for block in range(ceil_div(steps, vl)):
        count = min(vl, steps - block * vl)
        to = packed + block * vl * a.strip
        place = start + block * vl
        if a.left.turned:
            a.kernels.interleave(x + place * a.left.row + first, a.left.row, to, count, rows)
        elif count == vl:
            a.kernels.copy_pixels(x + first * a.left.row + place, a.left.row, to, vl, rows)
        else:
            copy_part(x + first * a.left.row + place, a.left.row, count, to, vl, rows, vl)


cdef void run_matmul(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (matrix, panel of columns, strip of rows). A panel that is packed serves the following strips. The
    first number in the scratch memory tells which one it is."""
    cdef const MatMulArgs *a = <const MatMulArgs *>raw
    cdef ptrdiff_t units = a.batch * a.panels * a.strips, unit
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        if not compute_strip(a, unit // a.strips, <int>(unit % a.strips), scratch):
            return


cdef bint compute_strip(const MatMulArgs *a, ptrdiff_t number, int strip, float *scratch) noexcept nogil:
    """Compute a strip of rows for panel `number` of all panels. Returns whether the run continues."""
    cdef ptrdiff_t vl = a.kernels.vl, matrix = number // a.panels, blocks = ceil_div(a.columns, vl)
    cdef ptrdiff_t first = share(blocks, <int>(number % a.panels), <int>a.panels), start, steps, i
    cdef ptrdiff_t count = share(blocks, <int>(number % a.panels) + 1, <int>a.panels) - first
    cdef ptrdiff_t row = share(a.rows, strip, <int>a.strips), rows = share(a.rows, strip + 1, <int>a.strips) - row
    cdef ptrdiff_t *ready = <ptrdiff_t *>scratch
    cdef float *right = scratch + LINE_FLOATS
    cdef Product product = a.product
    cdef fc_scaled_pixels results = a.results
    for i in range(a.passes):
        start = first_step(a, i)
        steps = first_step(a, i + 1) - start
        if a.watched and not goes_on((rows + count * vl) * steps):
            return False
        if a.passes > 1 or ready[0] != number + 1:
            pack_right(a, matrix, first, count, start, steps, right)
            ready[0] = number + 1
        pack_left(a, matrix, row, rows, start, steps, scratch + a.left_at)
        product.inner = steps
        if not multiply(&product, scratch + a.left_at, right, scratch + a.result_at, rows, count, i > 0):
            return False
    results.x, results.scale, results.pixels = scratch + a.result_at, &a.scale, rows
    results.channels = min(count * vl, a.columns - first * vl)
    results.y = a.y.data + a.y_offsets[matrix] + row * results.y_pixel + first * vl
    a.kernels.scale_pixels(&results)
    return True


cdef class MatMul(Step):
    """y = act(scale * a @ b) for a batch of matrices.

    Parameters
    ----------
    y, a, b : View
        OUT, IN, IN; plain.
    sizes : (rows, columns, inner)
        Of each product, at least 1.
    pitches : three int
        In y, a and b, from one row in memory to the next.
    offsets : (3, batch) array of intp
        Where each matrix of y, a and b begins.
    turned : pair of bool
        Whether the matrices of a, and those of b, are read transposed.
    scale : float
    activation : None or (name, attributes)
    """

    cdef MatMulArgs a

    def __init__(self, y, a, b, sizes, pitches, offsets, turned, double scale, activation):
        cdef MatMulArgs *own = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, mr = self.kernels.mr, blocks, steps
        self.run, self.args = run_matmul, own
        self.operand(0, &own.y, y)
        self.operand(1, &own.a, a)
        self.operand(2, &own.b, b)
        own.kernels, own.scale = self.kernels, scale
        own.rows, own.columns, own.inner = sizes
        own.results.y_pixel, own.left.row, own.right.row = pitches
        own.left.turned, own.right.turned = turned
        offsets = np.ascontiguousarray(offsets, np.intp)
        own.batch = offsets.shape[1]
        own.y_offsets = <const ptrdiff_t *>address(offsets)
        own.left.offsets, own.right.offsets = own.y_offsets + own.batch, own.y_offsets + 2 * own.batch
        blocks, own.passes = ceil_div(own.columns, vl), max(1, ceil_div(own.inner, PASS_STEPS))
        steps = max(1, ceil_div(ceil_div(own.inner, vl), own.passes)) * vl
        own.panels = max(1, ceil_div(blocks * vl, max(4 * vl, min(PANEL_COLUMNS, PANEL_FLOATS // steps))))
        own.panel = ceil_div(blocks, own.panels)
        own.strips = max(1, ceil_div(own.rows, mr * max(1, min(8, STRIP_FLOATS // (steps * mr)))))
        own.strip = ceil_div(own.rows, own.strips)
        own.left_at = LINE_FLOATS + own.panel * vl * steps
        own.result_at = own.left_at + own.strip * steps
        self.scratch_floats = own.result_at + own.panel * vl * own.strip
        taps = taps_of(steps // vl, own.strip * vl)
        set_strips(&own.product, self.kernels, <const ptrdiff_t *>address(taps), steps, own.strip * vl)
        own.results.x_block, own.results.y_block = own.strip * vl, vl
        set_activation(&own.results.act, activation)
        self.owned = offsets, taps
        self.may_be_cut(own.batch * own.panels * own.strips, own.batch * own.rows * blocks * own.inner)
        # Between two calls lies the packing of a pass, or a product of it.
        own.watched = own.product.watched = self.at_a_time(own.passes, own.strip * own.panel * steps) > 0
