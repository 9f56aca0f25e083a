/* system.h: what team.c asks of the system: sleep and waking, a clock, processors, threads, forks, memory.
 *
 * Linux has futexes. Other POSIX systems have a mutex and a condition for all sleepers, and so has Linux where
 * FC_NO_FUTEX is defined, for tests. Windows waits on addresses. Everywhere a sleeper may wake for no reason.
 */
#ifndef FASTCNN_SYSTEM_H
#define FASTCNN_SYSTEM_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <malloc.h>
#include <process.h>
#else
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
/* Of the kernel's headers, which compilers for musl come without. */
enum { SLEEP_ON_FUTEX = 0 | 128, WAKE_FUTEX = 1 | 128 }; /* FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE */
#endif

#if defined(_WIN32)

/* Sleep until `wake_all`, or for some milliseconds (0: for ever), unless the word has another value already. */
static void sleep_on(void *word, uint32_t value, int milliseconds)
{
    WaitOnAddress(word, &value, sizeof value, milliseconds ? (DWORD)milliseconds : INFINITE);
}

static void wake_all(void *word)
{
    WakeByAddressAll(word);
}

static double seconds_now(void)
{
    LARGE_INTEGER now, frequency;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&frequency);
    return (double)now.QuadPart / (double)frequency.QuadPart;
}

/* The number of processors that this process may use. */
static int processors_allowed(void)
{
    DWORD_PTR own, all;
    int count = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &own, &all))
        for (; own; own &= own - 1)
            count++;
    return count ? count : 1;
}

static void *aligned_memory(size_t alignment, size_t size)
{
    return _aligned_malloc(size, alignment);
}

static void free_aligned(void *memory)
{
    _aligned_free(memory);
}

typedef INIT_ONCE fc_once;
#define FC_ONCE INIT_ONCE_STATIC_INIT

static BOOL CALLBACK call_function(INIT_ONCE *once, void *function, void **context)
{
    (void)once, (void)context;
    (*(void (**)(void))function)();
    return TRUE;
}

static void do_once(fc_once *once, void (*function)(void))
{
    InitOnceExecuteOnce(once, call_function, &function, NULL);
}

/* There is no fork. */
static void call_in_children(void (*function)(void))
{
    (void)function;
}

/* Threads that are started one after another. */
typedef struct {
    unsigned stack_bytes;
} fc_starter;

static int open_starter(fc_starter *starter, size_t stack_bytes)
{
    starter->stack_bytes = (unsigned)stack_bytes;
    return 0;
}

/* Start a thread that never ends; 0 where it has begun. */
static int start_thread(fc_starter *starter, unsigned(__stdcall *work)(void *), void *argument)
{
    const uintptr_t thread =
        _beginthreadex(NULL, starter->stack_bytes, work, argument, STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
    if (thread)
        CloseHandle((HANDLE)thread);
    return thread == 0;
}

static void close_starter(fc_starter *starter)
{
    (void)starter;
}

#define FC_THREAD unsigned __stdcall /* what a thread's function returns */

#else

#if defined(__linux__) && !defined(FC_NO_FUTEX)
static void sleep_on(void *word, uint32_t value, int milliseconds)
{
    const struct timespec timeout = {0, milliseconds * 1000000L};
    syscall(SYS_futex, word, SLEEP_ON_FUTEX, value, milliseconds ? &timeout : NULL, NULL, 0);
}

static void wake_all(void *word)
{
    syscall(SYS_futex, word, WAKE_FUTEX, INT32_MAX, NULL, NULL, 0);
}

static void forget_sleepers(void)
{
}
#else
static pthread_mutex_t sleeping = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;

/* The clock of the timeout may be set anew. A sleeper that wakes late for that reason is still woken by `wake_all`. */
static void sleep_on(void *word, uint32_t value, int milliseconds)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += milliseconds * 1000000L;
    end.tv_sec += end.tv_nsec / 1000000000L;
    end.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&sleeping);
    if (__atomic_load_n((uint32_t *)word, __ATOMIC_SEQ_CST) == value) {
        if (milliseconds)
            pthread_cond_timedwait(&woken, &sleeping, &end);
        else
            pthread_cond_wait(&woken, &sleeping);
    }
    pthread_mutex_unlock(&sleeping);
}

static void wake_all(void *word)
{
    (void)word;
    pthread_mutex_lock(&sleeping);
    pthread_cond_broadcast(&woken);
    pthread_mutex_unlock(&sleeping);
}

/* In a forked child, a thread that it lacks may hold the mutex. */
static void forget_sleepers(void)
{
    pthread_mutex_init(&sleeping, NULL);
    pthread_cond_init(&woken, NULL);
}
#endif

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int processors_allowed(void)
{
#if defined(__linux__)
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof allowed, &allowed) ? 1 : CPU_COUNT(&allowed);
#else
    const long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int)count : 1;
#endif
}

static void *aligned_memory(size_t alignment, size_t size)
{
    void *memory = NULL;
    return posix_memalign(&memory, alignment, size) ? NULL : memory;
}

static void free_aligned(void *memory)
{
    free(memory);
}

typedef pthread_once_t fc_once;
#define FC_ONCE PTHREAD_ONCE_INIT

static void do_once(fc_once *once, void (*function)(void))
{
    pthread_once(once, function);
}

static void call_in_children(void (*function)(void))
{
    pthread_atfork(NULL, NULL, forget_sleepers);
    pthread_atfork(NULL, NULL, function);
}

typedef struct {
    pthread_attr_t attributes;
    sigset_t before;
} fc_starter;

/* Signals are for the program's own threads. Workers block all but those of a thread's own faults. A blocked fault ends
 * the process past all handlers. */
static sigset_t blocked_signals(void)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&blocked, own[i]);
    return blocked;
}

static int open_starter(fc_starter *starter, size_t stack_bytes)
{
    const sigset_t blocked = blocked_signals();
    if (pthread_attr_init(&starter->attributes))
        return -1;
    pthread_attr_setstacksize(&starter->attributes, stack_bytes);
    pthread_attr_setdetachstate(&starter->attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &blocked, &starter->before);
    return 0;
}

static int start_thread(fc_starter *starter, void *(*work)(void *), void *argument)
{
    pthread_t thread;
    return pthread_create(&thread, &starter->attributes, work, argument);
}

static void close_starter(fc_starter *starter)
{
    pthread_sigmask(SIG_SETMASK, &starter->before, NULL);
    pthread_attr_destroy(&starter->attributes);
}

#define FC_THREAD void *

#endif

#endif
