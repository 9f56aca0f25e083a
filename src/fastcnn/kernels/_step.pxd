from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._tiles cimport fc_activation, fc_kernels, fc_tensor

# Computes part `tid` of the `nthreads` parts of a step: one for each lane, or several where the step is cut into more.
# `scratch` is the thread's own memory, of the size that the step asked for. Its first ptrdiff_t is 0 before the first
# part that the thread computes, so that one part can tell the next what it has left there.
ctypedef void (*fc_run)(const void *args, float *scratch, int tid, int nthreads) noexcept nogil

cdef enum:
    MAX_OPERANDS = 7
    # Pixels that a convolution computes for all outputs before the next ones: docs/tuning.md, "Panels".
    PANEL_PIXELS = 196
    LINE_FLOATS = 16

# How arguments begin where another step can run them on some rows (see _bands).
cdef struct Operands:
    const fc_kernels *kernels
    fc_tensor y
    fc_tensor x

# How the arguments of layers with weights begin: as Operands, and then the other operands.
cdef struct WeightedOperands:
    const fc_kernels *kernels
    fc_tensor y
    fc_tensor x
    fc_tensor weights
    fc_tensor bias
    fc_tensor residual  # data is NULL without one

# What a thread asks within a long unit of a step before it does so many operations on vectors: whether to go on.
cdef struct Watch:
    bint (*ask)(Watch *watch, ptrdiff_t vectors) noexcept nogil

cdef class Step:
    cdef fc_run run
    cdef const void *args
    cdef size_t args_size                  # where args begin with Operands (see _bands)
    cdef bint shared                       # all threads take part; else the first does it alone
    cdef fc_tensor *operands[MAX_OPERANDS]  # the first is written, and gets zeros as its halo
    cdef int slots[MAX_OPERANDS]           # which memory each lies in, and how far from its start
    cdef ptrdiff_t offsets[MAX_OPERANDS]
    cdef size_t scratch_floats             # for each thread
    cdef ptrdiff_t pieces                  # into which threads may cut the work to help each other; 0: into none
    cdef ptrdiff_t units                   # into which the work can be divided at most
    cdef ptrdiff_t vectors                 # estimated operations on vectors
    cdef ptrdiff_t between                 # of them between two calls of `goes_on`; 0: a unit is done at once
    cdef object owned                      # arrays that args points into
    cdef const fc_kernels *kernels
    cdef void operand(self, int index, fc_tensor *tensor, object view) except *
    cdef void weights(self, int index, fc_tensor *tensor, object source) except *
    cdef void bind(self, void *args, size_t args_size, fc_activation *act, y, x, residual, weights, bias,
                   activation) except *
    cdef void may_be_cut(self, ptrdiff_t units, ptrdiff_t vectors) except *
    cdef void work(self, ptrdiff_t units, ptrdiff_t vectors) noexcept
    cdef ptrdiff_t at_a_time(self, ptrdiff_t count, ptrdiff_t each) except -1
    cdef void estimate_work(self) noexcept
    cdef ptrdiff_t unit(self) noexcept
    cdef ptrdiff_t pieces_of(self, ptrdiff_t longest) noexcept

cdef const ptrdiff_t *ONE_TAP

cdef void set_activation(fc_activation *act, object description) except *
cdef void set_gradient_activation(fc_activation *act, object description) except *
cdef const void *address(object array) except NULL
cdef fc_tensor tensor_of(object view) except *
cdef Watch *set_watch(Watch *watch) noexcept nogil
cdef bint goes_on(ptrdiff_t vectors) noexcept nogil

# Address of a C-contiguous float32 array.
cdef inline const float *floats(object array) except NULL:
    return <const float *>address(array)

# a / b rounded up, for a >= 0 (-(-a // b) is wrong in C, which rounds towards zero).
cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b

# The smallest odd number of cache lines that holds `count` floats, in floats. Stores of one vector to each of several
# arrays at this distance meet different sets of the cache.
cdef inline ptrdiff_t odd_lines(ptrdiff_t count) noexcept nogil:
    return (ceil_div(count, LINE_FLOATS) | 1) * LINE_FLOATS

# The part [low, high) of `total` units that thread tid computes.
cdef inline ptrdiff_t share(ptrdiff_t total, int tid, int nthreads) noexcept nogil:
    return total * tid // nthreads

# Puts the filters of outputs first .. first + count, `length` weights each, side by side as rows of VL floats. Where
# `scale` is not NULL, each filter is multiplied with its number.
cdef inline void interleave_filters(const fc_kernels *kernels, const float *weights, const float *scale,
                                    ptrdiff_t first, ptrdiff_t count, ptrdiff_t length, float *rows) noexcept nogil:
    cdef ptrdiff_t i, k
    kernels.interleave(weights + first * length, length, rows, count, length)
    if scale != NULL:
        for i in range(length):
            for k in range(count):
                rows[i * kernels.vl + k] *= scale[first + k]

cdef inline ptrdiff_t blocks_of(const fc_tensor *t) noexcept nogil:
    return ceil_div(t.c, t.lanes)

# Rows of an image that lie in one block of channels.
cdef struct Rows:
    ptrdiff_t image, block, first, count

# A thread's share of all rows of a tensor, some at a time.
cdef struct Walk:
    ptrdiff_t blocks, height
    bint by_rows
    ptrdiff_t unit, end, block

cdef inline bint goes_by_rows(const fc_tensor *t) noexcept nogil:
    return t.h > 1 and t.h * t.w > PANEL_PIXELS

cdef inline ptrdiff_t walk_units(const fc_tensor *t) noexcept nogil:
    return t.n * t.h * (1 if goes_by_rows(t) else blocks_of(t))

# Threads divide up large images by rows, as convolutions do, and small ones by channels. A thread then mostly reads
# what it has written: from another core's cache, values come as slowly as from memory.
cdef inline Walk walk(const fc_tensor *t, int tid, int nthreads) noexcept nogil:
    cdef Walk w
    cdef ptrdiff_t units
    w.blocks, w.height, w.block = blocks_of(t), t.h, 0
    w.by_rows = goes_by_rows(t)
    units = walk_units(t)
    w.unit, w.end = share(units, tid, nthreads), share(units, tid + 1, nthreads)
    return w

# The next rows of a walk; whether there are any.
cdef inline bint walks(Walk *w, Rows *rows) noexcept nogil:
    cdef ptrdiff_t plane
    if w.unit >= w.end:
        return False
    plane = w.unit // w.height
    rows.first = w.unit % w.height
    rows.count = min(w.height - rows.first, w.end - w.unit)
    if w.by_rows:
        rows.image, rows.block = plane, w.block
        w.block += 1
        if w.block < w.blocks:
            return True
        w.block = 0
    else:
        rows.image, rows.block = plane // w.blocks, plane % w.blocks
    w.unit += rows.count
    return True

# Whether the view is one gapless stretch of memory.
cdef inline bint is_dense(const fc_tensor *t) noexcept nogil:
    return t.row == t.w * t.lanes and t.block == t.h * t.row and t.image == blocks_of(t) * t.block
