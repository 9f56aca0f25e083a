"""Depthwise convolution on the blocked layout: every channel has one filter of its own. The input carries its
padding as a halo of zeros."""

from libc.stddef cimport ptrdiff_t

import numpy as np

from fastcnn.kernels._executor cimport Step, blocks_of, ceil_div, set_activation, share
from fastcnn.kernels._tiles cimport fc_depthwise, fc_kernels, fc_tensor


def pack_depthwise(weight, vl):
    """(channels, 1, kh, kw) float32 to [block][kh][kw][VL], zeros where there is no channel."""
    channels, _, kh, kw = weight.shape
    blocks = ceil_div(channels, vl)
    padded = np.zeros((blocks * vl, kh, kw), np.float32)
    padded[:channels] = weight[:, 0]
    return np.ascontiguousarray(padded.reshape(blocks, vl, kh, kw).transpose(0, 2, 3, 1)).reshape(-1)


cdef struct DepthwiseArgs:
    const fc_kernels *kernels
    fc_tensor y         # OUT blocked
    fc_tensor x         # IN  blocked, with its padding as halo
    fc_tensor residual  # IN  like y; data is NULL without one
    fc_tensor weights   # IN  packed
    fc_tensor bias      # IN  whole blocks
    fc_depthwise rows
    ptrdiff_t top, left, stride


cdef void run_depthwise(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const DepthwiseArgs *a = <const DepthwiseArgs *>raw
    cdef fc_depthwise rows = a.rows
    cdef ptrdiff_t blocks = blocks_of(&a.y), units = a.y.n * blocks * a.y.h, vl = a.kernels.vl, image, block, r
    cdef ptrdiff_t unit = share(units, tid, nthreads), end = share(units, tid + 1, nthreads)
    while unit < end:
        r, block, image = unit % a.y.h, unit // a.y.h % blocks, unit // a.y.h // blocks
        rows.rows = min(a.y.h - r, end - unit)
        rows.x = (a.x.data + image * a.x.image + block * a.x.block + (r * a.stride - a.top) * a.x.row - a.left * vl)
        rows.y = a.y.data + image * a.y.image + block * a.y.block + r * a.y.row
        if a.residual.data != NULL:
            rows.residual = a.residual.data + image * a.residual.image + block * a.residual.block + r * a.residual.row
        rows.w = a.weights.data + block * rows.kh * rows.kw * vl
        rows.bias = a.bias.data + block * vl
        a.kernels.depthwise(&rows)
        unit += rows.rows


cdef class DepthwiseConv(Step):
    """Depthwise convolution of a blocked tensor.

    Parameters
    ----------
    y, x, residual : View
        OUT, IN (halo at least pads), IN or None; all blocked.
    weights, bias : float32 arrays or Views
        From `pack_depthwise` and `_conv_direct.pack_bias` (of one group).
    kernel, strides, pads, dilations : tuples of int
    activation : None or (name, attributes)
    """

    cdef DepthwiseArgs a

    def __init__(self, y, x, residual, weights, bias, kernel, strides, pads, dilations, activation):
        cdef DepthwiseArgs *a = &self.a
        self.run, self.args, self.owned = run_depthwise, a, (weights, bias)
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        if residual is not None:
            self.operand(2, &a.residual, residual)
        a.kernels = self.kernels
        self.weights(3, &a.weights, weights)
        self.weights(4, &a.bias, bias)
        set_activation(&a.rows.act, activation)
        a.rows.kh, a.rows.kw = kernel
        a.rows.x_row, a.rows.x_col = dilations[0] * a.x.row, dilations[1] * a.x.lanes
        a.rows.x_pixel = strides[1] * a.x.lanes
        a.rows.x_step, a.rows.y_row, a.rows.residual_row = strides[0] * a.x.row, a.y.row, a.residual.row
        a.rows.pixels = a.y.w
        a.top, a.left, a.stride = pads[0], pads[1], strides[0]
