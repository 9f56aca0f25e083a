/* fastcnn.h: the one header that Cython sees.
 *
 * It declares the tensor view that every kernel takes, the argument structs of the tiles, and the table of functions
 * that each instruction set fills in. A tile computes one row or one span in vector registers. Loops over rows,
 * threads, memory and validation are left to src/fastcnn/kernels.
 */
#ifndef FASTCNN_H
#define FASTCNN_H

#include <stddef.h>
#include <stdint.h>

/* A view of N x C x H x W floats. Channels are stored in blocks of `lanes`: lanes = 1 is NCHW, lanes = VL the
 * blocked layout [N][C/VL][H][W][VL], lanes = C is NHWC. Strides count floats; a pixel is `lanes` floats.
 * Lanes beyond C may hold anything: no kernel lets them reach a lane below C. A halo is a border of zeros around every
 * plane that lies outside the view: data points at the first interior pixel. */
typedef struct {
    float *data;
    ptrdiff_t n, c, h, w;
    ptrdiff_t image, block, row;
    ptrdiff_t lanes;
    ptrdiff_t top, left, bottom, right; /* halo, in pixels */
} fc_tensor;

/* Elementwise functions. Up to CLIP they are bounds, at most a max and a min, and cost little where they are fused. */
enum { FC_NONE, FC_RELU, FC_CLIP, FC_LEAKY_RELU, FC_TANH, FC_SIGMOID, FC_HARD_SWISH, FC_SILU };

typedef struct {
    int kind;
    float low, high; /* FC_RELU: 0, +inf; FC_CLIP: the bounds; all others: -inf, +inf */
    float alpha;     /* FC_LEAKY_RELU: slope of the negative side */
} fc_activation;

/* A row of a convolution: output pixels side by side, for some blocks of output channels.
 *
 *   y[o][p] = act(residual[o][p] + start[o][p] + sum over taps t and their channels i of
 *                 x[taps[t] + i * x_channel + p * x_pixel] * w[t][i][o])
 *
 * A tap is a pixel under the filter and a block of input channels. There are three families of tiles, which share the
 * fields of fc_conv_row. Blocks: a tap holds many channels. Steps: a tap holds one channel, so that the loop over
 * channels falls away. Narrow: as steps, but a vector holds neighbouring pixels of one output channel.
 *
 * An image row may end within `pixels`. A gap follows in y and in the residual: after `until_gap` pixels (0: never),
 * and then after every `gap_every`, which are as many as a tile has or more. Gaps ask for x_pixel = y_pixel = VL. */
typedef struct {
    const float *x;                    /* IN  first pixel */
    const ptrdiff_t *taps;             /* IN  where each tap's inputs lie, in floats from x */
    const float *w;                    /* IN  [taps][channels][blocks][VL] */
    const float *bias;                 /* IN  [blocks][VL] */
    const float *residual;             /* IN  or NULL; pixels y_pixel apart */
    float *y;                          /* OUT or INOUT */
    ptrdiff_t pixels;                  /* of the row */
    ptrdiff_t x_pixel, y_pixel;        /* from one pixel to the next */
    ptrdiff_t y_block, residual_block; /* from one block of output channels to the next */
    ptrdiff_t until_gap, gap_every;    /* pixels */
    ptrdiff_t y_gap, residual_gap;     /* floats */
    int blocks;                        /* of output channels */
    fc_activation act;
} fc_conv_row;

/* Taps of many channels. Those of the last block of input channels may hold fewer. A matrix product is the same sum
 * with one tap: pixels are rows of the left matrix, channels its columns. The sum starts from y or from the bias.
 *
 * A half block of outputs has VL / 2 channels at most. Its weights are in the order of `halve_weights`, x_channel is 1,
 * and both numbers of channels are even. */
typedef struct {
    fc_conv_row row;                          /* blocks: 1, 2, or up to `wide_blocks` where x_pixel is VL or 2 VL */
    ptrdiff_t full_taps, full_channels;       /* taps of full blocks of inputs, and the channels of each */
    ptrdiff_t partial_taps, partial_channels; /* taps of a last block that is not full; they come last */
    ptrdiff_t x_channel;                      /* from one channel of a tap to the next */
    int accumulate;                           /* whether the sum starts from y, else from the bias */
    int half;                                 /* whether the last block of outputs is a half block */
    const float *ahead;                       /* weights to prefetch: those that are read after these */
    ptrdiff_t ahead_bytes;                    /* how much of them for each step of a tile */
} fc_conv_blocks;

/* Taps of a single channel: a step each. The sum starts from the bias. */
typedef struct {
    fc_conv_row row;  /* blocks: 1 or 2 */
    ptrdiff_t steps;  /* number of taps */
    ptrdiff_t kept;   /* channels of the first block that are not computed: y holds their sums already */
    ptrdiff_t w_skip; /* floats between the weights of two steps, where a single block is one of several */
} fc_conv_steps;

#define FC_NARROW_MOST 6 /* docs/tuning.md, "Narrow tiles" */

/* Steps for few output channels and at least VL pixels of a plain image, x_pixel = 1. The output is a block, or it is
 * plain: y_pixel = 1, y_block from one channel to the next. Pooled outputs are maxima of 2 x 2 pixels, of two rows of
 * `pixels`; act is FC_CLIP at most. Plain and pooled outputs have no residual. */
typedef struct {
    fc_conv_row row;      /* blocks: 1 */
    ptrdiff_t steps;      /* number of taps */
    ptrdiff_t channels;   /* of the output: 1 to FC_NARROW_MOST */
    ptrdiff_t x_pool_row; /* from one row of a pooling window to the other; 0: outputs are not pooled */
} fc_conv_narrow;

/* A matrix times one vector: y[o] = act(bias[o] + sum over i of x[i] * w[i][o]). */
typedef struct {
    const float *x;    /* IN  [inner] */
    const float *w;    /* IN  [pair of blocks][inner][block of the pair][VL] */
    const float *bias; /* IN  [blocks][VL] */
    float *y;          /* OUT [blocks][VL] */
    ptrdiff_t inner, blocks;
    fc_activation act;
} fc_matvec;

/* Rows of a depthwise convolution for one block of channels. */
typedef struct {
    const float *x;        /* IN  first pixel, first tap */
    const float *w;        /* IN  [kh][kw][VL] */
    const float *bias;     /* IN  [VL] */
    const float *residual; /* IN  or NULL; pixels side by side */
    float *y;              /* OUT pixels y_pixel apart: VL for filters 3 or 5 taps wide with x_col = VL */
    ptrdiff_t x_row, x_col, x_pixel, y_pixel;
    ptrdiff_t x_step, y_row, residual_row; /* from one row of outputs to the next */
    ptrdiff_t kh, kw, rows, pixels;
    fc_activation act;
} fc_depthwise;

/* The outputs of one patch of a Winograd convolution: m x m pixels, or m / 2 x m / 2 pooled ones, of which rows x
 * columns lie inside the image. */
typedef struct {
    const float *m;        /* IN  a vector for each component, `component` floats apart */
    const float *bias;     /* IN  [VL] */
    const float *residual; /* IN  or NULL; pixels side by side */
    float *y;              /* OUT pixels side by side */
    ptrdiff_t component, y_row, residual_row;
    ptrdiff_t rows, columns;
    fc_activation act;
} fc_winograd_output;

/* Sums over input channels of filter * patch, the 36 components of F(4x4, 3x3), for `winograd_patches` patches and one
 * block of output channels; see winograd_sums.h for the basis that the filters are in. */
typedef struct {
    const float *v; /* IN  [blocks][36][patches][VL] */
    const float *w; /* IN  [channels][3][3][VL] */
    float *m;       /* OUT or INOUT (accumulate) [36][patches][VL] */
    ptrdiff_t channels;
    int accumulate;
    const float *ahead;    /* weights to prefetch: those that are read after these */
    ptrdiff_t ahead_bytes; /* how much of them for each channel and row of six components */
    /* The first `broad` patches need the last column of components: none where it is negative, all where there are
     * fewer. `tall` patches need the last row. If they are half of the patches or fewer, they lie among the half that
     * begins at `first_tall`. */
    ptrdiff_t broad, tall, first_tall;
} fc_winograd_sums;

/* One row of a pooling: windows are clipped here at the left and right border, and by the caller at the top and
 * bottom one. */
typedef struct {
    const float *x;       /* IN  first row of the window, pixel 0 of the image */
    float *y;             /* OUT [pixels][lanes] */
    ptrdiff_t x_row;      /* from one row of the window to the next */
    ptrdiff_t rows;       /* rows of the window that lie inside the image */
    ptrdiff_t row_extent; /* rows that the divisor of an average counts */
    ptrdiff_t width, pad_left, pad_right;
    ptrdiff_t kw, stride, dilation, pixels;
    ptrdiff_t lanes; /* VL, or 1 */
    int average, count_include_pad;
} fc_pool_row;

/* A row of pixels of a local response normalisation; see tiles/lrn.h. */
typedef struct {
    const float *x; /* IN  first block */
    float *y;       /* OUT the result, or the gradient by x */
    ptrdiff_t x_block, y_block;
    ptrdiff_t channels, pixels;
    ptrdiff_t before, size; /* channels of a sum that come before its own, and in all */
    float scale, bias, beta;
} fc_lrn_row;

enum { FC_ADD, FC_MULTIPLY };

/* Gradient of filters: for lanes i and blocks b
 *
 *   y[to[i] + b * y_block][o] += sum over images, rows, pixels of x[...][i] * g[b][...][o]
 */
typedef struct {
    const float *x;      /* IN  first pixel under the tap, first lane */
    const float *g;      /* IN  gradient of the outputs, blocked */
    float *y;            /* OUT or INOUT (accumulate) */
    const ptrdiff_t *to; /* IN  where the sums of each lane are */
    ptrdiff_t images, rows, pixels, lanes;
    ptrdiff_t x_image, x_row, x_pixel;
    ptrdiff_t g_image, g_row, g_block;
    ptrdiff_t y_block;
    int blocks; /* 1 to 3 */
    int accumulate;
} fc_conv_grad;

/* The same for depthwise filters, one block of channels: y[kh][kw][VL] += sum over rows, pixels of x * g. */
typedef struct {
    const float *x;                  /* IN */
    const float *g;                  /* IN */
    float *y;                        /* INOUT */
    ptrdiff_t x_row, x_col, x_pixel; /* from one tap to the next, and from one output pixel to the next */
    ptrdiff_t x_step, g_row;         /* from one row of outputs to the next */
    ptrdiff_t kh, kw, rows, pixels;
} fc_depthwise_grad;

/* What of a gradient passes the activation behind x * scale + shift: all but where that is <= low or >= high. */
typedef struct {
    const float *affine; /* IN  [2][VL]: scale, shift; NULL: there is no activation, all passes */
    float low, high;     /* NaN: no bound */
} fc_gate;

/* Sums over the pixels of one block: sums[0] += g and sums[1] += g * (x - shift) where x is given, g as it passes the
 * gate; or, of `moments`, sums[0] += g - shift and sums[1] += (g - shift)^2. */
typedef struct {
    const float *g;     /* IN */
    const float *x;     /* IN  or NULL */
    const float *shift; /* IN  [VL] */
    double *sums;       /* INOUT [2][VL], [1][VL] without x and moments */
    ptrdiff_t g_row, x_row, rows, pixels;
    int moments;
    fc_gate gate;
} fc_pixel_sums;

enum { FC_SGD, FC_ADAM, FC_ADAMW, FC_RMSPROP };

typedef struct {
    int kind;
    int nesterov;
    float scale; /* of the gradients: below 1 where they are clipped */
    float rate, decay, momentum, epsilon;
    float beta2, one_minus_beta1, one_minus_beta2;
    float correction1, correction2; /* 1 - beta1^t, and the root of 1 - beta2^t */
} fc_update;

typedef struct {
    const char *isa;
    int vl;          /* floats in a vector */
    int mr;          /* pixels in the largest convolution tile of two blocks of outputs */
    int wide_blocks; /* the most blocks of outputs in a tile of `conv_blocks` whose x_pixel is VL or 2 VL */
    int available;   /* set by cpu.c: this machine can run it */
    void (*conv_blocks)(const fc_conv_blocks *row);
    void (*conv_steps)(const fc_conv_steps *row);
    void (*conv_narrow)(const fc_conv_narrow *row);
    /* Puts the weights of `steps` steps of 1 or 2 blocks, of which the last is half, into the order that tiles read. */
    void (*halve_weights)(float *w, ptrdiff_t steps, ptrdiff_t blocks);
    void (*matvec)(const fc_matvec *product);
    void (*matvec_split)(const fc_matvec *product); /* in four partial sums; at most 2 blocks */
    void (*depthwise)(const fc_depthwise *rows);
    /* Winograd transforms for m = 2, 4 and 6: a patch of (m + 2)^2 pixels to as many vectors, and back; and for m = 2
     * with stride 2: 5^2 pixels to as many vectors, and 3^2 vectors back. */
    void (*winograd_input[4])(const float *x, ptrdiff_t x_row, float *v, ptrdiff_t component);
    void (*winograd_output[4])(const fc_winograd_output *output);
    void (*winograd_pooled[4])(const fc_winograd_output *output); /* 2 x 2 pixels to their maximum */
    int winograd_patches;
    void (*winograd_sums)(const fc_winograd_sums *sums);
    void (*pool_row)(const fc_pool_row *row);
    /* Mean over rows x width pixels of VL lanes: y[VL]. */
    void (*mean_pixels)(const float *x, ptrdiff_t x_row, ptrdiff_t rows, ptrdiff_t width, float *y);
    /* y[i] = act(x[i]) for n floats; x and y may be the same. */
    void (*activate)(const fc_activation *act, const float *x, float *y, ptrdiff_t n);
    /* y[i] = act(x[i] * scale[i % VL] + shift[i % VL] + residual[i]); the residual may be NULL. */
    void (*affine)(const fc_activation *act, const float *scale, const float *shift, const float *x,
                   const float *residual, float *y, ptrdiff_t n);
    /* z[i] = act(x[i * x_step] op y[i * y_step]); steps are 0 or 1. */
    void (*binary)(int op, const fc_activation *act, const float *x, ptrdiff_t x_step, const float *y, ptrdiff_t y_step,
                   float *z, ptrdiff_t n);
    void (*softmax)(const float *x, float *y, ptrdiff_t n);
    /* squares: scratch, before + channels + size + 2 VL floats. */
    void (*lrn_row)(const fc_lrn_row *row, float *squares);
    /* Its gradient by x, to y, from the gradient g of the row's y; scratch twice as large. */
    void (*lrn_grad_row)(const fc_lrn_row *row, const float *g, ptrdiff_t g_block, float *squares);
    /* [channels][plane] <-> [pixels][VL]; lanes from `channels` to VL are written as zeros, and never read. */
    void (*interleave)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t channels, ptrdiff_t pixels);
    void (*deinterleave)(const float *x, float *y, ptrdiff_t plane, ptrdiff_t channels, ptrdiff_t pixels);
    /* y[p * lanes + c] = x[c * plane + p]. */
    void (*zip_planes)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t lanes, ptrdiff_t pixels);
    /* y[p * y_pixel] = x[p * x_pixel], vectors of VL. */
    void (*copy_pixels)(const float *x, ptrdiff_t x_pixel, float *y, ptrdiff_t y_pixel, ptrdiff_t pixels);
    void (*conv_grad)(const fc_conv_grad *row);
    void (*depthwise_grad)(const fc_depthwise_grad *rows);
    void (*pixel_sums)(const fc_pixel_sums *rows);
    /* y = a * g + b * x + c for n floats, g as it passes the gate, abc [3][VL]. */
    void (*blend)(const fc_gate *gate, const float *abc, const float *g, const float *x, float *y, ptrdiff_t n);
    /* Gradients of `activate`: v is the output, or the input of FC_HARD_SWISH and FC_SILU. */
    void (*activate_grad)(const fc_activation *act, const float *g, const float *v, float *y, ptrdiff_t n);
    /* Adds to y, the gradient of the row's x, the gradient g of its y. */
    void (*pool_grad_row)(const fc_pool_row *row, const float *g, float *y, ptrdiff_t y_row);
    /* G w G^T of VL filters w [3][3][VL], G (n x 3), to n x n vectors. */
    void (*winograd_filter)(const float *G, int n, const float *w, float *u, ptrdiff_t component);
    /* A g A^T of 4 x 4 gradients, of which rows x columns lie inside the image, to 6 x 6 vectors. */
    void (*winograd_spread)(const float *g, ptrdiff_t g_row, ptrdiff_t rows, ptrdiff_t columns, float *u,
                            ptrdiff_t component);
    /* G^T M G of 6 x 6 vectors, G (6 x 3), to w [3][3][VL]. */
    void (*winograd_weight)(const float *G, const float *m, ptrdiff_t component, float *w);
    /* One step of an optimizer on n parameters; m, v and c are NULL where it keeps no such state. RMSprop with c is
     * centered. */
    void (*update)(const fc_update *how, float *p, const float *g, float *m, float *v, float *c, ptrdiff_t n);
    /* Runs n rounds of independent multiply-adds; the number of floating point operations done. */
    double (*multiply_add_burst)(ptrdiff_t n, float *sink);
} fc_kernels;

/* The tables of this build, best first; NULL ends the list. `available` is filled in on the first call. */
const fc_kernels *const *fc_all_kernels(void);

/* Which of avx2+fma, avx512f the processor and the operating system support: text for diagnosis. */
const char *fc_cpu_features(void);

#endif
