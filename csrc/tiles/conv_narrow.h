/* conv_narrow.h: tiles of NCHW images for at most six output channels (see fc_conv_narrow for the sum).
 *
 * Neighbouring pixels of an NCHW image are neighbouring floats. They fill the vectors here, so that few channels waste
 * no lane. A tile holds Q vectors of pixels for each of O channels. A step loads Q vectors of inputs and broadcasts O
 * weights. The results are planes: a tile transposes them before it stores them, unless y is NCHW. The last tile of a
 * row begins early enough to end with the row: it computes its first pixels again. A row of fewer than VL pixels is one
 * vector, whose last sums are left out. Tiles sum in the order of steps_tile, so that both give the same bits.
 *
 * Pooling takes maxima of planes, before they are transposed: of rows first, then of even and odd pixels. */

/* Pairs O, Q. The O x Q sums keep two multipliers busy and leave some of 16 registers free. Beyond FC_NARROW_MOST
 * channels, steps_tile is faster: docs/tuning.md, "Narrow tiles". With products of lanes there are 32 registers, and
 * one vector holds the weights of a step. */
// clang-format off
#if LANE_PRODUCTS
#define FC_NARROW_TILES(F) F(1, 8) F(2, 8) F(3, 8) F(4, 6)
#else
#define FC_NARROW_TILES(F) F(1, 4) F(2, 4) F(3, 4) F(4, 3) F(5, 2) F(6, 2)
#endif
// clang-format on
typedef v_f FC_FN(narrow_sums)[FC_NARROW_MOST][LANE_PRODUCTS ? 8 : 4]; /* [channel][vector of pixels] */

/* Computes the sums of Q vectors of pixels, `apart` floats from each other in x. */
FC_INLINE void narrow_sums(const fc_conv_narrow *r, const float *x, ptrdiff_t apart, FC_FN(narrow_sums) sum,
                           const int O, const int Q)
{
#pragma GCC unroll 6
    for (int o = 0; o < O; o++)
#pragma GCC unroll 8
        for (int q = 0; q < Q; q++)
            sum[o][q] = V_SET1(r->row.bias[o]);
    const float *w = r->row.w;
    for (const ptrdiff_t *tap = r->row.taps, *end = tap + r->steps; tap < end; tap++, w += VL)
        if (LANE_PRODUCTS) {
            const float *in = x + *tap;
            __asm__("" : "+r"(in)); /* else the compiler computes the address of each load anew */
            const v_f weight = V_LOAD(w);
#pragma GCC unroll 8
            for (int q = 0; q < Q; q++) {
                const v_f pixels = V_LOAD(in + q * apart);
#pragma GCC unroll 6
                for (int o = 0; o < O; o++)
                    sum[o][q] = V_FMA_LANE(weight, o, pixels, sum[o][q]);
            }
        } else {
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

/* Stores a vector of pixels of each of O planes to NCHW y, with the gap before its second half. */
FC_INLINE void narrow_planes(const fc_conv_narrow *r, const v_f planes[FC_NARROW_MOST], ptrdiff_t at, ptrdiff_t gap,
                             const int O)
{
    const v_f low = V_SET1(r->row.act.low), high = V_SET1(r->row.act.high);
#pragma GCC unroll 6
    for (int o = 0; o < O; o++) {
        float *y = r->row.y + at + o * r->row.y_block;
        v_f value = v_clip(planes[o], low, high);
        if (r->row.act.kind > FC_CLIP)
            FC_FN(activate_pixels)(&r->row.act, (float *)&value, VL, 1);
        memcpy(y, &value, sizeof value / 2);
        memcpy(y + VL / 2 + gap, (const float *)&value + VL / 2, sizeof value / 2);
    }
}

/* Stores a vector of pixels of each of O planes, from `at` on; see passed_gap for the gap. */
FC_INLINE void narrow_store(const fc_conv_narrow *r, const v_f planes[FC_NARROW_MOST], ptrdiff_t at,
                            ptrdiff_t until_gap, ptrdiff_t gap, const int O)
{
    if (r->row.y_pixel == 1) {
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
    store_sums(&r->row, tile, r->row.y + at, r->row.residual ? r->row.residual + at : NULL, 0, VL, 1, until_gap, gap,
               gap, r->row.y_pixel);
    activate_tile(&r->row, r->row.y + at, VL, 1, until_gap, gap);
}

FC_INLINE void narrow_tile(const fc_conv_narrow *r, ptrdiff_t first, const int O, const int Q)
{
    FC_FN(narrow_sums) sum;
    v_f planes[FC_NARROW_MOST];
    narrow_sums(r, r->row.x + first, VL, sum, O, Q);
#pragma GCC unroll 8
    for (int q = 0; q < Q; q++) {
#pragma GCC unroll 6
        for (int o = 0; o < O; o++)
            planes[o] = sum[o][q];
        narrow_store(r, planes, (first + q * VL) * r->row.y_pixel, VL, 0, O);
    }
}

/* Pools two rows, in the vectors of pixels that begin at `first` and at `second`. */
FC_INLINE void narrow_pooled(const fc_conv_narrow *r, ptrdiff_t first, ptrdiff_t second, const int O)
{
    FC_FN(narrow_sums) sum;
    v_f half[2][FC_NARROW_MOST];
    for (int h = 0; h < 2; h++) {
        narrow_sums(r, r->row.x + (h ? second : first), r->x_pool_row, sum, O, 2);
#pragma GCC unroll 6
        for (int o = 0; o < O; o++)
            half[h][o] = v_max_nan(sum[o][0], sum[o][1]);
    }
    v_f planes[FC_NARROW_MOST];
#pragma GCC unroll 6
    for (int o = 0; o < O; o++)
        planes[o] = v_max_nan(V_EVEN(half[0][o], half[1][o]), V_ODD(half[0][o], half[1][o]));
    narrow_store(r, planes, first / 2 * r->row.y_pixel, VL / 2, ((second - first) / 2 - VL / 2) * r->row.y_pixel, O);
}

FC_INLINE void narrow_row(const fc_conv_narrow *r, const int O, const int Q)
{
    const ptrdiff_t width = Q * VL;
    for (ptrdiff_t p = 0; p < r->row.pixels; p += width)
        narrow_tile(r, p + width <= r->row.pixels ? p : r->row.pixels - width, O, Q);
}

FC_INLINE void narrow_pooled_row(const fc_conv_narrow *r, const int O)
{
    const ptrdiff_t last = r->row.pixels - VL;
    for (ptrdiff_t p = 0; p < r->row.pixels; p += 2 * VL)
        narrow_pooled(r, p < last ? p : last, p + VL < last ? p + VL : last, O);
}

/* Stores the pixels of a row of fewer than VL to blocked y; planes beyond the channels are zeros. */
static __attribute__((noinline)) void FC_FN(narrow_short_store)(const fc_conv_row *r, const v_f planes[FC_NARROW_MOST])
{
    const int count = (int)r->pixels;
    v_f pixels[VL];
#pragma GCC unroll 16
    for (int o = 0; o < VL; o++)
        pixels[o] = o < FC_NARROW_MOST ? planes[o < FC_NARROW_MOST ? o : 0] : V_SET1(0.0f);
    transpose(pixels);
    FC_FN(tile_sums) tile;
#pragma GCC unroll 16
    for (int p = 0; p < VL; p++)
        tile[p][0] = pixels[p];
    store_sums(r, tile, r->y, r->residual, 0, count, 1, VL, 0, 0, r->y_pixel);
    activate_tile(r, r->y, count, 1, VL, 0);
}

FC_INLINE void narrow_short_row(const fc_conv_narrow *r, const int O)
{
    FC_FN(narrow_sums) sum;
    v_f planes[FC_NARROW_MOST];
    narrow_sums(r, r->row.x, 0, sum, O, 1);
#pragma GCC unroll 6
    for (int o = 0; o < FC_NARROW_MOST; o++)
        planes[o] = o < O ? sum[o][0] : V_SET1(0.0f);
    FC_FN(narrow_short_store)(&r->row, planes);
}

#define FC_NARROW(O, Q)                                                                                                \
    case O:                                                                                                            \
        if (r->x_pool_row)                                                                                             \
            narrow_pooled_row(r, O);                                                                                   \
        else if (r->row.pixels < VL)                                                                                   \
            narrow_short_row(r, O);                                                                                    \
        else if (r->row.pixels >= Q * VL)                                                                              \
            narrow_row(r, O, Q);                                                                                       \
        else if (Q > 4 && r->row.pixels >= Q / 2 * VL)                                                                 \
            narrow_row(r, O, Q / 2);                                                                                   \
        else                                                                                                           \
            narrow_row(r, O, 1);                                                                                       \
        break;

static void FC_FN(conv_narrow)(const fc_conv_narrow *r)
{
    switch (r->channels) {
        FC_NARROW_TILES(FC_NARROW)
    }
}
