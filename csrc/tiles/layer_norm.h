/* layer_norm.h: normalisation of pixels over their channels (Ba, Kiros and Hinton, Layer normalization, 2016), or of the
 * rows of a matrix: a row is a pixel there, a column a channel.
 *
 *   y = (x - mean) / d * weight + bias,  d = sqrt(mean of (x - mean)^2 + epsilon)
 *
 * A strip of VL pixels is summed at once: a vector for each, which shuffles then add up to one vector of VL sums. The
 * order of a pixel's sum is the same in a strip and alone. Floats sum FC_NORM_BLOCKS blocks, doubles these sums. */
#define FC_NORM_BLOCKS 64

/* Where the vector of a pixel's last channels begins, if their number is no multiple of VL. It holds some channels
 * twice where the block ends with the channels. */
FC_INLINE ptrdiff_t norm_tail_at(const fc_layer_norm *a, ptrdiff_t block)
{
    const ptrdiff_t full = a->channels / VL;
    return a->padded || full == 0 ? full * block : a->channels - VL;
}

/* The lanes of that vector which no other has. */
FC_INLINE v_i norm_tail_lanes(const fc_layer_norm *a)
{
    const ptrdiff_t rest = a->channels % VL;
    return a->padded || a->channels < VL ? v_first_lanes(rest) : ~v_first_lanes(VL - rest);
}

FC_INLINE v_f norm_tail(const fc_layer_norm *a, const float *x, ptrdiff_t block)
{
    if (!a->padded && a->channels < VL)
        return v_load_part(x, a->channels);
    return V_LOAD(x + norm_tail_at(a, block));
}

FC_INLINE void norm_store_tail(const fc_layer_norm *a, float *y, v_f v)
{
    if (!a->padded && a->channels < VL)
        v_store_part(y, v, a->channels);
    else
        V_STORE(y + norm_tail_at(a, a->y_block), v);
}

/* totals of `count` pixels: of x - shift, or of its square. */
FC_INLINE void norm_totals(const fc_layer_norm *a, const float *const *x, const float *shift, double *totals,
                           const int count, const int squares)
{
    const ptrdiff_t full = a->channels / VL, rest = a->channels % VL;
    const v_i inside = norm_tail_lanes(a);
    for (int p = 0; p < VL; p++)
        totals[p] = 0.0;
    for (ptrdiff_t first = 0; first <= full; first += FC_NORM_BLOCKS) {
        const ptrdiff_t end = first + FC_NORM_BLOCKS < full ? first + FC_NORM_BLOCKS : full;
        v_f sums[VL];
#pragma GCC unroll 16
        for (int p = 0; p < count; p++)
            sums[p] = V_SET1(0.0f);
        for (ptrdiff_t b = first; b < end; b++)
#pragma GCC unroll 16
            for (int p = 0; p < count; p++) {
                v_f v = V_LOAD(x[p] + b * a->x_block);
                if (squares) {
                    v -= V_SET1(shift[p]);
                    sums[p] = V_FMA(v, v, sums[p]);
                } else
                    sums[p] += v;
            }
        if (rest && end == full && first + FC_NORM_BLOCKS > full)
#pragma GCC unroll 16
            for (int p = 0; p < count; p++) {
                v_f v = norm_tail(a, x[p], a->x_block);
                if (squares)
                    v -= V_SET1(shift[p]);
                v = (v_f)((v_i)v & inside);
                if (squares)
                    sums[p] = V_FMA(v, v, sums[p]);
                else
                    sums[p] += v;
            }
        add_lanes(totals, count == 1 ? v_sums(sums[0]) : v_sums_of(sums));
    }
}

/* The mean and 1 / deviation of `count` pixels; behind these, lanes hold anything. */
FC_INLINE void norm_moments(const fc_layer_norm *a, const float *const *x, float *mean, float *inverse, const int count)
{
    double totals[VL];
    const double share = 1.0 / (double)a->channels;
    if (a->centred)
        norm_totals(a, x, NULL, totals, count, 0);
    for (int p = 0; p < VL; p++)
        mean[p] = a->centred ? (float)(totals[p] * share) : 0.0f;
    norm_totals(a, x, mean, totals, count, 1);
    for (int p = 0; p < VL; p++)
        inverse[p] = 1.0f / sqrtf((float)(totals[p] * share) + a->epsilon);
}

/* Pixels first .. first + number of a row, at most VL. More pointers repeat the last pixel. */
FC_INLINE void norm_pixels(const float *x, ptrdiff_t pixel, ptrdiff_t first, ptrdiff_t number, const float **at)
{
    for (int p = 0; p < VL; p++)
        at[p] = x + (first + (p < number ? p : number - 1)) * pixel;
}

/* How many pixels to compute at once: a strip, or one alone where few are left. */
FC_INLINE ptrdiff_t norm_number(const fc_layer_norm *a, ptrdiff_t first, ptrdiff_t most)
{
    const ptrdiff_t left = a->pixels - first;
    return left >= most ? most : left > most / 4 ? left : 1;
}

/* y = (x - mean) * inverse * weight + bias of the pixels of a strip. */
FC_INLINE void norm_store(const fc_layer_norm *a, const float *const *x, float *y, const float *mean,
                          const float *inverse, ptrdiff_t number)
{
    const ptrdiff_t full = a->channels / VL, rest = a->channels % VL;
    const v_f one = V_SET1(1.0f), zero = V_SET1(0.0f);
    v_f tails[VL];
    for (ptrdiff_t p = 0; rest && p < number; p++) /* before y replaces them, which may be x */
        tails[p] = norm_tail(a, x[p], a->x_block);
    for (ptrdiff_t b = 0; b < full; b++) {
        const v_f w = a->weight ? V_LOAD(a->weight + b * VL) : one, c = a->bias ? V_LOAD(a->bias + b * VL) : zero;
        for (ptrdiff_t p = 0; p < number; p++) {
            const v_f h = (V_LOAD(x[p] + b * a->x_block) - V_SET1(mean[p])) * V_SET1(inverse[p]);
            V_STORE(y + p * a->y_pixel + b * a->y_block, V_FMA(h, w, c));
        }
    }
    if (rest) {
        const ptrdiff_t at = norm_tail_at(a, VL);
        const v_f w = a->weight ? V_LOAD(a->weight + at) : one, c = a->bias ? V_LOAD(a->bias + at) : zero;
        for (ptrdiff_t p = 0; p < number; p++)
            norm_store_tail(a, y + p * a->y_pixel, V_FMA((tails[p] - V_SET1(mean[p])) * V_SET1(inverse[p]), w, c));
    }
}

/* The moments of the pixels from `first` on, and how many there are. */
FC_INLINE ptrdiff_t norm_strip(const fc_layer_norm *a, ptrdiff_t first, const float **x, float *mean, float *inverse)
{
    const ptrdiff_t number = norm_number(a, first, VL);
    norm_pixels(a->x, a->x_pixel, first, number, x);
    if (number == 1)
        norm_moments(a, x, mean, inverse, 1);
    else
        norm_moments(a, x, mean, inverse, VL);
    return number;
}

static void FC_FN(layer_norm)(const fc_layer_norm *a)
{
    const float *x[VL];
    float mean[VL], inverse[VL];
    for (ptrdiff_t first = 0, number; first < a->pixels; first += number) {
        number = norm_strip(a, first, x, mean, inverse);
        norm_store(a, x, a->y + first * a->y_pixel, mean, inverse, number);
    }
}

/* The place of a pixel's mean in stats. 1 / deviation lies VL floats behind it. */
FC_INLINE ptrdiff_t norm_place(ptrdiff_t pixel)
{
    return pixel / VL * 2 * VL + pixel % VL;
}

static void FC_FN(layer_norm_stats)(const fc_layer_norm *a)
{
    const float *x[VL];
    float mean[VL], inverse[VL];
    for (ptrdiff_t first = 0, number; first < a->pixels; first += number) {
        number = norm_strip(a, first, x, mean, inverse);
        for (ptrdiff_t p = 0; p < number; p++) {
            float *to = a->stats + norm_place(a->first + first + p);
            to[0] = mean[p];
            to[VL] = inverse[p];
        }
    }
}

/* dx = (gw - mean(gw) - h * mean(gw * h)) / d,  gw = g * weight,  h = (x - mean) / d; without the mean of gw where the
 * mean of x counts as zero. The sums of VL / 2 pixels are computed at once, both in one strip. */
FC_INLINE void norm_grad_strip(const fc_layer_norm *a, ptrdiff_t from, ptrdiff_t number, const int count)
{
    const ptrdiff_t full = a->channels / VL, rest = a->channels % VL, half = VL / 2, tail = norm_tail_at(a, VL);
    const v_f one = V_SET1(1.0f), last_weight = a->weight && rest ? V_LOAD(a->weight + tail) : one;
    const v_i inside = norm_tail_lanes(a);
    const float *x[VL], *g[VL];
    float mean[VL], inverse[VL], means[VL];
    double totals[VL] = {0.0}, share = 1.0 / (double)a->channels;
    norm_pixels(a->x, a->x_pixel, from, number, x);
    norm_pixels(a->g, a->g_pixel, from, number, g);
    for (int p = 0; p < count; p++) {
        const float *stats = a->stats + norm_place(a->first + from + (p < number ? p : number - 1));
        mean[p] = stats[0], inverse[p] = stats[VL];
    }
    for (ptrdiff_t first = 0; first <= full; first += FC_NORM_BLOCKS) {
        const ptrdiff_t end = first + FC_NORM_BLOCKS < full ? first + FC_NORM_BLOCKS : full;
        v_f sums[VL];
#pragma GCC unroll 16
        for (int p = 0; p < VL; p++)
            sums[p] = V_SET1(0.0f);
        for (ptrdiff_t b = first; b < end; b++) {
            const v_f w = a->weight ? V_LOAD(a->weight + b * VL) : one;
#pragma GCC unroll 8
            for (int p = 0; p < count; p++) {
                const v_f gw = V_LOAD(g[p] + b * a->g_block) * w;
                const v_f h = (V_LOAD(x[p] + b * a->x_block) - V_SET1(mean[p])) * V_SET1(inverse[p]);
                sums[p] += gw;
                sums[half + p] = V_FMA(gw, h, sums[half + p]);
            }
        }
        if (rest && end == full && first + FC_NORM_BLOCKS > full)
#pragma GCC unroll 8
            for (int p = 0; p < count; p++) {
                const v_f h = (norm_tail(a, x[p], a->x_block) - V_SET1(mean[p])) * V_SET1(inverse[p]);
                const v_f gw = (v_f)((v_i)(norm_tail(a, g[p], a->g_block) * last_weight) & inside);
                sums[p] += gw;
                sums[half + p] = V_FMA(gw, (v_f)((v_i)h & inside), sums[half + p]);
            }
        if (count == 1) {
            totals[0] += (double)v_sum(sums[0]);
            totals[half] += (double)v_sum(sums[half]);
        } else
            add_lanes(totals, v_sums_of(sums));
    }
    for (int p = 0; p < VL; p++)
        means[p] = p < half && !a->centred ? 0.0f : (float)(totals[p] * share);
    for (ptrdiff_t p = 0; p < number; p++) {
        const v_f m1 = V_SET1(means[p]), m2 = V_SET1(means[half + p]), d = V_SET1(inverse[p]), m = V_SET1(mean[p]);
        float *y = a->y + (from + p) * a->y_pixel;
        v_f last = one;
        if (rest) {
            const v_f gw = norm_tail(a, g[p], a->g_block) * last_weight;
            last = d * (gw - m1 - (norm_tail(a, x[p], a->x_block) - m) * d * m2);
        }
        for (ptrdiff_t b = 0; b < full; b++) {
            const v_f gw = V_LOAD(g[p] + b * a->g_block) * (a->weight ? V_LOAD(a->weight + b * VL) : one);
            V_STORE(y + b * a->y_block, d * (gw - m1 - (V_LOAD(x[p] + b * a->x_block) - m) * d * m2));
        }
        if (rest)
            norm_store_tail(a, y, last);
    }
}

static void FC_FN(layer_norm_grad)(const fc_layer_norm *a)
{
    for (ptrdiff_t first = 0, number; first < a->pixels; first += number) {
        number = norm_number(a, first, VL / 2);
        if (number == 1)
            norm_grad_strip(a, first, 1, 1);
        else
            norm_grad_strip(a, first, number, VL / 2);
    }
}

static void FC_FN(layer_norm_sums)(const fc_layer_norm *a, double *sums, ptrdiff_t lanes)
{
    for (ptrdiff_t first = 0; first < a->pixels; first += FC_SUM_PIXELS) {
        const ptrdiff_t end = first + FC_SUM_PIXELS < a->pixels ? first + FC_SUM_PIXELS : a->pixels;
        v_f total = V_SET1(0.0f), product = V_SET1(0.0f);
        for (ptrdiff_t p = first; p < end; p++) {
            const float *stats = a->stats + norm_place(a->first + p);
            const float *from = a->x + p * a->x_pixel, *grad = a->g + p * a->g_pixel;
            const v_f g = lanes < VL ? v_load_part(grad, lanes) : V_LOAD(grad);
            const v_f x = lanes < VL ? v_load_part(from, lanes) : V_LOAD(from);
            total += g;
            product = V_FMA(g, (x - V_SET1(stats[0])) * V_SET1(stats[VL]), product);
        }
        add_lanes(sums, total);
        add_lanes(sums + VL, product);
    }
}
