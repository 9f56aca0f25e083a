from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._tiles cimport fc_conv_blocks, fc_conv_narrow, fc_conv_row, fc_conv_steps, fc_kernels, fc_tensor

# A layer as every family of tiles sees it; begins as WeightedOperands.
cdef struct Layer:
    const fc_kernels *kernels
    fc_tensor y              # OUT blocked, or plain (see _conv_direct.writes_planes)
    fc_tensor x              # IN  blocked, lanes = C or plain, with its padding as halo
    fc_tensor weights        # IN  packed
    fc_tensor bias           # IN  whole blocks
    fc_tensor residual       # IN  like y; data is NULL without one
    ptrdiff_t first_tap      # floats from the first pixel of x to the first tap of the first output
    ptrdiff_t groups
    ptrdiff_t out_blocks     # of a group
    ptrdiff_t steps          # of the sums of a group
    ptrdiff_t bundles        # of output blocks
    const ptrdiff_t *begins  # the first block of each bundle, and the end of the last one
    ptrdiff_t rows, columns  # of output pixels, as the tiles see them
    ptrdiff_t joined         # pixels of an image whose rows are joined and cut anew; 0: rows are those of the image
    ptrdiff_t x_step         # floats of x from one row to the next
    ptrdiff_t panels         # of rows
    ptrdiff_t at_a_time      # outputs of a row before the thread asks whether to go on; 0: it does not ask
    ptrdiff_t least          # outputs of a row that a tile takes at least

# How the arguments of every family begin: the first field of a tile's struct is its row.
cdef struct FamilyArgs:
    Layer layer
    fc_conv_row row

# How the inputs of every tap are copied side by side, to [tap][pixel][VL].
cdef struct Gather:
    ptrdiff_t kh, kw              # 0: tiles read x itself
    ptrdiff_t x_row, x_column     # floats of x from one tap to the next
    ptrdiff_t x_pixel             # floats of x from one output pixel to the next
    ptrdiff_t pixels              # of a panel

cdef struct BlocksArgs:
    Layer layer
    fc_conv_blocks tile  # what all rows share
    ptrdiff_t in_blocks  # of a group
    ptrdiff_t chunk      # blocks of input in one pass
    ptrdiff_t taps       # of a block of input
    bint half            # whether the last block of outputs is at most half full
    Gather gather

cdef struct StepsArgs:
    Layer layer
    fc_conv_steps tile       # what all rows share
    ptrdiff_t group_outs     # scattered: outputs of a group, and of all
    ptrdiff_t channels

cdef struct NarrowArgs:
    Layer layer
    fc_conv_narrow tile  # what all rows share

cdef void run_blocks(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil
cdef void run_steps(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil
cdef void run_scattered(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil
cdef void run_narrow(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil
