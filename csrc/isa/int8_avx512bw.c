/* int8_avx512bw.c: tiles of 8-bit layers in AVX-512 without VNNI.
 *
 * The instruction for pairs of bytes saturates its sums of 16 bits. That for pairs of 16 bits is exact: a quad is
 * split into its even and its odd inputs, and weights are packed as 16 bits. */
#if defined(__x86_64__)
#include "../compiler.h"
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__clang__) /* takes vectors of 512 bits as they are */
FC_TARGET("avx512f,avx512bw,avx2,fma")
#else
FC_TARGET("avx512f,avx512bw,avx2,fma,prefer-vector-width=512")
#endif

#define FC_ISA avx512bw
#define MR 12
#define QUAD_BYTES 128
#define UNROLL_LINES 1

#include "../int8/vectors_512.h"

typedef struct {
    __m512i even, odd;
} v_x;
typedef v_x v_w;

FC_INLINE v_x v_split(__m512i quads)
{
    return (v_x){_mm512_and_si512(quads, _mm512_set1_epi32(0x00FF00FF)), _mm512_srli_epi16(quads, 8)};
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
    return (v_w){_mm512_loadu_si512(p), _mm512_loadu_si512((const char *)p + 64)};
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    return sum + (v_i)_mm512_madd_epi16(x.even, w.even) + (v_i)_mm512_madd_epi16(x.odd, w.odd);
}

FC_INLINE void v_hide(v_x *x)
{
    __asm__("" : "+v"(x->even), "+v"(x->odd));
}

#include "../int8/pack_pairs.h"
#include "../int8/all.h"
FC_END_TARGET
#else
typedef int fc_int8_avx512bw_is_for_x86_64;
#endif
