/* vectors_neon.h: what the tables of Advanced SIMD share, beside vectors_128.h. */
FC_INLINE v_f v_fma(v_f a, v_f b, v_f c)
{
    return (v_f)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

FC_INLINE uint32x2_t v_four_bytes(const uint8_t *p)
{
    uint32_t quad;
    memcpy(&quad, p, sizeof quad);
    return vdup_n_u32(quad);
}

FC_INLINE v_i v_load_bytes(const uint8_t *p)
{
    return (v_i)vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(v_four_bytes(p)))));
}

FC_INLINE void v_store_bytes(uint8_t *p, v_i a)
{
    const uint16x4_t words = vmovn_u32((uint32x4_t)a);
    const uint32x2_t quad = vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words)));
    memcpy(p, &quad, 4);
}

/* The four bytes at p, in all lanes. */
FC_INLINE uint8x16_t v_quad(const uint8_t *p)
{
    const uint32x2_t quad = v_four_bytes(p);
    return vreinterpretq_u8_u32(vcombine_u32(quad, quad));
}

/* The quad of each lane, from four pixels of four lanes. */
FC_INLINE uint8x16_t v_turned_quads(const uint8_t *p)
{
    static const uint8_t lanes[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return vqtbl1q_u8(vld1q_u8(p), vld1q_u8(lanes));
}

#include "bytes_128.h"
