/* neon.c: the vector vocabulary in AArch64's Advanced SIMD: vectors of four floats, of which 32 registers hold as many.
 *
 * Multiply-adds take one operand from a lane of a vector. A tile therefore loads four channels of a pixel at once,
 * where a broadcast would load each of them alone. All tiles have 24 sums: 12 x 2, 8 x 3 and 6 x 4 pixels and blocks.
 */
#if defined(__aarch64__)
#include "../compiler.h"
#include <arm_neon.h>

#define FC_ISA neon
#define VL 4
#define MR 12
#define MR_STRIDED 12
#define WIDE_BLOCKS 4
#define HALF_BLOCKS 0
#define WINOGRAD_PATCHES 4
#define UNROLL_TAPS 1
#define STEPS_A_ROUND 1
#define BURST_CHAINS 24 /* cores have four units with a latency of four */

typedef float v_f __attribute__((vector_size(16)));
typedef int v_i __attribute__((vector_size(16)));

#define V_LOAD(p) ((v_f)vld1q_f32(p))
#define V_STORE(p, v) vst1q_f32((p), (float32x4_t)(v))
#define V_SET1(s) ((v_f)vdupq_n_f32(s))
#define V_SET2(p) ((v_f)vdupq_n_s64(v_two_floats(p)))
#define V_FMA(a, b, c) ((v_f)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define V_MAX(a, b) v_select((v_i)((a) > (b)), (a), (b))
#define V_MIN(a, b) v_select((v_i)((a) < (b)), (a), (b))
#define V_UNORDERED(a, b) ((v_i)((a) != (a)) | (v_i)((b) != (b)))
#define V_SQRT(a) ((v_f)vsqrtq_f32((float32x4_t)(a)))
#define V_ZIP_LOW(a, b) V_SHUFFLE((a), (b), 0, 4, 1, 5)
#define V_ZIP_HIGH(a, b) V_SHUFFLE((a), (b), 2, 6, 3, 7)
#define V_EVEN(a, b) V_SHUFFLE((a), (b), 0, 2, 4, 6)
#define V_ODD(a, b) V_SHUFFLE((a), (b), 1, 3, 5, 7)

/* A float of memory in lane 0. For a broadcast, the compiler takes ld1r, which knows no offset: another instruction
 * then computes its address. */
static inline __attribute__((always_inline)) v_f v_load_lane(const float *p)
{
    v_f v;
    __asm__("ldr %s0, %1" : "=w"(v) : "m"(*p));
    return v;
}

/* c + a times a lane of x. Instructions hold the number of the lane. As in avx2.c, assembly keeps the sums in their
 * registers: intrinsics make the compiler move them. */
static inline __attribute__((always_inline)) v_f v_fma_lane(v_f x, const int lane, v_f a, v_f c)
{
    switch (lane) {
    case 0: __asm__("fmla %0.4s, %1.4s, %2.s[0]" : "+w"(c) : "w"(a), "w"(x)); break;
    case 1: __asm__("fmla %0.4s, %1.4s, %2.s[1]" : "+w"(c) : "w"(a), "w"(x)); break;
    case 2: __asm__("fmla %0.4s, %1.4s, %2.s[2]" : "+w"(c) : "w"(a), "w"(x)); break;
    default: __asm__("fmla %0.4s, %1.4s, %2.s[3]" : "+w"(c) : "w"(a), "w"(x));
    }
    return c;
}

#define V_ADD_PRODUCT_OF(sum, a, b) __asm__("fmla %0.4s, %1.4s, %2.4s" : "+w"(sum) : "w"(a), "w"(b))
#define V_FMA_LANE(x, lane, a, c) v_fma_lane((x), (lane), (a), (c))
#define V_FMA1(s, a, c) V_FMA_LANE(v_load_lane(&(s)), 0, (a), (c))
#define V_ADD_PRODUCT(sum, s, a) ((sum) = V_FMA1(s, (a), (sum)))
#define V_ADD_PRODUCTS(sum, sum2, s, a, b)                                                                             \
    do {                                                                                                               \
        const v_f one = v_load_lane(&(s));                                                                             \
        (sum) = V_FMA_LANE(one, 0, (a), (sum)), (sum2) = V_FMA_LANE(one, 0, (b), (sum2));                              \
    } while (0)
#define V_ADD_3_PRODUCTS(sum, sum2, sum3, s, a, b, c)                                                                  \
    do {                                                                                                               \
        const v_f one = v_load_lane(&(s));                                                                             \
        (sum) = V_FMA_LANE(one, 0, (a), (sum)), (sum2) = V_FMA_LANE(one, 0, (b), (sum2));                              \
        (sum3) = V_FMA_LANE(one, 0, (c), (sum3));                                                                      \
    } while (0)
#define V_ADD_3_PRODUCTS_OF(sum, sum2, sum3, p, a, b, c)                                                               \
    do {                                                                                                               \
        const v_f all = V_LOAD(p);                                                                                     \
        (sum) = V_FMA(all, (a), (sum)), (sum2) = V_FMA(all, (b), (sum2)), (sum3) = V_FMA(all, (c), (sum3));            \
    } while (0)

#include "../tiles/all.h"
#else
typedef int fc_neon_is_for_aarch64;
#endif
