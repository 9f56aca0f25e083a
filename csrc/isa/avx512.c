/* avx512.c: the vector vocabulary in AVX-512F. */
#if defined(__x86_64__)
#include "../compiler.h"
#include <immintrin.h>
#if defined(__clang__) /* takes vectors of 512 bits as they are */
FC_TARGET("avx512f,avx2,fma")
#else
FC_TARGET("avx512f,avx2,fma,prefer-vector-width=512")
#endif

#define FC_ISA avx512
#define VL 16
#define MR 14
#define MR_STRIDED 8
#define WIDE_BLOCKS 2
#define HALF_BLOCKS 1
#define WINOGRAD_PATCHES 4
#define UNROLL_TAPS 0
#define STEPS_A_ROUND 2

typedef __m512 v_f;
typedef int v_i __attribute__((vector_size(64)));

#define V_LOAD(p) _mm512_loadu_ps(p)
#define V_STORE(p, v) _mm512_storeu_ps((p), (v))
#define V_SET1(s) _mm512_set1_ps(s)
#define V_SET2(p) ((v_f)_mm512_set1_epi64(v_two_floats(p)))
#define V_FMA(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define V_MAX(a, b) _mm512_max_ps((a), (b))
#define V_MIN(a, b) _mm512_min_ps((a), (b))
#define V_UNORDERED(a, b) ((v_i)_mm512_maskz_set1_epi32(_mm512_cmp_ps_mask((a), (b), _CMP_UNORD_Q), -1))
#define V_SQRT(a) _mm512_sqrt_ps(a)
#define V_LOOKUP32(table, i) _mm512_permutex2var_ps(_mm512_loadu_ps(table), (__m512i)(i), _mm512_loadu_ps((table) + VL))
#define V_ANY_BELOW(a, b) _mm512_cmp_ps_mask((a), (b), _CMP_LT_OQ)
#define V_SCALE(a, n) _mm512_scalef_ps((a), (n))
#define V_ZIP_LOW(a, b) V_SHUFFLE((a), (b), 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define V_ZIP_HIGH(a, b) V_SHUFFLE((a), (b), 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define V_EVEN(a, b) V_SHUFFLE((a), (b), 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define V_ODD(a, b) V_SHUFFLE((a), (b), 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)

#include "../tiles/all.h"
FC_END_TARGET
#else
typedef int fc_avx512_is_for_x86_64;
#endif
