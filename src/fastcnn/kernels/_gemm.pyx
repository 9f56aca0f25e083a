"""The matrix product of fully connected layers, by the tiles of direct convolution: it is one of a single tap, whose
pixels are the rows of the left matrix. Weights and bias are packed by `_direct_filters`."""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport ONE_TAP, Step, WeightedOperands, ceil_div, share
from fastcnn.kernels._tiles cimport fc_conv_row, fc_kernels, fc_matvec, fc_tensor, look_ahead

from fastcnn.kernels import _step


cdef struct GemmArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT rows of whole blocks
    fc_tensor x  # IN  rows
    fc_tensor weights   # IN  packed
    fc_tensor bias      # IN  whole blocks
    fc_conv_row row
    ptrdiff_t inner, out_blocks, columns, strips


cdef void run_gemm(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (pair of output blocks, strip of rows): a thread keeps its weights while the rows go by. Which kernel
    adds up in which order follows from the layer alone."""
    cdef const GemmArgs *a = <const GemmArgs *>raw
    cdef fc_conv_row row = a.row
    cdef ptrdiff_t vl = a.kernels.vl, pairs = ceil_div(a.out_blocks, 2), units = pairs * a.strips, unit, block, first
    if a.out_blocks <= 2:
        for unit in range(share(a.x.n, tid, nthreads), share(a.x.n, tid + 1, nthreads)):
            multiply_vector(a, unit, 0, a.out_blocks)
        return
    if a.x.n == 1:
        multiply_vector(a, 0, 2 * share(pairs, tid, nthreads), min(a.out_blocks, 2 * share(pairs, tid + 1, nthreads)))
        return
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        block = unit // a.strips * 2
        first = unit % a.strips * a.columns
        row.blocks = <int>min(2, a.out_blocks - block)
        row.pixels = min(a.columns, a.x.n - first)
        row.x = a.x.data + first * a.x.image
        row.y = a.y.data + first * a.y.image + block * vl
        row.w = a.weights.data + block * vl * a.inner
        look_ahead(&row, a.inner, ceil_div(row.pixels, a.kernels.mr), vl)
        row.bias = a.bias.data + block * vl
        a.kernels.conv_row(&row)


cdef void multiply_vector(const GemmArgs *a, ptrdiff_t row, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    """Output blocks first .. last of a row; `first` is even."""
    cdef ptrdiff_t vl = a.kernels.vl
    cdef fc_matvec product
    product.x, product.w = a.x.data + row * a.x.image, a.weights.data + first * vl * a.inner
    product.bias, product.y = a.bias.data + first * vl, a.y.data + row * a.y.image + first * vl
    product.inner, product.blocks, product.act = a.inner, last - first, a.row.act
    if a.out_blocks <= 2:
        a.kernels.matvec_split(&product)
    else:
        a.kernels.matvec(&product)


cdef class Gemm(Step):
    """y = act(x @ weight.T + bias), rows of x by rows of weight.

    Parameters
    ----------
    y, x : View
        OUT (n rows w wide, a whole number of blocks apart), IN (n rows w wide).
    weights, bias : float32 arrays or Views
        From `pack_weights` (of the weights as 1 x 1 filters, lanes = in_features) and `pack_bias`.
    activation : None or (name, attributes)
    """

    cdef GemmArgs a

    def __init__(self, y, x, weights, bias, activation):
        cdef GemmArgs *a = &self.a
        self.run, self.args, self.owned = run_gemm, a, (weights, bias)
        self.bind(<WeightedOperands *>a, &a.row.act, y, x, weights, bias, activation)
        a.inner = a.x.w
        a.out_blocks = ceil_div(y.w, self.kernels.vl)
        a.columns = max(1, min(8 * self.kernels.mr, _step.LONGEST_PIECE // max(1, 2 * a.inner)))
        a.strips = max(1, ceil_div(a.x.n, a.columns))
        a.row.x_pixel, a.row.x_lane = a.x.image, 1
        a.row.y_pixel, a.row.y_block = a.y.image, self.kernels.vl
        a.row.taps, a.row.whole, a.row.last = ONE_TAP, 1, 0
        a.row.lanes = a.row.last_lanes = a.inner
        a.row.finish = 1
        # A vector is multiplied with four pairs of blocks at once.
        pairs = ceil_div(a.out_blocks, 2)
        vectors = a.x.n * a.out_blocks * a.inner
        self.may_be_cut(a.x.n if a.out_blocks <= 2 else pairs * (1 if a.x.n == 1 else a.strips), vectors)
        if a.x.n == 1:
            self.pieces = min(self.pieces, pairs // 4)
