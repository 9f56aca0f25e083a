/* conv_half.h: tiles of blocks whose last block of output channels is at most half full (see fc_conv_blocks).
 *
 * A full block would waste half of its multiply-adds. Here a vector holds the outputs of a half block twice. Even
 * lanes sum the products of even input channels, odd lanes those of odd ones. A step takes two input channels. It
 * broadcasts both from each pixel, and multiplies them by one vector of weights for each half block. At the end, each
 * tile adds the sums of even and of odd channels. It takes fewer loads than two steps of blocks_tile.
 *
 * Without HALF_BLOCKS, blocks_tile computes half blocks as full ones, from weights in their own order. Products of
 * lanes have no pair of lanes as operand: each pair of inputs would need a broadcast. docs/tuning.md, "Lanes", counts
 * it. */
#define FC_HALF_PAIR (2 * MR / 3) /* pixels of a tile of two blocks: each pixel has three vectors of sums */

/* Reorders weights of one or two blocks, of which the last is half full, in place. Two steps then fill 2 * blocks - 1
 * vectors, in the memory of 2 * blocks. */
static void FC_FN(halve_weights)(float *w, ptrdiff_t steps, ptrdiff_t blocks)
{
    for (; HALF_BLOCKS && steps > 0; steps -= 2, w += 2 * blocks * VL) {
        const v_f even = V_LOAD(w), odd = V_LOAD(w + blocks * VL);
        if (blocks == 2) {
            const v_f half = V_ZIP_LOW(V_LOAD(w + VL), V_LOAD(w + 3 * VL));
            V_STORE(w + VL, V_ZIP_HIGH(even, odd));
            V_STORE(w + 2 * VL, half);
        }
        V_STORE(w, V_ZIP_LOW(even, odd));
    }
}

/* Loads what the sums of a pixel start from into the even lanes of H vectors. */
FC_INLINE void half_start(const float *start, ptrdiff_t block, v_f acc[3], const int H)
{
    const v_f zero = V_SET1(0.0f), first = V_LOAD(start);
    acc[0] = V_ZIP_LOW(first, zero);
    if (H == 3) {
        acc[1] = V_ZIP_HIGH(first, zero);
        acc[2] = V_ZIP_LOW(V_LOAD(start + block), zero);
    }
}

/* Computes a tile and moves on to the next one, as blocks_tile does. */
FC_INLINE void half_tile(const fc_conv_blocks *r, FC_FN(tile_place) *at, const int P, const int B,
                         const ptrdiff_t x_pixel)
{
    const float *x = at->x, *residual = at->residual;
    float *y = at->y;
    const ptrdiff_t until_gap = at->until_gap;
    const int H = 2 * B - 1, side_by_side = __builtin_constant_p(x_pixel) && x_pixel == VL;
    const ptrdiff_t y_gap = side_by_side ? r->row.y_gap : 0;
    v_f acc[MR][3];
#pragma GCC unroll 14
    for (int p = 0; p < P; p++)
        if (r->accumulate)
            half_start(y + p * r->row.y_pixel + passed_gap(p, until_gap, y_gap), r->row.y_block, acc[p], H);
        else
            half_start(r->row.bias, VL, acc[p], H);

    FC_FN(conv_operands) from = {r->row.w, x, x, at->ahead};
    const ptrdiff_t *tap = r->row.taps, *full = tap + r->full_taps, *end = full + r->partial_taps;
    for (; tap < end; tap++) {
        begin_tap(r, &from, x, tap, end, P, x_pixel);
        const ptrdiff_t steps = tap < full ? r->full_channels : r->partial_channels;
#pragma GCC unroll 1
        for (ptrdiff_t i = 0; i < steps; i += 2, from.in += 2, from.w += 2 * B * VL) {
            v_f weight[3];
#pragma GCC unroll 3
            for (int h = 0; h < H; h++)
                weight[h] = V_LOAD(from.w + h * VL);
            __builtin_prefetch(from.ahead, 0, FC_SECOND_LEVEL);
            from.ahead += 2 * r->ahead_bytes;
            fetch_some_pixels(&from, 0, P, VL / 2, x_pixel);
#pragma GCC unroll 14
            for (int p = 0; p < P; p++) {
                const v_f v = V_SET2(from.in + p * x_pixel);
#pragma GCC unroll 3
                for (int h = 0; h < H; h++)
                    acc[p][h] = V_FMA(v, weight[h], acc[p][h]);
            }
        }
    }

    FC_FN(tile_sums) sums;
#pragma GCC unroll 14
    for (int p = 0; p < P; p++) {
        const v_f last = acc[p][H - 1];
        if (B == 2)
            sums[p][0] = V_EVEN(acc[p][0], acc[p][1]) + V_ODD(acc[p][0], acc[p][1]);
        sums[p][B - 1] = V_EVEN(last, last) + V_ODD(last, last);
    }
    if (side_by_side && until_gap < P)
        store_sums(&r->row, sums, y, residual, 0, P, B, until_gap, y_gap, r->row.residual_gap, r->row.y_pixel);
    else
        store_sums(&r->row, sums, y, residual, 0, P, B, P, 0, 0, r->row.y_pixel);
    activate_tile(&r->row, y, P, B, until_gap, y_gap);
    at->ahead = from.ahead;
    pass_pixels(&r->row, at, P, x_pixel, r->row.y_pixel);
}
