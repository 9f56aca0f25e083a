/* pool.h: a row of maxima or means (see fc_int8_pool). */

/* The largest of the taps first .. last of a window: those inside the image. */
FC_INLINE v_b largest_of(const fc_int8_pool *r, const uint8_t *x, ptrdiff_t first, ptrdiff_t last)
{
    const uint8_t none[16] = {0};
    v_b result = v_load_b(none);
    for (ptrdiff_t row = 0; row < r->rows; row++, x += r->x_row)
        for (ptrdiff_t tap = first; tap < last; tap++)
            result = v_max_b(result, v_load_b(x + tap * r->dilation * VL));
    return result;
}

/* The same for rows x columns neighbouring taps. */
FC_INLINE v_b largest_of_all(const fc_int8_pool *r, const uint8_t *x, const int rows, const int columns)
{
    v_b result = v_load_b(x);
#pragma GCC unroll 3
    for (int row = 0; row < rows; row++, x += r->x_row)
#pragma GCC unroll 3
        for (int tap = row == 0; tap < columns; tap++)
            result = v_max_b(result, v_load_b(x + tap * VL));
    return result;
}

FC_INLINE v_i sum_of_window(const fc_int8_pool *r, const uint8_t *x, ptrdiff_t first, ptrdiff_t last)
{
    v_i result = v_all_i(0);
    for (ptrdiff_t row = 0; row < r->rows; row++, x += r->x_row)
        for (ptrdiff_t tap = first; tap < last; tap++)
            result += v_load_bytes(x + tap * r->dilation * VL);
    return result;
}

/* Moves a bound of the taps of a window, which begins in column `start`, to the first tap behind `column`. */
FC_INLINE ptrdiff_t taps_before(const fc_int8_pool *r, ptrdiff_t start, ptrdiff_t column)
{
    ptrdiff_t taps = r->kw;
    while (taps > 0 && start + (taps - 1) * r->dilation >= column)
        taps--;
    return taps;
}

static void FC_FN(maxima)(const fc_int8_pool *r)
{
    const ptrdiff_t extent = (r->kw - 1) * r->dilation + 1;
    uint8_t *y = r->y;
    for (ptrdiff_t p = 0; p < r->pixels; p++, y += VL) {
        const ptrdiff_t start = p * r->stride - r->pad_left;
        const uint8_t *x = r->x + start * VL;
        const int full = start >= 0 && start + extent <= r->width && extent == r->kw;
        if (full && r->kw == 3 && r->rows == 3)
            v_store_b(y, largest_of_all(r, x, 3, 3));
        else if (full && r->kw == 2 && r->rows == 2)
            v_store_b(y, largest_of_all(r, x, 2, 2));
        else
            v_store_b(y, largest_of(r, x, taps_before(r, start, 0), taps_before(r, start, r->width)));
    }
}

static void FC_FN(means)(const fc_int8_pool *r)
{
    const FC_FN(bounds) of = bounds_in(&r->finish);
    const ptrdiff_t size = r->finish.floats ? 4 : 1;
    char *y = r->y;
    for (ptrdiff_t p = 0; p < r->pixels; p++, y += VL * size) {
        const ptrdiff_t start = p * r->stride - r->pad_left;
        const ptrdiff_t first = taps_before(r, start, 0), last = taps_before(r, start, r->width);
        const ptrdiff_t inside = r->rows * (last - first);
        const ptrdiff_t counted = taps_before(r, start, r->width + r->pad_right);
        const ptrdiff_t count = r->count_include_pad ? r->row_extent * counted : inside;
        const v_i sum = sum_of_window(r, r->x + start * VL, first, last);
        const v_f t = v_float(sum - v_all_i((int)inside * r->x_zero)) * v_all_f(r->scale / (float)count);
        finish_lanes(&r->finish, &of, t, y, 0, VL);
    }
}

static void FC_FN(pool)(const fc_int8_pool *r)
{
    if (r->average)
        FC_FN(means)(r);
    else
        FC_FN(maxima)(r);
}
