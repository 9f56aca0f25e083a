"""Bands: a convolution and the step that reads its output, fused over some rows at a time. The feature map between them
stays in the caches.

Each thread has a window in its scratch memory: the rows of a band, and above them the rows of the band before that the
reader still needs. The convolution fills the band. The reader computes all outputs whose inputs are complete. Then the
rows that the next band needs move up. Threads share the bands. A thread that begins in the middle of an image first
computes the rows above its band again.

    window:  [ rows of the band before | rows of this band | zeros below the image ]

Fused layers: Alwani et al., Fused-Layer CNN Accelerators, 2016.
"""

from libc.limits cimport INT_MAX
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memmove, memset

from fastcnn.kernels._step cimport Operands, Step, blocks_of, ceil_div, fc_run, goes_on, share, tensor_of
from fastcnn.kernels._tiles cimport fc_tensor

from fastcnn.kernels import _step
from fastcnn.kernels.view import View

# Vectors of a window. A window is larger where this many hold fewer new rows than rows above. Inputs and outputs then
# fit the second-level cache beside it: docs/tuning.md, "Windows".
WINDOW_VECTORS = 4096
cdef enum:
    STATE_FLOATS = 16  # at the start of the scratch memory


cdef struct Part:
    fc_run run
    const void *args
    size_t size
    int pieces         # number of pieces, each short enough to finish or with calls of `goes_on` of its own
    ptrdiff_t vectors  # operations on vectors in a piece


cdef struct BandsArgs:
    fc_tensor y       # OUT blocked
    fc_tensor x       # IN  of the convolution
    fc_tensor window  # rows of one image in scratch memory; its halo is the zeros left and right of them
    Part above, whole, last, reader  # the convolution for rows above a band, for a band, for the last band
    ptrdiff_t band, bands, kept  # rows of a band; bands of an image; rows above a band in the window
    ptrdiff_t rest, below  # rows of the last band, and rows of zeros below it
    ptrdiff_t x_step   # from one row of the convolution's outputs to the next
    ptrdiff_t reach, stride, top  # of the reader: rows under its filter, stride, rows of padding above the image
    ptrdiff_t scratch, place  # where the convolution's scratch memory and the window are, in floats


cdef ptrdiff_t rows_before(const BandsArgs *a, ptrdiff_t band) noexcept nogil:
    """The rows of y that are complete before a band."""
    if band == a.bands:
        return a.y.h
    return max(0, min(a.y.h, (band * a.band + a.top - a.reach + a.stride) // a.stride))


cdef float *window_row(const BandsArgs *a, float *scratch, ptrdiff_t row) noexcept nogil:
    """The first pixel of a row of the window; row 0 is the band's first one."""
    return scratch + a.place + (a.kept + row) * a.window.row + a.window.left * a.window.lanes


cdef void compute(const Part *part, float *scratch, ptrdiff_t place, const float *x, float *y,
                  ptrdiff_t rows) noexcept nogil:
    """Run a part from x to `rows` rows of y. Its own scratch memory is at `place`."""
    cdef Operands *own = <Operands *>(scratch + STATE_FLOATS)
    cdef int piece
    memcpy(own, part.args, part.size)
    own.x.data, own.y.data, own.y.h = <float *>x, y, rows
    for piece in range(part.pieces):
        if part.pieces > 1 and not goes_on(part.vectors):
            return
        part.run(own, scratch + place, piece, part.pieces)


cdef void zero_rows(const BandsArgs *a, float *scratch, ptrdiff_t first, ptrdiff_t count) noexcept nogil:
    cdef ptrdiff_t block
    for block in range(blocks_of(&a.window)):
        memset(window_row(a, scratch, first) - a.window.left * a.window.lanes + block * a.window.block, 0,
               count * a.window.row * sizeof(float))


cdef void zero_columns(const BandsArgs *a, float *scratch) noexcept nogil:
    """Fill the halo of all rows of the window with zeros."""
    cdef ptrdiff_t block, row, lanes = a.window.lanes
    cdef float *pixel
    for block in range(blocks_of(&a.window)):
        for row in range(a.window.h):
            pixel = window_row(a, scratch, row - a.kept) + block * a.window.block
            memset(pixel - a.window.left * lanes, 0, a.window.left * lanes * sizeof(float))
            memset(pixel + a.window.w * lanes, 0, a.window.right * lanes * sizeof(float))


cdef void move_up(const BandsArgs *a, float *scratch, ptrdiff_t first) noexcept nogil:
    """Move the rows of a band from `first` on to where the next band reads them."""
    cdef ptrdiff_t block
    cdef float *start = window_row(a, scratch, first) - a.window.left * a.window.lanes
    for block in range(blocks_of(&a.window) if first < a.band else 0):
        memmove(start + block * a.window.block - a.band * a.window.row, start + block * a.window.block,
                (a.band - first) * a.window.row * sizeof(float))


cdef void run_bands(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are bands. The first number in the scratch memory is the unit for which the rows above are ready."""
    cdef const BandsArgs *a = <const BandsArgs *>raw
    cdef ptrdiff_t units = a.y.n * a.bands, unit, band, first, low, high
    cdef ptrdiff_t *ready = <ptrdiff_t *>scratch
    cdef const float *x
    cdef float *y
    if ready[0] == 0:
        zero_columns(a, scratch)
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        band, first = unit % a.bands, unit % a.bands * a.band
        x = a.x.data + unit // a.bands * a.x.image + first * a.x_step
        y = a.y.data + unit // a.bands * a.y.image
        if band == 0:
            zero_rows(a, scratch, -a.top, a.top)
        elif ready[0] != unit and a.kept > 0:
            compute(&a.above, scratch, a.scratch, x - a.kept * a.x_step, window_row(a, scratch, -a.kept), a.kept)
        if band + 1 < a.bands:
            compute(&a.whole, scratch, a.scratch, x, window_row(a, scratch, 0), a.band)
        else:
            compute(&a.last, scratch, a.scratch, x, window_row(a, scratch, 0), a.rest)
            zero_rows(a, scratch, a.rest, a.below)
        low, high = rows_before(a, band), rows_before(a, band + 1)
        if low < high:
            compute(&a.reader, scratch, a.scratch, window_row(a, scratch, low * a.stride - a.top - first),
                    y + low * a.y.row, high - low)
        if band + 1 < a.bands:
            move_up(a, scratch, max(a.band - a.kept, high * a.stride - a.top - first))
        ready[0] = unit + 1


cdef Part part_of(Step step) except *:
    cdef Part part
    cdef ptrdiff_t units = step.pieces_of(_step.LONGEST_PIECE)
    part.run, part.args, part.size = step.run, step.args, step.args_size
    part.pieces = <int>min(units, <ptrdiff_t>INT_MAX)
    part.vectors = step.vectors // part.pieces
    return part


def band_rows(ptrdiff_t height, ptrdiff_t most, ptrdiff_t kept, ptrdiff_t stride):
    """Rows of a band, in an image of `height` rows. A window has room for `most` rows, `kept` of them above the band.
    A band is a multiple of the reader's `stride`. The last band may have fewer rows. The number of bands is even where
    that is possible: two threads then have the same work.

    Examples
    --------
    >>> band_rows(112, 17, 2, 1), band_rows(111, 18, 2, 2), band_rows(5, 17, 2, 1), band_rows(112, 1, 2, 1)
    (14, 14, 5, 2)
    """
    cdef ptrdiff_t bands = ceil_div(height, max(1, kept, most - kept))
    if bands > 1:
        bands += bands % 2
    return max(kept, ceil_div(ceil_div(height, bands), stride) * stride)


cdef class InBands(Step):
    """A convolution fused with the step that reads its rows.

    Parameters
    ----------
    y, x : View
        OUT of the reader; IN of the convolution.
    conv, reader : callable
        Takes the views of an output and an input, of one image, and returns a step. `conv` makes a `DirectConv`.
        `reader` makes a `DepthwiseConv` or a `Pool`. Its padding above and below is zeros in x.
    between : (C, H, W)
        Shape of the convolution's output.
    step : int
        Vertical stride of the convolution.
    reach, stride, top : int
        Of the reader: rows under its filter, vertical stride, rows of padding above the image.
    left, right : int
        Pixels of padding beside each row that the reader reads.
    """

    cdef BandsArgs a

    def __init__(self, y, x, conv, reader, between, step, reach, stride, top, left, right):
        cdef BandsArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl
        cdef Step above, whole, last, reading
        channels, height, width = between
        blocks, row = ceil_div(channels, vl), (left + width + right) * vl
        self.run, self.args = run_bands, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kept, a.reach, a.stride, a.top = reach - 1, reach, stride, top
        a.band = band_rows(height, WINDOW_VECTORS * vl // (blocks * row), a.kept, stride)
        a.bands = ceil_div(height, a.band)
        a.rest = height - (a.bands - 1) * a.band
        a.below = max(0, (y.h - 1) * stride + reach - top - height)
        a.x_step = step * a.x.row
        rows = a.kept + max(a.band, a.rest + a.below)
        window = View(1, channels, rows, width, blocks * rows * row, rows * row, row, vl, (0, left, 0, right))
        a.window = tensor_of(window)
        image = x._replace(n=1)
        above, whole, last = (conv(window._replace(h=h), image) for h in (max(1, a.kept), a.band, a.rest))
        reading = reader(y._replace(n=1), window)
        a.above, a.whole, a.last, a.reader = part_of(above), part_of(whole), part_of(last), part_of(reading)
        self.owned = above, whole, last, reading
        a.scratch = STATE_FLOATS + ceil_div(max(whole.args_size, reading.args_size), 64) * 16
        a.place = a.scratch + ceil_div(max(above.scratch_floats, whole.scratch_floats, last.scratch_floats), 16) * 16
        self.scratch_floats = a.place + window.image
        self.may_be_cut(y.n * a.bands, y.n * (a.bands * whole.vectors + reading.vectors))
        self.at_a_time(1, max(whole.longest, a.whole.vectors, reading.longest, a.reader.vectors))
