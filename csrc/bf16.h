/* bf16.h: convolution in bfloat16 with sums in float32, for machines that multiply pairs of bfloat16.
 *
 * A bfloat16 is the upper half of a float, rounded to nearest, half to even. A pair is two neighbouring input channels,
 * which one instruction multiplies with the weights of VL outputs and adds. */
#ifndef FASTCNN_BF16_H
#define FASTCNN_BF16_H

#include <stddef.h>
#include <stdint.h>

/* A row of a convolution: neighbouring output pixels p, for one or two blocks of output channels o.
 *
 *   y[o][p] = clip(residual[o][p] + bias[o] + sum of x[taps[t] + i + p * x_pixel] * w[t][i][o], low, high)
 *
 * A tap is a position of the filter and a block of input channels, of VL / 2 pairs. The taps of a last block that is
 * not full have fewer. */
typedef struct {
    const uint16_t *x;     /* IN  where the first pixel's inputs begin */
    const ptrdiff_t *taps; /* IN  offset of each tap's first input from the pixel's place in x: full taps first */
    const uint16_t *w;     /* IN  [taps][pairs of the tap][blocks][VL][2] */
    const float *bias;     /* IN  [blocks][VL] */
    const float *residual; /* IN  or NULL; pixels y_pixel apart */
    float *y;              /* OUT first output pixel */
    ptrdiff_t full_taps, partial_taps, partial_pairs;
    ptrdiff_t pixels, x_pixel, y_pixel; /* number of output pixels, and from one to the next in x and y */
    ptrdiff_t y_block, residual_block;  /* from one block of output channels to the next */
    int blocks;                         /* of outputs: 1 or 2 */
    float low, high;
} fc_bf16_conv;

typedef struct {
    const char *name;
    int vl;        /* as in fc_kernels */
    int available; /* whether this machine runs it; set by fc_bf16 */
    void (*conv)(const fc_bf16_conv *row);
    /* Rounds the VL floats of each pixel; pixels of x are x_pixel apart, those of y follow each other. */
    void (*round_pixels)(const float *x, ptrdiff_t x_pixel, uint16_t *y, ptrdiff_t pixels);
} fc_bf16_kernels;

/* The table for vectors of vl floats; NULL where the machine or this build has none. */
const fc_bf16_kernels *fc_bf16(int vl);

#endif
