/* vector.h: what all tiles share: selection, partial vectors, square roots, horizontal sums. */

/* Adds a float's, or a vector's, products with a, b and c. */
#ifndef V_ADD_PRODUCT
#define V_ADD_PRODUCT(sum, s, a) ((sum) = V_FMA(V_SET1(s), (a), (sum)))
#define V_ADD_PRODUCTS(sum, sum2, s, a, b) (V_ADD_PRODUCT(sum, s, a), V_ADD_PRODUCT(sum2, s, b))
#define V_ADD_3_PRODUCTS(sum, sum2, sum3, s, a, b, c) ADD_3_PRODUCTS(V_SET1(s), sum, sum2, sum3, a, b, c)
#define V_ADD_3_PRODUCTS_OF(sum, sum2, sum3, p, a, b, c) ADD_3_PRODUCTS(V_LOAD(p), sum, sum2, sum3, a, b, c)
#define ADD_3_PRODUCTS(v, sum, sum2, sum3, a, b, c)                                                                    \
    ((sum) = V_FMA((v), (a), (sum)), (sum2) = V_FMA((v), (b), (sum2)), (sum3) = V_FMA((v), (c), (sum3)))
#endif

/* Adds a product of vectors. */
#ifndef V_ADD_PRODUCT_OF
#define V_ADD_PRODUCT_OF(sum, a, b) ((sum) = V_FMA((a), (b), (sum)))
#endif

#ifdef V_FMA_LANE
#define LANE_PRODUCTS 1
#else
#define LANE_PRODUCTS 0
#define V_FMA_LANE(x, lane, a, c) V_FMA(V_SET1((x)[lane]), (a), (c))
#define V_FMA1(s, a, c) V_FMA(V_SET1(s), (a), (c))
#endif

/* Where general registers are many, the distance of each pixel occupies one: loads then compute no address. */
#define HELD_PIXELS LANE_PRODUCTS

/* The distances of P pixels from the first, in bytes. */
FC_INLINE void hold_pixels(ptrdiff_t *distance, const int P, ptrdiff_t pixel)
{
#pragma GCC unroll 28
    for (int p = 0; p < P; p++) {
        distance[p] = p * pixel * (ptrdiff_t)sizeof(float);
        __asm__("" : "+r"(distance[p])); /* else the compiler computes it anew for each load */
    }
}

FC_INLINE const float *at_distance(const float *x, ptrdiff_t bytes)
{
    return (const float *)((const char *)x + bytes);
}

/* Two floats as one integer: V_SET2 broadcasts it. */
FC_INLINE long long v_two_floats(const float *p)
{
    long long both;
    memcpy(&both, p, sizeof both);
    return both;
}

/* mask ? a : b, lane by lane; masks are all ones or all zeros. */
FC_INLINE v_f v_select(v_i mask, v_f a, v_f b)
{
    return (v_f)((mask & (v_i)a) | (~mask & (v_i)b));
}

/* a / b of numbers that are not negative. A division of 64 bits is slower than one of 32, which counts in short rows:
 * docs/tuning.md, "Short rows". */
FC_INLINE ptrdiff_t quotient(ptrdiff_t a, ptrdiff_t b)
{
    return (a | b) >> 32 ? a / b : (ptrdiff_t)((uint32_t)a / (uint32_t)b);
}

/* n < VL floats; the other lanes are zero. */
FC_INLINE v_f v_load_part(const float *p, ptrdiff_t n)
{
    float lanes[VL] = {0};
    memcpy(lanes, p, (size_t)n * sizeof(float));
    return V_LOAD(lanes);
}

FC_INLINE void v_store_part(float *p, v_f v, ptrdiff_t n)
{
    float lanes[VL];
    V_STORE(lanes, v);
    memcpy(p, lanes, (size_t)n * sizeof(float));
}

/* The larger of a and b, or NaN where either is NaN, as in NumPy's maximum. V_MAX returns b where one is NaN. Where a
 * is NaN, the mask sets all bits, which is a NaN too. */
FC_INLINE v_f v_max_nan(v_f a, v_f b)
{
    return (v_f)((v_i)V_MAX(a, b) | (v_i)(a != a));
}

/* The largest of three, or NaN where one is NaN. V_MAX keeps the NaN of c. */
FC_INLINE v_f v_max3_nan(v_f a, v_f b, v_f c)
{
    return (v_f)((v_i)V_MAX(V_MAX(a, b), c) | V_UNORDERED(a, b));
}

/* The sum of all lanes, in each lane. Halves are added in the order of a binary tree, so that the sum is the same on
 * every machine of one VL. */
FC_INLINE v_f v_sums(v_f v)
{
    for (int width = 1; width < VL; width *= 2)
        v = V_ZIP_LOW(v, v) + V_ZIP_HIGH(v, v);
    return v;
}

FC_INLINE float v_sum(v_f v)
{
    return v_sums(v)[0];
}

/* Lane i of the result is the sum of all lanes of v[i], in the order of v_sum. v is overwritten. */
FC_INLINE v_f v_sums_of(v_f v[VL])
{
#pragma GCC unroll 4
    for (int width = VL / 2; width > 0; width /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < width; i++)
            v[i] = V_ZIP_LOW(v[i], v[i + width]) + V_ZIP_HIGH(v[i], v[i + width]);
    return v[0];
}

/* The largest lane, or NaN where one is NaN. */
FC_INLINE v_f v_largest(v_f v)
{
    for (int width = 1; width < VL; width *= 2)
        v = v_max_nan(V_ZIP_LOW(v, v), V_ZIP_HIGH(v, v));
    return v;
}

/* All ones in the first n lanes. */
FC_INLINE v_i v_first_lanes(ptrdiff_t n)
{
    int lanes[VL];
    v_i mask;
    for (int i = 0; i < VL; i++)
        lanes[i] = i < n ? -1 : 0;
    memcpy(&mask, lanes, sizeof mask);
    return mask;
}

#ifdef V_SQRT
#define v_sqrt(x) V_SQRT(x)
#else
FC_INLINE v_f v_sqrt(v_f x)
{
    float lanes[VL];
    V_STORE(lanes, x);
    for (int i = 0; i < VL; i++)
        lanes[i] = sqrtf(lanes[i]);
    return V_LOAD(lanes);
}
#endif

/* Adds each lane to its double. */
FC_INLINE void add_lanes(double *sums, v_f v)
{
    float lanes[VL];
    V_STORE(lanes, v);
    for (int i = 0; i < VL; i++)
        sums[i] += (double)lanes[i];
}
