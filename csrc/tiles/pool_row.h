/* pool_row.h: maximum and average over windows, one row of outputs at a time; and the mean of a plane.
 *
 * Floats sum as many pixels as lose no digit that matters. Doubles sum these floats. */
#define FC_MEAN_PIXELS 64
#define FC_WINDOW_PIXELS 16

/* The taps first <= k < last of a window lie inside the image. The window begins at column `start`. */
FC_INLINE void window_taps(const fc_pool_row *r, ptrdiff_t start, ptrdiff_t *first, ptrdiff_t *last)
{
    *first = start < 0 ? (-start + r->dilation - 1) / r->dilation : 0;
    const ptrdiff_t room = r->width - start;
    if (room > (r->kw - 1) * r->dilation) /* most windows: they need no division */
        *last = r->kw;
    else
        *last = room > 0 ? (room + r->dilation - 1) / r->dilation : 0;
}

FC_INLINE v_f v_of_doubles(const double *lanes)
{
    float rounded[VL];
    for (int i = 0; i < VL; i++)
        rounded[i] = (float)lanes[i];
    return V_LOAD(rounded);
}

/* The sum of a window of many pixels. A single lane's sum is in every lane. */
static __attribute__((noinline)) v_f FC_FN(sum_large_window)(const fc_pool_row *r, const float *x, ptrdiff_t first,
                                                             ptrdiff_t last)
{
    double sums[VL] = {0};
    for (ptrdiff_t ky = 0; ky < r->rows; ky++)
        for (ptrdiff_t begin = first; begin < last; begin += FC_WINDOW_PIXELS) {
            const ptrdiff_t end = begin + FC_WINDOW_PIXELS < last ? begin + FC_WINDOW_PIXELS : last;
            v_f acc = V_SET1(0.0f);
            for (ptrdiff_t kx = begin; kx < end; kx++) {
                const float *p = x + ky * r->x_row + kx * r->dilation * r->lanes;
                acc += r->lanes == 1 ? V_SET1(*p) : V_LOAD(p);
            }
            add_lanes(sums, acc);
        }
    return v_of_doubles(sums);
}

/* Whether the pixels of a window are too many for a sum in floats. */
FC_INLINE int is_large_average(const fc_pool_row *r, ptrdiff_t first, ptrdiff_t last)
{
    return r->average && r->rows * (last - first) > FC_MEAN_PIXELS;
}

FC_INLINE v_f pool_window(const fc_pool_row *r, const float *x, ptrdiff_t first, ptrdiff_t last)
{
    if (is_large_average(r, first, last))
        return FC_FN(sum_large_window)(r, x, first, last);
    v_f acc = V_SET1(r->average ? 0.0f : -INFINITY);
    for (ptrdiff_t ky = 0; ky < r->rows; ky++)
        for (ptrdiff_t kx = first; kx < last; kx++) {
            const v_f v = V_LOAD(x + ky * r->x_row + kx * r->dilation * VL);
            if (r->average)
                acc += v;
            else
                acc = v_max_nan(acc, v);
        }
    return acc;
}

FC_INLINE float pool_window_scalar(const fc_pool_row *r, const float *x, ptrdiff_t first, ptrdiff_t last)
{
    if (is_large_average(r, first, last)) {
        float lanes[VL];
        V_STORE(lanes, FC_FN(sum_large_window)(r, x, first, last));
        return lanes[0];
    }
    float acc = r->average ? 0.0f : -INFINITY;
    for (ptrdiff_t ky = 0; ky < r->rows; ky++)
        for (ptrdiff_t kx = first; kx < last; kx++) {
            const float v = x[ky * r->x_row + kx * r->dilation];
            acc = r->average ? acc + v : (acc != acc || acc > v) ? acc : v;
        }
    return acc;
}

/* Maxima of 2 x 2 pixels, stride 2. */
FC_INLINE void max2_span(const float *x, ptrdiff_t x_row, float *y, ptrdiff_t pixels)
{
    for (; pixels > 0; pixels--, x += 2 * VL, y += VL) {
        const float *below = x + x_row;
        V_STORE(y, v_max_nan(v_max3_nan(V_LOAD(x), V_LOAD(x + VL), V_LOAD(below)), V_LOAD(below + VL)));
    }
}

FC_INLINE v_f column_max3(const float *x, ptrdiff_t x_row)
{
    return v_max3_nan(V_LOAD(x), V_LOAD(x + x_row), V_LOAD(x + 2 * x_row));
}

/* Maxima of 3 x 3 pixels, stride 2. They are taken column by column, as neighbouring windows share one. */
FC_INLINE void max3_span(const float *x, ptrdiff_t x_row, float *y, ptrdiff_t pixels)
{
    v_f left = column_max3(x, x_row);
    for (; pixels > 0; pixels--, x += 2 * VL, y += VL) {
        const v_f right = column_max3(x + 2 * VL, x_row);
        V_STORE(y, v_max3_nan(left, column_max3(x + VL, x_row), right));
        left = right;
    }
}

/* Computes pixels first .. last, whose windows need no clipping, where the windows are of a frequent kind. */
FC_INLINE void pool_inside(const fc_pool_row *r, ptrdiff_t *first, ptrdiff_t *last)
{
    *first = *last = r->pixels;
    if (r->average || r->lanes == 1 || r->stride != 2 || r->dilation != 1 || r->rows != r->kw || r->kw < 2 || r->kw > 3)
        return;
    *first = (r->pad_left + 1) / 2;
    const ptrdiff_t fit = r->width + r->pad_left - r->kw;
    *last = fit < 0 ? 0 : fit / 2 + 1;
    *last = *last < r->pixels ? *last : r->pixels;
    if (*last <= *first) {
        *first = *last = r->pixels;
        return;
    }
    const float *x = r->x + (*first * 2 - r->pad_left) * VL;
    if (r->kw == 2)
        max2_span(x, r->x_row, r->y + *first * VL, *last - *first);
    else
        max3_span(x, r->x_row, r->y + *first * VL, *last - *first);
}

static void FC_FN(pool_row)(const fc_pool_row *r)
{
    ptrdiff_t inside, outside;
    pool_inside(r, &inside, &outside);
    for (ptrdiff_t p = 0; p < r->pixels; p++) {
        if (p == inside)
            p = outside;
        if (p >= r->pixels)
            break;
        const ptrdiff_t start = p * r->stride - r->pad_left;
        ptrdiff_t first, last;
        window_taps(r, start, &first, &last);
        float divisor = 1.0f;
        if (r->average) {
            const ptrdiff_t end = start + r->kw, edge = r->width + r->pad_right;
            const ptrdiff_t padded = (end < edge ? end : edge) - start;
            divisor = (float)(r->row_extent * (r->count_include_pad ? padded : last - first));
        }
        const float *x = r->x + start * r->lanes;
        if (r->lanes == 1)
            r->y[p] = pool_window_scalar(r, x, first, last) / divisor;
        else
            V_STORE(r->y + p * VL, pool_window(r, x, first, last) / V_SET1(divisor)); /* exact for a maximum: by 1 */
    }
}

static void FC_FN(mean_pixels)(const float *x, ptrdiff_t x_row, ptrdiff_t rows, ptrdiff_t width, float *y)
{
    const v_f zero = V_SET1(0.0f);
    const ptrdiff_t most = width < 4 ? FC_WINDOW_PIXELS : FC_MEAN_PIXELS; /* narrow images use one sum of the four */
    v_f acc[4] = {zero, zero, zero, zero};
    double sums[VL] = {0};
    ptrdiff_t count = 0; /* pixels in acc */
    for (ptrdiff_t r = 0; r < rows; r++, x += x_row)
        for (ptrdiff_t i = 0, end; i < width; i = end) {
            end = i + most < width ? i + most : width;
            count += end - i;
            for (; i + 4 <= end; i += 4)
                for (int k = 0; k < 4; k++)
                    acc[k] += V_LOAD(x + (i + k) * VL);
            for (; i < end; i++)
                acc[0] += V_LOAD(x + i * VL);
            if (count >= most) {
                add_lanes(sums, (acc[0] + acc[1]) + (acc[2] + acc[3]));
                acc[0] = acc[1] = acc[2] = acc[3] = zero;
                count = 0;
            }
        }
    add_lanes(sums, (acc[0] + acc[1]) + (acc[2] + acc[3]));
    for (int i = 0; i < VL; i++)
        sums[i] /= (double)(rows * width);
    V_STORE(y, v_of_doubles(sums));
}
