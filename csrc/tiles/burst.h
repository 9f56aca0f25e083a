/* burst.h: independent multiply-adds alone, for the arithmetic peak that benchmarks compare with.
 *
 * A sum is its own factor: instructions that overwrite the addend, and those that overwrite a factor, need no copy. */
#ifndef BURST_CHAINS
#define BURST_CHAINS 12 /* more than latency x units of cores with 16 registers, which hold them */
#endif

static double FC_FN(multiply_add_burst)(ptrdiff_t n, float *sink)
{
    v_f acc[BURST_CHAINS];
    const v_f tiny = V_SET1(1e-7f); /* sums of any length stay numbers of usual size */
#pragma GCC unroll 24
    for (int i = 0; i < BURST_CHAINS; i++)
        acc[i] = V_SET1((float)(i + 1)); /* no zero, whose sum would be known */
    for (ptrdiff_t k = 0; k < n; k++)
#pragma GCC unroll 24
        for (int i = 0; i < BURST_CHAINS; i++)
            acc[i] = V_FMA(acc[i], tiny, acc[i]);
    v_f total = acc[0];
#pragma GCC unroll 24
    for (int i = 1; i < BURST_CHAINS; i++)
        total += acc[i];
    *sink = v_sum(total); /* the result is used, so that the loop is not removed */
    return 2.0 * VL * BURST_CHAINS * (double)n;
}
