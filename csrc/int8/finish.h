/* finish.h: from the numbers t to outputs (see fc_int8_finish), for all tiles. */
#define FC_MOST_BLOCKS 2 /* of outputs in a tile */

/* What all pixels of a call share. */
typedef struct {
    v_f low, high;
    v_i zero;
#ifdef V_STORES_PIXELS
    v_i zero_words, low_bytes, high_bytes;
#endif
} FC_FN(bounds);

FC_INLINE FC_FN(bounds) bounds_of(float low, float high, int zero)
{
    return (FC_FN(bounds)){
        v_all_f(low),
        v_all_f(high),
        v_all_i(zero),
#ifdef V_STORES_PIXELS
        v_all_words(zero),
        v_all_bytes((int)low + zero),
        v_all_bytes((int)high + zero),
#endif
    };
}

FC_INLINE FC_FN(bounds) bounds_in(const fc_int8_finish *f)
{
    return bounds_of(f->low, f->high, f->zero);
}

/* The byte of each t. Bounds are integers: rounding after them is as rounding before. */
FC_INLINE v_i bytes_of(v_f t, const FC_FN(bounds) *of)
{
    return v_round(v_min(v_max(t, of->low), of->high)) + of->zero;
}

/* Stores the bytes of n <= 4 neighbouring pixels. Where no t is beyond 2^31, the bounds follow when bytes are packed.
 */
FC_INLINE void store_pixels(uint8_t *y, const v_f t[4], const FC_FN(bounds) *of, const int n, const int bounded)
{
#ifdef V_STORES_PIXELS
    if (n > 2) {
        v_i rounded[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) /* a NaN stays one, whose integer is the least */
            rounded[p] = v_round(bounded ? t[p < n ? p : 0] : v_min(of->high, t[p < n ? p : 0]));
        v_store_pixels(y, rounded, of->zero_words, of->low_bytes, of->high_bytes, n);
        return;
    }
#endif
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
        v_store_bytes(y + p * VL, bytes_of(t[p], of));
    (void)bounded;
}

/* VL values, of which n are stored. */
FC_INLINE void store_floats(float *y, v_f t, ptrdiff_t n)
{
    float lanes[VL];
    if (n >= VL) {
        v_store_f(y, t);
        return;
    }
    v_store_f(lanes, t);
    memcpy(y, lanes, (size_t)n * sizeof(float));
}

/* Stores n of the VL outputs of each t, in any form. */
FC_INLINE void finish_lanes(const fc_int8_finish *f, const FC_FN(bounds) *of, v_f t, void *y, ptrdiff_t at, ptrdiff_t n)
{
    uint8_t lanes[VL];
    if (f->floats) {
        store_floats((float *)y + at, t, n);
        return;
    }
    v_store_bytes(lanes, bytes_of(t, of));
    for (ptrdiff_t i = 0; i < n; i++)
        ((uint8_t *)y)[at + i] = f->table ? f->table[lanes[i]] : lanes[i];
}

/* The outputs of a tile, and what is needed to compute them. */
typedef struct {
    const fc_int8_finish *finish;
    const float *scale;      /* [blocks][VL] */
    const uint8_t *residual; /* or NULL */
    void *y;
    ptrdiff_t y_pixel, y_block, residual_pixel, residual_block;
} FC_FN(outputs);

FC_INLINE v_f add_residual(const fc_int8_finish *f, const uint8_t *residual, v_f t)
{
    const v_f added = v_float(v_load_bytes(residual) - v_all_i(f->residual_zero)), scale = v_all_f(f->residual_scale);
    if (!f->rounds)
        return v_fma(added, scale, t);
    t = v_float(v_round(v_min(v_max(t, v_all_f(f->least)), v_all_f(f->most))));
    return v_fma(t, v_all_f(f->own_scale), added * scale);
}

/* Finishes some sums in any form: outputs that are floats, those of a table, and blocks that are not full. */
FC_OUTLINE void FC_FN(finish_any)(const FC_FN(outputs) *o, const v_i *sums, ptrdiff_t pixels, ptrdiff_t blocks)
{
    const FC_FN(bounds) of = bounds_in(o->finish);
    for (ptrdiff_t p = 0; p < pixels; p++)
        for (ptrdiff_t b = 0; b < blocks; b++) {
            const ptrdiff_t n = b + 1 == blocks ? o->finish->lanes : VL;
            v_f t = v_float(sums[p * blocks + b]) * v_load_f(o->scale + b * VL);
            if (o->residual) {
                uint8_t lanes[VL] = {0};
                memcpy(lanes, o->residual + p * o->residual_pixel + b * o->residual_block, (size_t)n);
                t = add_residual(o->finish, lanes, t);
            }
            finish_lanes(o->finish, &of, t, o->y, p * o->y_pixel + b * o->y_block, n);
        }
}

/* Whether outputs are bytes in full blocks, of numbers that are not large: those that finish_pixels stores. */
FC_INLINE int is_plain(const fc_int8_finish *f)
{
    return !f->floats && f->bounded && f->lanes == VL;
}

/* Finishes the sums of n <= 4 neighbouring pixels of a block. */
FC_INLINE void finish_pixels(const fc_int8_finish *f, const FC_FN(bounds) *of, v_f scale, const v_i sums[4], uint8_t *y,
                             const uint8_t *residual, ptrdiff_t residual_pixel, const int n)
{
    v_f t[4];
#pragma GCC unroll 4
    for (int p = 0; p < n; p++)
        t[p] = v_float(sums[p]) * scale;
    if (residual)
#pragma GCC unroll 4
        for (int p = 0; p < n; p++)
            t[p] = add_residual(f, residual + p * residual_pixel, t[p]);
    store_pixels(y, t, of, n, 1);
}

/* Finishes P x B sums. */
FC_INLINE void finish_tile(const FC_FN(outputs) *o, v_i sums[][FC_MOST_BLOCKS], const int P, const int B)
{
    const fc_int8_finish *f = o->finish;
    if (!is_plain(f) || (P > 1 && o->y_pixel != VL)) {
        v_i copy[P * B]; /* sums whose address is taken would stay in memory */
#pragma GCC unroll 16
        for (int p = 0; p < P; p++)
#pragma GCC unroll 2
            for (int b = 0; b < B; b++)
                copy[p * B + b] = sums[p][b];
        FC_FN(finish_any)(o, copy, P, B);
        return;
    }
    const FC_FN(bounds) of = bounds_in(f);
#pragma GCC unroll 2
    for (int b = 0; b < B; b++) {
        const v_f scale = v_load_f(o->scale + b * VL);
        uint8_t *y = (uint8_t *)o->y + b * o->y_block;
        const uint8_t *residual = o->residual ? o->residual + b * o->residual_block : NULL;
#pragma GCC unroll 4
        for (int first = 0; first < P; first += 4) {
            const int n = P - first < 4 ? P - first : 4;
            v_i some[4];
#pragma GCC unroll 4
            for (int p = 0; p < n; p++)
                some[p] = sums[first + p][b];
            finish_pixels(f, &of, scale, some, y + first * VL, residual, o->residual_pixel, n);
            residual += residual ? 4 * o->residual_pixel : 0;
        }
        if (f->table)
            f->look_up(f->table, y, y, P * VL);
    }
}
