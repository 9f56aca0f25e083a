/* interleave.h: copies between layouts: NCHW to blocked and back, VL x VL floats at a time; NCHW to NHWC; and blocked
 * pixels at a distance to neighbouring ones.
 *
 * Perfect shuffles transpose. Interleaving row i with row i + VL/2, for all i, moves one bit of the row number into the
 * column number. After log2(VL) rounds all bits have changed places. */

FC_INLINE void transpose(v_f rows[VL])
{
    v_f next[VL];
#pragma GCC unroll 4
    for (int round = 1; round < VL; round *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < VL / 2; i++) {
            next[2 * i] = V_ZIP_LOW(rows[i], rows[i + VL / 2]);
            next[2 * i + 1] = V_ZIP_HIGH(rows[i], rows[i + VL / 2]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < VL; i++)
            rows[i] = next[i];
    }
}

static void FC_FN(interleave)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t channels, ptrdiff_t pixels)
{
    ptrdiff_t p = 0;
    v_f rows[VL];
    for (; p + VL <= pixels; p += VL) {
#pragma GCC unroll 16
        for (int c = 0; c < VL; c++)
            rows[c] = c < channels ? V_LOAD(x + c * plane + p) : V_SET1(0.0f);
        transpose(rows);
#pragma GCC unroll 16
        for (int c = 0; c < VL; c++)
            V_STORE(y + (p + c) * VL, rows[c]);
    }
    for (; p < pixels; p++)
        for (int c = 0; c < VL; c++)
            y[p * VL + c] = c < channels ? x[c * plane + p] : 0.0f;
}

static void FC_FN(deinterleave)(const float *x, float *y, ptrdiff_t plane, ptrdiff_t channels, ptrdiff_t pixels)
{
    ptrdiff_t p = 0;
    v_f rows[VL];
    for (; p + VL <= pixels; p += VL) {
#pragma GCC unroll 16
        for (int c = 0; c < VL; c++)
            rows[c] = V_LOAD(x + (p + c) * VL);
        transpose(rows);
#pragma GCC unroll 16
        for (int c = 0; c < VL; c++)
            if (c < channels)
                V_STORE(y + c * plane + p, rows[c]);
    }
    for (; p < pixels; p++)
        for (ptrdiff_t c = 0; c < channels; c++)
            y[c * plane + p] = x[p * VL + c];
}

/* Vector k of three zipped planes. Its lane i comes from the first two planes by FC_OF_TWO, from these and the last one
 * by FC_OF_THREE. */
// clang-format off
#if VL == 4
#define FC_LANES(F, k) F(k, 0), F(k, 1), F(k, 2), F(k, 3)
#elif VL == 8
#define FC_LANES(F, k) F(k, 0), F(k, 1), F(k, 2), F(k, 3), F(k, 4), F(k, 5), F(k, 6), F(k, 7)
#else
#define FC_LANES(F, k) \
    F(k, 0), F(k, 1), F(k, 2), F(k, 3), F(k, 4), F(k, 5), F(k, 6), F(k, 7), \
    F(k, 8), F(k, 9), F(k, 10), F(k, 11), F(k, 12), F(k, 13), F(k, 14), F(k, 15)
#endif
// clang-format on
#define FC_OF_TWO(k, i) ((k * VL + i) % 3 * VL % (2 * VL) + (k * VL + i) / 3)
#define FC_OF_THREE(k, i) ((k * VL + i) % 3 < 2 ? i : VL + (k * VL + i) / 3)
#define FC_ZIPPED(k) V_SHUFFLE(V_SHUFFLE(first, second, FC_LANES(FC_OF_TWO, k)), last, FC_LANES(FC_OF_THREE, k))

/* Zips as many pixels of three planes as fill vectors. Returns their number. */
static ptrdiff_t FC_FN(zip_three)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t pixels)
{
    ptrdiff_t p = 0;
    for (; p + VL <= pixels; p += VL) {
        const v_f first = V_LOAD(x + p), second = V_LOAD(x + plane + p), last = V_LOAD(x + 2 * plane + p);
        V_STORE(y + 3 * p, FC_ZIPPED(0));
        V_STORE(y + 3 * p + VL, FC_ZIPPED(1));
        V_STORE(y + 3 * p + 2 * VL, FC_ZIPPED(2));
    }
    return p;
}

static void FC_FN(zip_planes)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t lanes, ptrdiff_t pixels)
{
    ptrdiff_t p = lanes == 3 ? FC_FN(zip_three)(x, plane, y, pixels) : 0; /* RGB */
    for (; p < pixels; p++)
        for (ptrdiff_t c = 0; c < lanes; c++)
            y[p * lanes + c] = x[c * plane + p];
}

static void FC_FN(copy_pixels)(const float *x, ptrdiff_t x_pixel, float *y, ptrdiff_t y_pixel, ptrdiff_t pixels)
{
    for (ptrdiff_t p = 0; p < pixels; p++)
        V_STORE(y + p * y_pixel, V_LOAD(x + p * x_pixel));
}
