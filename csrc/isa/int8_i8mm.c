/* int8_i8mm.c: tiles of 8-bit layers in Advanced SIMD with products of quads of which one factor has no sign. */
#if defined(__aarch64__)
#include "../compiler.h"
#if defined(__clang__)
FC_TARGET("dotprod,i8mm")
#else
FC_TARGET("arch=armv8.2-a+dotprod+i8mm")
#endif
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FC_ISA i8mm
#define MR 12
#define FLIPS 0
#define QUAD_BYTES 16

#include "../int8/vectors_128.h"
#include "../int8/vectors_neon.h"

typedef uint8x16_t v_x;
typedef int8x16_t v_w;

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
    return vld1q_s8(p);
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    return (v_i)vusdotq_s32((int32x4_t)sum, x, w);
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
typedef int fc_int8_i8mm_is_for_aarch64;
#endif
