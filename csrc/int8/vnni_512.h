/* vnni_512.h: products of quads by AVX-512's VNNI. */
typedef __m512i v_x;
typedef __m512i v_w;

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
    return _mm512_loadu_si512(p);
}

FC_INLINE v_i v_dot(v_i sum, v_x x, v_w w)
{
    return (v_i)_mm512_dpbusd_epi32((__m512i)sum, x, w);
}

FC_INLINE void v_pack(const int8_t *w, void *packed)
{
    memcpy(packed, w, QUAD_BYTES);
}

FC_INLINE void v_hide(v_x *x)
{
    __asm__("" : "+v"(*x));
}
