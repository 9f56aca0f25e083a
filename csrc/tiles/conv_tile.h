/* conv_tile.h: what the tiles of all families of convolutions share: sums, stores, and the way to the next tile.
 *
 * A tile holds P x B sums in registers, of P pixels and B blocks of output channels, until all taps are added. A step
 * loads B vectors of weights and broadcasts P inputs. A broadcast serves all blocks. An AVX-512 multiply-add can
 * broadcast its operand. Each then has a load of its own, which is slower: docs/tuning.md, "Broadcasts". */
#define FC_MOST_BLOCKS 4                              /* of output channels in a tile, of any instruction set */
typedef v_f FC_FN(tile_sums)[2 * MR][FC_MOST_BLOCKS]; /* [pixel][block] of the largest tile */

/* The gap that pixel p of a tile lies behind, or 0. It is a mask: for a condition, the compiler makes a copy of the
 * tile for each outcome. */
FC_INLINE ptrdiff_t passed_gap(ptrdiff_t p, ptrdiff_t until_gap, ptrdiff_t gap)
{
    return gap & -(ptrdiff_t)(p >= until_gap);
}

/* Stores the sums of pixels first .. last within the bounds of an activation. Each kind takes only the max and the min
 * that it needs. The bound of ReLU is read from memory, too: a constant occupies a register throughout the tile, which
 * has none to spare. */
FC_INLINE void store_pixels(FC_FN(tile_sums) acc, float *y, const int first, const int last, const int B,
                            ptrdiff_t until_gap, ptrdiff_t y_gap, const ptrdiff_t y_pixel, ptrdiff_t y_block,
                            const fc_activation *act, const int kind)
{
    const v_f low = V_SET1(act->low), high = V_SET1(act->high);
#pragma GCC unroll 4
    for (int b = 0; b < B; b++, y += y_block) {
        __asm__("" : "+r"(y)); /* else the compiler computes the address of each store anew */
#pragma GCC unroll 28
        for (int p = first; p < last; p++) {
            const v_f sum = kind == FC_NONE   ? acc[p][b]
                            : kind == FC_RELU ? V_MAX(low, acc[p][b])
                                              : v_clip(acc[p][b], low, high);
            V_STORE(y + p * y_pixel + passed_gap(p, until_gap, y_gap), sum);
        }
    }
}

/* Stores the sums of pixels first .. last, with the residual and the activation's bounds. Other activations follow in
 * activate_tile. */
FC_INLINE void store_sums(const fc_conv_row *r, FC_FN(tile_sums) acc, float *y, const float *residual, const int first,
                          const int last, const int B, ptrdiff_t until_gap, ptrdiff_t y_gap, ptrdiff_t residual_gap,
                          const ptrdiff_t y_pixel)
{
    if (residual)
#pragma GCC unroll 28
        for (int p = first; p < last; p++)
#pragma GCC unroll 4
            for (int b = 0; b < B; b++)
                acc[p][b] +=
                    V_LOAD(residual + p * y_pixel + passed_gap(p, until_gap, residual_gap) + b * r->residual_block);
    const int kind = r->act.kind <= FC_CLIP ? r->act.kind : FC_NONE;
    if (kind == FC_NONE)
        store_pixels(acc, y, first, last, B, until_gap, y_gap, y_pixel, r->y_block, &r->act, FC_NONE);
    else if (kind == FC_RELU)
        store_pixels(acc, y, first, last, B, until_gap, y_gap, y_pixel, r->y_block, &r->act, FC_RELU);
    else
        store_pixels(acc, y, first, last, B, until_gap, y_gap, y_pixel, r->y_block, &r->act, FC_CLIP);
}

/* Applies an activation that is more than bounds to the stored outputs of a tile of P pixels. */
FC_INLINE void activate_tile(const fc_conv_row *r, float *y, const int P, const int B, ptrdiff_t until_gap,
                             ptrdiff_t y_gap)
{
    if (r->act.kind <= FC_CLIP)
        return;
    const ptrdiff_t before = until_gap < P ? until_gap : P;
    for (int b = 0; b < B; b++) {
        FC_FN(activate_pixels)(&r->act, y + b * r->y_block, r->y_pixel, before);
        FC_FN(activate_pixels)(&r->act, y + y_gap + before * r->y_pixel + b * r->y_block, r->y_pixel, P - before);
    }
}

/* Where the inputs and the outputs of a tile begin. */
typedef struct {
    const float *x, *residual; /* residual: or NULL */
    float *y;
    ptrdiff_t until_gap; /* pixels before the next gap; without a gap, more than the row has */
    const char *ahead;   /* the next weights to prefetch, of fc_conv_blocks */
} FC_FN(tile_place);

/* Moves on to the next tile. */
FC_INLINE void pass_pixels(const fc_conv_row *r, FC_FN(tile_place) *at, ptrdiff_t pixels, const ptrdiff_t x_pixel,
                           const ptrdiff_t y_pixel)
{
    at->x += pixels * x_pixel;
    at->y += pixels * y_pixel;
    at->residual += at->residual ? pixels * y_pixel : 0;
    at->until_gap -= pixels;
    if (at->until_gap <= 0) {
        at->until_gap += r->gap_every;
        at->y += r->y_gap;
        at->residual += at->residual ? r->residual_gap : 0;
    }
}

/* Whether pixels are neighbouring floats. */
FC_INLINE int is_dense(const ptrdiff_t x_pixel)
{
    return __builtin_constant_p(x_pixel) && x_pixel == 1;
}

/* Adds a step to the sums of P pixels and 3 or 4 blocks. Registers hold the inputs or the weights, whichever are fewer.
 * The others are loaded one by one. */
FC_INLINE void add_wide_step(FC_FN(tile_sums) acc, const float *w, const float *in, const int P, const int B,
                             const ptrdiff_t x_pixel)
{
    v_f few[3];
    if (P >= B) {
#pragma GCC unroll 3
        for (int b = 0; b < 3; b++)
            few[b] = V_LOAD(w + b * VL);
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            V_ADD_3_PRODUCTS(acc[p][0], acc[p][1], acc[p][2], in[p * x_pixel], few[0], few[1], few[2]);
            if (B == 4)
                acc[p][3] = V_FMA1(in[p * x_pixel], V_LOAD(w + 3 * VL), acc[p][3]);
        }
        return;
    }
#pragma GCC unroll 3
    for (int p = 0; p < P; p++)
        few[p] = V_SET1(in[p * x_pixel]);
#pragma GCC unroll 4
    for (int b = 0; b < B; b++)
        if (P == 3)
            V_ADD_3_PRODUCTS_OF(acc[0][b], acc[1][b], acc[2][b], w + b * VL, few[0], few[1], few[2]);
        else
#pragma GCC unroll 2
            for (int p = 0; p < P; p++)
                acc[p][b] = V_FMA(few[p], V_LOAD(w + b * VL), acc[p][b]);
}

#define FC_LANE_PIXELS 6 /* docs/tuning.md, "Lanes" */

/* Adds VL steps to the sums of P pixels with products of lanes. Registers hold all steps' inputs of some of the pixels.
 * Weights are loaded one by one. */
FC_INLINE void add_lane_products(FC_FN(tile_sums) acc, const float *w, const float *in, const int P, const int B,
                                 const ptrdiff_t x_pixel)
{
    const int groups = (P + FC_LANE_PIXELS - 1) / FC_LANE_PIXELS, each = (P + groups - 1) / groups;
#pragma GCC unroll 4
    for (int first = 0; first < P; first += each) {
        const int last = first + each < P ? first + each : P;
        v_f x[FC_LANE_PIXELS];
#pragma GCC unroll 6
        for (int p = first; p < last; p++)
            x[p - first] = V_LOAD(in + p * x_pixel);
#pragma GCC unroll 4
        for (int i = 0; i < VL; i++) {
#pragma GCC unroll 4
            for (int b = 0; b < B; b++) {
                const v_f weight = V_LOAD(w + (i * B + b) * VL);
#pragma GCC unroll 6
                for (int p = first; p < last; p++)
                    acc[p][b] = V_FMA_LANE(x[p - first], i, weight, acc[p][b]);
            }
            /* Else the compiler loads the operands of more steps at once than it has registers for. */
            __asm__("" : : : "memory");
        }
    }
}

/* Adds a step to the sums of P pixels that are neighbours in memory, up to the last multiple of VL. Returns it. */
FC_INLINE int add_neighbours(FC_FN(tile_sums) acc, const v_f weight[2], const float *in, const int P, const int B)
{
    const int end = P / VL * VL;
#pragma GCC unroll 6
    for (int first = 0; first < end; first += VL) {
        const v_f x = V_LOAD(in + first);
#pragma GCC unroll 4
        for (int p = first; p < first + VL; p++)
#pragma GCC unroll 2
            for (int b = 0; b < B; b++)
                acc[p][b] = V_FMA_LANE(x, p - first, weight[b], acc[p][b]);
    }
    return end;
}

/* Adds a step to the sums of pixels first .. last. */
FC_INLINE void add_step(FC_FN(tile_sums) acc, const float *w, const float *in, const int first, const int last,
                        const int B, const ptrdiff_t x_pixel)
{
    if (B > 2) {
        add_wide_step(acc, w, in, last, B, x_pixel);
        return;
    }
    v_f weight[2];
#pragma GCC unroll 2
    for (int b = 0; b < B; b++)
        weight[b] = V_LOAD(w + b * VL);
    const int begin = LANE_PRODUCTS && is_dense(x_pixel) ? add_neighbours(acc, weight, in, last, B) : first;
#pragma GCC unroll 28
    for (int p = begin; p < last; p++) {
        if (B == 2)
            V_ADD_PRODUCTS(acc[p][0], acc[p][1], in[p * x_pixel], weight[0], weight[1]);
        else
            V_ADD_PRODUCT(acc[p][0], in[p * x_pixel], weight[0]);
    }
}
