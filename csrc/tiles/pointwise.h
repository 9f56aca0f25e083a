/* pointwise.h: functions of single elements and of pairs, over spans of n floats. */

static void FC_FN(activate)(const fc_activation *act, const float *x, float *y, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        V_STORE(y + i, v_activate(act, V_LOAD(x + i)));
    if (i < n)
        v_store_part(y + i, v_activate(act, v_load_part(x + i, n - i)), n - i);
}

static void FC_FN(affine)(const fc_activation *act, const float *scale, const float *shift, const float *x,
                          const float *residual, float *y, ptrdiff_t n)
{
    const v_f a = V_LOAD(scale), b = V_LOAD(shift);
    ptrdiff_t i = 0;
    if (residual)
        for (; i + VL <= n; i += VL)
            V_STORE(y + i, v_activate(act, V_FMA(V_LOAD(x + i), a, b) + V_LOAD(residual + i)));
    else
        for (; i + VL <= n; i += VL)
            V_STORE(y + i, v_activate(act, V_FMA(V_LOAD(x + i), a, b)));
    if (i < n) {
        v_f v = V_FMA(v_load_part(x + i, n - i), a, b);
        if (residual)
            v += v_load_part(residual + i, n - i);
        v_store_part(y + i, v_activate(act, v), n - i);
    }
}

static void FC_FN(affine_row)(const fc_activation *act, const float *scale, const float *shift, const float *x, float *z,
                              ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        V_STORE(z + i, v_activate(act, V_FMA(V_LOAD(x + i), V_LOAD(scale + i), V_LOAD(shift + i))));
    if (i < n) {
        const v_f a = v_load_part(scale + i, n - i), b = v_load_part(shift + i, n - i);
        v_store_part(z + i, v_activate(act, V_FMA(v_load_part(x + i, n - i), a, b)), n - i);
    }
}

FC_INLINE v_f v_combine(const int op, v_f a, v_f b)
{
    switch (op) {
    case FC_ADD: return a + b;
    case FC_MULTIPLY: return a * b;
    case FC_SUBTRACT: return a - b;
    case FC_DIVIDE: return a / b;
    case FC_MINIMUM: return (v_f)((v_i)V_MIN(a, b) | (v_i)(a != a));
    case FC_MAXIMUM: return v_max_nan(a, b);
    default: return v_select(a < b, V_SET1(1.0f), v_select(a == b, V_SET1(0.5f), V_SET1(0.0f)));
    }
}

/* Bounds are applied at once. Other activations would unroll all of them for each operation: they take a second pass
 * over a span that is still in the cache. */
FC_INLINE void binary_span(const int op, const fc_activation *act, const float *x, ptrdiff_t x_step, const float *y,
                           ptrdiff_t y_step, float *z, ptrdiff_t n)
{
    const v_f low = V_SET1(act->low), high = V_SET1(act->high);
    const v_f all_x = x_step == VL ? V_LOAD(x) : V_SET1(*x), all_y = y_step == VL ? V_LOAD(y) : V_SET1(*y);
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) {
        const v_f a = x_step == 1 ? V_LOAD(x + i) : all_x;
        const v_f b = y_step == 1 ? V_LOAD(y + i) : all_y;
        V_STORE(z + i, v_clip(v_combine(op, a, b), low, high));
    }
    if (i < n) {
        const v_f a = x_step == 1 ? v_load_part(x + i, n - i) : all_x;
        const v_f b = y_step == 1 ? v_load_part(y + i, n - i) : all_y;
        v_store_part(z + i, v_clip(v_combine(op, a, b), low, high), n - i);
    }
    if (act->kind > FC_CLIP)
        FC_FN(activate)(act, z, z, n);
}

static void FC_FN(binary)(int op, const fc_activation *act, const float *x, ptrdiff_t x_step, const float *y,
                          ptrdiff_t y_step, float *z, ptrdiff_t n)
{
    switch (op) {
    case FC_ADD: binary_span(FC_ADD, act, x, x_step, y, y_step, z, n); break;
    case FC_MULTIPLY: binary_span(FC_MULTIPLY, act, x, x_step, y, y_step, z, n); break;
    case FC_SUBTRACT: binary_span(FC_SUBTRACT, act, x, x_step, y, y_step, z, n); break;
    case FC_DIVIDE: binary_span(FC_DIVIDE, act, x, x_step, y, y_step, z, n); break;
    case FC_MINIMUM: binary_span(FC_MINIMUM, act, x, x_step, y, y_step, z, n); break;
    case FC_MAXIMUM: binary_span(FC_MAXIMUM, act, x, x_step, y, y_step, z, n); break;
    default: binary_span(FC_BELOW, act, x, x_step, y, y_step, z, n);
    }
}
