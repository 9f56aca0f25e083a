/* conv_narrow.h: a row of pixels of a grey image times at most six output channels (see fc_conv_row for the sum).
 *
 * Neighbouring pixels of a grey image are neighbouring floats: they fill the vectors here, and output channels are
 * computed one by one, so that none is computed for nothing. A tile holds Q vectors of pixels for each of O channels;
 * a step loads Q vectors of inputs and broadcasts O weights. What comes out are planes, transposed before they are
 * stored. The last tile of a row begins earlier than it had to, to end with the row: its first pixels are computed
 * twice. Sums are added in the order of conv_row.h: the bits are the same. */
#define FC_NARROW_MOST 6

FC_INLINE void narrow_tile(const fc_conv_row *r, ptrdiff_t first, const int O, const int Q)
{
    v_f sum[FC_NARROW_MOST][4];
#pragma GCC unroll 6
    for (int o = 0; o < O; o++)
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++)
            sum[o][q] = V_SET1(r->bias[o]);
    const float *w = r->w;
    for (const ptrdiff_t *tap = r->taps, *end = tap + r->whole + r->last; tap < end; tap++, w += VL) {
        const float *x = r->x + *tap + first;
        v_f in[4];
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++)
            in[q] = V_LOAD(x + q * VL);
#pragma GCC unroll 6
        for (int o = 0; o < O; o++) {
            const v_f weight = V_SET1(w[o]);
#pragma GCC unroll 4
            for (int q = 0; q < Q; q++)
                sum[o][q] = V_FMA(in[q], weight, sum[o][q]);
        }
    }
#pragma GCC unroll 4
    for (int q = 0; q < Q; q++) {
        v_f pixels[VL];
#pragma GCC unroll 16
        for (int o = 0; o < VL; o++)
            pixels[o] = o < O ? sum[o < O ? o : 0][q] : V_SET1(0.0f);
        transpose(pixels);
        v_f tile[2 * MR][2];
#pragma GCC unroll 16
        for (int p = 0; p < VL; p++)
            tile[p][0] = pixels[p];
        const ptrdiff_t at = (first + q * VL) * r->y_pixel;
        store_tile(r, tile, r->y + at, r->residual ? r->residual + at : NULL, VL, 1, VL, 0, 0, 0);
    }
}

/* Sums that keep two multipliers busy and leave some of 16 registers free. Seven channels would not: they are as fast
 * in blocks (Zen 3, 2026-11). */
// clang-format off
#define FC_NARROW_TILES(F) F(1, 4) F(2, 4) F(3, 4) F(4, 3) F(5, 2) F(6, 2)
// clang-format on

FC_INLINE void narrow_row(const fc_conv_row *r, const int O, const int Q)
{
    const ptrdiff_t width = Q * VL;
    for (ptrdiff_t p = 0; p < r->pixels; p += width)
        narrow_tile(r, p + width <= r->pixels ? p : r->pixels - width, O, Q);
}

#define FC_NARROW(O, Q)                                                                                                \
    case O:                                                                                                            \
        if (r->pixels >= Q * VL)                                                                                       \
            narrow_row(r, O, Q);                                                                                       \
        else                                                                                                           \
            narrow_row(r, O, 1);                                                                                       \
        break;

static int FC_FN(is_narrow)(const fc_conv_row *r)
{
    return r->narrow > 0 && r->narrow <= FC_NARROW_MOST && r->pixels >= VL && r->finish && !r->accumulate;
}

static void FC_FN(conv_narrow)(const fc_conv_row *r)
{
    switch (r->narrow) {
        FC_NARROW_TILES(FC_NARROW)
    }
}
