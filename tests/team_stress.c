/* team_stress.c: drives csrc/team.c from many threads, with random jobs, late lanes and refused threads.
 *
 * Lanes write and read memory without any atomics, as kernels do, so that ThreadSanitizer sees each missing order. A job
 * and all that it points to are written over as soon as it is done: a thread that still reads them is seen too.
 * Run by tests/test_team.py as `team_stress CALLERS JOBS SEED`.
 */
#define _GNU_SOURCE
#include <pthread.h>

/* The system refuses a thread now and then. */
static int refusing_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
#define pthread_create refusing_create
#include "../csrc/team.c"
#undef pthread_create

#include <errno.h>
#include <stdio.h>

enum { LANES = 12, STAGES = 7, PIECES = 40, KINDS = 3 };

typedef struct {
    uint64_t seed;
    int lanes, stages, is_late, paused;
    pthread_t caller;
    long scratch[LANES];                     /* a worker's own: two at once would be a race */
    long sums[STAGES][LANES];                /* written by a lane, read by all lanes of the next stage */
    _Alignas(8) uint64_t left[STAGES][LANES]; /* pieces of a lane, taken by others too */
    int done[STAGES][LANES][PIECES];
} fc_work;

static _Atomic int refusals;

static uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

static int refusing_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    const int count = atomic_fetch_add(&refusals, 1);
    return count % 5 == 3 ? EAGAIN : pthread_create(thread, attributes, start, argument);
}

static void fail(const char *what, int stage, int lane)
{
    fprintf(stderr, "team_stress: %s, stage %d, lane %d\n", what, stage, lane);
    exit(1);
}

/* What a stage does: fill its lanes' queues, take pieces from them, or sum what the stage before has left. */
static int kind_of(int stage) { return stage % KINDS; }

static int pieces_of(const fc_work *work, int stage, int lane)
{
    return (int)(mixed(work->seed + 31u * (unsigned)stage + (unsigned)lane) % PIECES);
}

/* Some lanes begin late, some leave the processor within. */
static void dawdle(const fc_work *work, int stage, int lane)
{
    const uint64_t chance = mixed(work->seed ^ ((uint64_t)stage << 20) ^ (uint64_t)lane) % 100;
    if (work->is_late && chance < 4)
        usleep(1 + (useconds_t)(chance * 400));
    else if (chance < 20)
        sched_yield();
}

static void take_pieces(fc_work *work, int stage, int lane)
{
    for (int i = 0; i < work->lanes; i++) {
        const int from = (lane + i) % work->lanes;
        ptrdiff_t piece;
        while ((piece = fc_take(&work->left[stage][from], i > 0)) >= 0)
            work->done[stage][from][piece]++;
    }
}

static void share(void *raw, int stage, int lane, int worker)
{
    fc_work *work = raw;
    if (worker < 0 || worker >= work->lanes)
        fail("a worker out of range", stage, lane);
    work->scratch[worker] = stage;
    dawdle(work, stage, lane);
    if (kind_of(stage) == 0)
        for (int later = stage; later < work->stages && later <= stage + 1; later++)
            work->left[later][lane] = (uint64_t)pieces_of(work, later, lane) << 32;
    if (kind_of(stage) == 1)
        take_pieces(work, stage, lane);
    long sum = 1;
    for (int other = 0; stage > 0 && other < work->lanes; other++)
        sum += work->sums[stage - 1][other] % 1000003;
    work->sums[stage][lane] = sum;
    if (work->scratch[worker] != stage)
        fail("a worker in two places", stage, lane);
}

static void pause_here(void *raw)
{
    fc_work *work = raw;
    if (!pthread_equal(work->caller, pthread_self()))
        fail("a pause outside the caller's thread", 0, 0);
    work->paused++;
}

static void check(const fc_work *work)
{
    long expected = 1;
    for (int stage = 0; stage < work->stages; stage++) {
        for (int lane = 0; lane < work->lanes; lane++) {
            if (work->sums[stage][lane] != expected)
                fail("another sum", stage, lane);
            for (int piece = 0; piece < PIECES; piece++) {
                const int once = kind_of(stage) == 1 && piece < pieces_of(work, stage, lane);
                if (work->done[stage][lane][piece] != once)
                    fail("a piece that is not done just once", stage, lane);
            }
        }
        expected = 1 + work->lanes * (expected % 1000003);
    }
}

typedef struct {
    uint64_t seed;
    int jobs;
} fc_caller;

static void *call(void *raw)
{
    const fc_caller *caller = raw;
    for (int i = 0; i < caller->jobs; i++) {
        fc_work work = {.seed = mixed(caller->seed + (uint64_t)i), .caller = pthread_self()};
        work.lanes = 1 + (int)(work.seed % LANES);
        work.stages = (int)((work.seed >> 8) % (STAGES + 1));
        work.is_late = (work.seed >> 16) % 4 == 0;
        fc_job job = {share, (work.seed >> 24) % 2 ? pause_here : NULL, &work, work.stages, work.lanes};
        const int threads = fc_do_job(&job);
        if (threads < 1 || threads > work.lanes)
            fail("another number of threads", work.stages, threads);
        check(&work);
        memset(&work, 0xA5, sizeof work);
        memset(&job, 0xA5, sizeof job);
        if (caller->seed % 3 == 0 && i % 16 == 0)
            usleep(300); /* the workers fall asleep */
    }
    return NULL;
}

int main(int count, char **arguments)
{
    if (count != 4) {
        fprintf(stderr, "usage: team_stress CALLERS JOBS SEED\n");
        return 2;
    }
    pthread_once(&once, set_up);
    processors = 2 * LANES; /* more threads than this machine has processors, so that many are late */
    const int callers = atoi(arguments[1]), jobs = atoi(arguments[2]);
    pthread_t *threads = malloc((size_t)callers * sizeof *threads);
    fc_caller *tasks = malloc((size_t)callers * sizeof *tasks);
    for (int round = 0; round < 2; round++) { /* the second round's threads meet the first one's teams */
        for (int i = 0; i < callers; i++) {
            tasks[i] = (fc_caller){mixed((uint64_t)atoll(arguments[3]) + (uint64_t)(round * callers + i)), jobs};
            if (pthread_create(&threads[i], NULL, call, &tasks[i]))
                return 3;
        }
        for (int i = 0; i < callers; i++)
            pthread_join(threads[i], NULL);
    }
    free(threads);
    free(tasks);
    printf("%d jobs, %d threads asked for\n", 2 * callers * jobs, atomic_load(&refusals));
    return 0;
}
