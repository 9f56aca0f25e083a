/* int8.h: the tiles of 8-bit layers, as Cython sees them. Their tables stand beside those of fastcnn.h: a machine that
 * has the instructions of one table of floats may have several sets of instructions for integers.
 *
 * Activations are bytes, 0 to 255: q stands for scale * (q - zero). Weights are signed bytes. Sums have 32 bits and are
 * exact, and every rounding is told by a formula: results have the same bits on every machine.
 *
 * VL is as in fastcnn.h. A block is VL channels of a pixel, side by side. A quad is four neighbouring inputs, which one
 * instruction multiplies with the weights of VL outputs and adds. Distances count elements of what they lead through:
 * bytes in quantised values, floats in others.
 */
#ifndef FASTCNN_INT8_H
#define FASTCNN_INT8_H

#include <stddef.h>
#include <stdint.h>

/* From sums to outputs: y = clip(rint(t), low, high) + zero, with
 *
 *   t = fma(residual - residual_zero, residual_scale, (float)sum * scale)
 *
 * Without a residual, t is the product alone. rint rounds half to even. A NaN becomes the lower bound. With a table, y
 * is then table[y]. Outputs that are floats are the product itself.
 *
 * Where `rounds` is 1, the product becomes a byte of its own, less its zero point, before the residual is added:
 *
 *   t = fma(rint(clip((float)sum * scale, least, most)), own_scale, (residual - residual_zero) * residual_scale) */
typedef struct {
    const uint8_t *table;                                                             /* IN  [256], or NULL */
    void (*look_up)(const uint8_t *table, const uint8_t *x, uint8_t *y, ptrdiff_t n); /* of fc_int8_kernels */
    int rounds;
    float own_scale, least, most;
    float residual_scale;
    float low, high; /* bounds, minus zero */
    int zero, residual_zero;
    int floats;  /* 1: y is floats */
    int bounded; /* 1: no t is beyond 2^31, as sums of few products with small factors */
    int lanes;   /* of the last block of a tile: lanes that are stored, 1 to VL */
} fc_int8_finish;

/* A row of a convolution: neighbouring output pixels, for one or two blocks of outputs. A tap is a position of the
 * filter and a block of input channels: it has full_quads or partial_quads quads. */
typedef struct {
    const uint8_t *x;        /* IN  where the first pixel's inputs begin */
    const ptrdiff_t *taps;   /* IN  offset of each tap's first input from the pixel's place in x: full taps first */
    const void *w;           /* IN  [taps][quads of the tap][blocks], each of quad_bytes */
    const int32_t *bias;     /* IN  [blocks][VL] */
    const float *scale;      /* IN  [blocks][VL] */
    const uint8_t *residual; /* IN  or NULL */
    void *y;                 /* OUT first output pixel */
    const void *ahead;       /* weights to prefetch: a later call reads them */
    ptrdiff_t ahead_bytes;   /* of those, for each full tap of a tile */
    ptrdiff_t full_taps, partial_taps, partial_quads;   /* a full tap has VL / 4 quads */
    ptrdiff_t pixels, x_pixel, y_pixel, residual_pixel; /* number of outputs, and from one to the next */
    ptrdiff_t y_block, residual_block;                  /* from one block of outputs to the next */
    int blocks;                                         /* of outputs: 1 or 2 */
    fc_int8_finish finish;
} fc_int8_conv;

/* Rows of a depthwise convolution, for one block of channels. A quad is four taps of a filter. In an order by rows, the
 * weights are [kh][outputs][quads]: a row of the filter, moved to each of some neighbouring outputs. `int8_depthwise`
 * tells their numbers. In the order of taps, they are [quads of kh * kw taps]. */
typedef struct {
    const uint8_t *x;                      /* IN  input of the first output pixel's first tap */
    const uint8_t *x_end;                  /* the end of the memory that may be read */
    const void *w;                         /* IN  weights in quads */
    const int32_t *bias;                   /* IN  [VL] */
    const float *scale;                    /* IN  [VL] */
    const uint8_t *residual;               /* IN  pixels VL apart, or NULL */
    void *y;                               /* OUT first output pixel; neighbours are VL apart */
    ptrdiff_t x_row, x_col;                /* from one tap to the one below it, and to the one on its right */
    ptrdiff_t stride;                      /* pixels of x from one output to the next */
    ptrdiff_t x_step, y_row, residual_row; /* from one row of outputs to the next */
    ptrdiff_t kh, kw, rows, pixels;        /* taps of the filter, rows of outputs, and pixels of each row */
    int by_rows;                           /* the order of the weights */
    fc_int8_finish finish;
} fc_int8_depthwise;

/* How many neighbouring outputs read the same quads, and how many quads of a row they read, in an order by rows; 0
 * where a filter has none. */
static inline int fc_int8_outputs(ptrdiff_t kw, ptrdiff_t stride)
{
    return kw == 5 && stride == 1                ? 4
           : (kw == 3 || kw == 7) && stride == 1 ? 2
           : kw == 5 && stride == 2              ? 2
           : (kw == 3 || kw == 7) && stride == 2 ? 1
                                                 : 0;
}

static inline int fc_int8_quads(ptrdiff_t kw)
{
    return kw > 4 ? 2 : 1;
}

/* One row of outputs of a pooling, for one block of channels. Maxima keep the scale of x. The mean of `count` inputs is
 * t = (float)(sum - number * x_zero) * (scale / (float)count), with the number of inputs inside the image. */
typedef struct {
    const uint8_t *x;                       /* IN  column 0 of the image, in the first row of the windows */
    void *y;                                /* OUT [pixels][VL] */
    ptrdiff_t x_row;                        /* from one row of a window to the next */
    ptrdiff_t rows, row_extent;             /* rows of a window inside the image, and those that a mean counts */
    ptrdiff_t width, pad_left, pad_right;   /* columns of the image, and of the padding */
    ptrdiff_t kw, stride, dilation, pixels; /* taps side by side, pixels between windows and taps, and outputs */
    int average, count_include_pad;         /* mean or maximum; whether a mean counts padding */
    int x_zero;
    float scale;
    fc_int8_finish finish;
} fc_int8_pool;

/* Sums and products of two values. A sum is t = fma(a - a_zero, a_scale, (b - b_zero) * b_scale); a product is
 * t = (float)((a - a_zero) * (b - b_zero)) * a_scale. */
typedef struct {
    float a_scale, b_scale;
    int a_zero, b_zero;
    int one_pixel; /* 1: b is the VL values of one pixel, for all pixels of a */
    fc_int8_finish finish;
} fc_int8_binary;

/* The functions of one instruction set. */
typedef struct {
    const char *name;
    int vl;         /* as in fc_kernels: a table works beside those of the same length */
    int mr;         /* pixels of the largest tile of a convolution */
    int quad_bytes; /* of packed weights, for the quads of VL outputs */
    int flips;      /* 1: products take x - 128. The bias makes up for it: it has 128 * sum of w added */
    int available;  /* whether this machine runs them; set by fc_all_int8_kernels */
    void (*conv)(const fc_int8_conv *row);
    void (*depthwise)(const fc_int8_depthwise *rows);
    void (*pool)(const fc_int8_pool *row);
    void (*add)(const fc_int8_binary *how, const uint8_t *a, const uint8_t *b, void *y, ptrdiff_t n);
    void (*multiply)(const fc_int8_binary *how, const uint8_t *a, const uint8_t *b, void *y, ptrdiff_t n);
    void (*look_up)(const uint8_t *table, const uint8_t *x, uint8_t *y, ptrdiff_t n);
    /* y = saturate(rint(x / scale) + zero); NaN becomes 0. */
    void (*quantize)(const float *x, uint8_t *y, ptrdiff_t n, float scale, int zero);
    /* y = (float)(x - zero) * scale. */
    void (*dequantize)(const uint8_t *x, float *y, ptrdiff_t n, float scale, int zero);
    /* The same between planes of floats and up to four neighbouring bytes of each pixel. Channels that there are none
     * of become zero bytes, and are not read. Pixels of y may have fewer than four bytes: as many as channels. */
    void (*quantize_planes)(const float *x, ptrdiff_t plane, uint8_t *y, ptrdiff_t y_pixel, ptrdiff_t channels,
                            ptrdiff_t pixels, float scale, int zero);
    void (*dequantize_planes)(const uint8_t *x, ptrdiff_t x_pixel, float *y, ptrdiff_t plane, ptrdiff_t channels,
                              ptrdiff_t pixels, float scale, int zero);
    /* Packs weights w [quads][VL][4]. */
    void (*pack)(const int8_t *w, void *packed, ptrdiff_t quads);
    /* Runs n rounds of independent quads. Returns the number of operations: two for each product. */
    double (*burst)(ptrdiff_t n, int32_t *sink);
} fc_int8_kernels;

/* The tables of this build, fastest first; NULL ends the list. Each call sets `available`. */
const fc_int8_kernels *const *fc_all_int8_kernels(void);

#endif
