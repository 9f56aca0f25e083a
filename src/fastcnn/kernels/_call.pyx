"""Calls without Python: a plan that is bound to memory runs from addresses to addresses, without the GIL.

The C API (capi.h) is made of them. They look for no signals and may run on any thread. Only steps in NumPy allocate
memory and take the GIL.
"""

from cpython.object cimport PyObject
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy

from fastcnn.kernels._cpu cimport note_threads
from fastcnn.kernels._executor cimport Executor
from fastcnn.kernels._program cimport Patch, Program, raise_error, run_program
from fastcnn.kernels._step cimport address

import numpy as np

cdef extern from *:
    """
    static inline int fastcnn_enter(int *busy) { return !__atomic_exchange_n(busy, 1, __ATOMIC_ACQUIRE); }
    static inline void fastcnn_leave(int *busy) { __atomic_store_n(busy, 0, __ATOMIC_RELEASE); }
    """
    bint enter "fastcnn_enter"(int *busy) nogil
    void leave "fastcnn_leave"(int *busy) nogil


cdef class Call:
    """A plan with memory of its own, for one caller at a time.

    Parameters
    ----------
    executor : Executor
        It belongs to this object alone.
    inputs, outputs : list of int
        Floats of each input and output. Those of batches that are cut into parts are contiguous.
    constants : list of arrays
    parts : int
        The number of parts into which a batch is cut.
    again : callable
        Makes another call of the same plan.
    """

    def __init__(self, Executor executor, list inputs, list constants, list outputs, ptrdiff_t parts, again):
        cdef BoundPlan *plan = &self.plan
        self.executor, self.constants, self.again = executor, constants, again
        places = [0] * len(inputs) + [<ptrdiff_t>address(array) for array in constants] + [0] * len(outputs)
        sizes = inputs + [0] * len(constants) + outputs
        self.table = np.array([places, [4 * size // parts for size in sizes], sizes], np.intp)
        plan.arrays = <char **>address(self.table)
        plan.strides = <ptrdiff_t *>plan.arrays + len(places)
        plan.sizes = plan.strides + len(places)
        plan.workspace = 4 * (len(executor.arena) + len(executor.scratch))
        plan.inputs, plan.constants, plan.outputs = len(inputs), len(constants), len(outputs)
        plan.program, plan.patches, plan.patch_count = &executor.program, executor.patches, executor.patch_count
        plan.parts, plan.max_threads, plan.busy, plan.owner = parts, executor.max_threads, 0, <PyObject *>self

    def clone(self):
        """The same plan with other memory."""
        return self.again()


cdef void take_message(Program *program, char *message) noexcept nogil:
    """Forget what has stopped a program, and keep what it says."""
    with gil:
        try:
            raise_error(program)
        except BaseException as error:
            text = (str(error) or type(error).__name__).encode("utf-8", "replace")[:CALL_MESSAGE - 1]
            memcpy(message, <const char *>text, len(text) + 1)


cdef int run_call(BoundPlan *plan, const void *const *inputs, void *const *outputs, int threads,
                  char *message) noexcept nogil:
    """Run all parts of a batch, on at most `threads` threads.

    `message` gets the text of an exception, in CALL_MESSAGE bytes.
    """
    cdef int status
    cdef ptrdiff_t i, part, first_output = plan.inputs + plan.constants
    cdef int lanes = max(1, min(threads, plan.max_threads)), had = lanes
    cdef Patch *patch
    if not enter(&plan.busy):
        return CALL_BUSY
    for i in range(plan.inputs):
        plan.arrays[i] = <char *>inputs[i]
    for i in range(plan.outputs):
        plan.arrays[first_output + i] = <char *>outputs[i]
    plan.program.looks = False
    if lanes > 1:
        note_threads()
    for part in range(plan.parts):
        for i in range(plan.patch_count):
            patch = &plan.patches[i]
            patch.tensor.data = <float *>(
                plan.arrays[patch.slot - 1] + part * plan.strides[patch.slot - 1] + patch.offset)
        had = min(had, run_program(plan.program, lanes))
        if plan.program.error != NULL:
            break
    status = CALL_LOST if had < 0 else CALL_DONE
    if plan.program.error != NULL:
        take_message(plan.program, message)
        status = CALL_RAISED
    leave(&plan.busy)
    return status
