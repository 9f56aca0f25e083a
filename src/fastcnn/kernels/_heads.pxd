from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._tiles cimport fc_kernels, fc_scaled_pixels, fc_tensor

# Where the heads of an operand, or of the output, have their channels.
cdef struct Channels:
    ptrdiff_t start, step, count
    bint whole  # whether all heads begin at a block

cdef Channels channels_of(ptrdiff_t start, ptrdiff_t step, ptrdiff_t count, ptrdiff_t heads, ptrdiff_t vl) noexcept
cdef void flatten(fc_tensor *t) noexcept
cdef const float *pixel_of(const fc_tensor *t, ptrdiff_t vl, ptrdiff_t image, ptrdiff_t channel,
                           ptrdiff_t pixel) noexcept nogil
cdef void gather(const fc_kernels *kernels, const fc_tensor *t, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t count,
                 ptrdiff_t first, ptrdiff_t pixels, float *y, ptrdiff_t y_pixel) noexcept nogil
cdef void gather_head(const fc_kernels *kernels, const fc_tensor *t, const Channels *c, ptrdiff_t image,
                      ptrdiff_t head, ptrdiff_t first, ptrdiff_t pixels, float *y, ptrdiff_t y_block) noexcept nogil
cdef bint pack_turned(const fc_kernels *kernels, const fc_tensor *t, const Channels *c, ptrdiff_t image,
                      ptrdiff_t head, bint ones, float *packed, float *some, bint watched) noexcept nogil
cdef bint pack_rows(const fc_kernels *kernels, const fc_tensor *t, const Channels *c, ptrdiff_t image, ptrdiff_t head,
                    ptrdiff_t first, ptrdiff_t pixels, float *packed, bint watched) noexcept nogil
cdef void store_head(const fc_kernels *kernels, const fc_tensor *y, const Channels *c, ptrdiff_t image, ptrdiff_t head,
                     ptrdiff_t first, ptrdiff_t pixels, float *x, fc_scaled_pixels scaled) noexcept nogil
