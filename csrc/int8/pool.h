/* pool.h: a row of maxima or means (see fc_int8_pool). */

/* Taps first .. last of a window lie inside the image. `average` and, where it is not 0, kw are constants. */
FC_INLINE v_i window_of(const fc_int8_pool *r, const uint8_t *x, ptrdiff_t first, ptrdiff_t last, const int average)
{
    v_i result = v_all_i(0);
    for (ptrdiff_t row = 0; row < r->rows; row++, x += r->x_row)
        for (ptrdiff_t tap = first; tap < last; tap++) {
            const v_i next = v_load_bytes(x + tap * r->dilation * VL);
            result = average ? result + next : v_max_i(result, next);
        }
    return result;
}

/* The same for all kw taps, side by side. */
FC_INLINE v_i full_window_of(const fc_int8_pool *r, const uint8_t *x, const int kw, const int average)
{
    v_i result = v_all_i(0);
    for (ptrdiff_t row = 0; row < r->rows; row++, x += r->x_row)
#pragma GCC unroll 3
        for (int tap = 0; tap < kw; tap++) {
            const v_i next = v_load_bytes(x + tap * VL);
            result = average ? result + next : v_max_i(result, next);
        }
    return result;
}

FC_INLINE void pool_pixels(const fc_int8_pool *r, const int average)
{
    const FC_FN(bounds) of = bounds_in(&r->finish);
    const ptrdiff_t size = r->finish.floats ? 4 : 1;
    char *y = r->y;
    for (ptrdiff_t p = 0; p < r->pixels; p++, y += VL * size) {
        const ptrdiff_t start = p * r->stride - r->pad_left;
        ptrdiff_t first = 0, last = r->kw, counted = r->kw;
        while (first < last && start + first * r->dilation < 0)
            first++;
        while (last > first && start + (last - 1) * r->dilation >= r->width)
            last--;
        while (counted > last && start + (counted - 1) * r->dilation >= r->width + r->pad_right)
            counted--;
        const uint8_t *x = r->x + start * VL;
        const int full = r->dilation == 1 && last - first == r->kw;
        const v_i found = full && r->kw == 3   ? full_window_of(r, x, 3, average)
                          : full && r->kw == 2 ? full_window_of(r, x, 2, average)
                                               : window_of(r, x, first, last, average);
        if (!average) {
            v_store_bytes((uint8_t *)y, found);
            continue;
        }
        const ptrdiff_t inside = r->rows * (last - first);
        const ptrdiff_t count = r->count_include_pad ? r->row_extent * counted : inside;
        const v_f t = v_float(found - v_all_i((int)inside * r->x_zero)) * v_all_f(r->scale / (float)count);
        finish_lanes(&r->finish, &of, t, y, 0, VL);
    }
}

static void FC_FN(pool)(const fc_int8_pool *r)
{
    if (r->average)
        pool_pixels(r, 1);
    else
        pool_pixels(r, 0);
}
