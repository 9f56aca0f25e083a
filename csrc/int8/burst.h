/* burst.h: independent quads alone, for the peak that benchmarks compare with. */
enum { FC_BURST = MR > 6 ? 20 : 10 }; /* sums: more than latency x units, and fewer than registers */

static double FC_FN(burst)(ptrdiff_t n, int32_t *sink)
{
    char bytes[QUAD_BYTES];
    v_i sums[FC_BURST];
    memset(bytes, 1, sizeof bytes);
    const v_w weights = v_weights(bytes);
#pragma GCC unroll 20
    for (int i = 0; i < FC_BURST; i++)
        sums[i] = v_all_i(i);
    for (ptrdiff_t k = 0; k < n; k++) {
        v_x x = v_inputs((const uint8_t *)bytes);
#pragma GCC unroll 20
        for (int i = 0; i < FC_BURST; i++) {
            v_hide(&x);
            sums[i] = v_dot(sums[i], x, weights);
        }
    }
#pragma GCC unroll 20
    for (int i = 1; i < FC_BURST; i++)
        sums[0] += sums[i];
    *sink = sums[0][0];
    return 8.0 * VL * FC_BURST * (double)n;
}
