from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._tiles cimport fc_activation, fc_kernels, fc_tensor

# Computes part `tid` of the `nthreads` parts of a step. Each lane has one part, or several where the step is cut into
# more. `scratch` is the thread's own memory, of the size that the step requires. Its first ptrdiff_t is 0 before the
# first part that the thread computes: a part may mark there what it leaves for the next.
ctypedef void (*fc_run)(const void *args, float *scratch, int tid, int nthreads) noexcept nogil

cdef enum:
    MAX_OPERANDS = 7
    # Pixels of a panel, for which a convolution computes all output channels: docs/tuning.md, "Panels".
    PANEL_PIXELS = 196
    LINE_FLOATS = 16

# The first fields of arguments that _bands can run on some rows of an image.
cdef struct Operands:
    const fc_kernels *kernels
    fc_tensor y
    fc_tensor x

# The first fields of the arguments of layers with weights. They begin with those of Operands.
cdef struct WeightedOperands:
    const fc_kernels *kernels
    fc_tensor y
    fc_tensor x
    fc_tensor weights
    fc_tensor bias
    fc_tensor residual  # data is NULL without one

# What `goes_on` asks within a long unit of a step, before `vectors` operations on vectors.
cdef struct Watch:
    bint (*ask)(Watch *watch, ptrdiff_t vectors) noexcept nogil

cdef class Step:
    cdef fc_run run
    cdef const void *args
    cdef size_t args_size                  # bytes of args that begin with Operands, for _bands
    cdef bint shared                       # whether all threads take part; else the first computes the step
    cdef fc_tensor *operands[MAX_OPERANDS]  # the first is the output: its halo is filled
    cdef int slots[MAX_OPERANDS]           # which memory each lies in: the arena or one of the caller's arrays
    cdef ptrdiff_t offsets[MAX_OPERANDS]   # bytes from the start of that memory
    cdef size_t scratch_floats             # scratch memory of each thread
    cdef ptrdiff_t pieces                  # the most pieces for threads to help each other; 0: the step is not cut
    cdef ptrdiff_t units                   # the most parts into which the work can be divided
    cdef ptrdiff_t vectors                 # estimated operations on vectors
    cdef ptrdiff_t between                 # estimated operations between two calls of `goes_on`; 0: no calls
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

cdef const float *floats(object array) except NULL

# a / b rounded up, for a >= 0. -(-a // b) is wrong in C, which rounds towards zero.
cdef inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) noexcept nogil:
    return (a + b - 1) // b

# The floats of the smallest odd number of cache lines that holds `count` floats. Arrays at this distance lie in
# different sets of the cache, so that stores to several of them do not evict each other.
cdef inline ptrdiff_t odd_lines(ptrdiff_t count) noexcept nogil:
    return (ceil_div(count, LINE_FLOATS) | 1) * LINE_FLOATS

# The first of `total` units that thread tid computes. Its end is the first unit of thread tid + 1.
cdef inline ptrdiff_t share(ptrdiff_t total, int tid, int nthreads) noexcept nogil:
    return total * tid // nthreads

# Interleaves the filters of outputs first .. first + count, of `length` weights each, to rows of VL floats. Where
# `scale` is not NULL, it holds a factor for each filter.
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

# A thread's share of all rows of a tensor, and its position in them.
cdef struct Walk:
    ptrdiff_t blocks, height
    bint by_rows
    ptrdiff_t unit, end, block

cdef inline bint goes_by_rows(const fc_tensor *t) noexcept nogil:
    return t.h > 1 and t.h * t.w > PANEL_PIXELS

cdef inline ptrdiff_t walk_units(const fc_tensor *t) noexcept nogil:
    return t.n * t.h * (1 if goes_by_rows(t) else blocks_of(t))

# Threads divide large images by rows, as convolutions do, and small ones by channels. A thread then mostly reads values
# that it has written itself: those in another core's cache are slow to read.
cdef inline Walk walk(const fc_tensor *t, int tid, int nthreads) noexcept nogil:
    cdef Walk w
    cdef ptrdiff_t units
    w.blocks, w.height, w.block = blocks_of(t), t.h, 0
    w.by_rows = goes_by_rows(t)
    units = walk_units(t)
    w.unit, w.end = share(units, tid, nthreads), share(units, tid + 1, nthreads)
    return w

# Takes the next rows of a walk. Returns whether there are any.
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

# Whether the view is one stretch of memory without gaps.
cdef inline bint is_dense(const fc_tensor *t) noexcept nogil:
    return t.row == t.w * t.lanes and t.block == t.h * t.row and t.image == blocks_of(t) * t.block
