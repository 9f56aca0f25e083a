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

/* Computes G outputs from Q quads of each row of taps, and stores `count` of them. `readable` is the pixels of the last
 * row of taps that may be read. */
FC_INLINE void outputs_by_rows(const fc_int8_depthwise *r, const uint8_t *x, const FC_FN(outputs) *o, ptrdiff_t count,
                               ptrdiff_t readable, const int G, const int Q)
{
    const char *w = r->w;
    v_i sums[4][FC_MOST_BLOCKS];
#pragma GCC unroll 4
    for (int g = 0; g < G; g++)
        sums[g][0] = v_load_i(r->bias);
    for (ptrdiff_t ky = 0; ky < r->kh; ky++, x += r->x_row, w += G * Q * QUAD_BYTES) {
        const int part = ky + 1 == r->kh && readable < 4 * Q;
#pragma GCC unroll 2
        for (int q = 0; q < Q; q++) {
            const v_x turned = part ? turned_part(x + 4 * q * VL, readable - 4 * q) : v_turned(x + 4 * q * VL);
#pragma GCC unroll 4
            for (int g = 0; g < G; g++)
                sums[g][0] = v_dot(sums[g][0], turned, v_weights(w + (g * Q + q) * QUAD_BYTES));
        }
    }
    if (count >= G) {
        finish_tile(o, sums, G, 1);
        return;
    }
    FC_FN(outputs) one = *o;
    const ptrdiff_t size = o->finish->floats ? 4 : 1;
#pragma GCC unroll 4
    for (int g = 0; g < G; g++)
        if (g < count) {
            finish_tile(&one, sums + g, 1, 1);
            one.y = (char *)one.y + VL * size;
            one.residual += one.residual ? VL : 0;
        }
}

FC_INLINE void row_by_rows(const fc_int8_depthwise *r, const uint8_t *x, FC_FN(outputs) o, const int G, const int Q)
{
    const ptrdiff_t size = r->finish.floats ? 4 : 1, below = (r->kh - 1) * r->x_row;
    for (ptrdiff_t p = 0; p < r->pixels; p += G) {
        outputs_by_rows(r, x, &o, r->pixels - p, (r->x_end - x - below) / VL, G, Q);
        x += G * r->stride * VL;
        o.y = (char *)o.y + G * VL * size;
        o.residual += o.residual ? G * VL : 0;
    }
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

FC_OUTLINE void FC_FN(depthwise_rows)(const fc_int8_depthwise *r, const uint8_t *x, FC_FN(outputs) o)
{
    const int outputs = fc_int8_outputs(r->kw, r->stride), quads = fc_int8_quads(r->kw);
    if (outputs == 4)
        row_by_rows(r, x, o, 4, 2);
    else if (outputs == 2 && quads == 1)
        row_by_rows(r, x, o, 2, 1);
    else if (outputs == 2)
        row_by_rows(r, x, o, 2, 2);
    else if (quads == 1)
        row_by_rows(r, x, o, 1, 1);
    else
        row_by_rows(r, x, o, 1, 2);
}

static void FC_FN(depthwise)(const fc_int8_depthwise *r)
{
    const ptrdiff_t size = r->finish.floats ? 4 : 1;
    const uint8_t *x = r->x;
    FC_FN(outputs) o = {&r->finish, r->scale, r->residual, r->y, VL, 0, VL, 0};
    for (ptrdiff_t row = 0; row < r->rows; row++) {
        if (r->by_rows)
            FC_FN(depthwise_rows)(r, x, o);
        else
            row_by_taps(r, x, o);
        x += r->x_step;
        o.y = (char *)o.y + r->y_row * size;
        o.residual += o.residual ? r->residual_row : 0;
    }
}
