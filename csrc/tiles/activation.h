/* activation.h: the elementwise functions of fc_activation, one vector at a time.
 *
 * exp(x) = 2^n * exp(r), where n = round(x / ln 2) and r = x - n ln 2. ln 2 is split in two so that the product with n
 * is exact (Cody and Waite, Software Manual for the Elementary Functions, 1980). exp(r) is the Taylor polynomial of
 * degree 7. On |r| <= ln(2) / 2 its remainder r^8 / 8! is below 6e-9. */

/* x * 2^n for integers n from -159 to 128, rounded once. The power is two factors, because n reaches beyond the exponents
 * of normal numbers. A NaN converts to some integer; x is NaN already. */
#ifdef V_SCALE
#define v_scale(x, n) V_SCALE((x), (n))
#else
FC_INLINE v_f v_scale(v_f x, v_f n)
{
    const v_i whole = __builtin_convertvector(v_select(n == n, n, V_SET1(0.0f)), v_i);
    const v_i half = whole >> 1;
    return x * (v_f)((half + 127) << 23) * (v_f)((whole - half + 127) << 23);
}
#endif

/* n and r of x, for x from -110 to 88.8. */
FC_INLINE v_f v_exp_rest(v_f x, v_f *n)
{
    const v_f magic = V_SET1(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    *n = V_FMA(x, V_SET1(1.44269504f), magic) - magic;
    return V_FMA(*n, V_SET1(2.12194440e-4f), V_FMA(*n, V_SET1(-0.693359375f), x));
}

FC_INLINE v_f v_exp_polynomial(v_f r)
{
    v_f p = V_SET1(1.98412698e-4f);
    p = V_FMA(p, r, V_SET1(1.38888889e-3f));
    p = V_FMA(p, r, V_SET1(8.33333333e-3f));
    p = V_FMA(p, r, V_SET1(4.16666667e-2f));
    p = V_FMA(p, r, V_SET1(1.66666667e-1f));
    p = V_FMA(p, r, V_SET1(0.5f));
    p = V_FMA(p, r, V_SET1(1.0f));
    return V_FMA(p, r, V_SET1(1.0f));
}

/* For x <= 88.8, exp(x) is the result times 2^n. Where that is subnormal, the result still has all its digits. */
FC_INLINE v_f v_exp_parts(v_f x, v_f *n)
{
    return v_exp_polynomial(v_exp_rest(V_MAX(V_SET1(-110.0f), x), n)); /* keeps NaN */
}

FC_INLINE v_f v_exp(v_f x)
{
    v_f n;
    const v_f part = v_exp_parts(V_MIN(V_SET1(88.8f), x), &n);
    return v_select(x > V_SET1(88.72284f), V_SET1(INFINITY), v_scale(part, n));
}

/* -|x|. */
FC_INLINE v_f v_minus_size(v_f x)
{
    return (v_f)((v_i)x | (v_i)V_SET1(-0.0f));
}

FC_INLINE v_f v_size(v_f x)
{
    return (v_f)((v_i)x & ~(v_i)V_SET1(-0.0f));
}

/* 1 / (1 + exp(-x)), for negative x exp(x) / (1 + exp(x)): there exp(-x) overflows before the result is zero. */
FC_INLINE v_f v_sigmoid(v_f x)
{
    v_f n;
    const v_f part = v_exp_parts(v_minus_size(x), &n);
    const v_f e = v_scale(part, n);
    return v_select(x < V_SET1(0.0f), e, V_SET1(1.0f)) / (V_SET1(1.0f) + e);
}

/* For |x| < 0.625 x + x^3 P(x^2), with the polynomial P of the Cephes library's tanhf. Else 1 - 2 / (exp(2|x|) + 1),
 * with the sign of x. */
FC_INLINE v_f v_tanh(v_f x)
{
    const v_i sign = (v_i)x & (v_i)V_SET1(-0.0f);
    const v_f size = (v_f)((v_i)x ^ sign);
    const v_f s = x * x;
    v_f p = V_SET1(-5.70498872745e-3f);
    p = V_FMA(p, s, V_SET1(2.06390887954e-2f));
    p = V_FMA(p, s, V_SET1(-5.37397155531e-2f));
    p = V_FMA(p, s, V_SET1(1.33314422036e-1f));
    p = V_FMA(p, s, V_SET1(-3.33332819422e-1f));
    const v_f small = V_FMA(p * s, x, x);
    const v_f large = V_SET1(1.0f) - V_SET1(2.0f) / (v_exp(size + size) + V_SET1(1.0f));
    return v_select(size < V_SET1(0.625f), small, (v_f)((v_i)large | sign));
}

/* x * clip(x + 3, 0, 6) / 6: HardSwish of ONNX, in a form that loses no digits near -3. */
FC_INLINE v_f v_hard_swish(v_f x)
{
    const v_f gate = V_MIN(V_SET1(6.0f), V_MAX(V_SET1(0.0f), x + V_SET1(3.0f)));
    return x * (gate * V_SET1(1.0f / 6.0f));
}

/* x * sigmoid(x). For negative x the power of two comes last, so that subnormal results keep all their digits. Results
 * below x = -110 are zero. x - x makes NaN of an infinite x, as zero times infinity is. */
FC_INLINE v_f v_silu(v_f x)
{
    v_f n;
    const v_f part = v_exp_parts(v_minus_size(x), &n);
    const v_f below = v_scale(V_MAX(V_SET1(-110.0f), x) * (part + (x - x)), n);
    return v_select(x < V_SET1(0.0f), below, x) / (V_SET1(1.0f) + v_scale(part, n));
}

#include "normal.h"

/* Bounds are the first operands: V_MAX and V_MIN return their second operand where one is NaN, and NaN passes. */
FC_INLINE v_f v_clip(v_f x, v_f low, v_f high)
{
    return V_MIN(high, V_MAX(low, x));
}

FC_INLINE v_f v_leaky_relu(v_f x, v_f alpha)
{
    return v_select(x > V_SET1(0.0f), x, x * alpha);
}

FC_INLINE v_f v_activate(const fc_activation *act, v_f x)
{
    switch (act->kind) {
    case FC_LEAKY_RELU: return v_leaky_relu(x, V_SET1(act->alpha));
    case FC_TANH: return v_tanh(x);
    case FC_SIGMOID: return v_sigmoid(x);
    case FC_HARD_SWISH: return v_hard_swish(x);
    case FC_SILU: return v_silu(x);
    case FC_GELU: return v_gelu(x);
    case FC_GELU_TANH: return v_gelu_tanh(x);
    case FC_ERF: return v_erf(x);
    case FC_EXP: return v_exp(x);
    case FC_SQRT: return v_sqrt(x);
    case FC_ABS: return v_size(x);
    case FC_NEGATIVE: return -x;
    case FC_RECIPROCAL: return V_SET1(1.0f) / x;
    default: return v_clip(x, V_SET1(act->low), V_SET1(act->high));
    }
}

/* Activates pixels that a tile has just stored, in place. The function is not inlined, to keep the tiles small. */
FC_OUTLINE void FC_FN(activate_pixels)(const fc_activation *act, float *y, ptrdiff_t y_pixel, ptrdiff_t pixels)
{
    for (ptrdiff_t p = 0; p < pixels; p++)
        V_STORE(y + p * y_pixel, v_activate(act, V_LOAD(y + p * y_pixel)));
}
