/* bf16_avx512.c: convolution in bfloat16 by AVX512_BF16, which multiplies and adds 32 pairs of numbers at a time. */
#include "../bf16.h"
#if defined(__x86_64__)
#include "../compiler.h"
#include <immintrin.h>
#include <string.h>
#if defined(__clang__) /* takes vectors of 512 bits as they are */
FC_TARGET("avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma")
#else
FC_TARGET("avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,prefer-vector-width=512")
#endif

#define MOST_PIXELS 14 /* sums of two blocks, which leave room for the weights and one pair */
enum { VL = 16, PAIRS = VL / 2, MOST_BLOCKS = 2 };

/* The pair at p, in all lanes. */
FC_INLINE __m512bh pair_at(const uint16_t *p)
{
    int pair;
    memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

/* Adds a pair of inputs to P x B sums. */
FC_INLINE void add_pair(__m512 sums[][MOST_BLOCKS], const uint16_t *x, ptrdiff_t x_pixel, const uint16_t *w,
                        const int P, const int B)
{
    __m512bh weights[MOST_BLOCKS];
#pragma GCC unroll 2
    for (int b = 0; b < B; b++)
        weights[b] = (__m512bh)_mm512_loadu_si512(w + b * 2 * VL);
#pragma GCC unroll 14
    for (int p = 0; p < P; p++) {
        const __m512bh in = pair_at(x + p * x_pixel);
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            sums[p][b] = _mm512_dpbf16_ps(sums[p][b], in, weights[b]);
    }
}

FC_INLINE void add_taps(__m512 sums[][MOST_BLOCKS], const fc_bf16_conv *r, const uint16_t *x, const int P, const int B)
{
    const ptrdiff_t *tap = r->taps, *full = tap + r->full_taps, *end = full + r->partial_taps;
    const uint16_t *w = r->w;
    for (; tap < end; tap++) {
        const uint16_t *in = x + *tap, *last = in + 2 * (tap < full ? PAIRS : r->partial_pairs);
#pragma GCC unroll 1
        for (; in < last; in += 2, w += B * 2 * VL)
            add_pair(sums, in, r->x_pixel, w, P, B);
    }
}

FC_INLINE void conv_tile(const fc_bf16_conv *r, const uint16_t *x, const float *residual, float *y, const int P,
                         const int B)
{
    __m512 sums[MOST_PIXELS][MOST_BLOCKS];
    const __m512 low = _mm512_set1_ps(r->low), high = _mm512_set1_ps(r->high);
#pragma GCC unroll 14
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            sums[p][b] = _mm512_loadu_ps(r->bias + b * VL);
    add_taps(sums, r, x, P, B);
#pragma GCC unroll 14
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
        for (int b = 0; b < B; b++) {
            __m512 sum = sums[p][b];
            if (residual)
                sum = _mm512_add_ps(sum, _mm512_loadu_ps(residual + p * r->y_pixel + b * r->residual_block));
            /* The second operand comes through where the first is NaN. */
            _mm512_storeu_ps(y + p * r->y_pixel + b * r->y_block, _mm512_min_ps(high, _mm512_max_ps(low, sum)));
        }
}

#define TILE(P)                                                                                                        \
    case P: conv_tile(r, x, residual, y, P, B); break;

FC_INLINE void conv_row(const fc_bf16_conv *r, const int B)
{
    const ptrdiff_t tiles = (r->pixels + MOST_PIXELS - 1) / MOST_PIXELS, each = r->pixels / tiles;
    ptrdiff_t longer = r->pixels - each * tiles; /* tiles with one pixel more */
    const uint16_t *x = r->x;
    const float *residual = r->residual;
    float *y = r->y;
    for (ptrdiff_t i = 0; i < tiles; i++, longer--) {
        const ptrdiff_t pixels = each + (longer > 0);
        switch (pixels) {
            TILE(1)
            TILE(2)
            TILE(3)
            TILE(4)
            TILE(5)
            TILE(6)
            TILE(7)
            TILE(8)
            TILE(9)
            TILE(10)
            TILE(11)
            TILE(12)
            TILE(13)
            TILE(14)
        }
        x += pixels * r->x_pixel;
        y += pixels * r->y_pixel;
        residual += residual ? pixels * r->y_pixel : 0;
    }
}

FC_OUTLINE void fc_bf16_pair_avx512(const fc_bf16_conv *r)
{
    conv_row(r, 2);
}

FC_OUTLINE void fc_bf16_single_avx512(const fc_bf16_conv *r)
{
    conv_row(r, 1);
}

static void fc_bf16_conv_avx512(const fc_bf16_conv *r)
{
    if (r->pixels <= 0)
        return;
    if (r->blocks == 2)
        fc_bf16_pair_avx512(r);
    else
        fc_bf16_single_avx512(r);
}

static void fc_bf16_round_avx512(const float *x, ptrdiff_t x_pixel, uint16_t *y, ptrdiff_t pixels)
{
    for (ptrdiff_t p = 0; p < pixels; p++)
        _mm256_storeu_si256((__m256i *)(y + p * VL), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + p * x_pixel)));
}

static fc_bf16_kernels table = {
    .name = "avx512bf16",
    .vl = VL,
    .conv = fc_bf16_conv_avx512,
    .round_pixels = fc_bf16_round_avx512,
};
FC_END_TARGET

const fc_bf16_kernels *fc_bf16(int vl)
{
    __builtin_cpu_init();
    table.available = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw");
    return table.available && vl == table.vl ? &table : NULL;
}
#else
const fc_bf16_kernels *fc_bf16(int vl)
{
    (void)vl;
    return NULL;
}
#endif
