/* matvec.h: fully connected layers for one input, which wait for weights from memory: four pairs of output blocks at once,
 * each a stream of its own. The sums are added in the order of conv_row.h, so that an input gives the same bits alone and
 * among others. */
#define FC_MATVEC_PAIRS 4
#define FC_MATVEC_AHEAD 512 /* floats: 2 KB of each stream on their way */

FC_INLINE void matvec_tile(const fc_matvec *m, ptrdiff_t first, const int pairs, const int B)
{
    v_f acc[FC_MATVEC_PAIRS][2];
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
    for (; block + 2 * FC_MATVEC_PAIRS <= m->blocks; block += 2 * FC_MATVEC_PAIRS)
        matvec_tile(m, block, FC_MATVEC_PAIRS, 2);
    for (; block + 2 <= m->blocks; block += 2)
        matvec_tile(m, block, 1, 2);
    if (block < m->blocks)
        matvec_tile(m, block, 1, 1);
}
