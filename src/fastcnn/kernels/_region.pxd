# How the threads of a parallel region meet, and take work from each other. What the work is, is _executor's business.

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <omp.h>
    #include <sched.h>
    #include <stdint.h>
    #if defined(__x86_64__)
    #define FC_PAUSE __builtin_ia32_pause
    #else
    #define FC_PAUSE() ((void)0)
    #endif

    /* Threads of a region meet here: a counter and the number of meetings so far, each in a cache line of its own.
     * The OpenMP barrier takes ten times as long. Who waits for long gives the processor away, so that more threads
     * than processors do not stand in each other's way. */
    typedef struct {
        int arrived;
        char apart[124];
        int meetings;
    } fc_meeting;
    #define FC_SPINS 10000

    static inline void fc_meet(fc_meeting *m, int nthreads)
    {
        const int meetings = __atomic_load_n(&m->meetings, __ATOMIC_ACQUIRE);
        if (__atomic_add_fetch(&m->arrived, 1, __ATOMIC_ACQ_REL) == nthreads) {
            __atomic_store_n(&m->arrived, 0, __ATOMIC_RELAXED);
            __atomic_store_n(&m->meetings, meetings + 1, __ATOMIC_RELEASE);
            return;
        }
        for (int spins = 0; __atomic_load_n(&m->meetings, __ATOMIC_ACQUIRE) == meetings; spins++)
            if (spins > FC_SPINS)
                sched_yield();
            else
                FC_PAUSE();
    }

    /* Pieces [low 32 bits, high 32 bits) are left. One is taken from the front by who is to do them, or from the back by
     * who helps; -1: none is left. What a piece has computed is handed over by the next meeting. */
    static inline int64_t fc_take(uint64_t *left, int helps)
    {
        uint64_t old = __atomic_load_n(left, __ATOMIC_RELAXED), rest;
        do {
            if ((uint32_t)old == old >> 32)
                return -1;
            rest = helps ? old - ((uint64_t)1 << 32) : old + 1;
        } while (!__atomic_compare_exchange_n(left, &old, rest, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
        return helps ? (int64_t)(rest >> 32) : (uint32_t)old;
    }

    typedef void (*fc_body)(void *program, int tid, int nthreads);
    static void fc_region(fc_body body, void *program, int nthreads)
    {
        if (nthreads == 1) {
            body(program, 0, 1);
            return;
        }
        _Pragma("omp parallel num_threads(nthreads)")
        body(program, omp_get_thread_num(), omp_get_num_threads());
    }
    """
    ctypedef struct fc_meeting:
        pass
    void fc_meet(fc_meeting *meeting, int nthreads) noexcept nogil
    ptrdiff_t fc_take(uint64_t *left, int helps) noexcept nogil
    double omp_get_wtime() noexcept nogil
    ctypedef void (*fc_body)(void *program, int tid, int nthreads) noexcept nogil
    void fc_region(fc_body body, void *program, int nthreads) noexcept nogil
