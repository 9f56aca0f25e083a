/* finish.h: from the numbers t to outputs (see fc_int8_finish), for all tiles. */
#define FC_MOST_BLOCKS 2 /* of outputs in a tile */

/* What all pixels of a call share. */
typedef struct {
    v_f low, high;
    v_i zero;
} FC_FN(bounds);

FC_INLINE FC_FN(bounds) bounds_of(const fc_int8_finish *f)
{
    return (FC_FN(bounds)){v_all_f(f->low), v_all_f(f->high), v_all_i(f->zero)};
}

/* The byte of each t. Bounds are integers: rounding after them is as rounding before. */
FC_INLINE v_i bytes_of(v_f t, const FC_FN(bounds) *of)
{
    return v_round(v_min(v_max(t, of->low), of->high)) + of->zero;
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
    return v_fma(v_float(v_load_bytes(residual) - v_all_i(f->residual_zero)), v_all_f(f->residual_scale), t);
}

/* Finishes some sums in any form: outputs that are floats, those of a table, and blocks that are not full. */
FC_OUTLINE void FC_FN(finish_any)(const FC_FN(outputs) *o, const v_i *sums, ptrdiff_t pixels, ptrdiff_t blocks)
{
    const FC_FN(bounds) of = bounds_of(o->finish);
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

/* Finishes P x B sums. */
FC_INLINE void finish_tile(const FC_FN(outputs) *o, v_i sums[][FC_MOST_BLOCKS], const int P, const int B)
{
    const fc_int8_finish *f = o->finish;
    if (f->floats || f->table || f->lanes < VL) {
        v_i copy[P * B]; /* sums whose address is taken would stay in memory */
#pragma GCC unroll 16
        for (int p = 0; p < P; p++)
#pragma GCC unroll 2
            for (int b = 0; b < B; b++)
                copy[p * B + b] = sums[p][b];
        FC_FN(finish_any)(o, copy, P, B);
        return;
    }
    const FC_FN(bounds) of = bounds_of(f);
#pragma GCC unroll 2
    for (int b = 0; b < B; b++) {
        const v_f scale = v_load_f(o->scale + b * VL);
        uint8_t *y = (uint8_t *)o->y + b * o->y_block;
        if (o->residual) {
            const uint8_t *residual = o->residual + b * o->residual_block;
#pragma GCC unroll 16
            for (int p = 0; p < P; p++, residual += o->residual_pixel, y += o->y_pixel)
                v_store_bytes(y, bytes_of(add_residual(f, residual, v_float(sums[p][b]) * scale), &of));
        } else
#pragma GCC unroll 16
            for (int p = 0; p < P; p++, y += o->y_pixel)
                v_store_bytes(y, bytes_of(v_float(sums[p][b]) * scale, &of));
    }
}
