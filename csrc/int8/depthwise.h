/* depthwise.h: rows of a depthwise convolution (see fc_int8_depthwise).
 *
 * Four neighbouring pixels, turned, are the quad of each lane. In an order by rows, a quad serves several neighbouring
 * outputs: each has the filter's row moved to where its taps lie. */

/* Turns `count` pixels, of which no byte behind the last is read. */
FC_INLINE v_x turned_part(const uint8_t *x, ptrdiff_t count)
{
    uint8_t pixels[4 * VL] = {0};
    if (count > 0)
        memcpy(pixels, x, (size_t)(count > 4 ? 4 : count) * VL);
    return v_turned(pixels);
}

/* Neighbouring outputs that are computed at once, and rows of taps that are unrolled: docs/tuning.md, "Depthwise tiles
 * of bytes". */
enum { FC_WIDE = 4, FC_LINES = UNROLL_LINES };

/* What the outputs of a call share. */
typedef struct {
    FC_FN(bounds) bounds;
    v_f scale;
    v_i bias;
    int plain;
} FC_FN(channels);

/* Finishes `count` outputs of a row that are fewer than FC_WIDE, or that take any form. */
FC_OUTLINE void FC_FN(finish_few)(const fc_int8_depthwise *r, const FC_FN(channels) *of, const v_i sums[FC_WIDE],
                                  void *y, const uint8_t *residual, ptrdiff_t count)
{
    const FC_FN(outputs) o = {&r->finish, r->scale, residual, y, VL, 0, VL, 0};
    uint8_t added[FC_WIDE * VL] = {0}, found[FC_WIDE * VL];
    if (!of->plain) {
        FC_FN(finish_any)(&o, sums, count, 1);
        return;
    }
    if (residual)
        memcpy(added, residual, (size_t)count * VL);
    finish_pixels(&r->finish, &of->bounds, of->scale, sums, found, residual ? added : NULL, VL, FC_WIDE);
    memcpy(y, found, (size_t)count * VL);
}

/* Stores `count` outputs of a row, those of a table before it is applied. */
FC_INLINE void finish_some(const fc_int8_depthwise *r, const FC_FN(channels) *of, const v_i sums[FC_WIDE], void *y,
                           const uint8_t *residual, ptrdiff_t count)
{
    if (of->plain && count >= FC_WIDE) {
        finish_pixels(&r->finish, &of->bounds, of->scale, sums, y, residual, VL, FC_WIDE);
        return;
    }
    v_i copy[FC_WIDE];
#pragma GCC unroll 4
    for (int p = 0; p < FC_WIDE; p++)
        copy[p] = sums[p];
    FC_FN(finish_few)(r, of, copy, y, residual, count < FC_WIDE ? count : FC_WIDE);
}

/* Computes FC_WIDE outputs of R rows, and stores `count` of each. G neighbouring outputs share Q quads of a row of
 * taps, and neighbouring rows of outputs share rows of taps. `readable` is the pixels from x on that may be read. */
FC_INLINE void outputs_by_rows(const fc_int8_depthwise *r, const FC_FN(channels) *of, const uint8_t *x, char *y,
                               const uint8_t *residual, ptrdiff_t count, ptrdiff_t readable, const ptrdiff_t kh,
                               const ptrdiff_t stride, const int R, const int G, const int Q)
{
    const ptrdiff_t reach = (FC_WIDE - G) * stride + 4 * Q, size = r->finish.floats ? 4 : 1;
    v_i sums[2][FC_WIDE];
#pragma GCC unroll 2
    for (int row = 0; row < R; row++)
#pragma GCC unroll 4
        for (int p = 0; p < FC_WIDE; p++)
            sums[row][p] = of->bias;
#pragma GCC unroll FC_LINES
    for (ptrdiff_t line = 0; line < kh + R - 1; line++, x += r->x_row, readable -= r->x_row / VL) {
        const int part = readable < reach;
#pragma GCC unroll 4
        for (int first = 0; first < FC_WIDE; first += G)
#pragma GCC unroll 2
            for (int q = 0; q < Q; q++) {
                const ptrdiff_t at = first * stride + 4 * q;
                const v_x turned = part ? turned_part(x + at * VL, readable - at) : v_turned(x + at * VL);
#pragma GCC unroll 2
                for (int row = 0; row < R; row++) {
                    const ptrdiff_t ky = line - row;
                    if (ky < 0 || ky >= kh)
                        continue;
#pragma GCC unroll 4
                    for (int g = 0; g < G; g++)
                        sums[row][first + g] =
                            v_dot(sums[row][first + g], turned,
                                  v_weights((const char *)r->w + ((ky * G + g) * Q + q) * QUAD_BYTES));
                }
            }
    }
#pragma GCC unroll 2
    for (int row = 0; row < R; row++) {
        finish_some(r, of, sums[row], y, residual, count);
        y += r->y_row * size;
        residual += residual ? r->residual_row : 0;
    }
}

/* Computes R rows. The last outputs of a row are those of a full group, which may overlap the one before; with a
 * residual, which y may replace, they are fewer. */
FC_INLINE void rows_by_rows(const fc_int8_depthwise *r, const FC_FN(channels) *of, const uint8_t *x, char *y,
                            const uint8_t *residual, const ptrdiff_t kh, const ptrdiff_t stride, const int R,
                            const int G, const int Q)
{
    const ptrdiff_t size = r->finish.floats ? 4 : 1, last = r->pixels - FC_WIDE;
    const int overlaps = last >= 0 && !residual;
    for (ptrdiff_t p = 0; p < r->pixels; p += FC_WIDE) {
        const ptrdiff_t at = overlaps && p > last ? last : p;
        const uint8_t *in = x + at * stride * VL;
        outputs_by_rows(r, of, in, y + at * VL * size, residual ? residual + at * VL : NULL, r->pixels - at,
                        (r->x_end - in) / VL, kh, stride, R, G, Q);
    }
    for (int row = 0; row < R && of->plain && r->finish.table; row++, y += r->y_row)
        r->finish.look_up(r->finish.table, (uint8_t *)y, (uint8_t *)y, r->pixels * VL);
}

/* Computes a row whose quads are any four taps, which are copied side by side. */
FC_INLINE void row_by_taps(const fc_int8_depthwise *r, const uint8_t *x, FC_FN(outputs) o)
{
    const ptrdiff_t taps = r->kh * r->kw, size = r->finish.floats ? 4 : 1;
    uint8_t pixels[4 * VL] = {0};
    for (ptrdiff_t p = 0; p < r->pixels; p++) {
        const char *w = r->w;
        const uint8_t *row = x;
        v_i sums[1][FC_MOST_BLOCKS];
        sums[0][0] = v_load_i(r->bias);
        for (ptrdiff_t tap = 0, kx = 0; tap < taps; tap++) {
            memcpy(pixels + tap % 4 * VL, row + kx * r->x_col, VL);
            if (tap % 4 == 3 || tap + 1 == taps) {
                sums[0][0] = v_dot(sums[0][0], v_turned(pixels), v_weights(w));
                w += QUAD_BYTES;
            }
            if (++kx == r->kw) {
                kx = 0;
                row += r->x_row;
            }
        }
        finish_tile(&o, sums, 1, 1);
        x += r->stride * VL;
        o.y = (char *)o.y + VL * size;
        o.residual += o.residual ? VL : 0;
    }
}

/* Computes all rows of a filter of a width and stride. Filters as high as wide compute two rows at once, where these
 * are neighbours in x. */
#define FC_DEPTHWISE(name, kw, stride, G, Q)                                                                           \
    FC_OUTLINE void FC_FN(name)(const fc_int8_depthwise *r)                                                            \
    {                                                                                                                  \
        const FC_FN(channels) of = {bounds_in(&r->finish), v_load_f(r->scale), v_load_i(r->bias),                      \
                                    is_plain(&r->finish)};                                                             \
        const ptrdiff_t size = r->finish.floats ? 4 : 1;                                                               \
        const int pairs = (stride) == 1 && r->kh == (kw) && r->x_step == r->x_row;                                     \
        for (ptrdiff_t row = 0; row < r->rows;) {                                                                      \
            const uint8_t *x = r->x + row * r->x_step;                                                                 \
            const uint8_t *residual = r->residual ? r->residual + row * r->residual_row : NULL;                        \
            char *y = (char *)r->y + row * r->y_row * size;                                                            \
            if (pairs && row + 1 < r->rows) {                                                                          \
                rows_by_rows(r, &of, x, y, residual, kw, stride, (stride) == 1 ? 2 : 1, G, Q);                         \
                row += 2;                                                                                              \
            } else {                                                                                                   \
                rows_by_rows(r, &of, x, y, residual, r->kh, stride, 1, G, Q);                                          \
                row++;                                                                                                 \
            }                                                                                                          \
        }                                                                                                              \
    }
FC_DEPTHWISE(depthwise3, 3, 1, 2, 1)
FC_DEPTHWISE(depthwise5, 5, 1, 4, 2)
FC_DEPTHWISE(depthwise7, 7, 1, 2, 2)
FC_DEPTHWISE(depthwise3_strided, 3, 2, 1, 1)
FC_DEPTHWISE(depthwise5_strided, 5, 2, 2, 2)
FC_DEPTHWISE(depthwise7_strided, 7, 2, 1, 2)

static void FC_FN(depthwise)(const fc_int8_depthwise *r)
{
    const ptrdiff_t size = r->finish.floats ? 4 : 1;
    if (r->by_rows) {
        void (*const strided)(const fc_int8_depthwise *) = r->kw == 3   ? FC_FN(depthwise3_strided)
                                                           : r->kw == 5 ? FC_FN(depthwise5_strided)
                                                                        : FC_FN(depthwise7_strided);
        void (*const dense)(const fc_int8_depthwise *) = r->kw == 3   ? FC_FN(depthwise3)
                                                         : r->kw == 5 ? FC_FN(depthwise5)
                                                                      : FC_FN(depthwise7);
        (r->stride == 1 ? dense : strided)(r);
        return;
    }
    const uint8_t *x = r->x;
    FC_FN(outputs) o = {&r->finish, r->scale, r->residual, r->y, VL, 0, VL, 0};
    for (ptrdiff_t row = 0; row < r->rows; row++) {
        row_by_taps(r, x, o);
        x += r->x_step;
        o.y = (char *)o.y + r->y_row * size;
        o.residual += o.residual ? r->residual_row : 0;
    }
}
