/* planes.h: quantisation between planes of floats and pixels of bytes, four channels at a time. An integer holds the
 * four bytes of a pixel, the first channel in the lowest: all machines that this is for store it first. */

/* Stores the bytes of n pixels. Those of fewer than four bytes overlap with the next one, which follows. */
FC_INLINE void store_quads(v_i quads, uint8_t *y, ptrdiff_t y_pixel, ptrdiff_t n)
{
    int32_t lanes[VL];
    memcpy(lanes, &quads, sizeof lanes);
    if (y_pixel == 4) {
        memcpy(y, lanes, (size_t)(n < VL ? n : VL) * 4);
        return;
    }
#ifdef V_STORES_PIXELS
    if (y_pixel == 3 && n >= VL) {
        v_store_threes(y, quads);
        return;
    }
#endif
    for (ptrdiff_t i = 0; i < n && i < VL; i++, y += y_pixel) {
        const ptrdiff_t left = (n - i) * y_pixel;
        memcpy(y, lanes + i, left < 4 ? (size_t)left : 4);
    }
}

static void FC_FN(quantize_planes)(const float *x, ptrdiff_t plane, uint8_t *y, ptrdiff_t y_pixel, ptrdiff_t channels,
                                   ptrdiff_t pixels, float scale, int zero)
{
    const FC_FN(bounds) of = bounds_around(zero);
    const v_f divisor = v_all_f(scale);
    for (ptrdiff_t p = 0; p < pixels; p += VL, x += VL, y += VL * y_pixel) {
        v_i quads = v_all_i(0);
        for (ptrdiff_t c = 0; c < channels; c++)
            quads |= bytes_of(load_floats(x + c * plane, pixels - p) / divisor, &of) << (int)(8 * c);
        store_quads(quads, y, y_pixel, pixels - p);
    }
}

static void FC_FN(dequantize_planes)(const uint8_t *x, ptrdiff_t x_pixel, float *y, ptrdiff_t plane, ptrdiff_t channels,
                                     ptrdiff_t pixels, float scale, int zero)
{
    const v_f factor = v_all_f(scale);
    const v_i shift = v_all_i(zero), byte = v_all_i(255);
    for (ptrdiff_t p = 0; p < pixels; p += VL, x += VL * x_pixel, y += VL) {
        const ptrdiff_t n = pixels - p < VL ? pixels - p : VL;
        int32_t lanes[VL] = {0};
        v_i quads;
        for (ptrdiff_t i = 0; i < n; i++)
            memcpy(lanes + i, x + i * x_pixel, 4);
        memcpy(&quads, lanes, sizeof quads);
        for (ptrdiff_t c = 0; c < channels; c++)
            store_floats(y + c * plane, v_float(((quads >> (int)(8 * c)) & byte) - shift) * factor, n);
    }
}
