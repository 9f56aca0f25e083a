# Declarations of csrc/int8.h, which explains each field, and the table in use.

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t, int32_t, uint8_t

cdef enum:
    QUAD = 4  # neighbouring inputs whose products one instruction adds

cdef extern from "int8.h" nogil:
    ctypedef struct fc_int8_finish:
        const uint8_t *table
        void (*look_up)(const uint8_t *table, const uint8_t *x, uint8_t *y, ptrdiff_t n) noexcept nogil
        int rounds
        float own_scale, least, most
        float residual_scale
        float low, high
        int zero, residual_zero
        int floats
        int bounded
        int lanes

    ctypedef struct fc_int8_conv:
        const uint8_t *x
        const ptrdiff_t *taps
        const void *w
        const int32_t *bias
        const float *scale
        const uint8_t *residual
        void *y
        const void *ahead
        ptrdiff_t ahead_bytes
        ptrdiff_t full_taps, partial_taps, partial_quads
        ptrdiff_t pixels, x_pixel, y_pixel, residual_pixel
        ptrdiff_t y_block, residual_block
        int blocks
        fc_int8_finish finish

    ctypedef struct fc_int8_depthwise:
        const uint8_t *x
        const uint8_t *x_end
        const void *w
        const int32_t *bias
        const float *scale
        const uint8_t *residual
        void *y
        ptrdiff_t x_row, x_col
        ptrdiff_t stride
        ptrdiff_t x_step, y_row, residual_row
        ptrdiff_t kh, kw, rows, pixels
        int by_rows
        fc_int8_finish finish

    int fc_int8_outputs(ptrdiff_t kw, ptrdiff_t stride)
    int fc_int8_quads(ptrdiff_t kw)

    ctypedef struct fc_int8_pool:
        const uint8_t *x
        void *y
        ptrdiff_t x_row
        ptrdiff_t rows, row_extent
        ptrdiff_t width, pad_left, pad_right
        ptrdiff_t kw, stride, dilation, pixels
        int average, count_include_pad
        int x_zero
        float scale
        fc_int8_finish finish

    ctypedef struct fc_int8_binary:
        float a_scale, b_scale
        int a_zero, b_zero
        int one_pixel
        fc_int8_finish finish

    ctypedef struct fc_int8_kernels:
        const char *name
        int vl
        int mr
        int quad_bytes
        int flips
        int available
        void (*conv)(const fc_int8_conv *row) noexcept nogil
        void (*depthwise)(const fc_int8_depthwise *rows) noexcept nogil
        void (*pool)(const fc_int8_pool *row) noexcept nogil
        void (*add)(const fc_int8_binary *how, const uint8_t *a, const uint8_t *b, void *y, ptrdiff_t n) noexcept nogil
        void (*multiply)(const fc_int8_binary *how, const uint8_t *a, const uint8_t *b, void *y,
                         ptrdiff_t n) noexcept nogil
        void (*look_up)(const uint8_t *table, const uint8_t *x, uint8_t *y, ptrdiff_t n) noexcept nogil
        void (*quantize)(const float *x, uint8_t *y, ptrdiff_t n, float scale, int zero) noexcept nogil
        void (*dequantize)(const uint8_t *x, float *y, ptrdiff_t n, float scale, int zero) noexcept nogil
        void (*quantize_planes)(const float *x, ptrdiff_t plane, uint8_t *y, ptrdiff_t y_pixel, ptrdiff_t channels,
                                ptrdiff_t pixels, float scale, int zero) noexcept nogil
        void (*dequantize_planes)(const uint8_t *x, ptrdiff_t x_pixel, float *y, ptrdiff_t plane, ptrdiff_t channels,
                                  ptrdiff_t pixels, float scale, int zero) noexcept nogil
        void (*pack)(const int8_t *w, void *packed, ptrdiff_t quads) noexcept nogil
        double (*burst)(ptrdiff_t n, int32_t *sink) noexcept nogil

# The table in use beside the instruction set of floats in use. A step keeps the one that was in use when it was made.
cdef const fc_int8_kernels *tiles() except NULL

# Where the quads of packed weights begin, of a layer of some outputs. The caller keeps the array alive.
cdef const char *first_quad(object packed, ptrdiff_t outs) except NULL

# How outputs are stored, for a view of them. A table is a uint8 array (256,) that is kept as long as the struct, or
# None.
cdef void set_finish(fc_int8_finish *finish, object y, int zero, int low, int high, object table) except *

# Note whether numbers stay within the integers of 32 bits: sums of `products` products, with a bias, factors and a
# residual.
cdef void set_bounded(fc_int8_finish *finish, ptrdiff_t products, object bias, object scale) except *
