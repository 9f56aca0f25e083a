/* float_modes.h: the floating-point modes of a thread: rounding, and whether subnormal numbers count as zero.
 *
 * Kernels run in the default modes, so that results do not depend on the program around them.
 * `fc_default_float_modes` sets these and returns the modes before, flags included. `fc_restore_float_modes` brings
 * those back.
 */
#ifndef FASTCNN_FLOAT_MODES_H
#define FASTCNN_FLOAT_MODES_H

#if defined(__x86_64__)
#include <xmmintrin.h>

enum { DEFAULT_MODES = 0x1F80 };
static inline unsigned long fc_default_float_modes(void)
{
    const unsigned before = _mm_getcsr();
    if (before != DEFAULT_MODES)
        _mm_setcsr(DEFAULT_MODES);
    return before;
}

static inline void fc_restore_float_modes(unsigned long modes)
{
    _mm_setcsr((unsigned)modes);
}
#elif defined(__aarch64__)
#include <stdint.h>

static inline unsigned long fc_default_float_modes(void)
{
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return (unsigned long)before; /* its upper half is unused */
}

static inline void fc_restore_float_modes(unsigned long modes)
{
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)modes));
}
#else
static inline unsigned long fc_default_float_modes(void)
{
    return 0;
}

static inline void fc_restore_float_modes(unsigned long modes)
{
    (void)modes;
}
#endif

#endif
