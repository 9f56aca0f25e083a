/* convolution.h: tiles of convolutions (see fc_int8_conv for the sum).
 *
 * A tile holds P x B sums in registers, of P pixels and B blocks of outputs, until all quads are added. Rows are
 * divided evenly into tiles of at most MR pixels. The loop over quads is not unrolled: the compiler would load the
 * operands of several at once, and spill sums (docs/tuning.md, "Tiles of bytes"). */
enum { FC_QUADS = VL / 4, FC_CHAINS = 8 }; /* independent sums that hide the latency of v_dot */

/* The input of pixel p. Five pointers and two distances serve all pixels of a tile. */
typedef struct {
    const uint8_t *at[5];
    ptrdiff_t pixel;
} FC_FN(inputs);

FC_INLINE FC_FN(inputs) inputs_at(const uint8_t *in, ptrdiff_t x_pixel)
{
    return (FC_FN(inputs)){{in, in + 3 * x_pixel, in + 6 * x_pixel, in + 9 * x_pixel, in + 12 * x_pixel}, x_pixel};
}

/* Adds quad number q of a tap to P x B sums. */
FC_INLINE void add_quad(v_i sums[][FC_MOST_BLOCKS], const FC_FN(inputs) *in, const char *w, const ptrdiff_t q,
                        const int P, const int B)
{
    v_w weights[FC_MOST_BLOCKS];
#pragma GCC unroll 2
    for (int b = 0; b < B; b++)
        weights[b] = v_weights(w + (q * B + b) * QUAD_BYTES);
#pragma GCC unroll 14
    for (int p = 0; p < P; p++) {
        const v_x x = v_inputs(in->at[p / 3] + p % 3 * in->pixel + 4 * q);
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            sums[p][b] = v_dot(sums[p][b], x, weights[b]);
    }
}

/* Computes a tile. Tiles of few sums have several copies of them, for quads in turn: a sum waits for the one before. */
FC_INLINE void conv_tile(const fc_int8_conv *r, const uint8_t *x, const FC_FN(outputs) *o, const char *ahead,
                         const int P, const int B)
{
    const int copies = P * B * 2 > FC_CHAINS || FC_QUADS == 1 ? 1 : P * B * 4 > FC_CHAINS || FC_QUADS == 2 ? 2 : 4;
    const ptrdiff_t *tap = r->taps, *full = tap + r->full_taps, *end = full + r->partial_taps;
    const char *w = r->w;
    v_i sums[4][MR][FC_MOST_BLOCKS];
#pragma GCC unroll 4
    for (int c = 0; c < copies; c++)
#pragma GCC unroll 14
        for (int p = 0; p < P; p++)
#pragma GCC unroll 2
            for (int b = 0; b < B; b++)
                sums[c][p][b] = c ? v_all_i(0) : v_load_i(r->bias + b * VL);
    for (; tap < full; tap++) {
        const FC_FN(inputs) in = inputs_at(x + *tap, r->x_pixel);
        for (const char *line = ahead; line < ahead + r->ahead_bytes; line += 64)
            __builtin_prefetch(line, 0, 2);
        ahead += r->ahead_bytes;
        if (copies == 1) {
#pragma GCC unroll 1
            for (ptrdiff_t q = 0; q < FC_QUADS; q++)
                add_quad(sums[0], &in, w, q, P, B);
        } else
#pragma GCC unroll 4
            for (int q = 0; q < FC_QUADS; q++)
                add_quad(sums[q % copies], &in, w, q, P, B);
        w += FC_QUADS * B * QUAD_BYTES;
    }
    for (; tap < end; tap++) {
        const FC_FN(inputs) in = inputs_at(x + *tap, r->x_pixel);
        for (ptrdiff_t q = 0; q < r->partial_quads; q++)
            add_quad(sums[0], &in, w, q, P, B);
        w += r->partial_quads * B * QUAD_BYTES;
    }
#pragma GCC unroll 4
    for (int c = 1; c < copies; c++)
#pragma GCC unroll 14
        for (int p = 0; p < P; p++)
#pragma GCC unroll 2
            for (int b = 0; b < B; b++)
                sums[0][p][b] += sums[c][p][b];
    finish_tile(o, sums[0], P, B);
}

#define FC_TILE(pixels)                                                                                                \
    case pixels: conv_tile(r, x, &o, ahead, pixels, B); break;

FC_INLINE void conv_row(const fc_int8_conv *r, const int B)
{
    const ptrdiff_t tiles = (r->pixels + MR - 1) / MR, each = r->pixels / tiles, size = r->finish.floats ? 4 : 1;
    ptrdiff_t longer = r->pixels - each * tiles; /* tiles with one pixel more */
    const uint8_t *x = r->x;
    const char *ahead = r->ahead;
    FC_FN(outputs) o = {&r->finish, r->scale,   r->residual,       r->y,
                        r->y_pixel, r->y_block, r->residual_pixel, r->residual_block};
    for (ptrdiff_t i = 0; i < tiles; i++, longer--, ahead += r->full_taps * r->ahead_bytes) {
        const ptrdiff_t pixels = each + (longer > 0);
        switch (pixels) {
            FC_TILE(1)
            FC_TILE(2)
            FC_TILE(3)
            FC_TILE(4)
#if MR > 4
            FC_TILE(5)
            FC_TILE(6)
#endif
#if MR > 6
            FC_TILE(7)
            FC_TILE(8)
#endif
#if MR > 8
            FC_TILE(9)
            FC_TILE(10)
            FC_TILE(11)
            FC_TILE(12)
#endif
#if MR > 12
            FC_TILE(13)
            FC_TILE(14)
#endif
        }
        x += pixels * r->x_pixel;
        o.y = (char *)o.y + pixels * r->y_pixel * size;
        o.residual += o.residual ? pixels * r->residual_pixel : 0;
    }
}

FC_OUTLINE void FC_FN(conv_pair)(const fc_int8_conv *r)
{
    conv_row(r, 2);
}

FC_OUTLINE void FC_FN(conv_single)(const fc_int8_conv *r)
{
    conv_row(r, 1);
}

static void FC_FN(conv)(const fc_int8_conv *r)
{
    if (r->pixels <= 0)
        return;
    if (r->blocks == 2)
        FC_FN(conv_pair)(r);
    else
        FC_FN(conv_single)(r);
}

static void FC_FN(pack)(const int8_t *w, void *packed, ptrdiff_t quads)
{
    for (ptrdiff_t q = 0; q < quads; q++)
        v_pack(w + q * 4 * VL, (char *)packed + q * QUAD_BYTES);
}
