/* lrn.h: local response normalisation of a row of pixels, across channels, and its gradient.
 *
 *   y[c] = x[c] / s[c]^beta,  s[c] = bias + scale * sum over k < size of x[c - before + k]^2
 *
 * The squares of all channels of a pixel go to scratch memory, with zeros on both sides. Each sum then takes `size`
 * loads. The powers 3/4, 1/2 and 1 need square roots at most. Others are computed float by float. */

FC_INLINE v_f v_power(v_f x, float beta)
{
    if (beta == 0.75f) {
        const v_f root = v_sqrt(x);
        return root * v_sqrt(root);
    }
    if (beta == 0.5f)
        return v_sqrt(x);
    if (beta == 1.0f)
        return x;
    float lanes[VL];
    V_STORE(lanes, x);
    for (int i = 0; i < VL; i++)
        lanes[i] = powf(lanes[i], beta);
    return V_LOAD(lanes);
}

/* Stores the squares of a pixel, and `size` + VL zeros after them. The `before` zeros in front are there already. */
FC_INLINE void lrn_squares(const fc_lrn_row *a, const float *x, ptrdiff_t blocks, float *squares)
{
    for (ptrdiff_t b = 0; b < blocks; b++) {
        const v_f v = V_LOAD(x + b * a->x_block);
        V_STORE(squares + a->before + b * VL, v * v);
    }
    memset(squares + a->before + a->channels, 0, (size_t)(a->size + VL) * sizeof(float));
}

/* The sum of `size` vectors, of which each begins one float after the last. */
FC_INLINE v_f lrn_window(const float *values, ptrdiff_t size)
{
    v_f sum = V_LOAD(values);
    for (ptrdiff_t k = 1; k < size; k++)
        sum += V_LOAD(values + k);
    return sum;
}

static void FC_FN(lrn_row)(const fc_lrn_row *a, float *squares)
{
    const ptrdiff_t blocks = (a->channels + VL - 1) / VL;
    memset(squares, 0, (size_t)a->before * sizeof(float));
    for (ptrdiff_t p = 0; p < a->pixels; p++) {
        lrn_squares(a, a->x + p * VL, blocks, squares);
        for (ptrdiff_t b = 0; b < blocks; b++) {
            const v_f sum = lrn_window(squares + b * VL, a->size);
            const v_f x = V_LOAD(a->x + b * a->x_block + p * VL);
            V_STORE(a->y + b * a->y_block + p * VL,
                    x / v_power(V_FMA(sum, V_SET1(a->scale), V_SET1(a->bias)), a->beta));
        }
    }
}

/* x[j] is part of s[i] for the channels i = j - after to j + before, with after = size - 1 - before. The window of a
 * gradient is therefore the mirrored one.
 *
 *   dx[j] = q[j] - 2 beta scale x[j] * sum over k < size of t[j - after + k],  q = g / s^beta,  t = q x / s
 *
 * q goes to y. t goes to scratch memory, with zeros on both sides. */
static void FC_FN(lrn_grad_row)(const fc_lrn_row *a, const float *g, ptrdiff_t g_block, float *squares)
{
    const ptrdiff_t blocks = (a->channels + VL - 1) / VL, after = a->size - 1 - a->before;
    float *terms = squares + a->before + a->channels + a->size + 2 * VL;
    const v_f factor = V_SET1(2.0f * a->beta * a->scale);
    memset(squares, 0, (size_t)a->before * sizeof(float));
    memset(terms, 0, (size_t)after * sizeof(float));
    for (ptrdiff_t p = 0; p < a->pixels; p++) {
        lrn_squares(a, a->x + p * VL, blocks, squares);
        for (ptrdiff_t b = 0; b < blocks; b++) {
            const v_f s = V_FMA(lrn_window(squares + b * VL, a->size), V_SET1(a->scale), V_SET1(a->bias));
            const v_f q = V_LOAD(g + b * g_block + p * VL) / v_power(s, a->beta);
            V_STORE(a->y + b * a->y_block + p * VL, q);
            V_STORE(terms + after + b * VL, q * V_LOAD(a->x + b * a->x_block + p * VL) / s);
        }
        memset(terms + after + a->channels, 0, (size_t)(a->size + VL) * sizeof(float));
        for (ptrdiff_t b = 0; b < blocks; b++) {
            float *y = a->y + b * a->y_block + p * VL;
            const v_f x = V_LOAD(a->x + b * a->x_block + p * VL);
            V_STORE(y, V_LOAD(y) - factor * x * lrn_window(terms + b * VL, a->size));
        }
    }
}
