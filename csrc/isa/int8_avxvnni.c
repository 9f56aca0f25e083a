/* int8_avxvnni.c: tiles of 8-bit layers in AVX2 with AVX-VNNI: one instruction for the quads of 8 lanes. */
#if defined(__x86_64__)
#include "../compiler.h"
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
FC_TARGET("avx2,fma,avxvnni")

#define FC_ISA avxvnni
#define MR 6
#define QUAD_BYTES 32

#include "../int8/vectors_256.h"

typedef __m256i v_x;
typedef __m256i v_w;

FC_INLINE v_x v_inputs(const uint8_t *p)
{
    return v_quad(p);
}

FC_INLINE v_x v_turned(const uint8_t *p)
{
    return v_turned_quads(p);
}

FC_INLINE v_w v_weights(const void *p)
{
    return _mm256_loadu_si256(p);
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    return (v_i)_mm256_dpbusd_avx_epi32((__m256i)sum, x, w);
}

FC_INLINE void v_pack(const int8_t *w, void *packed)
{
    memcpy(packed, w, QUAD_BYTES);
}

FC_INLINE void v_hide(v_x *x)
{
    __asm__("" : "+x"(*x));
}

#include "../int8/all.h"
FC_END_TARGET
#else
typedef int fc_int8_avxvnni_is_for_x86_64;
#endif
