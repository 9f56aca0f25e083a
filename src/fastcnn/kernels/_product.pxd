from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._tiles cimport fc_conv_blocks, fc_kernels

cdef enum:
    # Products of one pass over the inner axis: docs/tuning.md, "Matrix products". A multiple of every VL.
    PASS_STEPS = 512

# A product of the rows of strips with packed weights. Rows lie in blocks of VL columns: [block][row][VL].
cdef struct Product:
    const fc_kernels *kernels
    fc_conv_blocks tile
    const ptrdiff_t *taps  # offset of each block of columns
    ptrdiff_t inner        # number of columns
    bint watched           # whether `goes_on` is called before each pass

cdef void set_strips(Product *p, const fc_kernels *kernels, const ptrdiff_t *taps, ptrdiff_t inner,
                     ptrdiff_t y_block) noexcept
cdef bint multiply(const Product *p, const float *x, const float *w, float *y, ptrdiff_t rows, ptrdiff_t blocks,
                   bint accumulate) noexcept nogil
cdef float *packed_block(const fc_kernels *kernels, float *packed, ptrdiff_t inner, ptrdiff_t block, ptrdiff_t blocks,
                         ptrdiff_t *step) noexcept nogil
cdef object taps_of(ptrdiff_t blocks, ptrdiff_t distance)
