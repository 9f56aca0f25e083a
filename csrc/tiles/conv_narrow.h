/* conv_narrow.h: a row of pixels of planes times at most six output channels (see fc_conv_row for the sum).
 *
 * Neighbouring pixels of a grey image, or of a plain one, are neighbouring floats: they fill the vectors here, and
 * output channels are computed one by one, so that none is computed for nothing. A tile holds Q vectors of pixels for
 * each of O channels; a step loads Q vectors of inputs and broadcasts O weights. What comes out are planes, transposed
 * before they are stored, unless y is plain: then pixels are neighbours (y_pixel is 1) and channels y_block apart. The
 * last tile of a row begins earlier than it had to, to end with the row: its first pixels are computed twice. Sums are
 * added in the order of conv_tile.h: the bits are the same.
 *
 * Maxima are taken of planes, before they are transposed: of rows first, then of the even and the odd pixels. */

/* The sums of Q vectors of pixels, which are `apart` in x. */
FC_INLINE void narrow_sums(const fc_conv_row *r, const float *x, ptrdiff_t apart, v_f sum[FC_NARROW_MOST][4],
                           const int O, const int Q)
{
#pragma GCC unroll 6
    for (int o = 0; o < O; o++)
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++)
            sum[o][q] = V_SET1(r->bias[o]);
    const float *w = r->w;
    for (const ptrdiff_t *tap = r->taps, *end = tap + r->whole + r->last; tap < end; tap++, w += VL) {
        v_f in[4];
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++)
            in[q] = V_LOAD(x + *tap + q * apart);
#pragma GCC unroll 6
        for (int o = 0; o < O; o++) {
            const v_f weight = V_SET1(w[o]);
#pragma GCC unroll 4
            for (int q = 0; q < Q; q++)
                sum[o][q] = V_FMA(in[q], weight, sum[o][q]);
        }
    }
}

/* A vector of pixels of each of O planes, to a plain y; before its second half comes the gap. */
FC_INLINE void narrow_planes(const fc_conv_row *r, const v_f planes[FC_NARROW_MOST], ptrdiff_t at, ptrdiff_t gap,
                             const int O)
{
    const v_f low = V_SET1(r->act.low), high = V_SET1(r->act.high);
#pragma GCC unroll 6
    for (int o = 0; o < O; o++) {
        float *y = r->y + at + o * r->y_block;
        v_f value = v_clip(planes[o], low, high);
        if (r->act.kind > FC_CLIP)
            FC_FN(activate_pixels)(&r->act, (float *)&value, VL, 1);
        memcpy(y, &value, sizeof value / 2);
        memcpy(y + VL / 2 + gap, (const float *)&value + VL / 2, sizeof value / 2);
    }
}

/* A vector of pixels of each of O planes, to their places from `at` on; see passed_gap for the gap. */
FC_INLINE void narrow_store(const fc_conv_row *r, const v_f planes[FC_NARROW_MOST], ptrdiff_t at, ptrdiff_t until_gap,
                            ptrdiff_t gap, const int O)
{
    if (r->y_pixel == 1) {
        narrow_planes(r, planes, at, gap, O);
        return;
    }
    v_f pixels[VL];
#pragma GCC unroll 16
    for (int o = 0; o < VL; o++)
        pixels[o] = o < O ? planes[o < O ? o : 0] : V_SET1(0.0f);
    transpose(pixels);
    FC_FN(tile_sums) tile;
#pragma GCC unroll 16
    for (int p = 0; p < VL; p++)
        tile[p][0] = pixels[p];
    store_sums(r, tile, r->y + at, r->residual ? r->residual + at : NULL, 0, VL, 1, until_gap, gap, gap, r->y_pixel, 0);
    activate_tile(r, r->y + at, VL, 1, until_gap, gap);
}

FC_INLINE void narrow_tile(const fc_conv_row *r, ptrdiff_t first, const int O, const int Q)
{
    v_f sum[FC_NARROW_MOST][4], planes[FC_NARROW_MOST];
    narrow_sums(r, r->x + first, VL, sum, O, Q);
#pragma GCC unroll 4
    for (int q = 0; q < Q; q++) {
#pragma GCC unroll 6
        for (int o = 0; o < O; o++)
            planes[o] = sum[o][q];
        narrow_store(r, planes, (first + q * VL) * r->y_pixel, VL, 0, O);
    }
}

/* The maxima of two rows, of the vectors of pixels at `first` and at `second`. */
FC_INLINE void narrow_pooled(const fc_conv_row *r, ptrdiff_t first, ptrdiff_t second, const int O)
{
    v_f sum[FC_NARROW_MOST][4], half[2][FC_NARROW_MOST];
    for (int h = 0; h < 2; h++) {
        narrow_sums(r, r->x + (h ? second : first), r->x_below, sum, O, 2);
#pragma GCC unroll 6
        for (int o = 0; o < O; o++)
            half[h][o] = v_max_nan(sum[o][0], sum[o][1]);
    }
    v_f planes[FC_NARROW_MOST];
#pragma GCC unroll 6
    for (int o = 0; o < O; o++)
        planes[o] = v_max_nan(V_EVEN(half[0][o], half[1][o]), V_ODD(half[0][o], half[1][o]));
    narrow_store(r, planes, first / 2 * r->y_pixel, VL / 2, ((second - first) / 2 - VL / 2) * r->y_pixel, O);
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

FC_INLINE void narrow_pooled_row(const fc_conv_row *r, const int O)
{
    const ptrdiff_t last = r->pixels - VL;
    for (ptrdiff_t p = 0; p < r->pixels; p += 2 * VL)
        narrow_pooled(r, p < last ? p : last, p + VL < last ? p + VL : last, O);
}

#define FC_NARROW(O, Q)                                                                                                \
    case O:                                                                                                            \
        if (r->x_below)                                                                                                \
            narrow_pooled_row(r, O);                                                                                   \
        else if (r->pixels >= Q * VL)                                                                                  \
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
