/* matvec.h: fully connected layers for one input, which wait for weights from memory: four pairs of output blocks at
 * once, each a stream of its own. The sums are added in the order of conv_row.h, so that an input gives the same bits
 * alone and among others. */
#define FC_MATVEC_AHEAD 512 /* floats: 2 KB of each stream on their way */

FC_INLINE void matvec_tile(const fc_matvec *m, ptrdiff_t first, const int pairs, const int B)
{
    v_f acc[4][2];
    const ptrdiff_t stream = m->inner * 2 * VL;
    const float *w = m->w + first * m->inner * VL;
#pragma GCC unroll 4
    for (int q = 0; q < pairs; q++)
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            acc[q][b] = V_LOAD(m->bias + (first + 2 * q + b) * VL);
    for (ptrdiff_t i = 0; i < m->inner; i++, w += B * VL) {
        const v_f v = V_SET1(m->x[i]);
#pragma GCC unroll 4
        for (int q = 0; q < pairs; q++) {
            __builtin_prefetch(w + q * stream + FC_MATVEC_AHEAD);
#pragma GCC unroll 2
            for (int b = 0; b < B; b++)
                acc[q][b] = V_FMA(v, V_LOAD(w + q * stream + b * VL), acc[q][b]);
        }
    }
#pragma GCC unroll 4
    for (int q = 0; q < pairs; q++)
#pragma GCC unroll 2
        for (int b = 0; b < B; b++)
            V_STORE(m->y + (first + 2 * q + b) * VL, v_activate(&m->act, acc[q][b]));
}

static void FC_FN(matvec)(const fc_matvec *m)
{
    ptrdiff_t block = 0;
    for (; block + 8 <= m->blocks; block += 8)
        matvec_tile(m, block, 4, 2);
    switch ((m->blocks - block) / 2) {
    case 3:
        matvec_tile(m, block, 3, 2);
        break;
    case 2:
        matvec_tile(m, block, 2, 2);
        break;
    case 1:
        matvec_tile(m, block, 1, 2);
        break;
    }
    if (m->blocks % 2)
        matvec_tile(m, m->blocks - 1, 1, 1);
}

/* Few outputs leave the processor waiting for one sum after the other: four of them run at the same time, each over a
 * quarter of the inputs. */
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
        V_STORE(m->y + b * VL, v_activate(&m->act, (acc[0][b] + acc[1][b]) + (acc[2][b] + acc[3][b])));
}

static void FC_FN(matvec_split)(const fc_matvec *m)
{
    if (m->blocks == 2)
        matvec_quarters(m, 2);
    else
        matvec_quarters(m, 1);
}
