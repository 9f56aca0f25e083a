/* conv_row.h: a row of pixels times some blocks of output channels, tile by tile. A family of tiles is for one distance
 * between pixels: known when this is compiled, it costs no register. */

/* One tile for every number of pixels up to a family's limit (larger ones are not compiled: P is then 1). A single
 * block of output channels takes twice as many pixels, to have as many sums in flight. */
// clang-format off
#define FC_UP_TO_6(F) F(1) F(2) F(3) F(4) F(5) F(6)
#define FC_QUAD_TILES(F) F(1) F(2) F(3)
#define FC_TRIPLE_TILES(F) FC_QUAD_TILES(F) F(4)
#define FC_UP_TO_14(F) FC_UP_TO_6(F) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14)
#if MR == 6
#define FC_PAIR_TILES(F) FC_UP_TO_6(F)
#define FC_SINGLE_TILES(F) FC_UP_TO_6(F) F(7) F(8) F(9) F(10) F(11) F(12)
#else
#define FC_PAIR_TILES(F) FC_UP_TO_14(F)
#define FC_15_TO_28(F) F(15) F(16) F(17) F(18) F(19) F(20) F(21) F(22) F(23) F(24) F(25) F(26) F(27) F(28)
#define FC_SINGLE_TILES(F) FC_UP_TO_14(F) FC_15_TO_28(F)
#endif
#define FC_TILE(P, B) \
    case P: \
        for (; count > 0; count--) \
            if (half && B <= 2) \
                half_tile(r, &at, P <= limit ? P : 1, B, x_pixel); \
            else \
                conv_tile(r, &at, P <= limit ? P : 1, B, x_pixel, y_pixel, stepped); \
        break;
#define FC_PAIR(P) FC_TILE(P, 2)
#define FC_TRIPLE(P) FC_TILE(P, 3)
#define FC_QUAD(P) FC_TILE(P, 4)
#define FC_SINGLE(P) FC_TILE(P, 1)
// clang-format on

FC_INLINE void conv_row_by(const fc_conv_row *r, const ptrdiff_t x_pixel, const ptrdiff_t y_pixel, const int blocks,
                           const int limit, const int stepped, const int half)
{
    /* Even parts: 13 pixels become 5 + 4 + 4, never 6 + 6 + 1, whose last tile would wait for its weights. */
    const ptrdiff_t tiles = (r->pixels + limit - 1) / limit;
    const ptrdiff_t part = quotient(r->pixels, tiles), larger = r->pixels - part * tiles;
    FC_FN(tile_place) at = {r->x, r->finish ? r->residual : NULL, r->y, r->until_gap ? r->until_gap : r->pixels + 1,
                            (const char *)r->ahead};
    for (ptrdiff_t done = 0, end; done < tiles; done = end) { /* at most twice: the larger tiles, and the others */
        const ptrdiff_t more = done < larger;
        end = more ? larger : tiles;
        ptrdiff_t count = end - done;
        if (blocks == 2)
            switch (part + more) {
                FC_PAIR_TILES(FC_PAIR)
            }
        else if (blocks == 3)
            switch (part + more) {
                FC_TRIPLE_TILES(FC_TRIPLE)
            }
        else if (blocks == 4)
            switch (part + more) {
                FC_QUAD_TILES(FC_QUAD)
            }
        else
            switch (part + more) {
                FC_SINGLE_TILES(FC_SINGLE)
            }
    }
}

#define FC_FAMILY(name, x_pixel, y_pixel, single_limit, pair_limit, stepped, half)                                     \
    static __attribute__((noinline)) void FC_FN(name)(const fc_conv_row *r)                                            \
    {                                                                                                                  \
        if (r->blocks == 2)                                                                                            \
            conv_row_by(r, x_pixel, y_pixel, 2, pair_limit, stepped, half);                                            \
        else                                                                                                           \
            conv_row_by(r, x_pixel, y_pixel, 1, single_limit, stepped, half);                                          \
    }

/* Pixels side by side (of y, too), every second one, neighbouring floats (the columns of im2col), any distance. */
FC_FAMILY(conv_row_stride1, VL, VL, 2 * MR, MR, 0, 0)
FC_FAMILY(conv_row_stride2, 2 * VL, r->y_pixel, 2 * MR, MR, 0, 0)
FC_FAMILY(conv_row_dense, 1, r->y_pixel, 2 * MR, MR, 0, 0)
FC_FAMILY(conv_row_strided, r->x_pixel, r->y_pixel, MR_STRIDED, MR_STRIDED, 0, 0)
/* With a half block. */
FC_FAMILY(conv_row_half_stride1, VL, VL, MR, FC_HALF_PAIR, 0, 1)
FC_FAMILY(conv_row_half, r->x_pixel, r->y_pixel, MR_STRIDED, FC_HALF_PAIR < MR_STRIDED ? FC_HALF_PAIR : MR_STRIDED, 0,
          1)
/* Single steps: of grey images; of every second pixel of a plane, and every pixel and every second one of a colour
 * image, where many pixels at once would need as many distances; any others. */
FC_FAMILY(conv_row_steps_grey, 1, r->y_pixel, 2 * MR, MR, 1, 0)
FC_FAMILY(conv_row_steps_grey_stride2, 2, VL, MR_STRIDED, MR, 1, 0)
FC_FAMILY(conv_row_steps_colour, 3, VL, MR_STRIDED, MR, 1, 0)
FC_FAMILY(conv_row_steps_colour_stride2, 6, VL, MR_STRIDED, MR, 1, 0)
FC_FAMILY(conv_row_steps_stride1, VL, VL, 2 * MR, MR, 1, 0)
FC_FAMILY(conv_row_steps, r->x_pixel, r->y_pixel, MR_STRIDED, MR_STRIDED, 1, 0)

static void FC_FN(conv_row_steps_any)(const fc_conv_row *r)
{
    if (r->x_pixel == 1 && FC_FN(is_narrow)(r))
        FC_FN(conv_narrow)(r);
    else if (r->x_pixel == 1)
        FC_FN(conv_row_steps_grey)(r);
    else if (r->y_pixel != VL)
        FC_FN(conv_row_steps)(r);
    else if (r->x_pixel == VL)
        FC_FN(conv_row_steps_stride1)(r);
    else if (r->x_pixel == 2)
        FC_FN(conv_row_steps_grey_stride2)(r);
    else if (r->x_pixel == 3)
        FC_FN(conv_row_steps_colour)(r);
    else if (r->x_pixel == 6)
        FC_FN(conv_row_steps_colour_stride2)(r);
    else
        FC_FN(conv_row_steps)(r);
}

#if WIDE_BLOCKS > 2
/* Of three and four blocks. All registers are in use: where the compiler colours them, it moves sums to and fro. */
#if defined(__GNUC__) && !defined(__clang__)
#define FC_NO_COLOURING __attribute__((optimize("ira-algorithm=priority")))
#else
#define FC_NO_COLOURING
#endif
#define FC_WIDE_FAMILY(name, x_pixel, y_pixel)                                                                         \
    static __attribute__((noinline)) FC_NO_COLOURING void FC_FN(name)(const fc_conv_row *r)                            \
    {                                                                                                                  \
        if (r->blocks == 3)                                                                                            \
            conv_row_by(r, x_pixel, y_pixel, 3, 2 * MR / 3, 0, 0);                                                     \
        else                                                                                                           \
            conv_row_by(r, x_pixel, y_pixel, 4, 2 * MR / 4, 0, 0);                                                     \
    }
FC_WIDE_FAMILY(conv_row_wide_stride1, VL, VL)
FC_WIDE_FAMILY(conv_row_wide_stride2, 2 * VL, r->y_pixel)

static void FC_FN(conv_row_wide)(const fc_conv_row *r)
{
    if (r->x_pixel == VL && r->y_pixel == VL)
        FC_FN(conv_row_wide_stride1)(r);
    else
        FC_FN(conv_row_wide_stride2)(r);
}
#endif

static void FC_FN(conv_row)(const fc_conv_row *r)
{
    if (r->pixels <= 0)
        return;
    const int side_by_side = r->x_pixel == VL && r->y_pixel == VL;
    if (r->lanes == 1)
        FC_FN(conv_row_steps_any)(r);
#if WIDE_BLOCKS > 2
    else if (r->blocks > 2)
        FC_FN(conv_row_wide)(r);
#endif
    else if (r->half && side_by_side)
        FC_FN(conv_row_half_stride1)(r);
    else if (r->half)
        FC_FN(conv_row_half)(r);
    else if (side_by_side)
        FC_FN(conv_row_stride1)(r);
    else if (r->x_pixel == 2 * VL)
        FC_FN(conv_row_stride2)(r);
    else if (r->x_pixel == 1)
        FC_FN(conv_row_dense)(r);
    else
        FC_FN(conv_row_strided)(r);
}
