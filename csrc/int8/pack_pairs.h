/* pack_pairs.h: weights as pairs of 16 bits, [even or odd inputs][VL][2], for tables without a product of quads. */
FC_INLINE void v_pack(const int8_t *w, void *packed)
{
    int16_t *pairs = packed;
    for (int odd = 0; odd < 2; odd++)
        for (int lane = 0; lane < VL; lane++)
            for (int i = 0; i < 2; i++)
                *pairs++ = w[4 * lane + 2 * i + odd];
}
