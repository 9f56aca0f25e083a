/* norm.h: sums over the pixels of one block of channels, and what batch normalisation computes from them.
 *
 * Floats sum FC_SUM_PIXELS pixels, for which rounding is negligible. Doubles sum these floats. */
#define FC_SUM_PIXELS 128

/* The gradient of z = x * scale + shift, from the gradient g of act(z). */
FC_INLINE v_f v_gate(const fc_gate *gate, v_f g, v_f x)
{
    const v_f v = V_FMA(x, V_LOAD(gate->affine), V_LOAD(gate->affine + VL)); /* the bits of `affine` */
    const v_i closed = (v_i)(v <= V_SET1(gate->low)) | (v_i)(v >= V_SET1(gate->high));
    return (v_f)(~closed & (v_i)g);
}

/* sums[0] += a and sums[1] += a * b. Kind 0: a = g, without the second sum. 1: a = g, b = x - shift. 2: a = b =
 * g - shift. 3: as 1, with g after the gate. */
FC_INLINE void add_pixel(const fc_pixel_sums *r, const float *g, const float *x, v_f sums[2], const int kind)
{
    v_f a = V_LOAD(g), b = a;
    if (kind == 3)
        a = v_gate(&r->gate, a, V_LOAD(x));
    if (kind == 1 || kind == 3)
        b = V_LOAD(x) - V_LOAD(r->shift);
    if (kind == 2)
        a = b = a - V_LOAD(r->shift);
    sums[0] += a;
    if (kind)
        sums[1] = V_FMA(a, b, sums[1]);
}

FC_INLINE void pixel_sums_by(const fc_pixel_sums *r, const int kind)
{
    const v_f zero = V_SET1(0.0f);
    v_f sums[2][2] = {{zero, zero}, {zero, zero}};
    ptrdiff_t count = 0;
    for (ptrdiff_t row = 0; row < r->rows; row++) {
        const float *x = r->x + row * r->x_row, *g = r->g + row * r->g_row;
        ptrdiff_t i = 0;
        for (; i + 2 <= r->pixels; i += 2) {
            add_pixel(r, g + i * VL, x + i * VL, sums[0], kind);
            add_pixel(r, g + (i + 1) * VL, x + (i + 1) * VL, sums[1], kind);
        }
        if (i < r->pixels)
            add_pixel(r, g + i * VL, x + i * VL, sums[0], kind);
        count += r->pixels;
        if (count >= FC_SUM_PIXELS || row + 1 == r->rows) {
            for (int k = 0; k < (kind ? 2 : 1); k++) {
                add_lanes(r->sums + k * VL, sums[0][k] + sums[1][k]);
                sums[0][k] = sums[1][k] = zero;
            }
            count = 0;
        }
    }
}

static void FC_FN(pixel_sums)(const fc_pixel_sums *r)
{
    if (r->moments)
        pixel_sums_by(r, 2);
    else if (r->x && r->gate.affine)
        pixel_sums_by(r, 3);
    else if (r->x)
        pixel_sums_by(r, 1);
    else
        pixel_sums_by(r, 0);
}

/* y[i] = a * g[i] + b * x[i] + c, with one a, b, c for each lane. */
static void FC_FN(blend)(const fc_gate *gate, const float *abc, const float *g, const float *x, float *y, ptrdiff_t n)
{
    const v_f a = V_LOAD(abc), b = V_LOAD(abc + VL), c = V_LOAD(abc + 2 * VL);
    if (gate->affine) {
        for (ptrdiff_t i = 0; i < n; i += VL) {
            const v_f in = V_LOAD(x + i);
            V_STORE(y + i, V_FMA(a, v_gate(gate, V_LOAD(g + i), in), V_FMA(b, in, c)));
        }
        return;
    }
    for (ptrdiff_t i = 0; i < n; i += VL)
        V_STORE(y + i, V_FMA(a, V_LOAD(g + i), V_FMA(b, V_LOAD(x + i), c)));
}
