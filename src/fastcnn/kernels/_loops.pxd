# Nested loops over arrays whose elements lie apart, as broadcast, transposed and reduced ones do.

from libc.stddef cimport ptrdiff_t

cdef enum:
    MOST_LOOPS = 8
    MOST_LOOP_OPERANDS = 3

# The outermost loop first: how often each runs, and the steps of each operand from one round to the next.
cdef struct Loops:
    int count
    ptrdiff_t units  # the product of the sizes
    ptrdiff_t sizes[MOST_LOOPS]
    ptrdiff_t steps[MOST_LOOP_OPERANDS][MOST_LOOPS]

cdef inline int set_loops(Loops *loops, sizes, steps) except -1:
    """Set the loops. `steps` has a row for each operand."""
    cdef int i, k
    if len(sizes) > MOST_LOOPS:
        raise ValueError(f"{len(sizes)} loops, expected at most {MOST_LOOPS}")
    loops.count, loops.units = len(sizes), 1
    for i in range(loops.count):
        loops.sizes[i] = sizes[i]
        loops.units *= loops.sizes[i]
        for k in range(len(steps)):
            loops.steps[k][i] = steps[k][i]
    return 0

cdef inline ptrdiff_t place(const Loops *loops, int operand, ptrdiff_t unit) noexcept nogil:
    """Where an operand begins in a unit."""
    cdef ptrdiff_t offset = 0
    cdef int i
    for i in range(loops.count - 1, -1, -1):
        offset += unit % loops.sizes[i] * loops.steps[operand][i]
        unit //= loops.sizes[i]
    return offset
