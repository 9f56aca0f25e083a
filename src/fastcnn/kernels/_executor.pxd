from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._program cimport Patch, Program
from fastcnn.kernels._step cimport Step

cdef class Executor:
    cdef list steps
    cdef object arena, scratch
    cdef Program program
    cdef Patch *patches  # operands in the caller's arrays
    cdef ptrdiff_t patch_count
    cdef readonly int max_threads
    cdef void reserve(self, ptrdiff_t count) except *
    cdef void bind(self, Step step, char *arena) noexcept
    cdef void bind_arrays(self, list arrays) except *
    cdef void run_bound(self, int nthreads) except *
