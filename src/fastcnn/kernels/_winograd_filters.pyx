"""The filters of Winograd convolution, transformed and in the order in which tiles read them.

Filters transformed ahead are read component by component, by bundles of output blocks:

    [row][column][bundle of output blocks][input channel][block of the bundle][VL]

A lean filter has nine numbers, from which the tiles compute its components:

    [output block][input channel][3][3][VL]
"""

from libc.stddef cimport ptrdiff_t

import numpy as np

from fastcnn.kernels._cpu cimport current
from fastcnn.kernels._direct_filters cimport Bundle, bundle_of
from fastcnn.kernels._step cimport Step, ceil_div, floats, interleave_filters, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_tensor

from fastcnn.kernels import storage


def filter_matrix(m, stride=1):
    """G of F(m x m, 3 x 3), float64 (m + 2, 3); see csrc/tiles/winograd.h."""
    if stride == 2:
        return np.array([[1.0, 0, 0], [1, 0, 1], [0, 0, 1], [0, 1, 0]])
    squares = {2: (1.0,), 4: (0.5, 2.0), 6: (0.5, 1.0, 2.0)}[m]
    rows = [[1.0 if m == 2 else -1.0, 0, 0]]  # the sign saves instructions in B^T or G
    for square in squares:
        scale = 2 * square * np.prod([square - other for other in squares if other != square])
        if m == 4 and square == 2.0:
            scale /= 2.0  # twice the rows, half the columns of A^T
        for point in (np.sqrt(square), -np.sqrt(square)):
            rows.append([1 / scale, point / scale, square / scale])
    return np.array([*rows, [0, 0, 1]])


def basis_matrix():
    """The basis of lean filters, float64 (3, 3); see csrc/tiles/winograd_sums.h."""
    return np.array([[-2.0, 0.0, -1.0], [1.0, 0.0, 2.0], [0.0, -np.sqrt(2.0), 0.0]]) / 3.0


cdef struct FilterOrder:
    const float *matrix    # (side, 3)
    int side               # rows, and columns, of components
    bint lean
    ptrdiff_t ins, blocks  # input channels, blocks of output channels


cdef object order_filters(FilterOrder *f, int m, int stride, bint lean, ptrdiff_t ins, ptrdiff_t outs, ptrdiff_t vl):
    """Fill in f. Returns the array that it points to."""
    matrix = np.ascontiguousarray(basis_matrix() if lean else filter_matrix(m, stride), np.float32)
    f.matrix, f.side, f.lean, f.ins, f.blocks = floats(matrix), <int>len(matrix), lean, ins, ceil_div(outs, vl)
    return matrix


cdef void transform_filter(const fc_kernels *kernels, const FilterOrder *f, ptrdiff_t block, ptrdiff_t channel,
                           const float *filters, float *packed) noexcept nogil:
    """Transform the filters [3][3][VL] of one input channel and output block, and store them in their place."""
    cdef ptrdiff_t vl = kernels.vl, vector, component
    cdef Bundle bundle = bundle_of(block, f.blocks, kernels.wide_blocks)
    if f.lean:
        vector, component = (block * f.ins + channel) * 9, 1
    else:
        vector = bundle.begin * f.ins + channel * bundle.width + block - bundle.begin
        component = f.blocks * f.ins
    kernels.winograd_filter(f.matrix, f.side, filters, packed + vector * vl, component * vl)


def pack_winograd(weight, int m, ptrdiff_t vl, scale=None, bint lean=False, int stride=1):
    """Pack all filters in the order in which the tiles read them.

    Parameters
    ----------
    weight : (out_channels, in_channels, 3, 3) float32 array, C-contiguous
    m : {2, 4, 6}
    vl : int
        The vector length.
    scale : (out_channels,) float32 array, optional
        Factor of the filters of each output channel.
    lean : bool
        Whether to transform filters by `basis_matrix` only. It requires m = 4 and stride 1.
    stride : {1, 2}

    Returns
    -------
    float32 array
        In an order that the head of this module describes.
    """
    cdef ptrdiff_t outs = weight.shape[0], ins = weight.shape[1], block, i
    cdef const fc_kernels *kernels = current()
    cdef FilterOrder order
    _kept = order_filters(&order, m, stride, lean, ins, outs, vl)  # the array that `order` points to
    packed = storage.allocate(order.side * order.side * order.blocks * vl * ins)
    rows = np.empty(ins * 9 * vl, np.float32)  # [in_channel][ky][kx][VL] of one block
    cdef const float *source = floats(weight)
    cdef const float *factors = NULL
    cdef float *out = <float *>floats(packed)
    cdef float *block_rows = <float *>floats(rows)
    if scale is not None:
        factors = floats(scale)
    with nogil:
        for block in range(order.blocks):
            interleave_filters(kernels, source, factors, block * vl, min(vl, outs - block * vl), ins * 9, block_rows)
            for i in range(ins):
                transform_filter(kernels, &order, block, i, block_rows + i * 9 * vl, out)
    return packed


cdef struct PackArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor x  # IN  a parameter
    FilterOrder order


cdef void run_pack(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (block of outputs, input channel)."""
    cdef const PackArgs *a = <const PackArgs *>raw
    cdef ptrdiff_t units = a.order.blocks * a.order.ins, unit
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        transform_filter(a.kernels, &a.order, unit // a.order.ins, unit % a.order.ins,
                         a.x.data + unit * 9 * a.kernels.vl, a.y.data)


cdef class PackWinograd(Step):
    """y = the 3 x 3 filters x in the order of `pack_winograd`, packed again in every run of a plan.

    Parameters
    ----------
    y, x : View
        OUT flat, IN a parameter (see _repack.pyx).
    ins : int
    m : {2, 4, 6}
    lean : bool
    stride : {1, 2}
    """

    cdef PackArgs a

    def __init__(self, y, x, ptrdiff_t ins, int m, bint lean, int stride):
        cdef PackArgs *a = &self.a
        self.run, self.args = run_pack, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels = self.kernels
        self.owned = order_filters(&a.order, m, stride, lean, ins, x.c, self.kernels.vl)
