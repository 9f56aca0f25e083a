from cpython.object cimport PyObject
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t

from fastcnn.kernels._step cimport fc_run
from fastcnn.kernels._tiles cimport fc_tensor

# The steps of a plan, bound to memory, and how they are shared in this run.
cdef struct Program:
    ptrdiff_t count
    fc_run *runs
    const void **args
    fc_tensor **outputs
    int *shared
    ptrdiff_t *pieces    # into which threads may cut a step to help each other,
    ptrdiff_t *least     # into which it is cut so that none takes long,
    ptrdiff_t *vectors   # and operations on vectors that it takes, about
    int *watched         # whether it calls `goes_on` within its units
    int stages
    ptrdiff_t *begins    # the first step of each stage, and the end of the last one
    int lanes            # among which this run deals the pieces of the steps
    int *cuts            # of each step: its pieces for each lane
    uint64_t *left       # of each step and lane: the pieces that are left, as of `fc_take`
    float *scratch           # of the first thread
    size_t scratch_stride    # from one thread's to the next
    int last_stop        # the last stage before which the run may be stopped
    bint looks           # whether the first thread looks for signals
    int *stop            # whether the rest of the run is left out
    int own_stop         # where `stop` points, unless several programs share one
    ptrdiff_t vectors_since  # operations on vectors since the first thread last asked for the time
    double looked            # when the first thread last looked for signals
    PyObject *error          # what a signal handler has raised

# An operand that lies in the caller's arrays: its address is filled in by every run.
cdef struct Patch:
    fc_tensor *tensor
    int slot
    ptrdiff_t offset

# Parts of a batch, for programs of one plan on a thread each.
cdef struct Chunks:
    uint64_t left  # as of `fc_take`
    Program **programs  # of each thread
    Patch **patches
    ptrdiff_t *patch_counts
    char **arrays
    ptrdiff_t *strides
    int stop  # of all programs

cdef int run_program(Program *p, int lanes) noexcept nogil
cdef int share_chunks(Chunks *c, int lanes) noexcept nogil
cdef void raise_error(Program *p) except *
cdef double seconds() noexcept nogil
