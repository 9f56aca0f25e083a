/* conv_grad.h: gradients of filters, as sums over pixels of inputs times gradients of outputs (fc_conv_grad).
 *
 * A tile holds the sums of P input channels x B blocks of output channels in registers over all images, rows and
 * pixels. Each pixel takes B loads, P broadcasts and P x B multiply-adds. 16 registers hold 4 x 3 or 6 x 2 sums, 32
 * hold 8 x 3. Each call sums from zero and adds the total to y: short sums lose less to rounding. */
#if MR == 6
#define FC_GRAD_LANES 4
#define FC_GRAD_PAIR_LANES 6
#else
#define FC_GRAD_LANES 8
#define FC_GRAD_PAIR_LANES 8
#endif

/* Pixels of a round: docs/tuning.md, "Lanes". A tile of one block of four channels has few sums for its loop. */
enum { FC_GRAD_PIXELS = LANE_PRODUCTS ? 4 : 1 };

FC_INLINE void conv_grad_tile(const fc_conv_grad *r, const float *x, const ptrdiff_t *to, const int P, const int B)
{
    v_f acc[8][3];
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 3
        for (int b = 0; b < B; b++)
            acc[p][b] = V_SET1(0.0f);
    for (ptrdiff_t image = 0; image < r->images; image++)
        for (ptrdiff_t row = 0; row < r->rows; row++) {
            const float *in = x + image * r->x_image + row * r->x_row;
            const float *g = r->g + image * r->g_image + row * r->g_row;
#pragma GCC unroll FC_GRAD_PIXELS
            for (ptrdiff_t i = 0; i < r->pixels; i++, in += r->x_pixel, g += VL) {
                v_f gradient[3];
#pragma GCC unroll 3
                for (int b = 0; b < B; b++)
                    gradient[b] = V_LOAD(g + b * r->g_block);
                const int of_lanes = LANE_PRODUCTS ? P / VL * VL : 0;
#pragma GCC unroll 8
                for (int p = 0; p < P; p++) {
                    const v_f v = p < of_lanes ? V_LOAD(in + p / VL * VL) : V_SET1(in[p]);
#pragma GCC unroll 3
                    for (int b = 0; b < B; b++)
                        acc[p][b] = p < of_lanes ? V_FMA_LANE(v, p % VL, gradient[b], acc[p][b])
                                                 : V_FMA(v, gradient[b], acc[p][b]);
                }
            }
        }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++)
#pragma GCC unroll 3
        for (int b = 0; b < B; b++) {
            float *y = r->y + to[p] + b * r->y_block;
            if (r->accumulate)
                acc[p][b] += V_LOAD(y);
            V_STORE(y, acc[p][b]);
        }
}

/* Channels are divided evenly, as pixels in conv_row.h: 9 become 5 + 4, not 4 + 4 + 1. A tile of one channel has a
 * single sum, and each multiply-add waits for the one before. Tiles of a single block take more channels, to have
 * enough sums. */
// clang-format off
#define FC_GRAD_TILE(P) case P: conv_grad_tile(r, r->x + i, r->to + i, P <= most ? P : 1, blocks); break;
#define FC_GRAD_TILES(F) FC_UP_TO_6(F) F(7) F(8)
// clang-format on

FC_INLINE void conv_grad_by(const fc_conv_grad *r, const int blocks, const int most)
{
    const ptrdiff_t tiles = (r->lanes + most - 1) / most;
    const ptrdiff_t part = quotient(r->lanes, tiles), larger = r->lanes - part * tiles;
    ptrdiff_t i = 0;
    for (ptrdiff_t t = 0; t < tiles; t++) {
        const ptrdiff_t lanes = part + (t < larger);
        switch (lanes) {
            FC_GRAD_TILES(FC_GRAD_TILE)
        }
        i += lanes;
    }
}

#define FC_GRAD_FAMILY(blocks, most)                                                                                   \
    static __attribute__((noinline)) void FC_FN(conv_grad_##blocks)(const fc_conv_grad *r)                             \
    {                                                                                                                  \
        conv_grad_by(r, blocks, most);                                                                                 \
    }

FC_GRAD_FAMILY(1, 8)
FC_GRAD_FAMILY(2, FC_GRAD_PAIR_LANES)
FC_GRAD_FAMILY(3, FC_GRAD_LANES)

static void FC_FN(conv_grad)(const fc_conv_grad *r)
{
    if (r->blocks == 3)
        FC_FN(conv_grad_3)(r);
    else if (r->blocks == 2)
        FC_FN(conv_grad_2)(r);
    else
        FC_FN(conv_grad_1)(r);
}

/* The gradient of kh x kw taps of depthwise filters, for one block of channels. A tile keeps the sums of all its taps
 * in registers. */
FC_INLINE void depthwise_grad_tile(const fc_depthwise_grad *r, const float *x, float *y, const int kh, const int kw)
{
    v_f acc[3][7];
#pragma GCC unroll 3
    for (int ky = 0; ky < kh; ky++)
#pragma GCC unroll 7
        for (int kx = 0; kx < kw; kx++)
            acc[ky][kx] = V_SET1(0.0f);
    for (ptrdiff_t row = 0; row < r->rows; row++) {
        const float *in = x + row * r->x_step, *g = r->g + row * r->g_row;
#pragma GCC unroll 1
        for (ptrdiff_t i = 0; i < r->pixels; i++, in += r->x_pixel, g += VL) {
            const v_f gradient = V_LOAD(g);
#pragma GCC unroll 3
            for (int ky = 0; ky < kh; ky++)
#pragma GCC unroll 7
                for (int kx = 0; kx < kw; kx++)
                    acc[ky][kx] = V_FMA(V_LOAD(in + ky * r->x_row + kx * r->x_col), gradient, acc[ky][kx]);
        }
    }
#pragma GCC unroll 3
    for (int ky = 0; ky < kh; ky++)
#pragma GCC unroll 7
        for (int kx = 0; kx < kw; kx++)
            V_STORE(y + (ky * kw + kx) * VL, V_LOAD(y + (ky * kw + kx) * VL) + acc[ky][kx]);
}

static void FC_FN(depthwise_grad)(const fc_depthwise_grad *r)
{
    if (r->kh == 3 && r->kw == 3) {
        depthwise_grad_tile(r, r->x, r->y, 3, 3);
        return;
    }
    for (ptrdiff_t ky = 0; ky < r->kh; ky++) {
        const float *x = r->x + ky * r->x_row;
        float *y = r->y + ky * r->kw * VL;
        ptrdiff_t kx = 0; /* several sums at a time hide the latency of a multiply-add */
        for (; kx + 7 <= r->kw; kx += 7)
            depthwise_grad_tile(r, x + kx * r->x_col, y + kx * VL, 1, 7);
        for (; kx + 5 <= r->kw; kx += 5)
            depthwise_grad_tile(r, x + kx * r->x_col, y + kx * VL, 1, 5);
        for (; kx + 2 <= r->kw; kx += 2)
            depthwise_grad_tile(r, x + kx * r->x_col, y + kx * VL, 1, 2);
        for (; kx < r->kw; kx++)
            depthwise_grad_tile(r, x + kx * r->x_col, y + kx * VL, 1, 1);
    }
}
