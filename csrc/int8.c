/* int8.c: which instructions for integers this machine has, and the ordered list of tables. Choosing among them is left
 * to kernels/_int8.pyx. */
#include "int8.h"

extern fc_int8_kernels fc_int8_kernels_generic;
#if defined(__x86_64__)
extern fc_int8_kernels fc_int8_kernels_avx512vbmi, fc_int8_kernels_avx512vnni, fc_int8_kernels_avx512bw;
extern fc_int8_kernels fc_int8_kernels_avxvnni, fc_int8_kernels_avx2;
#elif defined(__aarch64__)
extern fc_int8_kernels fc_int8_kernels_i8mm, fc_int8_kernels_dotprod, fc_int8_kernels_neon;
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#endif

static const fc_int8_kernels *const tables[] = {
#if defined(__x86_64__)
    &fc_int8_kernels_avx512vbmi, &fc_int8_kernels_avx512vnni,
    &fc_int8_kernels_avx512bw,   &fc_int8_kernels_avxvnni,
    &fc_int8_kernels_avx2,
#elif defined(__aarch64__)
    &fc_int8_kernels_i8mm,    &fc_int8_kernels_dotprod,
    &fc_int8_kernels_neon,
#endif
    &fc_int8_kernels_generic,    NULL,
};

#if defined(__x86_64__)
/* Older compilers' run-time support does not know AVX-VNNI: CPUID tells, in leaf 7, subleaf 1. */
static int has_avx_vnni(void)
{
    unsigned most, a, b, c, d;
    __asm__("cpuid" : "=a"(most), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
    if (most < 1)
        return 0;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(1));
    return a >> 4 & 1;
}
#elif defined(__aarch64__)
/* Whether an extension is there: the bit of a word of Linux's auxiliary vector, or the name that Apple's systems know.
 * Elsewhere, only what every machine has is used. */
static int has(unsigned long word, int bit, const char *name)
{
#if defined(__linux__)
    (void)name;
    return getauxval(word) >> bit & 1;
#elif defined(__APPLE__)
    int value = 0;
    size_t size = sizeof value;
    (void)word, (void)bit;
    return !sysctlbyname(name, &value, &size, NULL, 0) && value;
#else
    (void)word, (void)bit, (void)name;
    return 0;
#endif
}
#endif

const fc_int8_kernels *const *fc_all_int8_kernels(void)
{
    fc_int8_kernels_generic.available = 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    fc_int8_kernels_avx2.available = avx2;
    fc_int8_kernels_avxvnni.available = avx2 && has_avx_vnni();
    fc_int8_kernels_avx512bw.available = avx512;
    fc_int8_kernels_avx512vnni.available = avx512 && __builtin_cpu_supports("avx512vnni");
    fc_int8_kernels_avx512vbmi.available = fc_int8_kernels_avx512vnni.available && __builtin_cpu_supports("avx512vbmi");
#elif defined(__aarch64__)
    fc_int8_kernels_neon.available = 1;
    fc_int8_kernels_dotprod.available = has(16, 20, "hw.optional.arm.FEAT_DotProd");
    fc_int8_kernels_i8mm.available = fc_int8_kernels_dotprod.available && has(26, 13, "hw.optional.arm.FEAT_I8MM");
#endif
    return tables;
}
