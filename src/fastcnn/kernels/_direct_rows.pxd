from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._tiles cimport fc_conv_blocks, fc_conv_narrow, fc_conv_row, fc_conv_steps, fc_kernels, fc_tensor

# The arguments of all families of tiles. The first fields are those of WeightedOperands.
cdef struct Layer:
    const fc_kernels *kernels
    fc_tensor y              # OUT blocked, or plain where _conv_direct.writes_planes allows it
    fc_tensor x              # IN  blocked, lanes = C or plain, with its padding as halo
    fc_tensor weights        # IN  packed
    fc_tensor bias           # IN  padded to full blocks
    fc_tensor residual       # IN  like y; data is NULL without one
    ptrdiff_t first_tap      # floats from the first pixel of x to the first tap of the first output
    ptrdiff_t groups
    ptrdiff_t out_blocks     # blocks of output channels in a group
    ptrdiff_t steps          # products of each sum: input channels of a group x positions of the filter
    ptrdiff_t bundles        # bundles of output blocks in a group
    const ptrdiff_t *begins  # the first block of each bundle, and the end of the last one
    ptrdiff_t rows, columns  # rows of outputs that tiles see, and pixels of each
    ptrdiff_t joined         # pixels of an image whose rows are joined and divided evenly; 0: rows are the image's
    ptrdiff_t x_step         # floats of x from one row to the next
    ptrdiff_t panels         # panels of an image: each is some rows
    ptrdiff_t at_a_time      # outputs of a row between two calls of `goes_on`; 0: no calls
    ptrdiff_t least          # the fewest outputs of a row that a tile can compute

# The first fields of the arguments of every family: the first field of a tile's struct is its row.
cdef struct FamilyArgs:
    Layer layer
    fc_conv_row row

# How the inputs of every tap are gathered: [tap][pixel][VL].
cdef struct Gather:
    ptrdiff_t kh, kw              # height and width of the filter; 0: nothing is gathered, tiles read x
    ptrdiff_t x_row, x_column     # floats of x from one tap to the one below it, and to the one on its right
    ptrdiff_t x_pixel             # floats of x from one output pixel to the next
    ptrdiff_t pixels              # output pixels of a panel

cdef struct BlocksArgs:
    Layer layer
    fc_conv_blocks tile  # the fields that all rows share
    ptrdiff_t in_blocks  # blocks of input channels in a group
    ptrdiff_t chunk      # blocks of input channels in one pass
    ptrdiff_t taps       # taps of a block of input channels
    bint half            # whether the last block of outputs is computed as half a block
    Gather gather

cdef struct StepsArgs:
    Layer layer
    fc_conv_steps tile       # the fields that all rows share
    ptrdiff_t group_outs     # outputs of a group, for run_scattered
    ptrdiff_t channels       # outputs of all groups

cdef struct NarrowArgs:
    Layer layer
    fc_conv_narrow tile  # the fields that all rows share

cdef void run_blocks(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil
cdef void run_steps(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil
cdef void run_scattered(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil
cdef void run_narrow(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil
