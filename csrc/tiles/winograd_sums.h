/* winograd_sums.h: the products of F(4 x 4, 3 x 3) for few patches. Filters are transformed while they are read.
 *
 * A transformed filter has 36 numbers. Where patches are few, reading these takes longer than the products. Here a
 * filter is nine numbers in memory, in a basis from which additions give the rows of G (winograd.h):
 *
 *     S = -(2 g0 + g2) / 3     T = (g0 + 2 g2) / 3     D = -sqrt(2) / 3 g1
 *     G g = 2 S + T, S + D, S - D, T - D, T + D, S + 2 T
 *
 * The basis is applied to rows and to columns. A tile holds the sums of a row of six components for a few patches and
 * one block of outputs. Each step computes the six filters and multiplies them with the patches. Patches of three rows
 * or columns of outputs need no last row or column of components. */

/* One row of G g, from the basis. It takes additions alone, which many cores compute beside their multiply-adds. */
FC_INLINE v_f winograd_from_basis(const int row, const v_f s, const v_f t, const v_f d)
{
    switch (row) {
    case 0: return s + s + t;
    case 1: return s + d;
    case 2: return s - d;
    case 3: return t - d;
    case 4: return t + d;
    default: return t + t + s;
    }
}

/* Sums row `row` of the components of `count` patches, from patch `first` on. The last component is summed for the
 * first `broad` of them only. */
FC_INLINE void winograd_sums_row(const fc_winograd_sums *s, const int row, ptrdiff_t first, const int count,
                                 const int broad, const char *ahead)
{
    v_f acc[6][WINOGRAD_PATCHES];
    const ptrdiff_t offset = (row * 6 * WINOGRAD_PATCHES + first) * VL;
    float *m = s->m + offset;
#pragma GCC unroll 6
    for (int c = 0; c < 6; c++) {
        const int patches = c < 5 ? count : broad;
#pragma GCC unroll 4
        for (int p = 0; p < patches; p++)
            acc[c][p] = s->accumulate ? V_LOAD(m + (c * WINOGRAD_PATCHES + p) * VL) : V_SET1(0.0f);
    }
    const float *w = s->w, *v = s->v + offset;
    for (ptrdiff_t left = s->channels; left > 0; left -= VL, v += 36 * WINOGRAD_PATCHES * VL) {
        const ptrdiff_t lanes = left < VL ? left : VL;
#pragma GCC unroll 24
        for (int i = 0; i < 6 * WINOGRAD_PATCHES * VL; i += FC_LINE_FLOATS)
            __builtin_prefetch(v + 36 * WINOGRAD_PATCHES * VL + i);
#pragma GCC unroll 1
        for (ptrdiff_t i = 0; i < lanes; i++, w += 9 * VL) {
            v_f line[3];
#pragma GCC unroll 3
            for (int c = 0; c < 3; c++)
                line[c] =
                    winograd_from_basis(row, V_LOAD(w + c * VL), V_LOAD(w + (3 + c) * VL), V_LOAD(w + (6 + c) * VL));
            __builtin_prefetch(ahead, 0, FC_SECOND_LEVEL);
            ahead += s->ahead_bytes;
#pragma GCC unroll 6
            for (int c = 0; c < 6; c++) {
                const v_f filter = winograd_from_basis(c, line[0], line[1], line[2]);
                const int patches = c < 5 ? count : broad;
#pragma GCC unroll 4
                for (int p = 0; p < patches; p++)
                    acc[c][p] = V_FMA1(v[(c * WINOGRAD_PATCHES + p) * VL + i], filter, acc[c][p]);
            }
        }
    }
#pragma GCC unroll 6
    for (int c = 0; c < 6; c++) {
        const int patches = c < 5 ? count : broad;
#pragma GCC unroll 4
        for (int p = 0; p < patches; p++)
            V_STORE(m + (c * WINOGRAD_PATCHES + p) * VL, acc[c][p]);
    }
}

/* Sums all rows but the last. Returns the address after what they have prefetched. */
FC_INLINE const char *winograd_sums_rows(const fc_winograd_sums *s, const int broad)
{
    const char *ahead = (const char *)s->ahead;
    const ptrdiff_t bytes = s->channels * s->ahead_bytes;
    winograd_sums_row(s, 0, 0, WINOGRAD_PATCHES, broad, ahead);
    winograd_sums_row(s, 1, 0, WINOGRAD_PATCHES, broad, ahead + bytes);
    winograd_sums_row(s, 2, 0, WINOGRAD_PATCHES, broad, ahead + 2 * bytes);
    winograd_sums_row(s, 3, 0, WINOGRAD_PATCHES, broad, ahead + 3 * bytes);
    winograd_sums_row(s, 4, 0, WINOGRAD_PATCHES, broad, ahead + 4 * bytes);
    return ahead + 5 * bytes;
}

/* The last column and the last row are computed for none, half or all of the patches. */
static void FC_FN(winograd_sums)(const fc_winograd_sums *s)
{
    enum { ALL = WINOGRAD_PATCHES, HALF = WINOGRAD_PATCHES / 2 };
    const char *ahead = s->broad > HALF ? winograd_sums_rows(s, ALL)
                        : s->broad > 0  ? winograd_sums_rows(s, HALF)
                                        : winograd_sums_rows(s, 0);
    if (s->tall > HALF && s->broad > 0)
        winograd_sums_row(s, 5, 0, ALL, ALL, ahead);
    else if (s->tall > HALF)
        winograd_sums_row(s, 5, 0, ALL, 0, ahead);
    else if (s->tall > 0 && s->broad > s->first_tall)
        winograd_sums_row(s, 5, s->first_tall, HALF, HALF, ahead);
    else if (s->tall > 0)
        winograd_sums_row(s, 5, s->first_tall, HALF, 0, ahead);
}
