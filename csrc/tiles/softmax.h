/* softmax.h: exp(x - largest) divided by its sum, along rows of n floats or along columns, and gradients.
 *
 * A NaN or +inf anywhere makes all results of its row NaN, as in NumPy. */

static void FC_FN(softmax)(const float *x, float *y, ptrdiff_t n)
{
    const ptrdiff_t whole = n - n % VL, rest = n % VL;
    const v_i inside = v_first_lanes(rest);
    const v_f least = V_SET1(-INFINITY), zero = V_SET1(0.0f);
    const v_f tail = rest ? v_select(inside, v_load_part(x + whole, rest), least) : least;
    v_f largest = tail, sum = zero;
    for (ptrdiff_t i = 0; i < whole; i += VL)
        largest = v_max_nan(largest, V_LOAD(x + i));
    largest = v_largest(largest);
    for (ptrdiff_t i = 0; i < whole; i += VL) {
        const v_f e = v_exp(V_LOAD(x + i) - largest);
        sum += e;
        V_STORE(y + i, e);
    }
    const v_f last = rest ? v_select(inside, v_exp(tail - largest), zero) : zero;
    sum = v_sums(sum + last);
    for (ptrdiff_t i = 0; i < whole; i += VL)
        V_STORE(y + i, V_LOAD(y + i) / sum);
    if (rest)
        v_store_part(y + whole, last / sum, rest);
}

/* A vector of neighbouring columns, or the first `rest` of one. */
FC_INLINE void softmax_vector(const float *x, ptrdiff_t x_step, float *y, ptrdiff_t y_step, ptrdiff_t n,
                              ptrdiff_t rest)
{
    v_f largest = V_SET1(-INFINITY), sum = V_SET1(0.0f);
    for (ptrdiff_t i = 0; i < n; i++)
        largest = v_max_nan(largest, rest ? v_load_part(x + i * x_step, rest) : V_LOAD(x + i * x_step));
    for (ptrdiff_t i = 0; i < n; i++) {
        const v_f e = v_exp((rest ? v_load_part(x + i * x_step, rest) : V_LOAD(x + i * x_step)) - largest);
        sum += e;
        if (rest)
            v_store_part(y + i * y_step, e, rest);
        else
            V_STORE(y + i * y_step, e);
    }
    for (ptrdiff_t i = 0; i < n; i++)
        if (rest)
            v_store_part(y + i * y_step, v_load_part(y + i * y_step, rest) / sum, rest);
        else
            V_STORE(y + i * y_step, V_LOAD(y + i * y_step) / sum);
}

static void FC_FN(softmax_columns)(const float *x, ptrdiff_t x_step, float *y, ptrdiff_t y_step, ptrdiff_t n,
                                   ptrdiff_t columns)
{
    ptrdiff_t i = 0;
    for (; i + VL <= columns; i += VL)
        softmax_vector(x + i, x_step, y + i, y_step, n, 0);
    if (i < columns)
        softmax_vector(x + i, x_step, y + i, y_step, n, columns - i);
}

static void FC_FN(softmax_grad)(const float *g, const float *v, float *y, ptrdiff_t n)
{
    const ptrdiff_t whole = n - n % VL, rest = n % VL;
    const v_f zero = V_SET1(0.0f);
    const v_f last_g = rest ? v_load_part(g + whole, rest) : zero, last_v = rest ? v_load_part(v + whole, rest) : zero;
    v_f sum = last_g * last_v;
    for (ptrdiff_t i = 0; i < whole; i += VL)
        sum = V_FMA(V_LOAD(g + i), V_LOAD(v + i), sum);
    sum = v_sums(sum);
    for (ptrdiff_t i = 0; i < whole; i += VL)
        V_STORE(y + i, V_LOAD(v + i) * (V_LOAD(g + i) - sum));
    if (rest)
        v_store_part(y + whole, last_v * (last_g - sum), rest);
}

FC_INLINE void softmax_grad_vector(const float *g, ptrdiff_t g_step, const float *v, ptrdiff_t v_step, float *y,
                                   ptrdiff_t y_step, ptrdiff_t n, ptrdiff_t rest)
{
    v_f sum = V_SET1(0.0f);
    for (ptrdiff_t i = 0; i < n; i++) {
        const v_f a = rest ? v_load_part(g + i * g_step, rest) : V_LOAD(g + i * g_step);
        sum = V_FMA(a, rest ? v_load_part(v + i * v_step, rest) : V_LOAD(v + i * v_step), sum);
    }
    for (ptrdiff_t i = 0; i < n; i++)
        if (rest)
            v_store_part(y + i * y_step,
                         v_load_part(v + i * v_step, rest) * (v_load_part(g + i * g_step, rest) - sum), rest);
        else
            V_STORE(y + i * y_step, V_LOAD(v + i * v_step) * (V_LOAD(g + i * g_step) - sum));
}

static void FC_FN(softmax_grad_columns)(const float *g, ptrdiff_t g_step, const float *v, ptrdiff_t v_step, float *y,
                                        ptrdiff_t y_step, ptrdiff_t n, ptrdiff_t columns)
{
    ptrdiff_t i = 0;
    for (; i + VL <= columns; i += VL)
        softmax_grad_vector(g + i, g_step, v + i, v_step, y + i, y_step, n, 0);
    if (i < columns)
        softmax_grad_vector(g + i, g_step, v + i, v_step, y + i, y_step, n, columns - i);
}
