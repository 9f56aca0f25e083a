"""Values whose elements, or pixels, are those of others in another order: transposes, windows of an image, tokens."""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy

from fastcnn.kernels._loops cimport MOST_LOOPS, Loops, place, set_loops
from fastcnn.kernels._step cimport Step, blocks_of, share
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
