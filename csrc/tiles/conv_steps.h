/* conv_steps.h: tiles whose taps hold a single channel (see fc_conv_steps for the sum).
 *
 * There is no loop over channels: it would end after three or five rounds, and the processor mispredicts each end. A
 * step also loads the offset of its tap, and leaves no load for a prefetch: docs/tuning.md, "Steps of a tile". */

/* The mask of the first n lanes begins at VL - n. */
static const int first_lanes[2 * VL] = {[0 ... VL - 1] = -1};

/* Stores the sums of P pixels. The first `kept` channels of the first block keep their values in y. */
FC_INLINE void store_steps(const fc_conv_steps *r, FC_FN(tile_sums) acc, float *y, const float *residual, const int P,
                           const int B, ptrdiff_t until_gap, ptrdiff_t y_gap, ptrdiff_t residual_gap,
                           const ptrdiff_t y_pixel)
{
    if (r->kept) {
        v_i kept;
        memcpy(&kept, first_lanes + VL - r->kept, sizeof kept);
#pragma GCC unroll 28
        for (int p = 0; p < P; p++)
            acc[p][0] = v_select(kept, V_LOAD(y + p * y_pixel + passed_gap(p, until_gap, y_gap)), acc[p][0]);
    }
    store_sums(&r->row, acc, y, residual, 0, P, B, until_gap, y_gap, residual_gap, y_pixel);
}

/* Adds a step to the sums of P pixels at held distances. */
FC_INLINE void add_held_step(FC_FN(tile_sums) acc, const float *w, const float *in, const ptrdiff_t *distance,
                             const int P, const int B)
{
    v_f weight[2];
#pragma GCC unroll 2
    for (int b = 0; b < B; b++)
        weight[b] = V_LOAD(w + b * VL);
#pragma GCC unroll 28
    for (int p = 0; p < P; p++) {
        if (B == 2)
            V_ADD_PRODUCTS(acc[p][0], acc[p][1], *at_distance(in, distance[p]), weight[0], weight[1]);
        else
            V_ADD_PRODUCT(acc[p][0], *at_distance(in, distance[p]), weight[0]);
    }
}

/* Computes a tile and moves on to the next one. */
FC_INLINE void steps_tile(const fc_conv_steps *r, FC_FN(tile_place) *at, const int P, const int B,
                          const ptrdiff_t x_pixel, const ptrdiff_t y_pixel)
{
    const float *x = at->x, *w = r->row.w;
    float *y = at->y;
    const ptrdiff_t until_gap = at->until_gap;
    const int side_by_side = __builtin_constant_p(x_pixel) && x_pixel == VL;
    const ptrdiff_t y_gap = side_by_side ? r->row.y_gap : 0;
    FC_FN(tile_sums) acc;
#pragma GCC unroll 28
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
        for (int b = 0; b < B; b++)
            acc[p][b] = V_LOAD(r->row.bias + b * VL);

    const int held = HELD_PIXELS && !__builtin_constant_p(x_pixel);
    ptrdiff_t distance[2 * MR];
    if (held)
        hold_pixels(distance, P, x_pixel);
    for (const ptrdiff_t *tap = r->row.taps, *end = tap + r->steps; tap < end; tap++) {
        const float *in = x + *tap;
        if (LANE_PRODUCTS)
            __asm__("" : "+r"(in)); /* else the compiler computes the address of the first load anew */
        if (held)
            add_held_step(acc, w, in, distance, P, B);
        else
            add_step(acc, w, in, 0, P, B, x_pixel);
        w += B * VL + (B == 1 ? r->w_skip : 0);
    }

    if (side_by_side && until_gap < P)
        store_steps(r, acc, y, at->residual, P, B, until_gap, y_gap, r->row.residual_gap, y_pixel);
    else
        store_steps(r, acc, y, at->residual, P, B, P, 0, 0, y_pixel);
    activate_tile(&r->row, y, P, B, until_gap, y_gap);
    pass_pixels(&r->row, at, P, x_pixel, y_pixel);
}
