/* team.h: threads that share a job.
 *
 * A job is a sequence of stages. Each stage is divided into lanes, one for each thread that is wanted. The next stage
 * begins when all lanes of the one before are done. Each worker thread has a lane of its own, lane 0 is the caller's.
 * A thread that is done with its own lane takes over lanes that their threads have not begun. A thread that is late,
 * busy elsewhere or does not exist therefore holds up nobody: the caller can do all of a job alone.
 *
 * What a lane computes is the business of kernels/_executor.pyx, and what the system does for threads that of system.h.
 */
#ifndef FASTCNN_TEAM_H
#define FASTCNN_TEAM_H

#include <stddef.h>
#include <stdint.h>

enum { FC_MOST_LANES = 256 };

typedef struct {
    /* Compute one lane of a stage. `worker` is the number of the thread, below `lanes`: the caller is 0. */
    void (*share)(void *work, int stage, int lane, int worker);
    /* Called by the caller's thread every few milliseconds while it waits for others; may be NULL. */
    void (*pause)(void *work);
    void *work;
    int stages, lanes;
} fc_job;

enum { FC_JOB_LOST = -1 }; /* the process was forked while the job ran, and its threads are in the parent */

/* Do a job. Returns `lanes`, fewer where the system has refused threads, or FC_JOB_LOST. Several threads may call at
 * the same time. Where other teams have enough threads for all processors, the caller does the job alone. */
int fc_do_job(const fc_job *job);

/* Seconds of a clock that only goes forward. */
double fc_seconds(void);

/* Take one of the pieces that are left: the low 32 bits of `left` are the first, the high 32 bits their end. Their own
 * thread takes from the front, a thread that helps from the back. -1: none is left. The order is relaxed, as the end of
 * a stage publishes what pieces have computed. */
static inline ptrdiff_t fc_take(uint64_t *left, int helps)
{
    uint64_t old = __atomic_load_n(left, __ATOMIC_RELAXED), rest;
    do {
        if ((uint32_t)old == old >> 32)
            return -1;
        rest = helps ? old - ((uint64_t)1 << 32) : old + 1;
    } while (!__atomic_compare_exchange_n(left, &old, rest, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return helps ? (ptrdiff_t)(rest >> 32) : (ptrdiff_t)(uint32_t)old;
}

#endif
