"""Values whose elements, or pixels, are those of others in another order: transposes, windows of an image, tokens."""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy

from fastcnn.kernels._loops cimport MOST_LOOPS, Loops, place, set_loops
from fastcnn.kernels._step cimport Step, address, blocks_of, share
from fastcnn.kernels._tiles cimport fc_tensor

MOST = MOST_LOOPS


cdef struct MoveArgs:
    fc_tensor y  # OUT
    fc_tensor x  # IN
    Loops images, pixels
    ptrdiff_t run  # neighbouring pixels of x that are neighbours in y


cdef void run_move(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are the planes of y: one block of channels of one image."""
    cdef const MoveArgs *a = <const MoveArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.y), units = a.y.n * blocks, pixels = a.y.h * a.y.w, lanes = a.y.lanes
    cdef ptrdiff_t unit, pixel, k, end
    cdef const float *x
    cdef float *y
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        x = a.x.data + place(&a.images, 0, unit // blocks) + unit % blocks * a.x.block
        y = a.y.data + unit // blocks * a.y.image + unit % blocks * a.y.block
        pixel = 0
        while pixel < pixels:
            end = min(a.run, a.y.w - pixel % a.y.w) if a.y.row != a.y.w * lanes else a.run
            k = pixel % a.run
            end = min(end, a.run - k)
            memcpy(y + pixel // a.y.w * a.y.row + pixel % a.y.w * lanes, x + place(&a.pixels, 0, pixel),
                   end * lanes * sizeof(float))
            pixel += end


cdef class MovePixels(Step):
    """y = x with its pixels in another order, or some of them.

    Parameters
    ----------
    y, x : View
        OUT, IN; in blocks of channels.
    images, pixels : list of (int, int)
        Loops over the images and the pixels of y, the outermost first: how often, and the floats of x from one round to
        the next. At most `MOST` each.
    """

    cdef MoveArgs a

    def __init__(self, y, x, images, pixels):
        self.run, self.args = run_move, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        loops_over(&self.a.images, images)
        loops_over(&self.a.pixels, pixels)
        size, step = pixels[len(pixels) - 1] if pixels else (1, 0)
        self.a.run = size if step == y.lanes else 1


cdef int loops_over(Loops *loops, object pairs) except -1:
    """Set the loops over what is read, from pairs of size and step. What is written lies in order."""
    return set_loops(loops, [size for size, _ in pairs], [[step for _, step in pairs]])


cdef struct ElementArgs:
    fc_tensor y  # OUT
    fc_tensor x  # IN
    const ptrdiff_t *places  # of each phase and channel of y, floats behind the pixel of x
    ptrdiff_t phases         # rows and columns of y that begin at one pixel of x
    ptrdiff_t row, pixel     # floats of x to the next pixel that is read


cdef void run_elements(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are the rows of y: of one block of channels of one image."""
    cdef const ElementArgs *a = <const ElementArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.y), lanes = a.y.lanes, units = a.y.n * blocks * a.y.h, columns, count
    cdef ptrdiff_t unit, row, block, phase, c
    cdef const ptrdiff_t *places
    cdef const float *x
    cdef float *y
    cdef bint in_order
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        row, block = unit % a.y.h, unit // a.y.h % blocks
        count, columns = min(lanes, a.y.c - block * lanes), a.y.w // a.phases
        for phase in range(a.phases):
            y = (a.y.data + unit // a.y.h // blocks * a.y.image + block * a.y.block + row * a.y.row + phase * lanes)
            x = a.x.data + unit // a.y.h // blocks * a.x.image + row // a.phases * a.row
            places = a.places + (row % a.phases * a.phases + phase) * a.y.c + block * lanes
            in_order = True
            for c in range(count):
                in_order = in_order and places[c] == places[0] + c
            for _ in range(columns):
                if in_order:
                    memcpy(y, x + places[0], count * sizeof(float))
                else:
                    for c in range(count):
                        y[c] = x[places[c]]
                for c in range(count, lanes):
                    y[c] = 0
                y, x = y + a.phases * lanes, x + a.pixel


cdef class MoveElements(Step):
    """y = elements of x, which may change their channel, row and column: between depth and space.

    Parameters
    ----------
    y, x : View
        OUT, IN; plain or in blocks of channels.
    places : array of intp
        For each of phases * phases neighbouring pixels of y, the floats from a pixel of x to the element of each
        channel.
    phases : int
        How many rows, and columns, of y begin at the same pixel of x.
    step : int
        Rows, and columns, of x to the next pixel that is read.
    """

    cdef ElementArgs a

    def __init__(self, y, x, places, ptrdiff_t phases, ptrdiff_t step):
        self.run, self.args = run_elements, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.owned = places
        self.a.places, self.a.phases = <const ptrdiff_t *>address(places), phases
        self.a.row, self.a.pixel = step * self.a.x.row, step * self.a.x.lanes


cdef struct GatherArgs:
    fc_tensor y  # OUT plain
    fc_tensor x  # IN  plain
    Loops rows
    ptrdiff_t size, step  # of the innermost loop


cdef void run_gather(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are the rounds of the innermost loop."""
    cdef const GatherArgs *a = <const GatherArgs *>raw
    cdef ptrdiff_t units = a.y.w // a.size, unit, i
    cdef const float *x
    cdef float *y
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        y, x = a.y.data + unit * a.size, a.x.data + place(&a.rows, 0, unit)
        if a.step == 1:
            memcpy(y, x, a.size * sizeof(float))
        else:
            for i in range(a.size):
                y[i] = x[i * a.step]


cdef class Gather(Step):
    """y = elements of x in the order of nested loops.

    Parameters
    ----------
    y, x : View
        OUT without gaps, as one row; IN plain.
    loops : list of (int, int)
        The outermost first: how often, and the floats of x from one round to the next. At most `MOST`.
    """

    cdef GatherArgs a

    def __init__(self, y, x, loops):
        self.run, self.args = run_gather, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        *rows, (self.a.size, self.a.step) = loops
        loops_over(&self.a.rows, rows)
