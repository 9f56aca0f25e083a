/* matvec.h: fully connected layers for one input, which wait for weights from memory. A tile computes up to eight
 * output blocks. Each pair of blocks, and an odd one, is a stream of weights. Sums are added in the order of
 * blocks_tile, so that an input gives the same bits alone and in a batch. */
#define FC_MATVEC_AHEAD 512 /* floats of each stream that are prefetched: docs/tuning.md, "Prefetch" */

FC_INLINE void matvec_tile(const fc_matvec *m, ptrdiff_t first, const int blocks)
{
    v_f acc[8];
    const int pairs = blocks / 2;
    const ptrdiff_t stream = m->inner * 2 * VL;
    const float *w = m->w + first * m->inner * VL, *single = w + pairs * stream;
#pragma GCC unroll 8
    for (int b = 0; b < blocks; b++)
        acc[b] = V_LOAD(m->bias + (first + b) * VL);
    for (ptrdiff_t i = 0; i < m->inner; i++, w += 2 * VL, single += VL) {
        const v_f v = V_SET1(m->x[i]);
#pragma GCC unroll 4
        for (int q = 0; q < pairs; q++) {
#pragma GCC unroll 2
            for (int line = 0; line < 2 * VL; line += FC_LINE_FLOATS)
                __builtin_prefetch(w + q * stream + FC_MATVEC_AHEAD + line);
#pragma GCC unroll 2
            for (int b = 0; b < 2; b++)
                acc[2 * q + b] = V_FMA(v, V_LOAD(w + q * stream + b * VL), acc[2 * q + b]);
        }
        if (blocks % 2)
            acc[blocks - 1] = V_FMA(v, V_LOAD(single), acc[blocks - 1]);
    }
#pragma GCC unroll 8
    for (int b = 0; b < blocks; b++)
        V_STORE(m->y + (first + b) * VL, v_bounds(&m->act, acc[b]));
    if (m->act.kind > FC_CLIP)
        FC_FN(activate_pixels)(&m->act, m->y + first * VL, VL, blocks);
}

// clang-format off
#define FC_MATVEC_REST(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7)
// clang-format on
#define FC_MATVEC(B)                                                                                                   \
    case B: matvec_tile(m, block, B); break;

static void FC_FN(matvec)(const fc_matvec *m)
{
    ptrdiff_t block = 0;
    for (; block + 8 <= m->blocks; block += 8)
        matvec_tile(m, block, 8);
    switch (m->blocks - block) {
        FC_MATVEC_REST(FC_MATVEC)
    }
}

/* With few outputs there are few sums, and each multiply-add waits for the one before. Four sums therefore run at the
 * same time, each over a quarter of the inputs. */
FC_INLINE void matvec_quarters(const fc_matvec *m, const int B)
{
    v_f acc[4][2];
    const ptrdiff_t part = m->inner / 4;
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++)
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            acc[q][b] = q ? V_SET1(0.0f) : V_LOAD(m->bias + b * VL);
    for (ptrdiff_t i = 0; i < part; i++)
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++)
#pragma GCC unroll 2
            for (int b = 0; b < B; b++)
                acc[q][b] = V_FMA(V_SET1(m->x[q * part + i]), V_LOAD(m->w + ((q * part + i) * B + b) * VL), acc[q][b]);
    for (ptrdiff_t i = 4 * part; i < m->inner; i++)
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            acc[3][b] = V_FMA(V_SET1(m->x[i]), V_LOAD(m->w + (i * B + b) * VL), acc[3][b]);
#pragma GCC unroll 2
    for (int b = 0; b < B; b++)
        V_STORE(m->y + b * VL, v_bounds(&m->act, (acc[0][b] + acc[1][b]) + (acc[2][b] + acc[3][b])));
    if (m->act.kind > FC_CLIP)
        FC_FN(activate_pixels)(&m->act, m->y, VL, B);
}

static void FC_FN(matvec_split)(const fc_matvec *m)
{
    if (m->blocks == 2)
        matvec_quarters(m, 2);
    else
        matvec_quarters(m, 1);
}
