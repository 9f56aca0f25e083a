/* int8_dotprod.c: tiles of 8-bit layers in Advanced SIMD with products of quads. Both factors have signs: the tiles
 * take x - 128, and the bias makes up for it. */
#if defined(__aarch64__)
#include "../compiler.h"
#if defined(__clang__)
FC_TARGET("dotprod")
#else
FC_TARGET("arch=armv8.2-a+dotprod")
#endif
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FC_ISA dotprod
#define MR 12
#define FLIPS 1
#define QUAD_BYTES 16

#include "../int8/vectors_128.h"
#include "../int8/vectors_neon.h"

typedef int8x16_t v_x;
typedef int8x16_t v_w;

FC_INLINE v_x v_inputs(const uint8_t *p)
{
    return vreinterpretq_s8_u8(veorq_u8(v_quad(p), vdupq_n_u8(128)));
}

FC_INLINE v_x v_turned(const uint8_t *p)
{
    return vreinterpretq_s8_u8(veorq_u8(v_turned_quads(p), vdupq_n_u8(128)));
}

FC_INLINE v_w v_weights(const void *p)
{
    return vld1q_s8(p);
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    return (v_i)vdotq_s32((int32x4_t)sum, w, x);
}

FC_INLINE void v_pack(const int8_t *w, void *packed)
{
    memcpy(packed, w, QUAD_BYTES);
}

FC_INLINE void v_hide(v_x *x)
{
    __asm__("" : "+w"(*x));
}

#include "../int8/all.h"
FC_END_TARGET
#else
typedef int fc_int8_dotprod_is_for_aarch64;
#endif
