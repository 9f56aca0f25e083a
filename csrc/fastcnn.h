/* fastcnn.h: the one header that Cython sees.
 *
 * It declares the tensor view of all kernels and the argument structs of the tiles. Each instruction set fills in a
 * table of functions. A tile computes one row or one span in vector registers. Loops over rows, threads, memory and
 * validation are left to src/fastcnn/kernels.
 *
 * VL is the number of floats in a vector register. A block is VL channels that one vector holds: a lane is one of
 * them. Distances count floats unless a comment says otherwise. A tile reads what an IN pointer points at, writes OUT,
 * and adds to INOUT. Brackets give the shape of that memory.
 */
#ifndef FASTCNN_H
#define FASTCNN_H

#include <stddef.h>
#include <stdint.h>

/* A view of N x C x H x W elements, which are floats or bytes. Distances count elements. Channels are stored in blocks
 * of `lanes`. lanes = 1 is NCHW, and lanes = C is NHWC. lanes = VL is the blocked layout [N][C/VL][H][W][VL]. The last
 * block may have lanes beyond C. They may hold anything: no kernel lets them reach a lane below C. A halo is a border
 * around every plane, outside the view: zeros, or the byte that stands for zero. */
typedef struct {
    float *data;                        /* first pixel inside the halo */
    ptrdiff_t n, c, h, w;               /* images, channels, rows and columns */
    ptrdiff_t image, block, row;        /* from one image, block of channels or row to the next */
    ptrdiff_t lanes;                    /* elements of a pixel */
    ptrdiff_t top, left, bottom, right; /* pixels of the halo on each side */
    ptrdiff_t item;                     /* bytes of an element */
    int fill;                           /* the byte that the halo consists of */
} fc_tensor;

/* Elementwise functions. Those up to CLIP are bounds: a tile fuses them as a max and a min. */
enum {
    FC_NONE,
    FC_RELU,
    FC_CLIP,
    FC_LEAKY_RELU,
    FC_TANH,
    FC_SIGMOID,
    FC_HARD_SWISH,
    FC_SILU,
    FC_GELU,
    FC_GELU_TANH,
    FC_ERF,
    FC_ABS,
    FC_EXP,
    FC_SQRT,
    FC_NEGATIVE,
    FC_RECIPROCAL
};

typedef struct {
    int kind;
    float low, high; /* FC_RELU: 0, +inf; FC_CLIP: the bounds; all others: -inf, +inf */
    float alpha;     /* FC_LEAKY_RELU: slope of the negative side */
} fc_activation;

/* A row of a convolution: neighbouring output pixels p, for some blocks of output channels o.
 *
 *   y[o][p] = act(residual[o][p] + start[o][p] + sum[o][p]);
 *   sum[o][p] = sum of x[taps[t] + i * x_channel + p * x_pixel] * w[t][i][o] over taps t and their channels i.
 *
 * A tap is a position of the filter and a block of input channels. Three families of tiles share the fields of
 * fc_conv_row. Blocks: a tap holds many channels. Steps: a tap holds one channel, and there is no loop over channels.
 * Narrow: as steps, but a vector holds neighbouring pixels of one output channel.
 *
 * The pixels may span several rows of the output image. Between these, y and the residual have a gap: the halo. The
 * first gap follows after `until_gap` pixels, and each further one after `gap_every` pixels. `gap_every` is at least
 * the pixels of a tile, so that no tile meets two gaps. Gaps require x_pixel = y_pixel = VL. */
typedef struct {
    const float *x;                    /* IN  where the first pixel's inputs begin */
    const ptrdiff_t *taps;             /* IN  offset of each tap's first input from the pixel's place in x */
    const float *w;                    /* IN  [taps][channels of the tap][blocks][VL] */
    const float *bias;                 /* IN  [blocks][VL] */
    const float *residual;             /* IN  added before the activation, pixels y_pixel apart; or NULL */
    float *y;                          /* OUT first output pixel; INOUT where the sum starts from y */
    ptrdiff_t pixels;                  /* number of output pixels, at least 0 */
    ptrdiff_t x_pixel, y_pixel;        /* from one output pixel to the next: in x, and in y and the residual */
    ptrdiff_t y_block, residual_block; /* from one block of output channels to the next */
    ptrdiff_t until_gap, gap_every;    /* pixels before the first gap (0: no gap), and between two gaps */
    ptrdiff_t y_gap, residual_gap;     /* floats to skip at a gap */
    int blocks;                        /* number of blocks of output channels */
    fc_activation act;
} fc_conv_row;

/* Taps of many channels. A tap of the last block of input channels may hold fewer. A matrix product is the same sum
 * with one tap: pixels are rows of the left matrix, channels its columns.
 *
 * A half block of outputs has VL / 2 channels at most. It requires weights in the order of `halve_weights`, x_channel
 * = 1, and even numbers of channels in every tap. */
typedef struct {
    fc_conv_row row;                          /* blocks: 1, 2, or up to `wide_blocks` where x_pixel is VL or 2 VL */
    ptrdiff_t full_taps, full_channels;       /* taps of full blocks of inputs, and the channels of each */
    ptrdiff_t partial_taps, partial_channels; /* taps of a last block that is not full, after all full ones */
    ptrdiff_t x_channel;                      /* from one channel of a tap to the next */
    int accumulate;                           /* 1: the sum starts from y, 0: from the bias */
    int half;                                 /* 1: the last block of outputs is a half block */
    const float *ahead;                       /* weights to prefetch: a later call reads them */
    ptrdiff_t ahead_bytes;                    /* bytes of `ahead` to prefetch in each step of a tile */
} fc_conv_blocks;

/* Taps of a single channel: each is one step. The sum starts from the bias. */
typedef struct {
    fc_conv_row row;  /* blocks: 1 or 2 */
    ptrdiff_t steps;  /* number of taps */
    ptrdiff_t kept;   /* first channels of the first block that keep their values in y: they are final already */
    ptrdiff_t w_skip; /* a single block's step reads VL weights, then skips this many: those of other blocks */
} fc_conv_steps;

#define FC_NARROW_MOST 6 /* docs/tuning.md, "Narrow tiles" */

/* Steps for few output channels of an NCHW image: x_pixel is 1. The output is blocked, or it is NCHW: then y_pixel is
 * 1, and y_block leads from one channel to the next. A pooled output is the maximum of 2 x 2 pixels, from two rows of
 * `pixels`. Its activation is FC_CLIP at most. NCHW and pooled outputs have no residual, and at least VL pixels. Fewer
 * pixels of a blocked output read VL floats of x for each tap. */
typedef struct {
    fc_conv_row row;      /* blocks: 1 */
    ptrdiff_t steps;      /* number of taps */
    ptrdiff_t channels;   /* number of output channels, 1 to FC_NARROW_MOST */
    ptrdiff_t x_pool_row; /* in x, from the upper row of a pooling window to the lower; 0: outputs are not pooled */
} fc_conv_narrow;

/* A matrix times one vector: y[o] = act(bias[o] + sum over i of x[i] * w[i][o]). */
typedef struct {
    const float *x;          /* IN  [inner] */
    const float *w;          /* IN  [pair of blocks][inner][block of the pair][VL] */
    const float *bias;       /* IN  [blocks][VL] */
    float *y;                /* OUT [blocks][VL] */
    ptrdiff_t inner, blocks; /* number of inputs, and of blocks of outputs; an odd last one has no second of its pair */
    fc_activation act;
} fc_matvec;

/* Rows of a depthwise convolution for one block of channels. */
typedef struct {
    const float *x;        /* IN  input of the first output pixel's first tap */
    const float *w;        /* IN  [kh][kw][VL] */
    const float *bias;     /* IN  [VL] */
    const float *residual; /* IN  added before the activation, pixels VL apart; or NULL */
    float *y;              /* OUT first output pixel */
    /* x_row and x_col lead in x from one tap to the one below it and to the one on its right. x_pixel and y_pixel lead
     * from one output pixel to the next. Filters 3 or 5 taps wide with x_col = VL require y_pixel = VL. */
    ptrdiff_t x_row, x_col, x_pixel, y_pixel;
    ptrdiff_t x_step, y_row, residual_row; /* from one row of outputs to the next */
    ptrdiff_t kh, kw, rows, pixels;        /* taps of the filter, rows of outputs, and pixels of each row */
    fc_activation act;
} fc_depthwise;

/* The outputs of one patch of a Winograd convolution. They are m x m pixels, or m / 2 x m / 2 after pooling. */
typedef struct {
    const float *m;                           /* IN  products in the transformed domain, a vector for each component */
    const float *bias;                        /* IN  [VL] */
    const float *residual;                    /* IN  added before the activation, pixels VL apart; or NULL */
    float *y;                                 /* OUT first output pixel; neighbours are VL apart */
    ptrdiff_t component, y_row, residual_row; /* from one component to the next, and from one row of outputs */
    ptrdiff_t rows, columns;                  /* outputs inside the image: only these are stored */
    fc_activation act;
} fc_winograd_output;

/* Sums over input channels of filter * patch, in the transformed domain of F(4x4, 3x3), which has 36 components. They
 * are those of `winograd_patches` patches and one block of output channels. */
typedef struct {
    const float *v;        /* IN  transformed patches [blocks][36][patches][VL] */
    const float *w;        /* IN  filters in the basis of winograd_sums.h [channels][3][3][VL] */
    float *m;              /* OUT [36][patches][VL]; INOUT where the sums accumulate */
    ptrdiff_t channels;    /* number of input channels */
    int accumulate;        /* 1: the sums start from m, 0: from zero */
    const float *ahead;    /* weights to prefetch: a later call reads them */
    ptrdiff_t ahead_bytes; /* bytes of `ahead` to prefetch for each channel and row of six components */
    /* A patch with four columns of outputs needs the last column of components; one with three does not. The first
     * `broad` patches need it: none where the number is negative, all where it exceeds the patches. `tall` patches have
     * four rows of outputs and need the last row of components. Where they are at most half of the patches, they lie in
     * the half that begins at patch `first_tall`. */
    ptrdiff_t broad, tall, first_tall;
} fc_winograd_sums;

/* One row of outputs of a pooling. The tile clips windows at the left and right border of the image. The caller clips
 * them at the top and bottom border. */
typedef struct {
    const float *x;                       /* IN  column 0 of the image, in the first row of the windows */
    float *y;                             /* OUT [pixels][lanes] */
    ptrdiff_t x_row;                      /* from one row of a window to the next */
    ptrdiff_t rows;                       /* rows of a window that lie inside the image */
    ptrdiff_t row_extent;                 /* rows of a window that the divisor of an average counts */
    ptrdiff_t width, pad_left, pad_right; /* columns of the image, and of the padding on both sides */
    /* kw is the taps of a window side by side. stride and dilation are pixels from one window and from one tap to the
     * next. pixels is the number of outputs. */
    ptrdiff_t kw, stride, dilation, pixels;
    ptrdiff_t lanes;                /* floats of a pixel: VL or 1 */
    int average, count_include_pad; /* average or maximum; whether the divisor of an average counts padding */
} fc_pool_row;

/* A row of pixels of a local response normalisation; tiles/lrn.h has the formula. */
typedef struct {
    const float *x;             /* IN  first pixel of the first block of channels */
    float *y;                   /* OUT the result; or the gradient of x */
    ptrdiff_t x_block, y_block; /* from one block of channels to the next */
    ptrdiff_t channels, pixels;
    ptrdiff_t before, size; /* channels of a sum of squares: those before the normalised channel, and all */
    float scale, bias, beta;
} fc_lrn_row;

/* Operations on two numbers. FC_BELOW is 1 where x < y, 0.5 where they are equal, else 0. FC_EQUAL is 1 or 0. */
enum { FC_ADD, FC_MULTIPLY, FC_SUBTRACT, FC_DIVIDE, FC_MINIMUM, FC_MAXIMUM, FC_BELOW, FC_EQUAL };

/* Normalisation of pixels over their channels, or of the rows of a matrix; tiles/layer_norm.h has the formulas. */
typedef struct {
    const float *x;                      /* IN  channel 0 of the first pixel */
    const float *g;                      /* IN  gradient of the result; NULL in the forward pass */
    float *y;                            /* OUT the result, or the gradient of x; it may be x or g */
    float *stats;                        /* OUT or IN mean and 1 / deviation of each pixel: [pixels / VL][2][VL] */
    const float *weight, *bias;          /* IN  [blocks][VL], or NULL */
    ptrdiff_t x_block, g_block, y_block; /* from one block of channels to the next */
    ptrdiff_t x_pixel, g_pixel, y_pixel; /* from one pixel to the next */
    ptrdiff_t first;                     /* number of the first pixel in stats */
    ptrdiff_t channels, pixels;
    float epsilon;
    int centred; /* 1: the mean is subtracted, 0: it counts as zero */
    int padded;  /* 1: a pixel's last block has VL floats, 0: it ends with its channels, and blocks follow each other */
} fc_layer_norm;

/* Results i < columns of a reduction over three loops, of which the last is the innermost:
 *
 *   y[i] = sum, sum of squares, or maximum of x[i + a * steps[0] + b * steps[1] + c * steps[2]]
 */
enum { FC_SUM, FC_SQUARES, FC_LARGEST };
typedef struct {
    const float *x; /* IN */
    float *y;       /* OUT [columns] */
    int kind;
    int root; /* 1: y is the square root of the sum */
    ptrdiff_t counts[3], steps[3], columns;
    double divisor; /* of the sum */
} fc_reduce;

/* A row of an image that is resampled, VL lanes a pixel. Taps and weights of rows and columns are separate:
 *
 *   y[q] = sum over r < row_count, j from starts[q] to starts[q + 1] of
 *          row_weights[r] * weights[j] * x[rows[r] + columns[j]]
 */
typedef struct {
    const float *x;                           /* IN */
    float *y;                                 /* OUT [pixels][VL] */
    const ptrdiff_t *rows, *starts, *columns; /* IN  offsets of rows and columns count floats */
    const float *row_weights, *weights;       /* IN */
    ptrdiff_t row_count, pixels;
} fc_resample;

/* Gradient of filters, for one tap: for input channels i and blocks b of output channels o
 *
 *   y[to[i] + b * y_block][o] += sum over images, rows, pixels of x[...][i] * g[b][...][o]
 */
typedef struct {
    const float *x;      /* IN  input under the tap for the first output pixel, first channel */
    const float *g;      /* IN  gradient of the outputs, blocked */
    float *y;            /* OUT gradient of the filters; INOUT where it accumulates */
    const ptrdiff_t *to; /* IN  offset of each input channel's sums in y, [lanes] */
    /* Images, rows of outputs of each, pixels of each row; and the number of input channels. */
    ptrdiff_t images, rows, pixels, lanes;
    ptrdiff_t x_image, x_row, x_pixel; /* in x, from one image, row or pixel of outputs to the next */
    ptrdiff_t g_image, g_row, g_block; /* in g, from one image, row or block of outputs to the next */
    ptrdiff_t y_block;                 /* in y, from one block of outputs to the next */
    int blocks;                        /* number of blocks of output channels, 1 to 3 */
    int accumulate;                    /* 1: sums are added to y, 0: they replace it */
} fc_conv_grad;

/* Gradient of depthwise filters, for one block of channels: y[kh][kw][VL] += sum over rows, pixels of x * g. */
typedef struct {
    const float *x;                  /* IN  input of the first output pixel's first tap */
    const float *g;                  /* IN  gradient of the outputs, pixels VL apart */
    float *y;                        /* INOUT gradient of the filters [kh][kw][VL] */
    ptrdiff_t x_row, x_col, x_pixel; /* as in fc_depthwise */
    ptrdiff_t x_step, g_row;         /* from one row of outputs to the next */
    ptrdiff_t kh, kw, rows, pixels;  /* taps of the filter, rows of outputs, and pixels of each row */
} fc_depthwise_grad;

/* The derivative of a bounded activation of z = x * scale + shift. A gradient passes where low < z < high. Elsewhere
 * it becomes zero. */
typedef struct {
    const float *affine; /* IN  [2][VL]: scale, shift; NULL: there is no activation, every gradient passes */
    float low, high;     /* NaN: no bound on this side */
} fc_gate;

/* Sums over the pixels of one block of channels. sums[0] += g, after the gate. Where x is given, sums[1] += g *
 * (x - shift). With `moments`, sums[0] += g - shift and sums[1] += (g - shift)^2 instead. */
typedef struct {
    const float *g;                       /* IN  first pixel; neighbours are VL apart */
    const float *x;                       /* IN  the same; or NULL */
    const float *shift;                   /* IN  [VL], a value near the mean: differences from it lose fewer digits */
    double *sums;                         /* INOUT [2][VL]; [1][VL] without x and moments */
    ptrdiff_t g_row, x_row, rows, pixels; /* from one row to the next; number of rows, and of pixels of each */
    int moments;                          /* 1: g alone is summed, for a mean and a variance */
    fc_gate gate;
} fc_pixel_sums;

enum { FC_SGD, FC_ADAM, FC_ADAMW, FC_RMSPROP };

/* One step of an optimizer; training/optimizers.py has the formulas. */
typedef struct {
    int kind;     /* FC_SGD ... */
    int nesterov; /* 1: Nesterov momentum, of FC_SGD */
    float scale;  /* factor of the gradients: below 1 where they are clipped */
    float rate, decay, momentum, epsilon;
    float beta2, one_minus_beta1, one_minus_beta2;
    float correction1, correction2; /* 1 - beta1^t, and the root of 1 - beta2^t, for step t */
} fc_update;

/* Pixels of a result, multiplied and stored: y[b][p] = act(x[b][p] * scale[p]), for blocks b of channels. */
typedef struct {
    const float *x;             /* IN  [blocks][pixels][VL] */
    const float *scale;         /* IN  factors of the pixels, scale_step apart */
    float *y;                   /* OUT first pixel */
    ptrdiff_t x_block, y_block; /* from one block of channels to the next */
    ptrdiff_t y_pixel;
    ptrdiff_t scale_step;       /* 1, or 0 for one factor of all pixels */
    ptrdiff_t pixels, channels; /* of the last block, no lane beyond the channels is written */
    fc_activation act;
} fc_scaled_pixels;

/* Softmax without its division, for some queries: x[k][q] = exp(v[k][q] - largest v[.][q]), with v = x * scale + bias.
 * A query whose largest value is infinite, or one of whose values is NaN, gets an inverse of NaN, and any weights. */
typedef struct {
    float *x;                /* INOUT [blocks of keys][queries][VL]; lanes beyond the keys become zero */
    const float *bias;       /* IN  [keys] of the first query; or NULL */
    const float *bias_end;   /* the end of the memory that may be read beside the keys' */
    float *inverse;          /* OUT 1 / sum over the keys, for each query */
    ptrdiff_t x_block;       /* from one block of keys to the next */
    ptrdiff_t bias_query;    /* in the bias, from one query to the next */
    ptrdiff_t queries, keys; /* numbers; keys: at least 1 */
    float scale;
} fc_softmax_strip;

/* The functions of one instruction set. x, y and z are first floats of inputs and outputs. */
typedef struct {
    const char *isa;
    int vl;          /* floats in a vector: VL */
    int mr;          /* pixels in the largest convolution tile of two blocks of outputs */
    int wide_blocks; /* the most blocks of outputs in a tile of `conv_blocks` whose x_pixel is VL or 2 VL */
    int available;   /* 1: this machine can run it; cpu.c sets it */
    void (*conv_blocks)(const fc_conv_blocks *row);
    void (*conv_steps)(const fc_conv_steps *row);
    void (*conv_narrow)(const fc_conv_narrow *row);
    /* Reorders weights [steps][blocks][VL] for tiles with a half block, in place. blocks: 1 or 2, the last one half. */
    void (*halve_weights)(float *w, ptrdiff_t steps, ptrdiff_t blocks);
    void (*matvec)(const fc_matvec *product);
    void (*matvec_split)(const fc_matvec *product); /* the same in four partial sums, for at most 2 blocks */
    void (*depthwise)(const fc_depthwise *rows);
    /* Winograd transforms for m = 2, 4 and 6, and for m = 2 with stride 2. The input's takes a patch of (m + 2)^2
     * pixels to as many components, or with stride 2 one of 5^2 pixels. The output's takes sums of products back to m^2
     * pixels: (m + 2)^2 components, or 3^2 with stride 2. */
    void (*winograd_input[4])(const float *x, ptrdiff_t x_row, float *v, ptrdiff_t component);
    void (*winograd_output[4])(const fc_winograd_output *output);
    void (*winograd_pooled[4])(const fc_winograd_output *output); /* then a maximum over each 2 x 2 pixels */
    int winograd_patches;                                         /* patches of a call of `winograd_sums` */
    void (*winograd_sums)(const fc_winograd_sums *sums);
    void (*pool_row)(const fc_pool_row *row);
    /* Mean over rows x width pixels of VL lanes: y[VL]. */
    void (*mean_pixels)(const float *x, ptrdiff_t x_row, ptrdiff_t rows, ptrdiff_t width, float *y);
    /* y[i] = act(x[i]) for n floats; x and y may be the same. */
    void (*activate)(const fc_activation *act, const float *x, float *y, ptrdiff_t n);
    /* y[i] = act(x[i] * scale[i % VL] + shift[i % VL] + residual[i]). The residual may be NULL. */
    void (*affine)(const fc_activation *act, const float *scale, const float *shift, const float *x,
                   const float *residual, float *y, ptrdiff_t n);
    /* z[i] = act(x op y). A step of 0 broadcasts a single float, 1 takes a float each, and VL repeats VL floats. */
    void (*binary)(int op, const fc_activation *act, const float *x, ptrdiff_t x_step, const float *y, ptrdiff_t y_step,
                   float *z, ptrdiff_t n);
    void (*softmax)(const float *x, float *y, ptrdiff_t n);
    /* Softmax of each of `columns` neighbouring columns, whose n elements are x_step and y_step apart. */
    void (*softmax_columns)(const float *x, ptrdiff_t x_step, float *y, ptrdiff_t y_step, ptrdiff_t n,
                            ptrdiff_t columns);
    /* Gradients of both: y = v * (g - sum of g * v). v is the output of the softmax. */
    void (*softmax_grad)(const float *g, const float *v, float *y, ptrdiff_t n);
    void (*softmax_grad_columns)(const float *g, ptrdiff_t g_step, const float *v, ptrdiff_t v_step, float *y,
                                 ptrdiff_t y_step, ptrdiff_t n, ptrdiff_t columns);
    /* z[i] = act(x[i] * scale[i] + shift[i]). */
    void (*affine_row)(const fc_activation *act, const float *scale, const float *shift, const float *x, float *z,
                       ptrdiff_t n);
    void (*layer_norm)(const fc_layer_norm *pixels);
    void (*layer_norm_stats)(const fc_layer_norm *pixels);
    void (*layer_norm_grad)(const fc_layer_norm *pixels);
    /* sums[0] += g, sums[1] += g * (x - mean) / deviation over all pixels, for the first `lanes` channels. */
    void (*layer_norm_sums)(const fc_layer_norm *pixels, double *sums, ptrdiff_t lanes);
    void (*reduce)(const fc_reduce *results);
    void (*resample)(const fc_resample *row);
    /* `squares` is scratch memory of before + channels + size + 2 VL floats. */
    void (*lrn_row)(const fc_lrn_row *row, float *squares);
    /* The gradient of x from the gradient g of the result. It is stored in y; scratch memory is twice as large. */
    void (*lrn_grad_row)(const fc_lrn_row *row, const float *g, ptrdiff_t g_block, float *squares);
    /* [channels][plane] to [pixels][VL] and back. Lanes from `channels` on are written as zeros, and never read. */
    void (*interleave)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t channels, ptrdiff_t pixels);
    void (*deinterleave)(const float *x, float *y, ptrdiff_t plane, ptrdiff_t channels, ptrdiff_t pixels);
    /* NCHW to NHWC: y[p * lanes + c] = x[c * plane + p]. */
    void (*zip_planes)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t lanes, ptrdiff_t pixels);
    /* Copies vectors of VL floats: y[p * y_pixel] = x[p * x_pixel]. */
    void (*copy_pixels)(const float *x, ptrdiff_t x_pixel, float *y, ptrdiff_t y_pixel, ptrdiff_t pixels);
    void (*conv_grad)(const fc_conv_grad *row);
    void (*depthwise_grad)(const fc_depthwise_grad *rows);
    void (*pixel_sums)(const fc_pixel_sums *rows);
    /* y = a * gate(g) + b * x + c for n floats, with a, b and c for each lane: abc [3][VL]. */
    void (*blend)(const fc_gate *gate, const float *abc, const float *g, const float *x, float *y, ptrdiff_t n);
    /* Gradient of the input of `activate` from that of its output, g. v is the output, but the input of the kinds from
     * FC_HARD_SWISH to FC_ABS. */
    void (*activate_grad)(const fc_activation *act, const float *g, const float *v, float *y, ptrdiff_t n);
    /* Adds to y, the gradient of the pooling's inputs, what follows from g, the gradient of its outputs. */
    void (*pool_grad_row)(const fc_pool_row *row, const float *g, float *y, ptrdiff_t y_row);
    /* Transforms VL filters w [3][3][VL] to n x n vectors G w G^T. G is n x 3. */
    void (*winograd_filter)(const float *G, int n, const float *w, float *u, ptrdiff_t component);
    /* Transforms 4 x 4 gradients g to 6 x 6 vectors A g A^T. Only rows x columns of them lie inside the image. */
    void (*winograd_spread)(const float *g, ptrdiff_t g_row, ptrdiff_t rows, ptrdiff_t columns, float *u,
                            ptrdiff_t component);
    /* Transforms 6 x 6 vectors M back to gradients of filters w [3][3][VL] = G^T M G. G is 6 x 3. */
    void (*winograd_weight)(const float *G, const float *m, ptrdiff_t component, float *w);
    /* One step of an optimizer on n parameters p. m is the first moment or the momentum, v the second moment, c the
     * mean gradient of a centered RMSprop. An optimizer without one of them takes NULL. */
    void (*update)(const fc_update *how, float *p, const float *g, float *m, float *v, float *c, ptrdiff_t n);
    /* Transposes up to VL channels: y[p * y_pixel + c] = x[c * x_channel + p]. Lanes from `channels` on are written as
     * zeros, and never read. */
    void (*turn)(const float *x, ptrdiff_t x_channel, float *y, ptrdiff_t y_pixel, ptrdiff_t channels,
                 ptrdiff_t pixels);
    void (*scale_pixels)(const fc_scaled_pixels *pixels);
    void (*softmax_strip)(const fc_softmax_strip *strip);
    /* Runs n rounds of independent multiply-adds. Returns the number of floating point operations. */
    double (*multiply_add_burst)(ptrdiff_t n, float *sink);
} fc_kernels;

/* The tables of this build, fastest instruction set first; NULL ends the list. Each call sets `available`. */
const fc_kernels *const *fc_all_kernels(void);

/* The extensions that the processor and the operating system support, as text for diagnosis. */
const char *fc_cpu_features(void);

#endif
