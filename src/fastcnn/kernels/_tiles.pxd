# Declarations of csrc/fastcnn.h, which explains each field.

cdef extern from "fastcnn.h" nogil:
    ctypedef struct fc_tensor:
        float *data
        ptrdiff_t n, c, h, w
        ptrdiff_t image, block, row
        ptrdiff_t lanes
        ptrdiff_t top, left, bottom, right
        ptrdiff_t item
        int fill

    enum:
        FC_NARROW_MOST

    enum:
        FC_NONE
        FC_RELU
        FC_CLIP
        FC_LEAKY_RELU
        FC_TANH
        FC_SIGMOID
        FC_HARD_SWISH
        FC_SILU
        FC_GELU
        FC_GELU_TANH
        FC_ERF
        FC_ABS
        FC_EXP
        FC_SQRT
        FC_NEGATIVE
        FC_RECIPROCAL

    ctypedef struct fc_activation:
        int kind
        float low, high
        float alpha

    ctypedef struct fc_conv_row:
        const float *x
        const ptrdiff_t *taps
        const float *w
        const float *bias
        const float *residual
        float *y
        ptrdiff_t pixels
        ptrdiff_t x_pixel, y_pixel
        ptrdiff_t y_block, residual_block
        ptrdiff_t until_gap, gap_every
        ptrdiff_t y_gap, residual_gap
        int blocks
        fc_activation act

    ctypedef struct fc_conv_blocks:
        fc_conv_row row
        ptrdiff_t full_taps, full_channels
        ptrdiff_t partial_taps, partial_channels
        ptrdiff_t x_channel
        int accumulate
        int half
        const float *ahead
        ptrdiff_t ahead_bytes

    ctypedef struct fc_conv_steps:
        fc_conv_row row
        ptrdiff_t steps
        ptrdiff_t kept
        ptrdiff_t w_skip

    ctypedef struct fc_conv_narrow:
        fc_conv_row row
        ptrdiff_t steps
        ptrdiff_t channels
        ptrdiff_t x_pool_row

    ctypedef struct fc_matvec:
        const float *x
        const float *w
        const float *bias
        float *y
        ptrdiff_t inner, blocks
        fc_activation act

    ctypedef struct fc_depthwise:
        const float *x
        const float *w
        const float *bias
        const float *residual
        float *y
        ptrdiff_t x_row, x_col, x_pixel, y_pixel
        ptrdiff_t x_step, y_row, residual_row
        ptrdiff_t kh, kw, rows, pixels
        fc_activation act

    ctypedef struct fc_winograd_sums:
        const float *v
        const float *w
        float *m
        ptrdiff_t channels
        int accumulate
        const float *ahead
        ptrdiff_t ahead_bytes
        ptrdiff_t broad, tall, first_tall

    ctypedef struct fc_winograd_output:
        const float *m
        const float *bias
        const float *residual
        float *y
        ptrdiff_t component, y_row, residual_row
        ptrdiff_t rows, columns
        fc_activation act

    ctypedef struct fc_pool_row:
        const float *x
        float *y
        ptrdiff_t x_row, rows, row_extent
        ptrdiff_t width, pad_left, pad_right
        ptrdiff_t kw, stride, dilation, pixels
        ptrdiff_t lanes
        int average, count_include_pad

    ctypedef struct fc_lrn_row:
        const float *x
        float *y
        ptrdiff_t x_block, y_block
        ptrdiff_t channels, pixels
        ptrdiff_t before, size
        float scale, bias, beta

    enum:
        FC_ADD
        FC_MULTIPLY
        FC_SUBTRACT
        FC_DIVIDE
        FC_MINIMUM
        FC_MAXIMUM
        FC_BELOW
        FC_EQUAL

    ctypedef struct fc_layer_norm:
        const float *x
        const float *g
        float *y
        float *stats
        const float *weight
        const float *bias
        ptrdiff_t x_block, g_block, y_block
        ptrdiff_t x_pixel, g_pixel, y_pixel
        ptrdiff_t first
        ptrdiff_t channels, pixels
        float epsilon
        int centred
        int padded

    enum:
        FC_SUM
        FC_SQUARES
        FC_LARGEST

    ctypedef struct fc_reduce:
        const float *x
        float *y
        int kind
        int root
        ptrdiff_t counts[3]
        ptrdiff_t steps[3]
        ptrdiff_t columns
        double divisor

    ctypedef struct fc_resample:
        const float *x
        float *y
        const ptrdiff_t *rows
        const ptrdiff_t *starts
        const ptrdiff_t *columns
        const float *row_weights
        const float *weights
        ptrdiff_t row_count, pixels

    ctypedef struct fc_conv_grad:
        const float *x
        const float *g
        float *y
        const ptrdiff_t *to
        ptrdiff_t images, rows, pixels, lanes
        ptrdiff_t x_image, x_row, x_pixel
        ptrdiff_t g_image, g_row, g_block
        ptrdiff_t y_block
        int blocks
        int accumulate

    ctypedef struct fc_depthwise_grad:
        const float *x
        const float *g
        float *y
        ptrdiff_t x_row, x_col, x_pixel
        ptrdiff_t x_step, g_row
        ptrdiff_t kh, kw, rows, pixels

    ctypedef struct fc_gate:
        const float *affine
        float low, high

    ctypedef struct fc_pixel_sums:
        const float *g
        const float *x
        const float *shift
        double *sums
        ptrdiff_t g_row, x_row, rows, pixels
        int moments
        fc_gate gate

    enum:
        FC_SGD
        FC_ADAM
        FC_ADAMW
        FC_RMSPROP

    ctypedef struct fc_update:
        int kind
        int nesterov
        float scale
        float rate, decay, momentum, epsilon
        float beta2, one_minus_beta1, one_minus_beta2
        float correction1, correction2

    ctypedef struct fc_scaled_pixels:
        const float *x
        const float *scale
        float *y
        ptrdiff_t x_block, y_block
        ptrdiff_t y_pixel
        ptrdiff_t scale_step
        ptrdiff_t pixels, channels
        fc_activation act

    ctypedef struct fc_softmax_strip:
        float *x
        const float *bias
        const float *bias_end
        float *inverse
        ptrdiff_t x_block
        ptrdiff_t bias_query
        ptrdiff_t queries, keys
        float scale

    ctypedef struct fc_kernels:
        const char *isa
        int vl
        int mr
        int wide_blocks
        int available
        void (*conv_blocks)(const fc_conv_blocks *row) noexcept nogil
        void (*conv_steps)(const fc_conv_steps *row) noexcept nogil
        void (*conv_narrow)(const fc_conv_narrow *row) noexcept nogil
        void (*halve_weights)(float *w, ptrdiff_t steps, ptrdiff_t blocks) noexcept nogil
        void (*matvec)(const fc_matvec *product) noexcept nogil
        void (*matvec_split)(const fc_matvec *product) noexcept nogil
        void (*depthwise)(const fc_depthwise *rows) noexcept nogil
        int winograd_patches
        void (*winograd_sums)(const fc_winograd_sums *sums) noexcept nogil
        void (*winograd_input[4])(const float *x, ptrdiff_t x_row, float *v, ptrdiff_t component) noexcept nogil
        void (*winograd_output[4])(const fc_winograd_output *output) noexcept nogil
        void (*winograd_pooled[4])(const fc_winograd_output *output) noexcept nogil
        void (*pool_row)(const fc_pool_row *row) noexcept nogil
        void (*mean_pixels)(const float *x, ptrdiff_t x_row, ptrdiff_t rows, ptrdiff_t width, float *y) noexcept nogil
        void (*activate)(const fc_activation *act, const float *x, float *y, ptrdiff_t n) noexcept nogil
        void (*affine)(const fc_activation *act, const float *scale, const float *shift, const float *x,
                       const float *residual, float *y, ptrdiff_t n) noexcept nogil
        void (*binary)(int op, const fc_activation *act, const float *x, ptrdiff_t x_step, const float *y,
                       ptrdiff_t y_step, float *z, ptrdiff_t n) noexcept nogil
        void (*softmax)(const float *x, float *y, ptrdiff_t n) noexcept nogil
        void (*softmax_columns)(const float *x, ptrdiff_t x_step, float *y, ptrdiff_t y_step, ptrdiff_t n,
                                ptrdiff_t columns) noexcept nogil
        void (*softmax_grad)(const float *g, const float *v, float *y, ptrdiff_t n) noexcept nogil
        void (*softmax_grad_columns)(const float *g, ptrdiff_t g_step, const float *v, ptrdiff_t v_step, float *y,
                                     ptrdiff_t y_step, ptrdiff_t n, ptrdiff_t columns) noexcept nogil
        void (*affine_row)(const fc_activation *act, const float *scale, const float *shift, const float *x, float *z,
                           ptrdiff_t n) noexcept nogil
        void (*layer_norm)(const fc_layer_norm *pixels) noexcept nogil
        void (*layer_norm_stats)(const fc_layer_norm *pixels) noexcept nogil
        void (*layer_norm_grad)(const fc_layer_norm *pixels) noexcept nogil
        void (*layer_norm_sums)(const fc_layer_norm *pixels, double *sums, ptrdiff_t lanes) noexcept nogil
        void (*reduce)(const fc_reduce *results) noexcept nogil
        void (*resample)(const fc_resample *row) noexcept nogil
        void (*lrn_row)(const fc_lrn_row *row, float *squares) noexcept nogil
        void (*lrn_grad_row)(const fc_lrn_row *row, const float *g, ptrdiff_t g_block, float *squares) noexcept nogil
        void (*interleave)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t channels,
                           ptrdiff_t pixels) noexcept nogil
        void (*deinterleave)(const float *x, float *y, ptrdiff_t plane, ptrdiff_t channels,
                             ptrdiff_t pixels) noexcept nogil
        void (*zip_planes)(const float *x, ptrdiff_t plane, float *y, ptrdiff_t lanes,
                           ptrdiff_t pixels) noexcept nogil
        void (*copy_pixels)(const float *x, ptrdiff_t x_pixel, float *y, ptrdiff_t y_pixel,
                            ptrdiff_t pixels) noexcept nogil
        void (*conv_grad)(const fc_conv_grad *row) noexcept nogil
        void (*depthwise_grad)(const fc_depthwise_grad *rows) noexcept nogil
        void (*pixel_sums)(const fc_pixel_sums *rows) noexcept nogil
        void (*blend)(const fc_gate *gate, const float *abc, const float *g, const float *x, float *y,
                      ptrdiff_t n) noexcept nogil
        void (*activate_grad)(const fc_activation *act, const float *g, const float *v, float *y,
                              ptrdiff_t n) noexcept nogil
        void (*pool_grad_row)(const fc_pool_row *row, const float *g, float *y, ptrdiff_t y_row) noexcept nogil
        void (*winograd_filter)(const float *G, int n, const float *w, float *u, ptrdiff_t component) noexcept nogil
        void (*winograd_spread)(const float *g, ptrdiff_t g_row, ptrdiff_t rows, ptrdiff_t columns, float *u,
                                ptrdiff_t component) noexcept nogil
        void (*winograd_weight)(const float *G, const float *m, ptrdiff_t component, float *w) noexcept nogil
        void (*update)(const fc_update *how, float *p, const float *g, float *m, float *v, float *c,
                       ptrdiff_t n) noexcept nogil
        void (*turn)(const float *x, ptrdiff_t x_channel, float *y, ptrdiff_t y_pixel, ptrdiff_t channels,
                     ptrdiff_t pixels) noexcept nogil
        void (*scale_pixels)(const fc_scaled_pixels *pixels) noexcept nogil
        void (*softmax_strip)(const fc_softmax_strip *strip) noexcept nogil
        double (*multiply_add_burst)(ptrdiff_t n, float *sink) noexcept nogil


# Pixels of the largest tile of this many blocks.
cdef inline ptrdiff_t most_pixels(const fc_kernels *kernels, ptrdiff_t blocks) noexcept nogil:
    return 2 * kernels.mr // blocks if blocks > 2 else kernels.mr


# Bytes of weights that a tile prefetches at each step. The tiles of a row share the prefetch of all its weights.
cdef inline ptrdiff_t bytes_per_step(ptrdiff_t blocks, ptrdiff_t tiles, ptrdiff_t vl) noexcept nogil:
    return (blocks * vl * <ptrdiff_t>sizeof(float) + tiles - 1) // tiles


# Sets which weights the tiles of a row prefetch. Several tiles prefetch the weights of the next bundle, piece by piece.
# A single tile reads each weight once: it prefetches the weights 4 KB ahead.
cdef inline void look_ahead(fc_conv_blocks *tile, ptrdiff_t steps, ptrdiff_t tiles, ptrdiff_t vl) noexcept nogil:
    tile.ahead = tile.row.w + (tile.row.blocks * vl * steps if tiles > 1 else 1024)
    tile.ahead_bytes = bytes_per_step(tile.row.blocks, tiles, vl)


# Sets a matrix product, which is a convolution of a single tap. The tap has `inner` channels, x_channel floats apart.
cdef inline void set_product(fc_conv_blocks *tile, const ptrdiff_t *one_tap, ptrdiff_t inner, ptrdiff_t x_channel,
                             ptrdiff_t x_pixel) noexcept nogil:
    tile.row.taps, tile.full_taps, tile.partial_taps = one_tap, 1, 0
    tile.full_channels = tile.partial_channels = inner
    tile.x_channel, tile.row.x_pixel = x_channel, x_pixel
