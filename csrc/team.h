/* team.h: threads that do a job together.
 *
 * A job is a sequence of stages. Each stage is divided into lanes, one for each thread that is wanted. The next stage
 * begins when all lanes of the one before are done. Each worker thread has a lane of its own, lane 0 is the caller's.
 * Whoever is done with its own lane takes over lanes that their threads have not begun. A thread that is late, busy
 * elsewhere or does not exist therefore holds up nobody: the caller can do a whole job alone.
 *
 * What a lane computes is the business of kernels/_executor.pyx. Linux only: threads sleep on futexes.
 */
#ifndef FASTCNN_TEAM_H
#define FASTCNN_TEAM_H

#include <stddef.h>
#include <stdint.h>

enum { FC_MOST_LANES = 256 };

typedef struct {
    /* Compute one lane of a stage. `worker` tells the thread: the caller is 0, all are below `lanes`. */
    void (*share)(void *work, int stage, int lane, int worker);
    /* Called by the caller's thread every few milliseconds while it waits for others; may be NULL. */
    void (*pause)(void *work);
    void *work;
    int stages, lanes;
} fc_job;

enum { FC_JOB_LOST = -1 }; /* the process was forked while the job ran, and its threads are in the parent */

/* Do a job. Gives `lanes`; fewer where the system has refused threads; or FC_JOB_LOST. Any thread may call, several at
 * once: where other teams have enough threads for all processors, the caller does the job alone. */
int fc_do_job(const fc_job *job);

/* Seconds of a clock that only goes forward. */
double fc_seconds(void);

/* Pieces [low 32 bits, high 32 bits) are left. One is taken from the front by who is to do them, or from the back by
 * who helps; -1: none is left. What a piece has computed is handed over at the end of the stage. */
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
