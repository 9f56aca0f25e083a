/* depthwise.h: every channel has its own filter. A vector holds VL channels of one pixel.
 *
 * A tile is P neighbouring outputs of one row. Filters 3 or 5 taps wide with stride 1 or 2 load each input of a row
 * once, and add it to every output that it touches. Other filters load it for each tap. */
#define FC_DEPTHWISE_PIXELS (MR < 10 ? 10 : MR) /* docs/tuning.md, "Depthwise tiles" */

FC_INLINE void depthwise_tile(const fc_depthwise *r, const float *x, float *y, const float *residual, const int P,
                              const int kw, const int stride)
{
    const ptrdiff_t y_pixel = kw > 0 ? VL : r->y_pixel;
    v_f acc[FC_DEPTHWISE_PIXELS];
#pragma GCC unroll 14
    for (int p = 0; p < P; p++)
        acc[p] = V_LOAD(r->bias);
    const float *w = r->w;
    ptrdiff_t distance[FC_DEPTHWISE_PIXELS], column[2];
    if (HELD_PIXELS && kw == 0) {
        hold_pixels(distance, P, r->x_pixel);
        hold_pixels(column, 2, r->x_col);
    }
    if (kw > 0) {
        const float *below = x + r->kh * r->x_row;
#pragma GCC unroll 2
        for (int row = 0; row < stride; row++, below += r->x_row)
#pragma GCC unroll 28
            for (int i = 0; i < P * stride * VL; i += FC_LINE_FLOATS)
                __builtin_prefetch(below + i);
    }
    for (ptrdiff_t ky = 0; ky < r->kh; ky++, x += r->x_row) {
        if (kw > 0) {
            v_f weight[5];
#pragma GCC unroll 5
            for (int k = 0; k < kw; k++)
                weight[k] = V_LOAD(w + k * VL);
#pragma GCC unroll 32
            for (int i = 0; i < (P - 1) * stride + kw; i++) {
                const v_f in = V_LOAD(x + i * VL);
#pragma GCC unroll 5
                for (int k = 0; k < kw; k++)
                    if (i >= k && (i - k) % stride == 0 && (i - k) / stride < P)
                        V_ADD_PRODUCT_OF(acc[(i - k) / stride], in, weight[k]);
            }
            w += kw * VL;
        } else if (HELD_PIXELS) {
            const float *in = x;
            for (const float *end = w + r->kw * VL; w < end; w += VL, in = at_distance(in, column[1])) {
                const v_f weight = V_LOAD(w);
#pragma GCC unroll 14
                for (int p = 0; p < P; p++)
                    V_ADD_PRODUCT_OF(acc[p], V_LOAD(at_distance(in, distance[p])), weight);
            }
        } else {
            for (ptrdiff_t k = 0; k < r->kw; k++, w += VL) {
                const v_f weight = V_LOAD(w);
#pragma GCC unroll 14
                for (int p = 0; p < P; p++)
                    acc[p] = V_FMA(V_LOAD(x + k * r->x_col + p * r->x_pixel), weight, acc[p]);
            }
        }
    }
    const v_f low = V_SET1(r->act.low), high = V_SET1(r->act.high);
#pragma GCC unroll 14
    for (int p = 0; p < P; p++) {
        if (residual)
            acc[p] += V_LOAD(residual + p * VL);
        V_STORE(y + p * y_pixel, v_clip(acc[p], low, high));
    }
    if (r->act.kind > FC_CLIP)
        FC_FN(activate_pixels)(&r->act, y, y_pixel, P);
}

// clang-format off
#define FC_DEPTHWISE_TILE(P) \
    case P: depthwise_tile(r, x, y, residual, P <= FC_DEPTHWISE_PIXELS ? P : 1, kw, stride); break;
#if MR < 10
#define FC_DEPTHWISE_TILES(F) FC_UP_TO_6(F) F(7) F(8) F(9) F(10)
#else
#define FC_DEPTHWISE_TILES(F) FC_UP_TO_14(F)
#endif
// clang-format on

FC_INLINE void depthwise_rows(const fc_depthwise *r, const int kw, const int stride)
{
    /* Pixels are divided evenly, as in conv_row.h. */
    const ptrdiff_t tiles = (r->pixels + FC_DEPTHWISE_PIXELS - 1) / FC_DEPTHWISE_PIXELS;
    const ptrdiff_t part = r->pixels / tiles, larger = r->pixels % tiles;
    for (ptrdiff_t row = 0; row < r->rows; row++) {
        const float *x = r->x + row * r->x_step, *residual = r->residual ? r->residual + row * r->residual_row : NULL;
        float *y = r->y + row * r->y_row;
        for (ptrdiff_t t = 0; t < tiles; t++) {
            const ptrdiff_t pixels = part + (t < larger);
            switch (pixels) {
                FC_DEPTHWISE_TILES(FC_DEPTHWISE_TILE)
            }
            x += pixels * r->x_pixel;
            y += pixels * (kw > 0 ? VL : r->y_pixel);
            if (residual)
                residual += pixels * VL;
        }
    }
}

#define FC_DEPTHWISE_FAMILY(name, kw, stride)                                                                          \
    static __attribute__((noinline)) void FC_FN(name)(const fc_depthwise *r)                                           \
    {                                                                                                                  \
        depthwise_rows(r, kw, stride);                                                                                 \
    }

FC_DEPTHWISE_FAMILY(depthwise_3_stride1, 3, 1)
FC_DEPTHWISE_FAMILY(depthwise_3_stride2, 3, 2)
FC_DEPTHWISE_FAMILY(depthwise_5_stride1, 5, 1)
FC_DEPTHWISE_FAMILY(depthwise_5_stride2, 5, 2)
FC_DEPTHWISE_FAMILY(depthwise_any, 0, 1)

static void FC_FN(depthwise)(const fc_depthwise *r)
{
    const ptrdiff_t stride = r->x_pixel / VL;
    if (r->x_col == VL && r->kw == 3 && stride == 1)
        FC_FN(depthwise_3_stride1)(r);
    else if (r->x_col == VL && r->kw == 3 && stride == 2)
        FC_FN(depthwise_3_stride2)(r);
    else if (r->x_col == VL && r->kw == 5 && stride == 1)
        FC_FN(depthwise_5_stride1)(r);
    else if (r->x_col == VL && r->kw == 5 && stride == 2)
        FC_FN(depthwise_5_stride2)(r);
    else
        FC_FN(depthwise_any)(r);
}
