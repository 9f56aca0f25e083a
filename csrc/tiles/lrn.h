/* lrn.h: local response normalisation of a row of pixels, across channels.
 *
 *   y[c] = x[c] / (bias + scale * sum over k < size of x[c - before + k]^2)^beta
 *
 * Squares of all channels of a pixel go to scratch memory, with zeros on both sides, from where each sum is `size`
 * loads. Powers of 3/4, 1/2 and 1 are square roots; others are taken one by one. */

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

static void FC_FN(lrn_row)(const fc_lrn_row *a, float *squares)
{
    const ptrdiff_t blocks = (a->channels + VL - 1) / VL;
    memset(squares, 0, (size_t)a->before * sizeof(float));
    for (ptrdiff_t p = 0; p < a->pixels; p++) {
        for (ptrdiff_t b = 0; b < blocks; b++) {
            const v_f x = V_LOAD(a->x + b * a->x_block + p * VL);
            V_STORE(squares + a->before + b * VL, x * x);
        }
        memset(squares + a->before + a->channels, 0, (size_t)(a->size + VL) * sizeof(float));
        for (ptrdiff_t b = 0; b < blocks; b++) {
            v_f sum = V_LOAD(squares + b * VL);
            for (ptrdiff_t k = 1; k < a->size; k++)
                sum += V_LOAD(squares + b * VL + k);
            const v_f x = V_LOAD(a->x + b * a->x_block + p * VL);
            V_STORE(a->y + b * a->y_block + p * VL,
                    x / v_power(V_FMA(sum, V_SET1(a->scale), V_SET1(a->bias)), a->beta));
        }
    }
}
