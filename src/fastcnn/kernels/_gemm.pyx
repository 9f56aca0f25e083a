"""The matrix product of fully connected layers. The tiles of direct convolution compute it, with a single tap: their
pixels are the rows of the left matrix. `_direct_filters` packs weights and bias."""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport ONE_TAP, Step, ceil_div, share
from fastcnn.kernels._tiles cimport fc_conv_blocks, fc_kernels, fc_matvec, fc_tensor, look_ahead, set_product

from fastcnn.kernels import _step


cdef struct GemmArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT rows, padded to full blocks
    fc_tensor x  # IN  rows
    fc_tensor weights   # IN  packed
    fc_tensor bias      # IN  padded to full blocks
    fc_tensor residual  # not used: completes WeightedOperands
    fc_conv_blocks product
    ptrdiff_t inner, out_blocks, columns, strips


cdef void run_gemm(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (pair of output blocks, strip of rows): a thread reads its weights once for many rows. The order of
    each sum depends on the layer alone, not on the batch."""
    cdef const GemmArgs *a = <const GemmArgs *>raw
    cdef fc_conv_blocks product = a.product
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
        product.row.blocks = <int>min(2, a.out_blocks - block)
        product.row.pixels = min(a.columns, a.x.n - first)
        product.row.x = a.x.data + first * a.x.image
        product.row.y = a.y.data + first * a.y.image + block * vl
        product.row.w = a.weights.data + block * vl * a.inner
        look_ahead(&product, a.inner, ceil_div(product.row.pixels, a.kernels.mr), vl)
        product.row.bias = a.bias.data + block * vl
        a.kernels.conv_blocks(&product)


cdef void multiply_vector(const GemmArgs *a, ptrdiff_t row, ptrdiff_t first, ptrdiff_t last) noexcept nogil:
    """Compute output blocks first .. last of one row. `first` is even."""
    cdef ptrdiff_t vl = a.kernels.vl
    cdef fc_matvec product
    product.x, product.w = a.x.data + row * a.x.image, a.weights.data + first * vl * a.inner
    product.bias, product.y = a.bias.data + first * vl, a.y.data + row * a.y.image + first * vl
    product.inner, product.blocks, product.act = a.inner, last - first, a.product.row.act
    if a.out_blocks <= 2:
        a.kernels.matvec_split(&product)
    else:
        a.kernels.matvec(&product)


cdef class Gemm(Step):
    """y = act(x @ weight.T + bias).

    Parameters
    ----------
    y, x : View
        OUT, n rows of w numbers, a multiple of VL floats apart; IN, n rows of w numbers.
    weights, bias : float32 arrays or Views
        From `pack_weights`, with the weights as 1 x 1 filters and lanes = in_features; and from `pack_bias`.
    activation : None or (name, attributes)
    """

    cdef GemmArgs a

    def __init__(self, y, x, weights, bias, activation):
        cdef GemmArgs *a = &self.a
        self.run = run_gemm
        self.bind(a, sizeof(GemmArgs), &a.product.row.act, y, x, None, weights, bias, activation)
        a.inner = a.x.w
        a.out_blocks = ceil_div(y.w, self.kernels.vl)
        a.columns = max(1, min(8 * self.kernels.mr, _step.LONGEST_PIECE // max(1, 2 * a.inner)))
        a.strips = max(1, ceil_div(a.x.n, a.columns))
        set_product(&a.product, ONE_TAP, a.inner, 1, a.x.image)
        a.product.row.y_pixel, a.product.row.y_block = a.y.image, self.kernels.vl
        # The tile of a single row computes four pairs of blocks at the same time.
        pairs = ceil_div(a.out_blocks, 2)
        vectors = a.x.n * a.out_blocks * a.inner
        self.may_be_cut(a.x.n if a.out_blocks <= 2 else pairs * (1 if a.x.n == 1 else a.strips), vectors)
        if a.x.n == 1:
            self.pieces = min(self.pieces, pairs // 4)
