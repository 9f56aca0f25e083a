/* depthwise_row.h: every channel with its own filter; a vector holds VL channels of one pixel, a tile several
 * neighbouring pixels that share each load of weights. */
#define FC_DEPTHWISE_PIXELS (MR < 8 ? MR : 8)

FC_INLINE void depthwise_tile(const fc_depthwise_row *r, ptrdiff_t first, const int P, const ptrdiff_t x_pixel)
{
    v_f acc[FC_DEPTHWISE_PIXELS];
    const float *x = r->x + first * x_pixel;
    float *y = r->y + first * VL;
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
        acc[p] = V_LOAD(r->bias);
    for (ptrdiff_t ky = 0; ky < r->kh; ky++)
        for (ptrdiff_t kx = 0; kx < r->kw; kx++) {
            const v_f w = V_LOAD(r->w + (ky * r->kw + kx) * VL);
            const float *in = x + ky * r->x_row + kx * r->x_col;
#pragma GCC unroll 8
            for (int p = 0; p < P; p++)
                acc[p] = V_FMA(V_LOAD(in + p * x_pixel), w, acc[p]);
        }
    const v_f low = V_SET1(r->act.low), high = V_SET1(r->act.high);
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) {
        if (r->residual)
            acc[p] += V_LOAD(r->residual + (first + p) * VL);
        V_STORE(y + p * VL, v_clip(acc[p], low, high));
    }
    if (r->act.kind > FC_CLIP)
        FC_FN(activate_pixels)(&r->act, y, VL, P);
}

FC_INLINE void depthwise_row_by(const fc_depthwise_row *r, const ptrdiff_t x_pixel)
{
    ptrdiff_t p = 0;
    for (; p + FC_DEPTHWISE_PIXELS <= r->pixels; p += FC_DEPTHWISE_PIXELS)
        depthwise_tile(r, p, FC_DEPTHWISE_PIXELS, x_pixel);
    for (; p + 3 <= r->pixels; p += 3)
        depthwise_tile(r, p, 3, x_pixel);
    for (; p < r->pixels; p++)
        depthwise_tile(r, p, 1, x_pixel);
}

static void FC_FN(depthwise_row)(const fc_depthwise_row *r)
{
    if (r->x_pixel == VL)
        depthwise_row_by(r, VL);
    else if (r->x_pixel == 2 * VL)
        depthwise_row_by(r, 2 * VL);
    else
        depthwise_row_by(r, r->x_pixel);
}
