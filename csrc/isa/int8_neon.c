/* int8_neon.c: tiles of 8-bit layers in AArch64's Advanced SIMD, without extensions: products of a vector of 16 bits
 * and of one of its lanes. Weights are packed as 16 bits, [4 inputs][4 outputs]. */
#if defined(__aarch64__)
#include "../compiler.h"
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FC_ISA neon
#define MR 8
#define FLIPS 0
#define QUAD_BYTES 32

#include "../int8/vectors_128.h"
#include "../int8/vectors_neon.h"

typedef struct {
    int16x4_t of[4]; /* [input]: its number for each lane */
} v_x;
typedef v_x v_w;

FC_INLINE v_x v_inputs(const uint8_t *p)
{
    const int16x4_t quad = vreinterpret_s16_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(v_four_bytes(p)))));
    return (v_x){{vdup_lane_s16(quad, 0), vdup_lane_s16(quad, 1), vdup_lane_s16(quad, 2), vdup_lane_s16(quad, 3)}};
}

FC_INLINE v_x v_turned(const uint8_t *p)
{
    const uint8x16_t pixels = vld1q_u8(p);
    const int16x8_t low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(pixels)));
    const int16x8_t high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(pixels)));
    return (v_x){{vget_low_s16(low), vget_high_s16(low), vget_low_s16(high), vget_high_s16(high)}};
}

FC_INLINE v_w v_weights(const void *p)
{
    const int16_t *w = p;
    return (v_w){{vld1_s16(w), vld1_s16(w + 4), vld1_s16(w + 8), vld1_s16(w + 12)}};
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    int32x4_t s = (int32x4_t)sum;
    for (int i = 0; i < 4; i++)
        s = vmlal_s16(s, x.of[i], w.of[i]);
    return (v_i)s;
}

FC_INLINE void v_pack(const int8_t *w, void *packed)
{
    int16_t *to = packed;
    for (int i = 0; i < 4; i++)
        for (int lane = 0; lane < 4; lane++)
            *to++ = w[4 * lane + i];
}

FC_INLINE void v_hide(v_x *x)
{
    __asm__("" : "+w"(x->of[0]), "+w"(x->of[1]), "+w"(x->of[2]), "+w"(x->of[3]));
}

#include "../int8/all.h"
#else
typedef int fc_int8_neon_is_for_aarch64;
#endif
