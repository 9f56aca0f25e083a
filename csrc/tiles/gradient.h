/* gradient.h: gradients of elementwise functions and of windows, Winograd's transform of filters, and the updates of
 * parameters. */

/* dy/dx times g. v is the output, but the input of the kinds from FC_HARD_SWISH to FC_ABS. A bound that is NaN has no
 * effect. */
FC_INLINE v_f v_activate_grad(const fc_activation *act, v_f g, v_f v)
{
    const v_f zero = V_SET1(0.0f), one = V_SET1(1.0f);
    switch (act->kind) {
    case FC_LEAKY_RELU: return v_select(v > zero, g, g * V_SET1(act->alpha));
    case FC_TANH: return g * (one - v * v);
    case FC_SIGMOID: return g * (one - v) * v;
    case FC_HARD_SWISH: {
        const v_f inner = g * V_FMA(v, V_SET1(1.0f / 3.0f), V_SET1(0.5f));
        return v_select(v <= V_SET1(-3.0f), zero, v_select(v < V_SET1(3.0f), inner, g));
    }
    case FC_SILU: {
        const v_f s = v_sigmoid(v);
        return g * s * V_FMA(v, one - s, one);
    }
    case FC_GELU: return g * v_gelu_slope(v);
    case FC_GELU_TANH: return g * v_gelu_tanh_slope(v);
    case FC_ERF: return g * v_erf_slope(v);
    case FC_ABS: return v_select(v > zero, g, v_select(v < zero, -g, g * v)); /* zero, and NaN, where v is */
    case FC_EXP: return g * v;
    case FC_SQRT: return g / (v + v);
    case FC_NEGATIVE: return -g;
    case FC_RECIPROCAL: return -g * v * v;
    default: return v_select((v_i)(v <= V_SET1(act->low)) | (v_i)(v >= V_SET1(act->high)), zero, g);
    }
}

static void FC_FN(activate_grad)(const fc_activation *act, const float *g, const float *v, float *y, ptrdiff_t n)
{
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        V_STORE(y + i, v_activate_grad(act, V_LOAD(g + i), V_LOAD(v + i)));
    if (i < n)
        v_store_part(y + i, v_activate_grad(act, v_load_part(g + i, n - i), v_load_part(v + i, n - i)), n - i);
}

/* Adds the gradient of the maximum of a window to the first of its largest inputs, or to the last NaN. The window has
 * `rows` rows of the columns first .. last. */
FC_INLINE void max_grad_window(const fc_pool_row *r, v_f gradient, const float *x, float *y, ptrdiff_t y_row,
                               const ptrdiff_t rows, const ptrdiff_t first, const ptrdiff_t last)
{
    const ptrdiff_t apart = r->dilation * VL;
    v_f best = V_SET1(-INFINITY);
    const v_i none = (v_i)V_SET1(0.0f);
    v_i winner = none + (int)first; /* wins where all are -inf */
#pragma GCC unroll 2
    for (ptrdiff_t ky = 0; ky < rows; ky++)
#pragma GCC unroll 2
        for (ptrdiff_t kx = first; kx < last; kx++) {
            const v_f v = V_LOAD(x + ky * r->x_row + kx * apart);
            const v_i better = (v_i)(v > best) | (v_i)(v != v);
            best = v_select(better, v, best);
            winner = (better & (none + (int)(ky * r->kw + kx))) | (~better & winner);
        }
#pragma GCC unroll 2
    for (ptrdiff_t ky = 0; ky < rows; ky++)
#pragma GCC unroll 2
        for (ptrdiff_t kx = first; kx < last; kx++) {
            float *target = y + ky * y_row + kx * apart;
            const v_i wins = (v_i)(winner == none + (int)(ky * r->kw + kx));
            V_STORE(target, V_LOAD(target) + (v_f)((v_i)gradient & wins));
        }
}

/* Adds the gradients of one row of windows, which are those of pool_row. The gradient of an average goes in equal parts
 * to all inputs. */
static void FC_FN(pool_grad_row)(const fc_pool_row *r, const float *g, float *y, ptrdiff_t y_row)
{
    const int small = r->rows == 2 && r->kw == 2;
    for (ptrdiff_t p = 0; p < r->pixels; p++) {
        const ptrdiff_t start = p * r->stride - r->pad_left;
        ptrdiff_t first, last;
        window_taps(r, start, &first, &last);
        v_f gradient = V_LOAD(g + p * VL);
        float *to = y + start * VL;
        if (r->average) {
            const ptrdiff_t end = start + r->kw, edge = r->width + r->pad_right;
            const ptrdiff_t padded = (end < edge ? end : edge) - start;
            gradient /= V_SET1((float)(r->row_extent * (r->count_include_pad ? padded : last - first)));
            for (ptrdiff_t ky = 0; ky < r->rows; ky++)
                for (ptrdiff_t kx = first; kx < last; kx++)
                    V_STORE(to + ky * y_row + kx * VL, V_LOAD(to + ky * y_row + kx * VL) + gradient);
        } else if (small && last - first == 2) {
            max_grad_window(r, gradient, r->x + start * VL, to, y_row, 2, 0, 2);
        } else {
            max_grad_window(r, gradient, r->x + start * VL, to, y_row, r->rows, first, last);
        }
    }
}

/* u = G w G^T of VL filters w [3][3][VL]. G is n x 3. */
static void FC_FN(winograd_filter)(const float *G, int n, const float *w, float *u, ptrdiff_t component)
{
    for (int r = 0; r < n; r++) {
        v_f half[3];
        for (int c = 0; c < 3; c++)
            half[c] = V_SET1(G[3 * r]) * V_LOAD(w + c * VL) + V_SET1(G[3 * r + 1]) * V_LOAD(w + (3 + c) * VL) +
                      V_SET1(G[3 * r + 2]) * V_LOAD(w + (6 + c) * VL);
        for (int c = 0; c < n; c++)
            V_STORE(u + (r * n + c) * component,
                    V_SET1(G[3 * c]) * half[0] + V_SET1(G[3 * c + 1]) * half[1] + V_SET1(G[3 * c + 2]) * half[2]);
    }
}

/* A g, with A of F(4x4, 3x3) (see winograd.h). */
FC_INLINE void winograd_spread4(const v_f g[4], v_f out[6])
{
    const v_f half = V_SET1(0.5f);
    const v_f even = V_FMA(half, g[2], g[0]), odd = V_SET1(FC_P) * V_FMA(half, g[3], g[1]);
    const v_f even2 = V_FMA(half, g[0], g[2]), odd2 = V_SET1(FC_Q) * V_FMA(half, g[1], g[3]);
    out[0] = g[0];
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = even2 + odd2;
    out[4] = even2 - odd2;
    out[5] = g[3];
}

/* A g A^T of a patch of 4 x 4 gradients. Only rows x columns of them lie inside the image; the others are zero. */
static void FC_FN(winograd_spread)(const float *g, ptrdiff_t g_row, ptrdiff_t rows, ptrdiff_t columns, float *u,
                                   ptrdiff_t component)
{
    v_f half[4][6], line[4], out[6];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
#pragma GCC unroll 4
        for (int c = 0; c < 4; c++)
            if (r < rows && c < columns)
                line[c] = V_LOAD(g + r * g_row + c * VL);
            else
                line[c] = V_SET1(0.0f);
        winograd_spread4(line, half[r]);
    }
#pragma GCC unroll 6
    for (int c = 0; c < 6; c++) {
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++)
            line[r] = half[r][c];
        winograd_spread4(line, out);
#pragma GCC unroll 6
        for (int r = 0; r < 6; r++)
            V_STORE(u + (r * 6 + c) * component, out[r]);
    }
}

/* w [3][3][VL] = G^T M G of 6 x 6 vectors M. G is 6 x 3. */
static void FC_FN(winograd_weight)(const float *G, const float *m, ptrdiff_t component, float *w)
{
    v_f half[3][6];
    for (int c = 0; c < 6; c++)
        for (int k = 0; k < 3; k++) {
            half[k][c] = V_SET1(0.0f);
            for (int r = 0; r < 6; r++)
                half[k][c] = V_FMA(V_SET1(G[3 * r + k]), V_LOAD(m + (r * 6 + c) * component), half[k][c]);
        }
    for (int k = 0; k < 3; k++)
        for (int l = 0; l < 3; l++) {
            v_f sum = V_SET1(0.0f);
            for (int c = 0; c < 6; c++)
                sum = V_FMA(V_SET1(G[3 * c + l]), half[k][c], sum);
            V_STORE(w + (3 * k + l) * VL, sum);
        }
}

/* One step of an optimizer on a vector of parameters; training/optimizers.py has the formulas. A c of NULL is none. */
FC_INLINE void update_vector(const fc_update *u, v_f *p, v_f g, v_f *m, v_f *v, v_f *c)
{
    const v_f rate = V_SET1(u->rate), decay = V_SET1(u->decay), one = V_SET1(1.0f);
    g *= V_SET1(u->scale);
    if (u->kind == FC_ADAMW)
        *p *= one - rate * decay;
    else
        g = V_FMA(*p, decay, g);
    if (u->kind == FC_SGD) {
        if (u->momentum != 0.0f) {
            *m = V_FMA(*m, V_SET1(u->momentum), g);
            g = u->nesterov ? V_FMA(*m, V_SET1(u->momentum), g) : *m;
        }
        *p -= rate * g;
    } else if (u->kind == FC_RMSPROP) {
        *v = *v * V_SET1(u->beta2) + g * g * V_SET1(u->one_minus_beta2);
        v_f spread = *v;
        if (c) {
            *c += (g - *c) * V_SET1(u->one_minus_beta2);
            spread = V_MAX(V_SET1(0.0f), spread - *c * *c); /* rounding may make it negative */
        }
        g /= v_sqrt(spread) + V_SET1(u->epsilon);
        if (u->momentum != 0.0f) {
            *m = V_FMA(*m, V_SET1(u->momentum), g);
            g = *m;
        }
        *p -= rate * g;
    } else {
        *m += (g - *m) * V_SET1(u->one_minus_beta1);
        *v = *v * V_SET1(u->beta2) + g * g * V_SET1(u->one_minus_beta2);
        *p -= V_SET1(u->rate / u->correction1) * *m / (v_sqrt(*v) / V_SET1(u->correction2) + V_SET1(u->epsilon));
    }
}

static void FC_FN(update)(const fc_update *u, float *p, const float *g, float *m, float *v, float *c, ptrdiff_t n)
{
    const v_f zero = V_SET1(0.0f);
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) {
        v_f value = V_LOAD(p + i), first = m ? V_LOAD(m + i) : zero, second = v ? V_LOAD(v + i) : zero;
        v_f third = c ? V_LOAD(c + i) : zero;
        update_vector(u, &value, V_LOAD(g + i), &first, &second, c ? &third : NULL);
        V_STORE(p + i, value);
        if (m)
            V_STORE(m + i, first);
        if (v)
            V_STORE(v + i, second);
        if (c)
            V_STORE(c + i, third);
    }
    if (i < n) {
        v_f value = v_load_part(p + i, n - i), first = zero, second = zero, third = zero;
        if (m)
            first = v_load_part(m + i, n - i);
        if (v)
            second = v_load_part(v + i, n - i);
        if (c)
            third = v_load_part(c + i, n - i);
        update_vector(u, &value, v_load_part(g + i, n - i), &first, &second, c ? &third : NULL);
        v_store_part(p + i, value, n - i);
        if (m)
            v_store_part(m + i, first, n - i);
        if (v)
            v_store_part(v + i, second, n - i);
        if (c)
            v_store_part(c + i, third, n - i);
    }
}
