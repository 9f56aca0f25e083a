/* int8_avx2.c: tiles of 8-bit layers in AVX2. Pairs of 16 bits are exact: see int8_avx512bw.c. */
#if defined(__x86_64__)
#include "../compiler.h"
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
FC_TARGET("avx2,fma")

#define FC_ISA avx2
#define MR 4
#define QUAD_BYTES 64

#include "../int8/vectors_256.h"

typedef struct {
    __m256i even, odd;
} v_x;
typedef v_x v_w;

FC_INLINE v_x v_split(__m256i quads)
{
    return (v_x){_mm256_and_si256(quads, _mm256_set1_epi32(0x00FF00FF)), _mm256_srli_epi16(quads, 8)};
}

FC_INLINE v_x v_inputs(const uint8_t *p)
{
    return v_split(v_quad(p));
}

FC_INLINE v_x v_turned(const uint8_t *p)
{
    return v_split(v_turned_quads(p));
}

FC_INLINE v_w v_weights(const void *p)
{
    return (v_w){_mm256_loadu_si256(p), _mm256_loadu_si256((const __m256i *)p + 1)};
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    return sum + (v_i)_mm256_madd_epi16(x.even, w.even) + (v_i)_mm256_madd_epi16(x.odd, w.odd);
}

FC_INLINE void v_hide(v_x *x)
{
    __asm__("" : "+x"(x->even), "+x"(x->odd));
}

#include "../int8/pack_pairs.h"
#include "../int8/all.h"
FC_END_TARGET
#else
typedef int fc_int8_avx2_is_for_x86_64;
#endif
