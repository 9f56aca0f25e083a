/* openmp.h: the limits on threads of the OpenMP runtime, which other packages and the environment set. Without a
 * runtime there are none. */
#ifndef FASTCNN_OPENMP_H
#define FASTCNN_OPENMP_H

#if defined(_OPENMP)
#include <omp.h>

static inline int fc_openmp_threads(void)
{
    return omp_get_max_threads();
}

static inline int fc_openmp_limit(void)
{
    return omp_get_thread_limit();
}
#else
#include <limits.h>

static inline int fc_openmp_threads(void)
{
    return INT_MAX;
}

static inline int fc_openmp_limit(void)
{
    return INT_MAX;
}
#endif

#endif
