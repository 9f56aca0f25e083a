# Declarations of csrc/team.h and csrc/float_modes.h, which explain them.

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t

cdef extern from "team.h" nogil:
    ctypedef struct fc_job:
        void (*share)(void *work, int stage, int lane, int worker) noexcept nogil
        void (*pause)(void *work) noexcept nogil
        void *work
        int stages, lanes

    enum:
        FC_JOB_LOST
        FC_MOST_LANES

    int fc_do_job(const fc_job *job)
    double fc_seconds()
    ptrdiff_t fc_take(uint64_t *left, int helps)

cdef extern from "float_modes.h" nogil:
    unsigned long fc_default_float_modes()
    void fc_restore_float_modes(unsigned long modes)
