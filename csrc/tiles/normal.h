/* normal.h: the error function, and GELU, which is x times the distribution of a normal variable (Hendrycks and Gimpel,
 * Gaussian error linear units, 2016).
 *
 *   P(-t) = exp(-t^2 / 2) * R(t) for t >= 0, the share of a normal variable below -t;  GELU(x) = max(x, 0) - |x|
 * P(-|x|)
 *
 * R is a rational function with a relative error of 6e-9 on 0 <= t <= FC_NORMAL_END. All its coefficients are positive,
 * so that no digits cancel. exp(-t^2 / 2) needs more digits of t^2 than a float has: a relative error of t^2 becomes
 * t^2 / 2 times as large. t is split in two, of which the first has 12 bits and an exact square. */
#define FC_NORMAL_END 14.6f    /* P(-t) rounds to zero there */
#define FC_GELU_TANH_END 11.0f /* the same for the sigmoid of `v_gelu_tanh` */

/* For t up to FC_NORMAL_END and factors -1/2 and -1, exp(factor * t^2) is the result times 2^n. */
FC_INLINE v_f v_gauss_parts(v_f t, float factor, v_f *n)
{
    const v_f high = (v_f)((v_i)t & ~0xfff), scale = V_SET1(factor);
    const v_f r = v_exp_rest(V_MAX(V_SET1(-110.0f), scale * high * high), n);
    return v_exp_polynomial(V_FMA(scale * (t - high), t + high, r));
}

/* R(t). */
FC_INLINE v_f v_normal_ratio(v_f t)
{
    v_f p = V_SET1(4.123812350224485e-3f), q = V_SET1(1.0336746575930119e-2f);
    p = V_FMA(p, t, V_SET1(4.068367424868552e-2f));
    q = V_FMA(q, t, V_SET1(1.0198522680292534e-1f));
    p = V_FMA(p, t, V_SET1(1.833846263956334e-1f));
    q = V_FMA(q, t, V_SET1(4.6986531543891463e-1f));
    p = V_FMA(p, t, V_SET1(4.3849647629710164e-1f));
    q = V_FMA(q, t, V_SET1(1.2031236578308153f));
    p = V_FMA(p, t, V_SET1(0.5f));
    q = V_FMA(q, t, V_SET1(1.67487793894562f));
    return p / V_FMA(q, t, V_SET1(1.0f));
}

/* The power of two comes last, so that subnormal results keep all their digits. held - held makes NaN of -infinity, as
 * zero times infinity is. */
FC_INLINE v_f v_gelu_by_ratio(v_f x)
{
    v_f n;
    const v_f t = V_MIN(V_SET1(FC_NORMAL_END), v_size(x)), held = V_MIN(V_SET1(FC_NORMAL_END), x);
    const v_f share = v_gauss_parts(t, -0.5f, &n) * v_normal_ratio(t) + (held - held);
    return V_MAX(V_SET1(0.0f), x) - v_scale(t * share, n);
}

#ifdef V_LOOKUP32
#include "normal_table.h"

/* Polynomials of segments take two thirds of the time of the ratio. Below -6 they would lose digits: there the ratio is
 * computed, for few values lie there. */
FC_INLINE v_f v_gelu(v_f x)
{
    const v_f t = V_MIN(V_SET1(6.0f), v_size(x)), magic = V_SET1(12582912.0f); /* adding it rounds to an integer */
    const v_f segment = V_FMA(t, V_SET1(4.0f), magic), u = V_FMA(segment - magic, V_SET1(-0.25f), t);
    v_f share = V_LOOKUP32(FC_FN(normal_table)[6], segment);
#pragma GCC unroll 6
    for (int k = 5; k >= 0; k--)
        share = V_FMA(share, u, V_LOOKUP32(FC_FN(normal_table)[k], segment));
    const v_f y = V_FMA(-t, share, V_MAX(V_SET1(0.0f), x)), end = V_SET1(-6.0f);
    return V_ANY_BELOW(x, end) ? v_select(x < end, v_gelu_by_ratio(x), y) : y;
}
#else
#define v_gelu(x) v_gelu_by_ratio(x)
#endif

/* 2 sqrt(2 / pi) (x + 0.044715 x^3) is x (FC_GELU_A + FC_GELU_B x^2). */
#define FC_GELU_A 1.5957691216f
#define FC_GELU_B 0.0713548162726f

/* x * sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), the form with tanh, in the way of `v_gelu`. */
FC_INLINE v_f v_gelu_tanh(v_f x)
{
    v_f n;
    const v_f t = V_MIN(V_SET1(FC_GELU_TANH_END), v_size(x)), held = V_MIN(V_SET1(FC_GELU_TANH_END), x);
    const v_f part = v_exp_parts(-t * V_FMA(t * t, V_SET1(FC_GELU_B), V_SET1(FC_GELU_A)), &n);
    const v_f below = v_scale(t * (part + (held - held)), n) / (V_SET1(1.0f) + v_scale(part, n));
    return V_MAX(V_SET1(0.0f), x) - below;
}

/* For |x| < 475/512 x + x P(x^2), else 1 - exp(|x| Q(|x|)) with the sign of x; beyond |x| = 4 it rounds to one. The
 * polynomials are those of erff by Norbert Juffa. */
FC_INLINE v_f v_erf(v_f x)
{
    const v_f size = v_size(x), t = V_MIN(V_SET1(4.0f), size), s = t * t;
    v_f q = V_FMA(V_SET1(-1.72853470e-5f), t, V_SET1(3.83197126e-4f));
    q = V_FMA(q, s, V_FMA(V_SET1(-3.88396438e-3f), t, V_SET1(2.42546219e-2f)));
    q = V_FMA(q, t, V_SET1(-1.06777877e-1f));
    q = V_FMA(q, t, V_SET1(-6.34846687e-1f));
    q = V_FMA(q, t, V_SET1(-1.28717512e-1f));
    v_f n;
    const v_f part = v_exp_parts(V_FMA(q, t, -t), &n);
    const v_f large = V_SET1(1.0f) - v_scale(part, n);
    v_f p = V_SET1(-5.96761703e-4f);
    p = V_FMA(p, s, V_SET1(4.99119423e-3f));
    p = V_FMA(p, s, V_SET1(-2.67681349e-2f));
    p = V_FMA(p, s, V_SET1(1.12819925e-1f));
    p = V_FMA(p, s, V_SET1(-3.76125336e-1f));
    p = V_FMA(p, s, V_SET1(1.28379166e-1f));
    const v_i sign = (v_i)x & (v_i)V_SET1(-0.0f);
    return v_select(size < V_SET1(0.927734375f), V_FMA(p, x, x), (v_f)((v_i)large | sign));
}

/* The derivative of GELU: P(x) + x exp(-x^2 / 2) / sqrt(2 pi). */
FC_INLINE v_f v_gelu_slope(v_f x)
{
    v_f n;
    const v_f t = V_MIN(V_SET1(FC_NORMAL_END), v_size(x));
    const v_f part = v_gauss_parts(t, -0.5f, &n), e = v_scale(part, n), below = e * v_normal_ratio(t);
    const v_f share = v_select(x < V_SET1(0.0f), below, V_SET1(1.0f) - below);
    return V_FMA(x, e * V_SET1(0.3989422804f), share);
}

/* The derivative of `v_gelu_tanh`: s + x s (1 - s) z', with s the sigmoid of z. x - x makes NaN of an infinite x. */
FC_INLINE v_f v_gelu_tanh_slope(v_f x)
{
    const v_f held = V_MAX(V_SET1(-FC_GELU_TANH_END), V_MIN(V_SET1(FC_GELU_TANH_END), x)), s = held * held;
    const v_f share = v_sigmoid(held * V_FMA(s, V_SET1(FC_GELU_B), V_SET1(FC_GELU_A)));
    const v_f slope = V_FMA(s, V_SET1(3.0f * FC_GELU_B), V_SET1(FC_GELU_A));
    return V_FMA(held * slope, share * (V_SET1(1.0f) - share), share) + (x - x);
}

/* The derivative of the error function: 2 / sqrt(pi) exp(-x^2). */
FC_INLINE v_f v_erf_slope(v_f x)
{
    v_f n;
    const v_f part = v_gauss_parts(V_MIN(V_SET1(FC_NORMAL_END), v_size(x)), -1.0f, &n);
    return v_scale(part * V_SET1(1.1283791671f), n);
}
