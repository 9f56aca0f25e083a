/* team_growth.c: how many threads a caller has once it is alone again, after two have called at once.
 *
 * Run by tests/test_team.py; fails where a processor stays without work.
 */
#define _GNU_SOURCE
#include "../csrc/team.c"

#include <stdio.h>

enum { THREADS = 4, MILLISECONDS = 20000 };

static _Atomic int has_begun, may_end;
static _Atomic unsigned workers_seen;

static void hold(void *work, int stage, int lane, int worker)
{
    (void)work, (void)stage, (void)lane, (void)worker;
    atomic_store(&has_begun, 1);
    while (!atomic_load(&may_end))
        usleep(100);
}

static void pass_by(void *work, int stage, int lane, int worker)
{
    (void)work, (void)stage, (void)lane, (void)worker;
}

/* Wait until every thread is here. */
static void meet(void *work, int stage, int lane, int worker)
{
    (void)work, (void)stage, (void)lane;
    atomic_fetch_or(&workers_seen, 1u << worker);
    for (int i = 0; i < MILLISECONDS && __builtin_popcount(atomic_load(&workers_seen)) < THREADS; i++)
        usleep(1000);
}

static void *call_and_hold(void *lanes)
{
    const fc_job job = {hold, NULL, NULL, 1, *(int *)lanes};
    fc_do_job(&job);
    return NULL;
}

/* A first caller with `lanes`, a second one meanwhile that returns before it; then one alone. */
static void try_with(int lanes)
{
    const fc_job beside = {pass_by, NULL, NULL, 1, THREADS}, alone = {meet, NULL, NULL, 1, THREADS};
    pthread_t first;
    has_begun = may_end = 0;
    workers_seen = 0;
    if (pthread_create(&first, NULL, call_and_hold, &lanes))
        exit(3);
    while (!atomic_load(&has_begun))
        usleep(100);
    fc_do_job(&beside);
    atomic_store(&may_end, 1);
    pthread_join(first, NULL);
    fc_do_job(&alone);
    const int present = __builtin_popcount(atomic_load(&workers_seen));
    if (present != THREADS) {
        fprintf(stderr, "team_growth: %d threads after a caller with %d lanes\n", present, lanes);
        exit(1);
    }
}

int main(void)
{
    pthread_once(&once, set_up);
    processors = THREADS;
    for (int lanes = 2; lanes <= THREADS; lanes++) {
        forget_teams();
        try_with(lanes);
    }
    return 0;
}
