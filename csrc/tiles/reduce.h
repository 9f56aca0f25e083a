/* reduce.h: sums, sums of squares and maxima over three loops; and rows of resampled images.
 *
 * Floats add up FC_SUM_PIXELS numbers of a lane, doubles these sums. Maxima keep NaN. */

FC_INLINE v_f reduce_step(v_f so_far, v_f v, const int kind)
{
    if (kind == FC_LARGEST)
        return v_max_nan(so_far, v);
    if (kind == FC_SQUARES)
        return V_FMA(v, v, so_far);
    return so_far + v;
}

/* A vector of neighbouring results, or the first `rest` of one. Where `along`, the innermost loop runs over
 * neighbouring floats, all of one result: lanes are then parts of it. */
FC_INLINE void reduce_vector(const fc_reduce *r, const float *x, float *y, ptrdiff_t rest, const int kind,
                             const int along)
{
    const v_f start = V_SET1(kind == FC_LARGEST ? -INFINITY : 0.0f);
    const ptrdiff_t whole = along ? r->counts[2] / VL : r->counts[2], step = along ? VL : r->steps[2];
    const ptrdiff_t tail = along ? r->counts[2] % VL : 0;
    const v_i inside = v_first_lanes(tail);
    double totals[VL] = {0.0};
    v_f so_far = start;
    ptrdiff_t added = 0;
    for (ptrdiff_t i = 0; i < r->counts[0]; i++)
        for (ptrdiff_t k = 0; k < r->counts[1]; k++) {
            const float *from = x + i * r->steps[0] + k * r->steps[1];
            for (ptrdiff_t first = 0; first < whole || (first == 0 && tail); first += FC_SUM_PIXELS) {
                const ptrdiff_t end = first + FC_SUM_PIXELS < whole ? first + FC_SUM_PIXELS : whole;
                for (ptrdiff_t j = first; j < end; j++)
                    so_far = reduce_step(so_far, rest ? v_load_part(from + j * step, rest) : V_LOAD(from + j * step),
                                         kind);
                if (tail && end == whole)
                    so_far = reduce_step(so_far, v_select(inside, v_load_part(from + whole * VL, tail), start), kind);
                added += end - first + 1;
                if (kind != FC_LARGEST && added >= FC_SUM_PIXELS) {
                    add_lanes(totals, so_far);
                    so_far = start;
                    added = 0;
                }
            }
        }
    if (kind == FC_LARGEST) {
        if (along)
            *y = v_largest(so_far)[0];
        else
            v_store_part(y, so_far, rest ? rest : VL);
        return;
    }
    add_lanes(totals, so_far);
    if (along)
        for (int width = VL / 2; width > 0; width /= 2)
            for (int i = 0; i < width; i++)
                totals[i] += totals[i + width];
    for (ptrdiff_t i = 0; i < (along ? 1 : rest ? rest : VL); i++) {
        const double total = totals[i] / r->divisor;
        y[i] = (float)(r->root ? sqrt(total) : total);
    }
}

FC_INLINE void reduce_by(const fc_reduce *r, const int kind)
{
    if (r->columns == 1 && r->steps[2] == 1) {
        reduce_vector(r, r->x, r->y, 0, kind, 1);
        return;
    }
    ptrdiff_t i = 0;
    for (; i + VL <= r->columns; i += VL)
        reduce_vector(r, r->x + i, r->y + i, 0, kind, 0);
    if (i < r->columns)
        reduce_vector(r, r->x + i, r->y + i, r->columns - i, kind, 0);
}

static void FC_FN(reduce)(const fc_reduce *r)
{
    switch (r->kind) {
    case FC_SUM: reduce_by(r, FC_SUM); break;
    case FC_SQUARES: reduce_by(r, FC_SQUARES); break;
    default: reduce_by(r, FC_LARGEST);
    }
}

static void FC_FN(resample)(const fc_resample *a)
{
    for (ptrdiff_t q = 0; q < a->pixels; q++) {
        v_f sum = V_SET1(0.0f);
        for (ptrdiff_t r = 0; r < a->row_count; r++) {
            const float *x = a->x + a->rows[r];
            v_f line = V_SET1(0.0f);
            for (ptrdiff_t j = a->starts[q]; j < a->starts[q + 1]; j++)
                line = V_FMA(V_SET1(a->weights[j]), V_LOAD(x + a->columns[j]), line);
            sum = V_FMA(V_SET1(a->row_weights[r]), line, sum);
        }
        V_STORE(a->y + q * VL, sum);
    }
}
