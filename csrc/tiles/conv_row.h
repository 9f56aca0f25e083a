/* conv_row.h: a row of pixels, tile by tile, for taps of many channels and of one.
 *
 * A row is compiled for several distances between pixels: a distance known at compile time needs no register. */
enum { FC_BLOCKS_TILE, FC_HALF_TILE, FC_STEPS_TILE };

/* There is a tile for every number of pixels up to a limit. Cases beyond it never run: they compile the small tile of
 * P = 1. A tile of a single block takes twice as many pixels as one of two, to have as many sums in flight. */
// clang-format off
#define FC_UP_TO_6(F) F(1) F(2) F(3) F(4) F(5) F(6)
#define FC_UP_TO_14(F) FC_UP_TO_6(F) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14)
#if MR == 6
#define FC_QUAD_TILES(F) F(1) F(2) F(3)
#define FC_TRIPLE_TILES(F) FC_QUAD_TILES(F) F(4)
#define FC_PAIR_TILES(F) FC_UP_TO_6(F)
#define FC_SINGLE_TILES(F) FC_UP_TO_6(F) F(7) F(8) F(9) F(10) F(11) F(12)
#else
#define FC_QUAD_TILES(F) FC_UP_TO_6(F)
#define FC_TRIPLE_TILES(F) FC_UP_TO_6(F) F(7) F(8)
#define FC_PAIR_TILES(F) FC_UP_TO_14(F)
#define FC_15_TO_28(F) F(15) F(16) F(17) F(18) F(19) F(20) F(21) F(22) F(23) F(24) F(25) F(26) F(27) F(28)
#define FC_SINGLE_TILES(F) FC_UP_TO_14(F) FC_15_TO_28(F)
#endif
#define FC_TILE(P, B) \
    case P: \
        for (; count > 0; count--) \
            if (tile == FC_STEPS_TILE && B <= 2) \
                steps_tile((const fc_conv_steps *)r, &at, P <= limit ? P : 1, B, x_pixel, y_pixel); \
            else if (tile == FC_HALF_TILE && B <= 2) \
                half_tile((const fc_conv_blocks *)r, &at, P <= limit ? P : 1, B, x_pixel); \
            else \
                blocks_tile((const fc_conv_blocks *)r, &at, P <= limit ? P : 1, B, x_pixel, y_pixel); \
        break;
#define FC_PAIR(P) FC_TILE(P, 2)
#define FC_TRIPLE(P) FC_TILE(P, 3)
#define FC_QUAD(P) FC_TILE(P, 4)
#define FC_SINGLE(P) FC_TILE(P, 1)
// clang-format on

/* A family's struct begins with its row. */
FC_INLINE void conv_row_by(const fc_conv_row *r, const int tile, const ptrdiff_t x_pixel, const ptrdiff_t y_pixel,
                           const int blocks, const int limit)
{
    /* Pixels are divided evenly: 13 become 5 + 4 + 4, not 6 + 6 + 1. A tile of one pixel waits for its weights. */
    const ptrdiff_t tiles = (r->pixels + limit - 1) / limit;
    const ptrdiff_t part = quotient(r->pixels, tiles), larger = r->pixels - part * tiles;
    FC_FN(tile_place) at = {r->x, r->residual, r->y, r->until_gap ? r->until_gap : r->pixels + 1,
                            tile == FC_STEPS_TILE ? NULL : (const char *)((const fc_conv_blocks *)r)->ahead};
    for (ptrdiff_t done = 0, end; done < tiles; done = end) { /* at most twice: larger tiles, then smaller ones */
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

#define FC_ROW(name, kind, tile, x_pixel, y_pixel, single_limit, pair_limit)                                           \
    static __attribute__((noinline)) void FC_FN(name)(const kind *r)                                                   \
    {                                                                                                                  \
        if (r->row.blocks == 2)                                                                                        \
            conv_row_by(&r->row, tile, x_pixel, y_pixel, 2, pair_limit);                                               \
        else                                                                                                           \
            conv_row_by(&r->row, tile, x_pixel, y_pixel, 1, single_limit);                                             \
    }
#define FC_BLOCKS_ROW(name, x_pixel, y_pixel, single_limit, pair_limit)                                                \
    FC_ROW(name, fc_conv_blocks, FC_BLOCKS_TILE, x_pixel, y_pixel, single_limit, pair_limit)
#define FC_HALF_ROW(name, x_pixel, y_pixel, single_limit, pair_limit)                                                  \
    FC_ROW(name, fc_conv_blocks, FC_HALF_TILE, x_pixel, y_pixel, single_limit, pair_limit)
#define FC_STEPS_ROW(name, x_pixel, y_pixel, single_limit, pair_limit)                                                 \
    FC_ROW(name, fc_conv_steps, FC_STEPS_TILE, x_pixel, y_pixel, single_limit, pair_limit)

/* Stride 1, where pixels of x and y are neighbours; stride 2; dense, the columns of im2col, where pixels are
 * neighbouring floats. */
FC_BLOCKS_ROW(conv_blocks_stride1, VL, VL, 2 * MR, MR)
FC_BLOCKS_ROW(conv_blocks_stride2, 2 * VL, r->row.y_pixel, 2 * MR, MR)
FC_BLOCKS_ROW(conv_blocks_dense, 1, r->row.y_pixel, 2 * MR, MR)
/* Any distance. Single blocks have a function of their own: in a common one, the compiler spills distances. */
#define FC_STRIDED_ROW(name, blocks)                                                                                   \
    static __attribute__((noinline)) void FC_FN(name)(const fc_conv_blocks *r)                                         \
    {                                                                                                                  \
        conv_row_by(&r->row, FC_BLOCKS_TILE, r->row.x_pixel, r->row.y_pixel, blocks, MR_STRIDED);                      \
    }
FC_STRIDED_ROW(conv_single_strided, 1)
FC_STRIDED_ROW(conv_pair_strided, 2)
/* Tiles with a half block. */
FC_HALF_ROW(conv_half_stride1, VL, VL, MR, FC_HALF_PAIR)
FC_HALF_ROW(conv_half_strided, r->row.x_pixel, r->row.y_pixel, MR_STRIDED,
            FC_HALF_PAIR < MR_STRIDED ? FC_HALF_PAIR : MR_STRIDED)
/* Steps of NCHW images, with stride 1 and 2; of RGB images in NHWC, with stride 1 and 2; of blocked images; of any
 * other distance. */
FC_STEPS_ROW(conv_steps_plain, 1, r->row.y_pixel, 2 * MR, MR)
FC_STEPS_ROW(conv_steps_plain_stride2, 2, VL, MR_STRIDED, MR)
FC_STEPS_ROW(conv_steps_rgb, 3, VL, MR_STRIDED, MR)
FC_STEPS_ROW(conv_steps_rgb_stride2, 6, VL, MR_STRIDED, MR)
FC_STEPS_ROW(conv_steps_stride1, VL, VL, 2 * MR, MR)
FC_STEPS_ROW(conv_steps_strided, r->row.x_pixel, r->row.y_pixel, MR_STRIDED, MR_STRIDED)

#if WIDE_BLOCKS > 2
#define FC_WIDE_ROW(name, x_pixel, y_pixel)                                                                            \
    static __attribute__((noinline)) FC_NO_COLOURING void FC_FN(name)(const fc_conv_blocks *r)                         \
    {                                                                                                                  \
        if (r->row.blocks == 3)                                                                                        \
            conv_row_by(&r->row, FC_BLOCKS_TILE, x_pixel, y_pixel, 3, 2 * MR / 3);                                     \
        else                                                                                                           \
            conv_row_by(&r->row, FC_BLOCKS_TILE, x_pixel, y_pixel, 4, 2 * MR / 4);                                     \
    }
FC_WIDE_ROW(conv_wide_stride1, VL, VL)
FC_WIDE_ROW(conv_wide_stride2, 2 * VL, r->row.y_pixel)
#endif

static void FC_FN(conv_blocks)(const fc_conv_blocks *r)
{
    const ptrdiff_t x_pixel = r->row.x_pixel;
    const int side_by_side = x_pixel == VL && r->row.y_pixel == VL;
    if (r->row.pixels <= 0)
        return;
#if WIDE_BLOCKS > 2
    if (r->row.blocks > 2) {
        if (side_by_side)
            FC_FN(conv_wide_stride1)(r);
        else
            FC_FN(conv_wide_stride2)(r);
        return;
    }
#endif
    if (HALF_BLOCKS && r->half && side_by_side)
        FC_FN(conv_half_stride1)(r);
    else if (HALF_BLOCKS && r->half)
        FC_FN(conv_half_strided)(r);
    else if (side_by_side)
        FC_FN(conv_blocks_stride1)(r);
    else if (x_pixel == 2 * VL)
        FC_FN(conv_blocks_stride2)(r);
    else if (x_pixel == 1)
        FC_FN(conv_blocks_dense)(r);
    else if (r->row.blocks == 2)
        FC_FN(conv_pair_strided)(r);
    else
        FC_FN(conv_single_strided)(r);
}

static void FC_FN(conv_steps)(const fc_conv_steps *r)
{
    const ptrdiff_t x_pixel = r->row.x_pixel;
    if (r->row.pixels <= 0)
        return;
    if (x_pixel == 1)
        FC_FN(conv_steps_plain)(r);
    else if (r->row.y_pixel != VL)
        FC_FN(conv_steps_strided)(r);
    else if (x_pixel == VL)
        FC_FN(conv_steps_stride1)(r);
    else if (x_pixel == 2)
        FC_FN(conv_steps_plain_stride2)(r);
    else if (x_pixel == 3)
        FC_FN(conv_steps_rgb)(r);
    else if (x_pixel == 6)
        FC_FN(conv_steps_rgb_stride2)(r);
    else
        FC_FN(conv_steps_strided)(r);
}
