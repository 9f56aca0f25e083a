/* team.c: the threads of team.h.
 *
 * The stages of all jobs of a team are numbered in sequence: a number never returns. A lane holds the number of the
 * stage that it begins next. A thread begins the lane by raising that number by one. A thread that wakes up late, with
 * a number of an earlier job, therefore begins nothing. Teams are never freed, so that it may look.
 */
#define _GNU_SOURCE
#include "float_modes.h"
#include "system.h"
#include "team.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#define pause_cpu() _mm_pause()
#elif defined(__aarch64__)
#define pause_cpu() __asm__ volatile("isb")
#else
#define pause_cpu() ((void)0)
#endif

#define CACHE_LINE 64
enum {
    MOST_TEAMS = 64,
#ifdef __SANITIZE_ADDRESS__
    STACK_BYTES = 1 << 23, /* the sanitizer puts guards around each vector on the stack of an unrolled tile */
#else
    STACK_BYTES = 1 << 18,
#endif
    /* Microseconds after which a thread that waits takes over a lane that nobody has begun, and after which it sleeps:
     * docs/tuning.md, "Waiting". */
    PATIENCE = 2,
    WAKEFULNESS = 100,
    PAUSE_MILLISECONDS = 10,
    /* After the system has refused a thread, a team asks for another one after this many jobs. */
    JOBS_UNTIL_RETRY = 1000,
};

struct team;

typedef struct {
    _Alignas(CACHE_LINE) _Atomic uint64_t next; /* the stage that the lane begins next */
    _Atomic int missed;                         /* another thread has begun the last stage of this lane */
    /* State of the worker whose lane it is. `calls`, a futex, counts the jobs that it was called to. */
    _Alignas(CACHE_LINE) _Atomic uint32_t calls;
    _Atomic uint32_t sleeps;
    struct team *team;
    int index;
} fc_lane;

typedef struct team {
    _Atomic(const fc_job *) job;
    _Atomic int wanted;                          /* lanes of the job */
    _Atomic uint64_t first, end;                 /* stages of the job: [first, end) */
    int place;                                   /* index in idle_teams */
    _Atomic int workers;                         /* worker k has lane k + 1 */
    int refused;                                 /* jobs until the team asks for another thread */
    int is_short;                                /* the system has refused a thread */
    _Alignas(CACHE_LINE) _Atomic int arrived;    /* lanes of the stage that are done */
    _Alignas(CACHE_LINE) _Atomic uint64_t stage; /* in progress; its lower half is a futex */
    _Atomic uint32_t sleepers;
    fc_lane lanes[FC_MOST_LANES];
} fc_team;

static _Atomic(fc_team *) idle_teams[MOST_TEAMS]; /* the place of a team that is in use is NULL */
static _Atomic int team_count, worker_count, forks;
static fc_once once = FC_ONCE;
static int pauses_per_microsecond = 1, processors = 1;

/* ------------------------------------------------------------------------------------------------- waiting */

static void *futex_of(_Atomic uint64_t *word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return word;
#else
    return (char *)word + 4;
#endif
}

double fc_seconds(void)
{
    return seconds_now();
}

/* A forked child has no threads of its parent: it forgets the teams. */
static void forget_teams(void)
{
    for (int i = 0; i < MOST_TEAMS; i++)
        atomic_store(&idle_teams[i], NULL);
    atomic_store(&team_count, 0);
    atomic_store(&worker_count, 0);
    atomic_fetch_add(&forks, 1);
}

static void set_up(void)
{
    enum { PAUSES = 200 };
    double best = 1.0;
    for (int trial = 0; trial < 5; trial++) {
        const double start = fc_seconds();
        for (int i = 0; i < PAUSES; i++)
            pause_cpu();
        const double spent = fc_seconds() - start;
        best = spent < best ? spent : best;
    }
    pauses_per_microsecond = best > 1e-9 ? (int)(1e-6 * PAUSES / best) + 1 : PAUSES;
    processors = processors_allowed();
    call_in_children(forget_teams);
}

/* ------------------------------------------------------------------------------------------------- stages */

/* Begin a lane of a stage, unless another thread has begun it or the stage is over. */
static int begin_lane(fc_lane *lane, uint64_t stage)
{
    return atomic_load_explicit(&lane->next, memory_order_relaxed) == stage &&
           atomic_compare_exchange_strong_explicit(&lane->next, &stage, stage + 1, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* A lane is done. The last one ends the stage. */
static void arrive(fc_team *team, uint64_t stage, int lanes)
{
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 < lanes)
        return;
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    atomic_store(&team->stage, stage + 1);
    if (atomic_load(&team->sleepers) > 0)
        wake_all(futex_of(&team->stage));
}

static void do_lane(fc_team *team, const fc_job *job, uint64_t stage, int lane, int worker)
{
    job->share(job->work, (int)(stage - atomic_load_explicit(&team->first, memory_order_relaxed)), lane, worker);
    arrive(team, stage, job->lanes);
}

/* Take over a lane that its thread has not begun. It is one that its thread has missed before, or with `any` any one.
 */
static int take_over(fc_team *team, const fc_job *job, uint64_t stage, int lanes, int worker, int any)
{
    for (int i = 1; i < lanes; i++) {
        const int index = (worker + i) % lanes;
        fc_lane *lane = &team->lanes[index];
        const int missed = atomic_load_explicit(&lane->missed, memory_order_relaxed);
        if ((missed || any) && begin_lane(lane, stage)) {
            if (!missed)
                atomic_store_explicit(&lane->missed, 1, memory_order_relaxed);
            do_lane(team, job, stage, index, worker);
            return 1;
        }
    }
    return 0;
}

/* Wait until a stage is over. The caller of the job wakes at intervals, for `pause` and to notice a fork. */
static int finish_stage(fc_team *team, const fc_job *job, uint64_t stage, int lanes, int worker, int born)
{
    const long patience = (long)PATIENCE * pauses_per_microsecond;
    const long wakefulness = (long)WAKEFULNESS * pauses_per_microsecond;
    for (long spins = 0; atomic_load_explicit(&team->stage, memory_order_acquire) == stage; spins++) {
        if ((spins == 0 || spins >= patience) && take_over(team, job, stage, lanes, worker, spins >= patience))
            continue;
        if (spins < wakefulness) {
            pause_cpu();
            continue;
        }
        atomic_fetch_add(&team->sleepers, 1);
        if (atomic_load(&team->stage) == stage)
            sleep_on(futex_of(&team->stage), (uint32_t)stage, PAUSE_MILLISECONDS);
        atomic_fetch_sub(&team->sleepers, 1);
        if (worker == 0) {
            if (job->pause != NULL)
                job->pause(job->work);
            if (atomic_load(&forks) != born)
                return FC_JOB_LOST;
        }
    }
    return 0;
}

/* Take part in a job to its end. The job may end at any moment: only a lane that this thread has begun keeps it, and
 * what it points to, alive. A read may see a later job. It does no harm, as the lanes of that job have other numbers.
 */
static int take_part(fc_team *team, int worker, int born)
{
    for (;;) {
        const uint64_t stage = atomic_load_explicit(&team->stage, memory_order_acquire);
        if (stage >= atomic_load_explicit(&team->end, memory_order_acquire))
            return 0;
        const fc_job *job = atomic_load_explicit(&team->job, memory_order_relaxed);
        /* A later job's number of lanes may be larger. Its lanes then have the numbers of that job already. */
        const int lanes = atomic_load_explicit(&team->wanted, memory_order_acquire);
        fc_lane *own = &team->lanes[worker];
        if (worker >= lanes)
            return 0;
        if (begin_lane(own, stage)) {
            if (atomic_load_explicit(&own->missed, memory_order_relaxed))
                atomic_store_explicit(&own->missed, 0, memory_order_relaxed);
            do_lane(team, job, stage, worker, worker);
        }
        if (finish_stage(team, job, stage, lanes, worker, born) == FC_JOB_LOST)
            return FC_JOB_LOST;
    }
}

/* ------------------------------------------------------------------------------------------------- workers */

static FC_THREAD work(void *raw)
{
    fc_lane *own = raw;
    uint32_t seen = 0;
    fc_default_float_modes();
    for (;;) {
        const long wakefulness = (long)WAKEFULNESS * pauses_per_microsecond;
        for (long spins = 0; atomic_load_explicit(&own->calls, memory_order_acquire) == seen; spins++) {
            if (spins < wakefulness) {
                pause_cpu();
                continue;
            }
            atomic_store(&own->sleeps, 1);
            if (atomic_load(&own->calls) == seen)
                sleep_on(&own->calls, seen, 0);
            atomic_store(&own->sleeps, 0);
        }
        seen = atomic_load(&own->calls);
        take_part(own->team, own->index, 0);
    }
    return 0;
}

static int workers_of(const fc_team *team)
{
    return atomic_load_explicit(&team->workers, memory_order_relaxed);
}

static int places_in_use(void)
{
    const int count = atomic_load_explicit(&team_count, memory_order_relaxed);
    return count < MOST_TEAMS ? count : MOST_TEAMS;
}

/* Workers of the teams that nobody uses. */
static int idle_workers(void)
{
    int sum = 0;
    for (int i = 0; i < places_in_use(); i++) {
        const fc_team *team = atomic_load_explicit(&idle_teams[i], memory_order_acquire);
        sum += team == NULL ? 0 : workers_of(team);
    }
    return sum;
}

/* Whether a team must not grow: other teams are in use, and the teams in use have a worker for each processor. */
static int is_large_enough(const fc_team *team, int busy)
{
    return busy > workers_of(team) && busy >= processors;
}

/* Give a team up to `wanted` workers, as many as the system has. While other teams are in use, the sum of their workers
 * is limited to the number of processors. */
static void hire(fc_team *team, int wanted)
{
    if (team->refused > 0) {
        team->refused--;
        return;
    }
    const int idle = idle_workers();
    team->is_short = 0;
    if (is_large_enough(team, atomic_load(&worker_count) - idle))
        return;
    fc_starter starter;
    if (open_starter(&starter, STACK_BYTES))
        return;
    while (workers_of(team) < wanted && !team->is_short) {
        fc_lane *lane = &team->lanes[workers_of(team) + 1];
        lane->team = team;
        lane->index = workers_of(team) + 1;
        const int is_enough = is_large_enough(team, atomic_fetch_add(&worker_count, 1) - idle);
        team->is_short = !is_enough && start_thread(&starter, work, lane);
        if (is_enough || team->is_short) {
            atomic_fetch_sub(&worker_count, 1);
            break;
        }
        atomic_fetch_add_explicit(&team->workers, 1, memory_order_relaxed);
    }
    team->refused = team->is_short ? JOBS_UNTIL_RETRY : 0;
    close_starter(&starter);
}

/* ------------------------------------------------------------------------------------------------- jobs */

/* The place of an idle team with `wanted` workers, or of the largest one; -1: there is none. */
static int best_idle_team(int wanted)
{
    int best = -1, most = -1;
    for (int i = 0; i < places_in_use() && most < wanted; i++) {
        const fc_team *team = atomic_load_explicit(&idle_teams[i], memory_order_acquire);
        if (team != NULL && workers_of(team) > most) {
            best = i;
            most = workers_of(team);
        }
    }
    return best;
}

/* A team without workers; NULL where no more may be made. */
static fc_team *new_team(void)
{
    fc_team *team = atomic_load(&team_count) < MOST_TEAMS ? aligned_memory(CACHE_LINE, sizeof(fc_team)) : NULL;
    if (team == NULL)
        return NULL;
    const int place = atomic_fetch_add(&team_count, 1);
    if (place >= MOST_TEAMS) { /* other threads took the last places */
        atomic_fetch_sub(&team_count, 1);
        free_aligned(team);
        return NULL;
    }
    memset(team, 0, offsetof(fc_team, lanes));
    team->place = place;
    for (int i = 0; i < FC_MOST_LANES; i++)
        team->lanes[i] = (fc_lane){.missed = 1};
    return team;
}

/* Take an idle team, if possible with `wanted` workers, or a new one; NULL where no more may be made. */
static fc_team *take_team(int wanted)
{
    for (int place; (place = best_idle_team(wanted)) >= 0;) {
        fc_team *team = atomic_exchange(&idle_teams[place], NULL);
        if (team != NULL)
            return team;
    }
    return new_team();
}

static void give_back(fc_team *team)
{
    atomic_store(&idle_teams[team->place], team);
}

static void call_workers(fc_team *team, int lanes)
{
    for (int i = 1; i <= workers_of(team) && i < lanes; i++) {
        fc_lane *lane = &team->lanes[i];
        atomic_fetch_add(&lane->calls, 1);
        if (atomic_load(&lane->sleeps))
            wake_all(&lane->calls);
    }
}

/* Do a job without any other thread. */
static int do_alone(const fc_job *job)
{
    for (int stage = 0; stage < job->stages; stage++)
        for (int lane = 0; lane < job->lanes; lane++)
            job->share(job->work, stage, lane, 0);
    return job->lanes;
}

int fc_do_job(const fc_job *job)
{
    do_once(&once, set_up);
    fc_team *team = job->lanes > 1 ? take_team(job->lanes - 1) : NULL;
    if (team == NULL)
        return do_alone(job);
    const int born = atomic_load(&forks);
    if (workers_of(team) + 1 < job->lanes)
        hire(team, job->lanes - 1);
    const int present = workers_of(team) + 1;
    const int threads = team->is_short && present < job->lanes ? present : job->lanes;
    const uint64_t first = atomic_load(&team->end);
    for (int i = 0; i < job->lanes; i++)
        if (atomic_load_explicit(&team->lanes[i].next, memory_order_relaxed) != first)
            atomic_store_explicit(&team->lanes[i].next, first, memory_order_relaxed);
    atomic_store_explicit(&team->job, job, memory_order_relaxed);
    atomic_store_explicit(&team->wanted, job->lanes, memory_order_release); /* after the numbers of its lanes */
    atomic_store_explicit(&team->first, first, memory_order_relaxed);
    atomic_store(&team->end, first + job->stages);
    call_workers(team, job->lanes);
    if (take_part(team, 0, born) == FC_JOB_LOST)
        return FC_JOB_LOST;
    if (atomic_load(&forks) == born) /* a child forked meanwhile has none of the team's threads */
        give_back(team);
    return threads;
}
