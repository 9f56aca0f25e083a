/* spans.h: operations on neighbouring values, VL at a time; the last ones, which may be fewer, are copied. */

/* Loads n bytes; the other lanes are zero. */
FC_INLINE v_i load_part(const uint8_t *p, ptrdiff_t n)
{
    uint8_t lanes[VL] = {0};
    if (n >= VL)
        return v_load_bytes(p);
    memcpy(lanes, p, (size_t)n);
    return v_load_bytes(lanes);
}

FC_INLINE v_f sum_of(const fc_int8_binary *how, v_i a, v_i b)
{
    return v_fma(v_float(a - v_all_i(how->a_zero)), v_all_f(how->a_scale),
                 v_float(b - v_all_i(how->b_zero)) * v_all_f(how->b_scale));
}

FC_INLINE v_f product_of(const fc_int8_binary *how, v_i a, v_i b)
{
    return v_float((a - v_all_i(how->a_zero)) * (b - v_all_i(how->b_zero))) * v_all_f(how->a_scale);
}

FC_INLINE void binary(const fc_int8_binary *how, const uint8_t *a, const uint8_t *b, void *y, ptrdiff_t n,
                      const int multiply)
{
    const FC_FN(bounds) of = bounds_in(&how->finish);
    const ptrdiff_t b_step = how->one_pixel ? 0 : 1,
                    full = how->finish.floats || how->finish.table ? 0 : n / (4 * VL) * (4 * VL);
    ptrdiff_t i = 0;
    for (; i < full; i += 4 * VL) {
        v_f t[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++) {
            const ptrdiff_t at = i + p * VL;
            const v_i left = v_load_bytes(a + at), right = v_load_bytes(b + at * b_step);
            t[p] = multiply ? product_of(how, left, right) : sum_of(how, left, right);
        }
        store_pixels((uint8_t *)y + i, t, &of, 4, 0);
    }
    for (; i < n; i += VL) {
        const v_i left = load_part(a + i, n - i), right = load_part(b + i * b_step, n - i);
        finish_lanes(&how->finish, &of, multiply ? product_of(how, left, right) : sum_of(how, left, right), y, i,
                     n - i < VL ? n - i : VL);
    }
}

static void FC_FN(add)(const fc_int8_binary *how, const uint8_t *a, const uint8_t *b, void *y, ptrdiff_t n)
{
    binary(how, a, b, y, n, 0);
}

static void FC_FN(multiply)(const fc_int8_binary *how, const uint8_t *a, const uint8_t *b, void *y, ptrdiff_t n)
{
    binary(how, a, b, y, n, 1);
}

static void FC_FN(look_up)(const uint8_t *table, const uint8_t *x, uint8_t *y, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++)
        y[i] = table[x[i]];
}

/* What quantisation clips to, and its zero point. */
FC_INLINE FC_FN(bounds) bounds_around(int zero)
{
    return bounds_of((float)-zero, (float)(255 - zero), zero);
}

FC_INLINE v_f load_floats(const float *p, ptrdiff_t n)
{
    float lanes[VL] = {0};
    if (n >= VL)
        return v_load_f(p);
    memcpy(lanes, p, (size_t)n * sizeof(float));
    return v_load_f(lanes);
}

static void FC_FN(quantize)(const float *x, uint8_t *y, ptrdiff_t n, float scale, int zero)
{
    const FC_FN(bounds) of = bounds_around(zero);
    const v_f divisor = v_all_f(scale);
    ptrdiff_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        v_f t[4];
#pragma GCC unroll 4
        for (int p = 0; p < 4; p++)
            t[p] = v_load_f(x + i + p * VL) / divisor;
        store_pixels(y + i, t, &of, 4, 0);
    }
    for (; i < n; i += VL) {
        uint8_t lanes[VL];
        v_store_bytes(lanes, bytes_of(load_floats(x + i, n - i) / divisor, &of));
        memcpy(y + i, lanes, (size_t)(n - i < VL ? n - i : VL));
    }
}

static void FC_FN(dequantize)(const uint8_t *x, float *y, ptrdiff_t n, float scale, int zero)
{
    const v_f factor = v_all_f(scale);
    const v_i shift = v_all_i(zero);
    for (ptrdiff_t i = 0; i < n; i += VL)
        store_floats(y + i, v_float(load_part(x + i, n - i) - shift) * factor, n - i);
}
