from cpython.object cimport PyObject
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t

from fastcnn.kernels._step cimport fc_run
from fastcnn.kernels._tiles cimport fc_tensor

# The steps of a plan, bound to memory, and how the lanes of a run share them. Tables have an entry for each step.
cdef struct Program:
    ptrdiff_t count      # number of steps
    fc_run *runs
    const void **args
    fc_tensor **outputs
    int *shared
    ptrdiff_t *pieces    # the most pieces into which a step may be cut so that threads help each other
    ptrdiff_t *least     # the fewest pieces into which a step is cut so that none takes long
    ptrdiff_t *vectors   # estimated operations on vectors
    int *watched         # whether a step calls `goes_on` within its units
    int stages
    ptrdiff_t *begins    # the first step of each stage, and the end of the last one
    int *on_caller       # whether the calling thread alone computes a stage
    int first_stage      # of the job at hand
    int lanes            # lanes of this run
    int *cuts            # pieces of a step for each lane
    uint64_t *left       # for each lane and step, the pieces that are left, as `fc_take` takes them
    float *scratch           # scratch memory of the first thread
    size_t scratch_stride    # floats from one thread's scratch memory to the next
    int last_stop        # the last stage before which the run may be stopped
    bint looks           # whether the first thread looks for signals
    int *stop            # whether to leave out the rest of the run
    int own_stop         # where `stop` points, unless several programs share one
    ptrdiff_t vectors_since  # operations on vectors since the first thread last read the clock
    double looked            # when the first thread last looked for signals
    PyObject *error          # what a signal handler has raised

# An operand in one of the caller's arrays: every run sets its address.
cdef struct Patch:
    fc_tensor *tensor
    int slot
    ptrdiff_t offset  # bytes

# Parts of a batch. Each thread runs them by its own program of one plan.
cdef struct Chunks:
    uint64_t left  # the chunks that are left, as `fc_take` takes them
    Program **programs  # of each thread
    Patch **patches
    ptrdiff_t *patch_counts
    char **arrays
    ptrdiff_t *strides
    int stop  # `stop` of all programs

cdef int run_program(Program *p, int lanes) noexcept nogil
cdef void stop_with(object error) noexcept
cdef int share_chunks(Chunks *c, int lanes) noexcept nogil
cdef void raise_error(Program *p) except *
cdef double seconds() noexcept nogil
