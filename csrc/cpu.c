/* cpu.c: which instruction sets this machine runs, and the ordered list of kernel tables.
 * Choosing among them (FASTCNN_ISA, tests) is left to kernels/_cpu.pyx. */
#include "fastcnn.h"

extern fc_kernels fc_kernels_generic;
#if defined(__x86_64__)
extern fc_kernels fc_kernels_avx2, fc_kernels_avx512;
#elif defined(__aarch64__)
extern fc_kernels fc_kernels_neon;
#endif

static const fc_kernels *const tables[] = {
#if defined(__x86_64__)
    &fc_kernels_avx512,
    &fc_kernels_avx2,
#elif defined(__aarch64__)
    &fc_kernels_neon,
#endif
    &fc_kernels_generic,
    NULL,
};

/* The compiler's run-time support asks CPUID for the instructions. It asks XGETBV whether the operating system saves
 * the vector registers. Advanced SIMD is a part of AArch64 as every system for programs like this one has it. */
const fc_kernels *const *fc_all_kernels(void)
{
    fc_kernels_generic.available = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    fc_kernels_avx2.available = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    /* int8.c has tiles of 16 lanes for machines with avx512bw, which all but the first with avx512f are. */
    fc_kernels_avx512.available =
        fc_kernels_avx2.available && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
#elif defined(__aarch64__)
    fc_kernels_neon.available = 1;
#endif
    return tables;
}

const char *fc_cpu_features(void)
{
    fc_all_kernels();
#if defined(__x86_64__)
    if (fc_kernels_avx512.available)
        return "avx2 fma avx512f avx512bw";
    if (fc_kernels_avx2.available)
        return "avx2 fma";
#elif defined(__aarch64__)
    return "neon";
#endif
    return "baseline";
}
