/* winograd.h: transforms of Winograd's minimal filtering F(m x m, 3 x 3), for one vector of channels. m is 2, 4 or 6,
 * or 2 with stride 2.
 *
 *   Y = A^T [ (G g G^T) * (B^T d B) ] A        (* element by element)
 *
 * With stride 1, d is a patch of (m + 2) x (m + 2) pixels, g a filter, and Y are m x m outputs. References: Winograd,
 * Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015.
 * The matrices follow from the points at which polynomials are evaluated. For m = 2 these are 0, 1, -1, infinity. For
 * m = 4 they are 0, p, -p, q, -q, infinity with p = sqrt(1/2), q = sqrt(2): rounding errors are smaller than with the
 * usual 1 and 2.
 *
 *          |-1   0   5/2   0  -1   0 |            | 1  1    1   1/2    1/2    0 |
 *          | 0 -2p   -2    p   1   0 |            | 0  p   -p   q/2   -q/2   0 |
 *   B^T =  | 0  2p   -2   -p   1   0 |     A^T =  | 0 p^2  p^2  q^2/2  q^2/2 0 |
 *          | 0 -q/2 -1/2   q   1   0 |            | 0 p^3 -p^3  q^3/2 -q^3/2 1 |
 *          | 0  q/2 -1/2  -q   1   0 |
 *          | 0   1    0  -5/2  0   1 |
 *
 * Halves in A^T go with rows of G that are doubled, the minus in B^T goes with -g0. Transforming filters then takes no
 * multiplications: winograd_sums.h. For m = 6 the points are 0, p, -p, 1, -1, q, -q, infinity. Row k of A^T holds the
 * k-th powers of the points. Row j of B^T holds the coefficients of x (x^2 - p^2) (x^2 - 1) (x^2 - q^2) / (x - point
 * j). winograd_in6 has them written out.
 *
 * A line of m - 1 outputs needs no component of infinity, the last one: only output m does.
 *
 * Stride 2 follows Yang, Yepez and Ko, Stride 2 1-D, 2-D, and 3-D Winograd for Convolutional Neural Networks, 2020.
 * Here m is 2 and d is a patch of 5 x 5 pixels. The outer taps of the filter meet the even pixels of a line, which is
 * F(2, 2) with the points 0, 1 and infinity. The middle tap alone meets the two odd pixels, one for each output. Its
 * products are therefore added to the component of a single output, the first or the last:
 *
 *     G g = g0, g0 + g2, g2, g1;     B^T d = d0 - d2, d2, d4 - d2, d1, d3;
 *     Y = a + b, b + c;     a = g0 (d0 - d2) + g1 d1;     b = (g0 + g2) d2;     c = g2 (d4 - d2) + g1 d3
 */
#define FC_P 0.70710678f
#define FC_Q 1.41421356f
#define FC_WINOGRAD_MOST 8 /* m + 2 of the largest */

FC_INLINE void winograd_in4(const v_f d[6], v_f t[6])
{
    const v_f e1 = V_FMA(d[2], V_SET1(-2.0f), d[4]), e2 = V_FMA(d[2], V_SET1(-0.5f), d[4]);
    const v_f o1 = V_SET1(FC_P) * V_FMA(d[1], V_SET1(-2.0f), d[3]);
    const v_f o2 = V_SET1(FC_Q) * V_FMA(d[1], V_SET1(-0.5f), d[3]);
    t[0] = V_FMA(d[2], V_SET1(2.5f), -d[0]) - d[4];
    t[1] = e1 + o1;
    t[2] = e1 - o1;
    t[3] = e2 + o2;
    t[4] = e2 - o2;
    t[5] = V_FMA(d[3], V_SET1(-2.5f), d[1]) + d[5];
}

FC_INLINE void winograd_out4(const v_f m[6], v_f y[4])
{
    const v_f s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    y[0] = V_FMA(s2, V_SET1(0.5f), m[0] + s1);
    y[1] = V_SET1(FC_P) * (d1 + d2);
    y[2] = V_FMA(s1, V_SET1(0.5f), s2);
    y[3] = V_FMA(d1, V_SET1(0.5f * FC_P), V_FMA(d2, V_SET1(FC_Q), m[5]));
}

/* The rows of B^T for the points a and -a. b and c are the squares of the other two pairs of points. */
FC_INLINE void winograd_pair6(const v_f d[8], const float a, const float b, const float c, v_f *plus, v_f *minus)
{
    const v_f product = V_SET1(b * c), sum = V_SET1(-b - c);
    const v_f even = V_FMA(d[2], product, V_FMA(d[4], sum, d[6]));
    const v_f odd = V_SET1(a) * V_FMA(d[1], product, V_FMA(d[3], sum, d[5]));
    *plus = even + odd;
    *minus = even - odd;
}

FC_INLINE void winograd_in6(const v_f d[8], v_f t[8])
{
    const v_f k = V_SET1(3.5f);
    t[0] = V_FMA(d[2] - d[4], k, d[6] - d[0]);
    winograd_pair6(d, FC_P, 1.0f, 2.0f, &t[1], &t[2]);
    winograd_pair6(d, 1.0f, 0.5f, 2.0f, &t[3], &t[4]);
    winograd_pair6(d, FC_Q, 0.5f, 1.0f, &t[5], &t[6]);
    t[7] = V_FMA(d[3] - d[5], k, d[7] - d[1]);
}

FC_INLINE void winograd_out6(const v_f m[8], v_f y[6])
{
    const v_f s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4], s3 = m[5] + m[6],
              d3 = m[5] - m[6];
    y[0] = m[0] + s1 + s2 + s3;
    y[1] = V_FMA(d1, V_SET1(FC_P), V_FMA(d3, V_SET1(FC_Q), d2));
    y[2] = V_FMA(s1, V_SET1(0.5f), V_FMA(s3, V_SET1(2.0f), s2));
    y[3] = V_FMA(d1, V_SET1(0.5f * FC_P), V_FMA(d3, V_SET1(2.0f * FC_Q), d2));
    y[4] = V_FMA(s1, V_SET1(0.25f), V_FMA(s3, V_SET1(4.0f), s2));
    y[5] = V_FMA(d1, V_SET1(0.25f * FC_P), V_FMA(d3, V_SET1(4.0f * FC_Q), d2)) + m[7];
}

FC_INLINE void winograd_in2(const v_f d[4], v_f t[4])
{
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
}

FC_INLINE void winograd_out2(const v_f m[4], v_f y[2])
{
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
}

FC_INLINE void winograd_in_strided(const v_f d[5], v_f t[5])
{
    t[0] = d[0] - d[2];
    t[1] = d[2];
    t[2] = d[4] - d[2];
    t[3] = d[1];
    t[4] = d[3];
}

FC_INLINE void winograd_out_strided(const v_f m[3], v_f y[2])
{
    y[0] = m[0] + m[1];
    y[1] = m[1] + m[2];
}

FC_INLINE void winograd_in(const int m, const int stride, const v_f *d, v_f *t)
{
    if (stride == 2)
        winograd_in_strided(d, t);
    else if (m == 6)
        winograd_in6(d, t);
    else if (m == 4)
        winograd_in4(d, t);
    else
        winograd_in2(d, t);
}

FC_INLINE void winograd_out(const int m, const int stride, const v_f *t, v_f *y)
{
    if (stride == 2)
        winograd_out_strided(t, y);
    else if (m == 6)
        winograd_out6(t, y);
    else if (m == 4)
        winograd_out4(t, y);
    else
        winograd_out2(t, y);
}

/* B^T d B, stored as vectors `component` floats apart. For m = 4 it takes half of the columns at a time: 18 vectors fit
 * the registers, 36 do not. */
FC_INLINE void winograd_input(const int m, const int stride, const float *x, ptrdiff_t x_row, float *v,
                              ptrdiff_t component)
{
    const int n = stride == 2 ? 5 : m + 2, width = m == 4 ? 3 : n;
    v_f half[FC_WINOGRAD_MOST][FC_WINOGRAD_MOST], line[FC_WINOGRAD_MOST], out[FC_WINOGRAD_MOST];
#pragma GCC unroll 2
    for (int first = 0; first < n; first += width) {
        const float *in = x;
        __asm__("" : "+r"(in)); /* else the compiler keeps the addresses of all rows, on the stack */
#pragma GCC unroll 8
        for (int r = 0; r < n; r++, in += x_row) {
#pragma GCC unroll 8
            for (int c = 0; c < n; c++)
                line[c] = V_LOAD(in + c * VL);
            winograd_in(m, stride, line, out);
#pragma GCC unroll 8
            for (int c = 0; c < width; c++)
                half[r][c] = out[first + c];
        }
#pragma GCC unroll 8
        for (int c = 0; c < width; c++) {
#pragma GCC unroll 8
            for (int r = 0; r < n; r++)
                line[r] = half[r][c];
            winograd_in(m, stride, line, out);
            float *to = v + (first + c) * component;
#pragma GCC unroll 8
            for (int r = 0; r < n; r++, to += n * component)
                V_STORE(to, out[r]);
        }
    }
}

/* A^T M, column by column. */
FC_INLINE void winograd_columns(const int m, const int stride, const fc_winograd_output *o,
                                v_f half[FC_WINOGRAD_MOST][FC_WINOGRAD_MOST])
{
    const int n = stride == 2 ? 3 : m + 2;
    v_f line[FC_WINOGRAD_MOST], out[FC_WINOGRAD_MOST];
#pragma GCC unroll 8
    for (int c = 0; c < n; c++) {
        const float *in = o->m + c * o->component;
#pragma GCC unroll 8
        for (int r = 0; r < n; r++, in += n * o->component)
            line[r] = V_LOAD(in);
        winograd_out(m, stride, line, out);
#pragma GCC unroll 6
        for (int r = 0; r < m; r++)
            half[r][c] = out[r];
    }
}

/* Row r of A^T M A + bias. */
FC_INLINE void winograd_line(const int m, const int stride, const fc_winograd_output *o,
                             const v_f half[FC_WINOGRAD_MOST], v_f out[FC_WINOGRAD_MOST])
{
    winograd_out(m, stride, half, out);
    const v_f bias = V_LOAD(o->bias);
#pragma GCC unroll 6
    for (int c = 0; c < m; c++)
        out[c] += bias;
}

/* act(A^T M A + bias + residual) from `half`, which is A^T M, for `rows` rows and `columns` columns. */
FC_INLINE void winograd_rows(const int m, const int stride, const fc_winograd_output *o,
                             v_f half[FC_WINOGRAD_MOST][FC_WINOGRAD_MOST], const ptrdiff_t rows,
                             const ptrdiff_t columns, const int has_residual)
{
    const v_f low = V_SET1(o->act.low), high = V_SET1(o->act.high);
    v_f out[FC_WINOGRAD_MOST];
    float *y = o->y;
    const float *residual = o->residual;
#pragma GCC unroll 6
    for (int r = 0; r < m; r++, y += o->y_row, residual += has_residual ? o->residual_row : 0) {
        if (r >= rows)
            break;
        winograd_line(m, stride, o, half[r], out);
#pragma GCC unroll 6
        for (int c = 0; c < m; c++) {
            if (c >= columns)
                break;
            if (has_residual)
                out[c] += V_LOAD(residual + c * VL);
            V_STORE(y + c * VL, v_clip(out[c], low, high));
        }
        if (o->act.kind > FC_CLIP)
            FC_FN(activate_pixels)(&o->act, y, VL, columns);
    }
}

/* act(A^T M A + bias + residual), for the outputs inside the image. Most patches have all inside: for these, the number
 * of rows and columns is a constant. */
FC_INLINE void winograd_output(const int m, const int stride, const fc_winograd_output *o)
{
    v_f half[FC_WINOGRAD_MOST][FC_WINOGRAD_MOST];
    winograd_columns(m, stride, o, half);
    const ptrdiff_t rows = o->rows < m ? o->rows : m, columns = o->columns < m ? o->columns : m;
    if (rows == m && columns == m && o->residual)
        winograd_rows(m, stride, o, half, m, m, 1);
    else if (rows == m && columns == m)
        winograd_rows(m, stride, o, half, m, m, 0);
    else if (o->residual)
        winograd_rows(m, stride, o, half, rows, columns, 1);
    else
        winograd_rows(m, stride, o, half, rows, columns, 0);
}

/* act(max(A^T M A) + bias) over each 2 x 2 outputs. There is no residual, and the activation is FC_CLIP at most: it
 * commutes with a maximum. */
FC_INLINE void winograd_pooled(const int m, const int stride, const fc_winograd_output *o)
{
    v_f half[FC_WINOGRAD_MOST][FC_WINOGRAD_MOST], upper[FC_WINOGRAD_MOST], lower[FC_WINOGRAD_MOST];
    winograd_columns(m, stride, o, half);
    const v_f low = V_SET1(o->act.low), high = V_SET1(o->act.high);
#pragma GCC unroll 3
    for (int r = 0; r < m / 2; r++) {
        if (r >= o->rows)
            break;
        winograd_line(m, stride, o, half[2 * r], upper);
        winograd_line(m, stride, o, half[2 * r + 1], lower);
#pragma GCC unroll 3
        for (int c = 0; c < m / 2; c++) {
            if (c >= o->columns)
                break;
            const v_f largest = v_max_nan(v_max3_nan(upper[2 * c], upper[2 * c + 1], lower[2 * c]), lower[2 * c + 1]);
            V_STORE(o->y + r * o->y_row + c * VL, v_clip(largest, low, high));
        }
    }
}

#define FC_WINOGRAD(name, m, stride)                                                                                   \
    static void FC_FN(winograd_input##name)(const float *x, ptrdiff_t x_row, float *v, ptrdiff_t component)            \
    {                                                                                                                  \
        winograd_input(m, stride, x, x_row, v, component);                                                             \
    }                                                                                                                  \
    static void FC_FN(winograd_output##name)(const fc_winograd_output *o)                                              \
    {                                                                                                                  \
        winograd_output(m, stride, o);                                                                                 \
    }                                                                                                                  \
    static void FC_FN(winograd_pooled##name)(const fc_winograd_output *o)                                              \
    {                                                                                                                  \
        winograd_pooled(m, stride, o);                                                                                 \
    }

FC_WINOGRAD(2, 2, 1)
FC_WINOGRAD(4, 4, 1)
FC_WINOGRAD(6, 6, 1)
FC_WINOGRAD(_strided, 2, 2)
