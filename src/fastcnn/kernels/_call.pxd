from cpython.object cimport PyObject
from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._executor cimport Executor
from fastcnn.kernels._program cimport Patch, Program

# What a call returns. fastcnn/capi.h has the same numbers.
cdef enum:
    CALL_DONE = 0
    CALL_BUSY = 3  # another thread runs this plan
    CALL_LOST = 4  # the process was forked meanwhile, and the threads are in the parent
    CALL_RAISED = 5  # a step in NumPy has raised an exception; the C API has no number of its own for it
    CALL_MESSAGE = 1024  # bytes of an exception's message

# A plan with memory of its own, as `run_call` takes it. Arrays are inputs, constants and outputs, in this order.
cdef struct BoundPlan:
    Program *program
    Patch *patches
    ptrdiff_t patch_count
    char **arrays          # addresses; every call sets those of inputs and outputs
    ptrdiff_t *strides     # bytes from one part of the batch to the next; 0 for constants
    ptrdiff_t *sizes       # floats of each input and output; 0 for constants
    ptrdiff_t inputs, constants, outputs
    ptrdiff_t parts        # the number of parts into which the batch is cut
    int max_threads
    int busy
    size_t workspace       # bytes of memory, packed weights not counted
    PyObject *owner        # the Call

cdef int run_call(BoundPlan *plan, const void *const *inputs, void *const *outputs, int threads,
                  char *message) noexcept nogil

cdef class Call:
    cdef Executor executor
    cdef list constants
    cdef object table, again
    cdef BoundPlan plan
