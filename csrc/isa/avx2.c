/* avx2.c: the vector vocabulary in AVX2 + FMA. */
#if defined(__x86_64__)
#include "../compiler.h"
#include <immintrin.h>
FC_TARGET("avx2,fma")

#define FC_ISA avx2
#define VL 8
#define MR 6
#define MR_STRIDED 6
#define WIDE_BLOCKS 4
#define HALF_BLOCKS 1
#define WINOGRAD_PATCHES 2
#define UNROLL_TAPS 1
#define STEPS_A_ROUND 1

typedef __m256 v_f;
typedef float v_f_unaligned __attribute__((vector_size(32), aligned(4)));
typedef int v_i __attribute__((vector_size(32)));

#define V_LOAD(p) _mm256_loadu_ps(p)
#define V_STORE(p, v) _mm256_storeu_ps((p), (v))
#define V_SET1(s) _mm256_set1_ps(s)
#define V_SET2(p) ((v_f)_mm256_set1_epi64x(v_two_floats(p)))
#define V_FMA(a, b, c) _mm256_fmadd_ps((a), (b), (c))
/* Assembly fixes the order of a tile's steps: in the compiler's order, the registers run out. Sums are early clobbers
 * (&): one is written before the last input is read, and the two must not share a register. */
#define V_ADD_PRODUCT(sum, s, a)                                                                                       \
    do {                                                                                                               \
        v_f all;                                                                                                       \
        __asm__("vbroadcastss %2, %1\n\tvfmadd231ps %3, %1, %0" : "+&x"(sum), "=&x"(all) : "m"(s), "x"(a));            \
    } while (0)
#define V_ADD_PRODUCTS(sum, sum2, s, a, b)                                                                             \
    do {                                                                                                               \
        v_f all;                                                                                                       \
        __asm__("vbroadcastss %3, %2\n\tvfmadd231ps %4, %2, %0\n\tvfmadd231ps %5, %2, %1"                              \
                : "+&x"(sum), "+&x"(sum2), "=&x"(all)                                                                  \
                : "m"(s), "x"(a), "x"(b));                                                                             \
    } while (0)
#define V_ADD_3_PRODUCTS(sum, sum2, sum3, s, a, b, c) ADD_3_PRODUCTS("vbroadcastss", sum, sum2, sum3, s, a, b, c)
#define V_ADD_3_PRODUCTS_OF(sum, sum2, sum3, p, a, b, c)                                                               \
    ADD_3_PRODUCTS("vmovups", sum, sum2, sum3, *(const v_f_unaligned *)(p), a, b, c)
/* `load` broadcasts a float or loads a vector. */
#define ADD_3_PRODUCTS(load, sum, sum2, sum3, from, a, b, c)                                                           \
    do {                                                                                                               \
        v_f all;                                                                                                       \
        __asm__(load " %4, %3\n\tvfmadd231ps %5, %3, %0\n\tvfmadd231ps %6, %3, %1\n\tvfmadd231ps %7, %3, %2"           \
                : "+&x"(sum), "+&x"(sum2), "+&x"(sum3), "=&x"(all)                                                     \
                : "m"(from), "x"(a), "x"(b), "x"(c));                                                                  \
    } while (0)
#define V_MAX(a, b) _mm256_max_ps((a), (b))
#define V_MIN(a, b) _mm256_min_ps((a), (b))
#define V_UNORDERED(a, b) ((v_i)_mm256_cmp_ps((a), (b), _CMP_UNORD_Q))
#define V_SQRT(a) _mm256_sqrt_ps(a)
#define V_ZIP_LOW(a, b) V_SHUFFLE((a), (b), 0, 8, 1, 9, 2, 10, 3, 11)
#define V_ZIP_HIGH(a, b) V_SHUFFLE((a), (b), 4, 12, 5, 13, 6, 14, 7, 15)
#define V_EVEN(a, b) V_SHUFFLE((a), (b), 0, 2, 4, 6, 8, 10, 12, 14)
#define V_ODD(a, b) V_SHUFFLE((a), (b), 1, 3, 5, 7, 9, 11, 13, 15)

#include "../tiles/all.h"
FC_END_TARGET
#else
typedef int fc_avx2_is_for_x86_64;
#endif
