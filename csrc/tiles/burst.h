/* burst.h: independent multiply-adds alone, for the arithmetic peak that benchmarks compare with. */
#define FC_BURST_CHAINS 12 /* more than latency x units of current cores; they fit 16 registers */

static double FC_FN(multiply_add_burst)(ptrdiff_t n, float *sink)
{
    v_f acc[FC_BURST_CHAINS];
    const v_f a = V_SET1(0.999f), b = V_SET1(0.001f);
#pragma GCC unroll 12
    for (int i = 0; i < FC_BURST_CHAINS; i++)
        acc[i] = V_SET1((float)i);
    for (ptrdiff_t k = 0; k < n; k++)
#pragma GCC unroll 12
        for (int i = 0; i < FC_BURST_CHAINS; i++)
            acc[i] = V_FMA(acc[i], a, b);
    v_f total = acc[0];
#pragma GCC unroll 12
    for (int i = 1; i < FC_BURST_CHAINS; i++)
        total += acc[i];
    *sink = v_sum(total); /* the result is used, so that the loop is not removed */
    return 2.0 * VL * FC_BURST_CHAINS * (double)n;
}
