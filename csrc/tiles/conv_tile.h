/* conv_tile.h: a tile of a row of pixels times some blocks of output channels (see fc_conv_row for the sum).
 *
 * It holds P x B accumulators in registers over all input channels and taps. Each step loads B vectors of
 * weights, one stream for the whole tile, and broadcasts P inputs. Where a step has 28 multiply-adds, the loop over
 * lanes takes two at a time (STEPS_A_ROUND; Granite Rapids, 2026-11: networks 1 to 4 % faster; with AVX2 6 % slower).
 * Where it has 12 (UNROLL_TAPS), each with a load or a broadcast for two of them, everything else that a step does
 * counts, the more so where another processor shares the core: the steps of a whole tap then follow each other without
 * a loop, and fetch ahead once (Zen 3, 2026-11: 2 to 5 % faster, up to 25 % on a shared core).
 *
 * A broadcast serves all blocks. With AVX-512, a multiply-add can broadcast by itself, but then each has a load of its
 * own (Granite Rapids, 2026-11: with every second pixel's, networks 4 to 5 % slower; with every seventh's, a tile still
 * 3 to 5 %). Fewer instructions for a step come from two at a time.
 *
 * Where registers are few, a tile of 3 pixels and 4 blocks takes 19 instructions for 12 multiply-adds, one of 6 pixels
 * and 2 blocks 20 (Emerald Rapids, AVX2, 2026-11: layers 3 to 7 % faster).
 *
 * Where steps have 12 multiply-adds, what goes on between the taps and between the tiles counts as well: barriers in
 * assembly keep the compiler from computing addresses twice, and equal tiles follow each other in a loop of their own
 * (Emerald Rapids, AVX2, 2026-11: a ninth fewer instructions for sums of 16 steps, 11 % faster on a shared core).
 *
 * While the tiles go by, the weights behind these are fetched piece by piece, as they may have a long way, and so are
 * the inputs of the next tap, which lie in short stretches of every block: too short for the processor to see a stream.
 * Not those of the next tile: until it begins, the weights have pushed them out of the first-level cache again (Emerald
 * Rapids, 2026-11: a tenth slower). Into the second-level cache only, taps that are unrolled ask for them, too: another
 * core may have written them (two threads, AVX2, 1 x 1 convolutions of 256 to 512 channels 15 to 40 % faster).
 *
 * Where every tap is a single step (`stepped`), there is no loop over lanes: it would end after three or five rounds,
 * each time by surprise. Such a tile loads a tap in every step, too, and has no load to spare for fetching ahead: it is
 * 7 to 20 % faster without (Zen 3 and 4, 2026-11). */
#define FC_MOST_BLOCKS 4                              /* of output channels in a tile, of any instruction set */
typedef v_f FC_FN(tile_sums)[2 * MR][FC_MOST_BLOCKS]; /* of a tile's pixels and blocks, as far as it has them */
#define FC_LINE_FLOATS 16
enum { FC_STEPS = STEPS_A_ROUND }; /* a macro is not read where a loop is told how often */
#define FC_FIRST_LEVEL 3           /* of caches */
#define FC_SECOND_LEVEL 2          /* the first one is too small for what is read this far ahead, and is in use */
/* On Zen 4, a store beside multiply-adds takes as long as 1.4 of these, and tiles of many sums lost as much again
 * between the last step of one and the first of the next (measured, 2026-11). They therefore store the first sums while
 * they add the last steps of the rest. */
#define FC_STORES 14
#define FC_MANY_STORES 20
#define FC_HELD_BACK 4 /* steps */

/* The gap that a tile's pixel p lies behind, if any: where the pixels are of several rows of an image, rows may be
 * apart. A mask: of a condition, the compiler would make tiles for every outcome. */
FC_INLINE ptrdiff_t passed_gap(ptrdiff_t p, ptrdiff_t until_gap, ptrdiff_t gap)
{
    return gap & -(ptrdiff_t)(p >= until_gap);
}

/* The mask of the first n lanes is at VL - n. */
static const int first_lanes[2 * VL] = {[0 ... VL - 1] = -1};

/* The sums of pixels first .. last of a tile to their places, within the bounds of an activation: a max and a min take
 * as long as two multiply-adds. ReLU's bound is read, too: a constant would stay in a register for the whole tile,
 * which has none to spare. */
FC_INLINE void store_pixels(FC_FN(tile_sums) acc, float *y, const int first, const int last, const int B,
                            ptrdiff_t until_gap, ptrdiff_t y_gap, const ptrdiff_t y_pixel, ptrdiff_t y_block,
                            const fc_activation *act, const int kind)
{
    const v_f low = V_SET1(act->low), high = V_SET1(act->high);
#pragma GCC unroll 4
    for (int b = 0; b < B; b++, y += y_block) {
        __asm__("" : "+r"(y)); /* else the compiler computes the address of every store by itself */
#pragma GCC unroll 28
        for (int p = first; p < last; p++) {
            const v_f sum = kind == FC_NONE   ? acc[p][b]
                            : kind == FC_RELU ? V_MAX(low, acc[p][b])
                                              : v_clip(acc[p][b], low, high);
            V_STORE(y + p * y_pixel + passed_gap(p, until_gap, y_gap), sum);
        }
    }
}

/* The same, with all that finishes a row; activate_tile does what is more than bounds. */
FC_INLINE void store_sums(const fc_conv_row *r, FC_FN(tile_sums) acc, float *y, const float *residual, const int first,
                          const int last, const int B, ptrdiff_t until_gap, ptrdiff_t y_gap, ptrdiff_t residual_gap,
                          const ptrdiff_t y_pixel, const int stepped)
{
    if (stepped && r->kept) {
        v_i kept;
        memcpy(&kept, first_lanes + VL - r->kept, sizeof kept);
#pragma GCC unroll 28
        for (int p = first; p < last; p++)
            acc[p][0] = v_select(kept, V_LOAD(y + p * y_pixel + passed_gap(p, until_gap, y_gap)), acc[p][0]);
    }
    if (residual)
#pragma GCC unroll 28
        for (int p = first; p < last; p++)
#pragma GCC unroll 4
            for (int b = 0; b < B; b++)
                acc[p][b] +=
                    V_LOAD(residual + p * y_pixel + passed_gap(p, until_gap, residual_gap) + b * r->residual_block);
    const int kind = r->finish && r->act.kind <= FC_CLIP ? r->act.kind : FC_NONE;
    if (kind == FC_NONE)
        store_pixels(acc, y, first, last, B, until_gap, y_gap, y_pixel, r->y_block, &r->act, FC_NONE);
    else if (kind == FC_RELU)
        store_pixels(acc, y, first, last, B, until_gap, y_gap, y_pixel, r->y_block, &r->act, FC_RELU);
    else
        store_pixels(acc, y, first, last, B, until_gap, y_gap, y_pixel, r->y_block, &r->act, FC_CLIP);
}

/* What follows the stores of a whole tile of P pixels, for activations that are more than bounds. */
FC_INLINE void activate_tile(const fc_conv_row *r, float *y, const int P, const int B, ptrdiff_t until_gap,
                             ptrdiff_t y_gap)
{
    if (!r->finish || r->act.kind <= FC_CLIP)
        return;
    const ptrdiff_t before = until_gap < P ? until_gap : P;
    for (int b = 0; b < B; b++) {
        FC_FN(activate_pixels)(&r->act, y + b * r->y_block, r->y_pixel, before);
        FC_FN(activate_pixels)(&r->act, y + y_gap + before * r->y_pixel + b * r->y_block, r->y_pixel, P - before);
    }
}

/* Whether every pixel is a vector of its own, at a distance that is known when this is compiled. */
FC_INLINE int is_blocked(const ptrdiff_t x_pixel)
{
    return __builtin_constant_p(x_pixel) && x_pixel >= VL;
}

/* Where a tile's inputs and outputs begin. */
typedef struct {
    const float *x, *residual; /* there is none: NULL */
    float *y;
    ptrdiff_t until_gap; /* pixels; more than the row has: there is none */
    const char *ahead;   /* the weights that it asks for */
} FC_FN(tile_place);

/* Goes to the next tile. */
FC_INLINE void pass_pixels(const fc_conv_row *r, FC_FN(tile_place) *at, ptrdiff_t pixels, const ptrdiff_t x_pixel,
                           const ptrdiff_t y_pixel)
{
    at->x += pixels * x_pixel;
    at->y += pixels * y_pixel;
    at->residual += at->residual ? pixels * y_pixel : 0;
    at->until_gap -= pixels;
    if (at->until_gap <= 0) {
        at->until_gap += r->y_width;
        at->y += r->y_gap;
        at->residual += at->residual ? r->residual_gap : 0;
    }
}

/* What a tile's sums are made from, as far as it is read. */
typedef struct {
    const float *w, *in;
    const float *next; /* inputs of the tap after this one */
    const char *ahead;
} FC_FN(conv_operands);

/* Asks for the inputs that the next tap takes from pixels first .. last, those that are due in one of so many steps: a
 * line or two. */
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

/* Adds a step to the sums of P pixels and 3 or 4 blocks. The fewer of inputs and weights stay in registers; the others
 * come one by one. */
FC_INLINE void add_wide_step(FC_FN(tile_sums) acc, const float *w, const float *in, const int P, const int B,
                             const ptrdiff_t x_pixel)
{
    v_f few[3];
    if (P >= B) {
#pragma GCC unroll 3
        for (int b = 0; b < 3; b++)
            few[b] = V_LOAD(w + b * VL);
#pragma GCC unroll 4
        for (int p = 0; p < P; p++)
            V_ADD_3_PRODUCTS(acc[p][0], acc[p][1], acc[p][2], in[p * x_pixel], few[0], few[1], few[2]);
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
#pragma GCC unroll 28
    for (int p = first; p < last; p++) {
        if (B == 2)
            V_ADD_PRODUCTS(acc[p][0], acc[p][1], in[p * x_pixel], weight[0], weight[1]);
        else
            V_ADD_PRODUCT(acc[p][0], in[p * x_pixel], weight[0]);
    }
}

/* Adds so many steps of a tap to the sums of pixels first .. last. */
FC_INLINE void add_steps(const fc_conv_row *r, FC_FN(tile_sums) acc, FC_FN(conv_operands) *from, ptrdiff_t steps,
                         const int first, const int last, const int B, const ptrdiff_t x_pixel, const int stepped)
{
#pragma GCC unroll FC_STEPS
    for (ptrdiff_t i = 0; i < steps; i++) {
        if (B >= 2 && !stepped)
            __builtin_prefetch(from->ahead, 0, FC_SECOND_LEVEL);
        from->ahead += r->ahead_bytes;
        if (!stepped)
            fetch_some_pixels(from, first, last, VL, x_pixel);
        add_step(acc, from->w, from->in, first, last, B, x_pixel);
        from->w += B * VL + (stepped && B == 1 ? r->w_skip : 0);
        from->in += r->x_lane;
    }
}

/* Goes to a tap of a tile of P pixels. */
FC_INLINE void begin_tap(const fc_conv_row *r, FC_FN(conv_operands) *from, const float *x, const ptrdiff_t *tap,
                         const ptrdiff_t *end, const int P, const ptrdiff_t x_pixel)
{
    from->in = x + *tap;
    from->next = tap + 1 < end ? x + tap[1] : x + P * x_pixel + r->taps[0];
}

/* Asks for the inputs of P pixels at once, which are a few lines, at a level of the caches. */
FC_INLINE void fetch_pixels(const float *x, const int P, const ptrdiff_t x_pixel, const int level)
{
#pragma GCC unroll 28
    for (int i = 0; i < P * x_pixel; i += FC_LINE_FLOATS)
        __builtin_prefetch(x + i, 0, level);
}

/* Adds all whole taps, of VL steps each. Two lines of weights are fetched a round: most layers have one or two to
 * fetch, and a prefetch takes less than going round once more. */
FC_INLINE void add_whole_taps(const fc_conv_row *r, FC_FN(tile_sums) acc, FC_FN(conv_operands) *from, const float *x,
                              const int P, const int B, const ptrdiff_t x_pixel)
{
    const ptrdiff_t *tap = r->taps, *whole = tap + r->whole, *end = whole + r->last;
    const ptrdiff_t bytes = VL * r->ahead_bytes, line_bytes = FC_LINE_FLOATS * sizeof(float);
    const float *w = from->w;
    const char *ahead = from->ahead;
    for (; tap < whole; tap++, ahead += bytes) {
        __asm__("" : "+r"(w), "+r"(ahead)); /* else the compiler computes them anew behind the loop */
        begin_tap(r, from, x, tap, end, P, x_pixel);
        const char *line = ahead;
        do {
            __builtin_prefetch(line, 0, FC_SECOND_LEVEL);
            __builtin_prefetch(line + line_bytes, 0, FC_SECOND_LEVEL);
            line += 2 * line_bytes;
        } while (line < ahead + bytes);
        fetch_pixels(from->in + P * x_pixel, P, x_pixel, FC_SECOND_LEVEL);
        fetch_pixels(from->next, P, x_pixel, FC_FIRST_LEVEL);
#pragma GCC unroll 8
        for (int i = 0; i < VL; i++) {
            add_step(acc, w + i * B * VL, from->in + i, 0, P, B, x_pixel);
            /* The compiler would load the operands of more steps at once than it has registers for. */
            __asm__("" : : : "memory");
        }
        w += VL * B * VL;
    }
    from->w = w, from->ahead = ahead;
}

/* Computes a tile and goes to the next one. */
FC_INLINE void conv_tile(const fc_conv_row *r, FC_FN(tile_place) *at, const int P, const int B, const ptrdiff_t x_pixel,
                         const ptrdiff_t y_pixel, const int stepped)
{
    const float *x = at->x, *residual = at->residual;
    float *y = at->y;
    const ptrdiff_t until_gap = at->until_gap;
    const int side_by_side = __builtin_constant_p(x_pixel) && x_pixel == VL;
    const ptrdiff_t y_gap = side_by_side ? r->y_gap : 0;
    const int halves = P * B >= FC_MANY_STORES && !stepped;
    FC_FN(tile_sums) acc;
#pragma GCC unroll 28
    for (int p = 0; p < P; p++)
#pragma GCC unroll 4
        for (int b = 0; b < B; b++)
            acc[p][b] = V_LOAD(r->accumulate ? y + p * y_pixel + passed_gap(p, until_gap, y_gap) + b * r->y_block
                                             : r->bias + b * VL);

    FC_FN(conv_operands) from = {r->w, x, x, at->ahead};
    const ptrdiff_t *tap = r->taps, *whole = tap + r->whole, *end = whole + r->last;
    const ptrdiff_t last_steps = r->last ? r->last_lanes : r->lanes;
    const ptrdiff_t held_back = !halves ? 0 : last_steps < FC_HELD_BACK ? last_steps : FC_HELD_BACK;
    /* Asked once: not for every tap. */
    if (UNROLL_TAPS && !halves && is_blocked(x_pixel) && !stepped && r->lanes == VL) {
        add_whole_taps(r, acc, &from, x, P, B, x_pixel);
        tap = whole;
    }
    for (; tap < end; tap++) {
        begin_tap(r, &from, x, tap, end, P, x_pixel);
        const ptrdiff_t steps = stepped ? 1 : tap < whole ? r->lanes : r->last_lanes;
        if (B == 1 && !stepped) /* loads are what a single block waits for: the processor sees the stream by itself */
            __builtin_prefetch(from.ahead, 0, FC_SECOND_LEVEL);
        add_steps(r, acc, &from, tap + 1 < end ? steps : steps - held_back, 0, P, B, x_pixel, stepped);
    }

    const int part = halves ? FC_STORES / B : P;
#pragma GCC unroll 2
    for (int first = 0; first < P; first += part) {
        const int last = first + part < P ? first + part : P;
        FC_FN(conv_operands) rest = from;
        add_steps(r, acc, &rest, held_back, first, last, B, x_pixel, stepped);
        if (side_by_side && until_gap < P)
            store_sums(r, acc, y, residual, first, last, B, until_gap, y_gap, r->residual_gap, y_pixel, stepped);
        else
            store_sums(r, acc, y, residual, first, last, B, P, 0, 0, y_pixel, stepped);
    }
    activate_tile(r, y, P, B, until_gap, y_gap);
    at->ahead = from.ahead + held_back * r->ahead_bytes;
    pass_pixels(r, at, P, x_pixel, y_pixel);
}
