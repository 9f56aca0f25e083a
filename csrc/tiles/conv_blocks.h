/* conv_blocks.h: tiles whose taps hold many channels (see fc_conv_blocks for the sum).
 *
 * A step of a tile has 12 multiply-adds where registers are few (AVX2), else 28 (AVX-512). With 28, the loop over
 * channels takes STEPS_A_ROUND at a time. With 12, each of the other instructions delays the tile, and more so where
 * another thread shares the core. UNROLL_TAPS therefore unrolls the steps of a full tap, which prefetch once. Barriers
 * in assembly keep the compiler from computing addresses twice. Equal tiles run in a loop of their own. Tiles of 3 or 4
 * blocks take fewer instructions for 12 multiply-adds than tiles of 2. docs/tuning.md, "Steps of a tile", has what each
 * is worth.
 *
 * A tile prefetches the weights of a later call piece by piece: they may come from memory. It prefetches the inputs of
 * the next tap: they lie in short stretches of every block, too short for the processor to detect a stream. Unrolled
 * taps prefetch inputs of the next tile into the second-level cache: another core may have written them. They stay out
 * of the first level: the weights displace them there before the tile begins. docs/tuning.md, "Prefetch". */
#define FC_LINE_FLOATS 16
enum { FC_STEPS = STEPS_A_ROUND }; /* the unroll pragma reads no macro */
#define FC_FIRST_LEVEL 3           /* cache that a prefetch fills */
#define FC_SECOND_LEVEL 2          /* for what is read much later: the first level is too small and in use */
/* A store beside multiply-adds delays them. Tiles of at least FC_MANY_STORES sums therefore store the first FC_STORES
 * while they add the last FC_HELD_BACK steps of the rest: docs/tuning.md, "Stores". */
#define FC_STORES 14
#define FC_MANY_STORES 20
#define FC_HELD_BACK 4

/* Whether each pixel is a vector, at a distance known at compile time. */
FC_INLINE int is_blocked(const ptrdiff_t x_pixel)
{
    return __builtin_constant_p(x_pixel) && x_pixel >= VL;
}

/* Where a tile reads its operands next. */
typedef struct {
    const float *w, *in;
    const float *next; /* inputs of the tap after this one */
    const char *ahead;
} FC_FN(conv_operands);

/* Prefetches inputs of pixels first .. last for the next tap: one step's share, a line or two, of all in `steps`. */
FC_INLINE void fetch_some_pixels(FC_FN(conv_operands) *from, const int first, const int last, const int steps,
                                 const ptrdiff_t x_pixel)
{
    if (!is_blocked(x_pixel))
        return;
#pragma GCC unroll 2
    for (int p = first; p < last; p += steps)
        __builtin_prefetch(from->next + p * x_pixel);
    from->next += x_pixel;
}

/* Adds some steps of a tap to the sums of pixels first .. last. */
FC_INLINE void add_steps(const fc_conv_blocks *r, FC_FN(tile_sums) acc, FC_FN(conv_operands) *from, ptrdiff_t steps,
                         const int first, const int last, const int B, const ptrdiff_t x_pixel)
{
    ptrdiff_t i = 0;
    if (LANE_PRODUCTS && !is_dense(x_pixel) && r->x_channel == 1)
        for (; i + VL <= steps; i += VL) {
            if (B >= 2)
                __builtin_prefetch(from->ahead, 0, FC_SECOND_LEVEL);
            from->ahead += VL * r->ahead_bytes;
            add_lane_products(acc, from->w, from->in, last, B, x_pixel);
            from->w += VL * B * VL;
            from->in += VL;
        }
    if (LANE_PRODUCTS && is_dense(x_pixel)) /* a step alone has few loads beside what a round takes */
        for (; i + 2 <= steps; i += 2) {
            __builtin_prefetch(from->ahead, 0, FC_SECOND_LEVEL);
            from->ahead += 2 * r->ahead_bytes;
            add_step(acc, from->w, from->in, first, last, B, x_pixel);
            add_step(acc, from->w + B * VL, from->in + r->x_channel, first, last, B, x_pixel);
            from->w += 2 * B * VL;
            from->in += 2 * r->x_channel;
        }
#pragma GCC unroll FC_STEPS
    for (; i < steps; i++) {
        if (B >= 2)
            __builtin_prefetch(from->ahead, 0, FC_SECOND_LEVEL);
        from->ahead += r->ahead_bytes;
        fetch_some_pixels(from, first, last, VL, x_pixel);
        add_step(acc, from->w, from->in, first, last, B, x_pixel);
        from->w += B * VL;
        from->in += r->x_channel;
    }
}

/* Moves on to a tap of a tile of P pixels. */
FC_INLINE void begin_tap(const fc_conv_blocks *r, FC_FN(conv_operands) *from, const float *x, const ptrdiff_t *tap,
                         const ptrdiff_t *end, const int P, const ptrdiff_t x_pixel)
{
    from->in = x + *tap;
    from->next = tap + 1 < end ? x + tap[1] : x + P * x_pixel + r->row.taps[0];
}

/* Prefetches the inputs of P pixels at once, which are a few lines, into a level of the caches. */
FC_INLINE void fetch_pixels(const float *x, const int P, const ptrdiff_t x_pixel, const int level)
{
#pragma GCC unroll 28
    for (int i = 0; i < P * x_pixel; i += FC_LINE_FLOATS)
        if (level == FC_FIRST_LEVEL) /* the level of a prefetch must be a literal */
            __builtin_prefetch(x + i, 0, FC_FIRST_LEVEL);
        else
            __builtin_prefetch(x + i, 0, FC_SECOND_LEVEL);
}

/* Adds VL steps of neighbouring channels. */
FC_INLINE void add_vl_steps(FC_FN(tile_sums) acc, const float *w, const float *in, const int P, const int B,
                            const ptrdiff_t x_pixel)
{
    if (LANE_PRODUCTS) {
        add_lane_products(acc, w, in, P, B, x_pixel);
        return;
    }
#pragma GCC unroll 8
    for (int i = 0; i < VL; i++) {
        add_step(acc, w + i * B * VL, in + i, 0, P, B, x_pixel);
        /* Else the compiler loads the operands of more steps at once than it has registers for. */
        __asm__("" : : : "memory");
    }
}

/* Adds all full taps, of VL steps each. Each round of the inner loop prefetches two lines of weights. Most layers need
 * one or two, and a needless prefetch costs less than another round. */
FC_INLINE void add_full_taps(const fc_conv_blocks *r, FC_FN(tile_sums) acc, FC_FN(conv_operands) *from, const float *x,
                             const int P, const int B, const ptrdiff_t x_pixel)
{
    const ptrdiff_t *tap = r->row.taps, *full = tap + r->full_taps, *end = full + r->partial_taps;
    const ptrdiff_t bytes = VL * r->ahead_bytes, line_bytes = FC_LINE_FLOATS * sizeof(float);
    const float *w = from->w;
    const char *ahead = from->ahead;
    for (; tap < full; tap++, ahead += bytes) {
        __asm__("" : "+r"(w), "+r"(ahead)); /* else the compiler computes them again behind the loop */
        begin_tap(r, from, x, tap, end, P, x_pixel);
        const char *line = ahead;
        do {
            __builtin_prefetch(line, 0, FC_SECOND_LEVEL);
            __builtin_prefetch(line + line_bytes, 0, FC_SECOND_LEVEL);
            line += 2 * line_bytes;
        } while (line < ahead + bytes);
        if (!LANE_PRODUCTS) { /* a tap of lanes is too short for that */
            fetch_pixels(from->in + P * x_pixel, P, x_pixel, FC_SECOND_LEVEL);
            fetch_pixels(from->next, P, x_pixel, FC_FIRST_LEVEL);
        }
        add_vl_steps(acc, w, from->in, P, B, x_pixel);
        w += VL * B * VL;
    }
    from->w = w, from->ahead = ahead;
}

/* Computes a tile and moves on to the next one. */
FC_INLINE void blocks_tile(const fc_conv_blocks *r, FC_FN(tile_place) *at, const int P, const int B,
                           const ptrdiff_t x_pixel, const ptrdiff_t y_pixel)
{
    const float *x = at->x, *residual = at->residual;
    float *y = at->y;
    const ptrdiff_t until_gap = at->until_gap;
    const int side_by_side = __builtin_constant_p(x_pixel) && x_pixel == VL;
    const ptrdiff_t y_gap = side_by_side ? r->row.y_gap : 0;
    const int halves = !UNROLL_TAPS && P * B >= FC_MANY_STORES;
    FC_FN(tile_sums) acc;
#pragma GCC unroll 28
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
        for (int b = 0; b < B; b++)
            acc[p][b] = V_LOAD(r->accumulate ? y + p * y_pixel + passed_gap(p, until_gap, y_gap) + b * r->row.y_block
                                             : r->row.bias + b * VL);

    FC_FN(conv_operands) from = {r->row.w, x, x, at->ahead};
    const ptrdiff_t *tap = r->row.taps, *full = tap + r->full_taps, *end = full + r->partial_taps;
    const ptrdiff_t last_steps = r->partial_taps ? r->partial_channels : r->full_channels;
    const ptrdiff_t held_back = !halves ? 0 : last_steps < FC_HELD_BACK ? last_steps : FC_HELD_BACK;
    /* The condition is tested once, not for every tap. */
    if (UNROLL_TAPS && !halves && is_blocked(x_pixel) && r->full_channels == VL) {
        add_full_taps(r, acc, &from, x, P, B, x_pixel);
        tap = full;
    }
    for (; tap < end; tap++) {
        begin_tap(r, &from, x, tap, end, P, x_pixel);
        const ptrdiff_t steps = tap < full ? r->full_channels : r->partial_channels;
        if (B == 1) /* once a tap: a single block waits for loads, and the processor detects its stream */
            __builtin_prefetch(from.ahead, 0, FC_SECOND_LEVEL);
        add_steps(r, acc, &from, tap + 1 < end ? steps : steps - held_back, 0, P, B, x_pixel);
    }

    const int part = halves ? FC_STORES / B : P;
#pragma GCC unroll 2
    for (int first = 0; first < P; first += part) {
        const int last = first + part < P ? first + part : P;
        FC_FN(conv_operands) rest = from;
        add_steps(r, acc, &rest, held_back, first, last, B, x_pixel);
        if (side_by_side && until_gap < P)
            store_sums(&r->row, acc, y, residual, first, last, B, until_gap, y_gap, r->row.residual_gap, y_pixel);
        else
            store_sums(&r->row, acc, y, residual, first, last, B, P, 0, 0, y_pixel);
    }
    activate_tile(&r->row, y, P, B, until_gap, y_gap);
    at->ahead = from.ahead + held_back * r->ahead_bytes;
    pass_pixels(&r->row, at, P, x_pixel, y_pixel);
}
