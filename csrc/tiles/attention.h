/* attention.h: what matrix products of two computed values and attention need beside the tiles of convolutions: packing
 * by transposition, softmax of a strip of queries, and the way of a strip's results to where they belong. */

/* Each round loads VL x VL floats, or as many of them as there are, and stores the columns. */
static void FC_FN(turn)(const float *x, ptrdiff_t x_channel, float *y, ptrdiff_t y_pixel, ptrdiff_t channels,
                        ptrdiff_t pixels)
{
    v_f rows[VL];
    ptrdiff_t p = 0;
    for (; p + VL <= pixels; p += VL) {
#pragma GCC unroll 16
        for (int c = 0; c < VL; c++)
            rows[c] = c < channels ? V_LOAD(x + c * x_channel + p) : V_SET1(0.0f);
        transpose(rows);
#pragma GCC unroll 16
        for (int c = 0; c < VL; c++)
            V_STORE(y + (p + c) * y_pixel, rows[c]);
    }
    if (p == pixels)
        return;
    for (int c = 0; c < VL; c++)
        rows[c] = c < channels ? v_load_part(x + c * x_channel + p, pixels - p) : V_SET1(0.0f);
    transpose(rows);
    for (int c = 0; c < pixels - p; c++)
        V_STORE(y + (p + c) * y_pixel, rows[c]);
}

static void FC_FN(scale_pixels)(const fc_scaled_pixels *s)
{
    const ptrdiff_t whole = s->channels / VL, rest = s->channels % VL;
    for (ptrdiff_t p = 0; p < s->pixels; p++) {
        const v_f scale = V_SET1(s->scale[p * s->scale_step]);
        const float *x = s->x + p * VL;
        float *y = s->y + p * s->y_pixel;
        for (ptrdiff_t b = 0; b < whole; b++)
            V_STORE(y + b * s->y_block, v_activate(&s->act, V_LOAD(x + b * s->x_block) * scale));
        if (rest)
            v_store_part(y + whole * s->y_block, v_activate(&s->act, V_LOAD(x + whole * s->x_block) * scale), rest);
    }
}

#define FC_QUERIES 4 /* of a round: one vector takes their maxima, and one their sums */
typedef v_f FC_FN(query_values)[FC_QUERIES];

/* exp(x) for x that is not positive. Where the result is no normal number, it is zero: subnormal weights are slow to
 * compute with, and add nothing beside the largest weight, which is 1. The sum t holds n in its lowest bits, see
 * v_exp_parts. */
FC_INLINE v_f v_exp_of_difference(v_f x)
{
    const v_f least = V_SET1(-87.33f), magic = V_SET1(12582912.0f);
    const v_f held = V_MAX(least, x); /* keeps NaN */
    const v_f t = V_FMA(held, V_SET1(1.44269504f), magic), n = t - magic;
    v_f r = V_FMA(n, V_SET1(-0.693359375f), held);
    r = V_FMA(n, V_SET1(2.12194440e-4f), r);
    v_f p = V_SET1(1.98412698e-4f);
    p = V_FMA(p, r, V_SET1(1.38888889e-3f));
    p = V_FMA(p, r, V_SET1(8.33333333e-3f));
    p = V_FMA(p, r, V_SET1(4.16666667e-2f));
    p = V_FMA(p, r, V_SET1(1.66666667e-1f));
    p = V_FMA(p, r, V_SET1(0.5f));
    p = V_FMA(p, r, V_SET1(1.0f));
    p = V_FMA(p, r, V_SET1(1.0f));
    return v_select(x < least, V_SET1(0.0f), p * (v_f)(((v_i)t << 23) + (127 << 23)));
}

/* The sums, or the maxima, of neighbouring lanes: first those of a, then those of b. */
FC_INLINE v_f v_pairs(v_f a, v_f b, const int add)
{
    const v_f even = V_EVEN(a, b), odd = V_ODD(a, b);
    if (add)
        return even + odd;
    return v_max_nan(even, odd);
}

/* The sums, or the maxima, of all lanes of four vectors: lane i of the result belongs to vector i. */
FC_INLINE v_f v_joined(FC_FN(query_values) v, const int add)
{
    v_f all = v_pairs(v_pairs(v[0], v[1], add), v_pairs(v[2], v[3], add), add);
#pragma GCC unroll 2
    for (int width = FC_QUERIES; width < VL; width *= 2)
        all = v_pairs(all, all, add);
    return all;
}

/* The softmax of Q queries; the others of the round are copies of the first, so that sums have the same order. */
FC_INLINE void softmax_queries(const fc_softmax_strip *s, ptrdiff_t query, v_i inside, const int Q)
{
    const ptrdiff_t whole = s->keys / VL, rest = s->keys % VL, blocks = whole + (rest > 0);
    const v_f scale = V_SET1(s->scale), lowest = V_SET1(-INFINITY);
    const float *bias = s->bias ? s->bias + query * s->bias_query : NULL;
    FC_FN(query_values) largest, sums;
#pragma GCC unroll 4
    for (int q = 0; q < FC_QUERIES; q++)
        largest[q] = lowest, sums[q] = V_SET1(0.0f);
    float *x = s->x + query * VL;
    for (ptrdiff_t b = 0; b < blocks; b++, x += s->x_block) {
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++) {
            const float *more = bias ? bias + q * s->bias_query + b * VL : NULL;
            v_f v = V_LOAD(x + q * VL) * scale;
            if (more)
                v += b < whole ? V_LOAD(more) : v_load_part(more, rest);
            if (b == whole)
                v = v_select(inside, v, lowest);
            V_STORE(x + q * VL, v);
            largest[q] = v_max_nan(largest[q], v);
        }
    }
    float lanes[VL];
#pragma GCC unroll 4
    for (int q = Q; q < FC_QUERIES; q++)
        largest[q] = largest[0];
    V_STORE(lanes, v_joined(largest, 0));
    x = s->x + query * VL;
    for (ptrdiff_t b = 0; b < blocks; b++, x += s->x_block) {
#pragma GCC unroll 4
        for (int q = 0; q < Q; q++) {
            const v_f e = v_exp_of_difference(V_LOAD(x + q * VL) - V_SET1(lanes[q]));
            V_STORE(x + q * VL, e);
            sums[q] += e;
        }
    }
#pragma GCC unroll 4
    for (int q = Q; q < FC_QUERIES; q++)
        sums[q] = sums[0];
    V_STORE(lanes, V_SET1(1.0f) / v_joined(sums, 1));
    for (int q = 0; q < Q; q++)
        s->inverse[query + q] = lanes[q];
}

static void FC_FN(softmax_strip)(const fc_softmax_strip *s)
{
    float lanes[VL];
    for (int i = 0; i < VL; i++)
        lanes[i] = i < s->keys % VL ? 1.0f : 0.0f;
    const v_i inside = (v_i)(V_LOAD(lanes) > V_SET1(0.0f));
    ptrdiff_t query = 0;
    for (; query + FC_QUERIES <= s->queries; query += FC_QUERIES)
        softmax_queries(s, query, inside, FC_QUERIES);
    for (; query < s->queries; query++)
        softmax_queries(s, query, inside, 1);
}
