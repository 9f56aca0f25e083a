/* pointwise.h: functions of single elements, of pairs, and softmax, over spans of n floats. */

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

FC_INLINE void binary_span(const int op, const fc_activation *act, const float *x, ptrdiff_t x_step, const float *y,
                           ptrdiff_t y_step, float *z, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) {
        const v_f a = x_step ? V_LOAD(x + i) : V_SET1(*x);
        const v_f b = y_step ? V_LOAD(y + i) : V_SET1(*y);
        V_STORE(z + i, v_activate(act, op == FC_ADD ? a + b : a * b));
    }
    if (i < n) {
        const v_f a = x_step ? v_load_part(x + i, n - i) : V_SET1(*x);
        const v_f b = y_step ? v_load_part(y + i, n - i) : V_SET1(*y);
        v_store_part(z + i, v_activate(act, op == FC_ADD ? a + b : a * b), n - i);
    }
}

static void FC_FN(binary)(int op, const fc_activation *act, const float *x, ptrdiff_t x_step, const float *y,
                          ptrdiff_t y_step, float *z, ptrdiff_t n)
{
    if (op == FC_ADD)
        binary_span(FC_ADD, act, x, x_step, y, y_step, z, n);
    else
        binary_span(FC_MULTIPLY, act, x, x_step, y, y_step, z, n);
}

/* exp(x - max) divided by its sum. A NaN or +inf anywhere makes all results NaN, as in NumPy. */
static void FC_FN(softmax)(const float *x, float *y, ptrdiff_t n)
{
    float largest = -INFINITY;
    for (ptrdiff_t i = 0; i < n; i++)
        if (x[i] > largest || x[i] != x[i])
            largest = x[i];
    const v_f shift = V_SET1(largest);
    v_f sums = V_SET1(0.0f);
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) {
        const v_f e = v_exp(V_LOAD(x + i) - shift);
        sums += e;
        V_STORE(y + i, e);
    }
    float sum = v_sum(sums);
    if (i < n) {
        v_store_part(y + i, v_exp(v_load_part(x + i, n - i) - shift), n - i);
        for (ptrdiff_t k = i; k < n; k++)
            sum += y[k];
    }
    for (ptrdiff_t k = 0; k < n; k++)
        y[k] /= sum;
}
