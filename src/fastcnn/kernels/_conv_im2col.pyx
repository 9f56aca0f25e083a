"""Convolution by im2col and a matrix product: slower than the others, for all parameters that they do not take.

Input and output are NCHW. For a strip of output pixels, the inputs of every tap are copied into columns
[in_channel][ky][kx][pixel], unless the planes are columns already. Then y = weights x columns. The columns of a strip
fit the second-level cache. Reference: Chellapilla, Puri, Simard, High Performance Convolutional Neural Networks for
Document Processing, 2006.
"""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset

from fastcnn.kernels._step cimport ONE_TAP, Step, ceil_div, goes_on, share
from fastcnn.kernels._tiles cimport (
    FC_ADD, FC_NONE, fc_activation, fc_conv_blocks, fc_kernels, fc_tensor, look_ahead, set_product,
)

from fastcnn.kernels import _step

cdef enum:
    COLUMN_FLOATS = 65_536  # floats in the columns of a strip: docs/tuning.md, "Columns"


cdef struct Im2colArgs:
    const fc_kernels *kernels
    fc_tensor y         # OUT NCHW
    fc_tensor x         # IN  NCHW
    fc_tensor weights   # IN  packed
    fc_tensor bias      # IN  padded to full blocks
    fc_tensor residual  # IN  NCHW like y; data is NULL without one
    fc_activation act
    ptrdiff_t groups, ins, outs, out_blocks, inner  # of a group; inner = ins * kh * kw
    ptrdiff_t kh, kw, stride_h, stride_w, dilation_h, dilation_w, top, left
    ptrdiff_t columns, strips  # pixels in a strip, strips in an image
    bint watched               # whether `goes_on` is called within a unit
    bint in_place              # each output needs only its own pixel: planes are columns already


cdef void fill_column(const Im2colArgs *a, const float *plane, ptrdiff_t ky, ptrdiff_t kx, ptrdiff_t first,
                      ptrdiff_t count, float *column) noexcept nogil:
    """Copy the inputs of one tap for output pixels first .. first + count, with zeros outside the image."""
    cdef ptrdiff_t done = 0, row, start, length, x0, y0, low, high, i
    cdef const float *line
    while done < count:
        row = (first + done) // a.y.w
        start = (first + done) % a.y.w
        length = min(a.y.w - start, count - done)
        y0 = row * a.stride_h + ky * a.dilation_h - a.top
        x0 = start * a.stride_w + kx * a.dilation_w - a.left
        # Pixels low .. high of this piece read x0 + i * stride_w inside the row.
        low = min(length, max(0, ceil_div(-x0, a.stride_w))) if x0 < 0 else 0
        high = max(low, min(length, ceil_div(a.x.w - x0, a.stride_w))) if x0 < a.x.w else low
        if y0 < 0 or y0 >= a.x.h:
            low = high = 0
        memset(column + done, 0, low * sizeof(float))
        memset(column + done + high, 0, (length - high) * sizeof(float))
        line = plane + y0 * a.x.row + x0
        if a.stride_w == 1:
            if high > low:
                memcpy(column + done + low, line + low, (high - low) * sizeof(float))
        else:
            for i in range(low, high):
                column[done + i] = line[i * a.stride_w]
        done += length


cdef void store_blocks(const Im2colArgs *a, const float *tile, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t channels,
                       ptrdiff_t first, ptrdiff_t count) noexcept nogil:
    """Copy a tile [block][pixel][VL] to the planes of the output. Where there is a residual, add it and activate."""
    cdef ptrdiff_t vl = a.kernels.vl, block, c
    cdef float *y = a.y.data + image * a.y.image + channel * a.y.block + first
    cdef const float *residual
    for block in range(ceil_div(channels, vl)):
        c = block * vl
        a.kernels.deinterleave(tile + c * count, y + c * a.y.block, a.y.block, min(vl, channels - c), count)
    if a.residual.data != NULL:
        residual = a.residual.data + image * a.residual.image + channel * a.residual.block + first
        for c in range(channels):
            a.kernels.binary(FC_ADD, &a.act, y + c * a.y.block, 1, residual + c * a.residual.block, 1,
                             y + c * a.y.block, count)


cdef void run_im2col(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const Im2colArgs *a = <const Im2colArgs *>raw
    cdef ptrdiff_t unit, image, part, first, count, begin, group, pair, block, i, k, vl = a.kernels.vl, blocks
    # Units of an image. A strip of filled columns serves all groups, so that groups are not divided.
    cdef ptrdiff_t units = a.strips * (a.groups if a.in_place else 1)
    cdef float *tile = scratch
    cdef float *columns = scratch + 2 * vl * a.columns
    cdef const float *plane
    cdef fc_conv_blocks product
    memset(&product, 0, sizeof(product))
    set_product(&product, ONE_TAP, a.inner, 0, 1)
    product.row.act = a.act
    if a.residual.data != NULL:  # then `store_blocks` finishes the outputs
        product.row.act.kind = FC_NONE
    product.row.x, product.row.y, product.row.y_pixel = columns, tile, vl
    for unit in range(share(a.x.n * units, tid, nthreads), share(a.x.n * units, tid + 1, nthreads)):
        image, part = unit // units, unit % units
        first = part % a.strips * a.columns
        count = min(a.columns, a.y.h * a.y.w - first)
        product.x_channel, product.row.pixels, product.row.y_block = count, count, count * vl
        begin = part // a.strips
        for group in range(begin, begin + 1 if a.in_place else a.groups):
            if a.in_place:
                product.row.x = a.x.data + image * a.x.image + group * a.ins * a.x.block + first
                product.x_channel = a.x.block
            for i in range(0 if a.in_place else a.ins):
                plane = a.x.data + image * a.x.image + (group * a.ins + i) * a.x.block
                if a.watched and not goes_on(a.kh * a.kw * count):
                    return
                for k in range(a.kh * a.kw):
                    fill_column(a, plane, k // a.kw, k % a.kw, first, count, columns + (i * a.kh * a.kw + k) * count)
            for pair in range(ceil_div(a.out_blocks, 2)):
                block = 2 * pair
                blocks = min(2, a.out_blocks - block)
                if a.watched and not goes_on(blocks * a.inner * count):
                    return
                product.row.blocks = <int>blocks
                product.row.w = a.weights.data + (group * a.out_blocks + block) * vl * a.inner
                product.row.bias = a.bias.data + (group * a.out_blocks + block) * vl
                look_ahead(&product, a.inner, ceil_div(count, a.kernels.mr), vl)
                a.kernels.conv_blocks(&product)
                store_blocks(a, tile, image, group * a.outs + block * vl, min(blocks * vl, a.outs - block * vl), first,
                             count)


cdef class Im2colConv(Step):
    """Convolution of an NCHW tensor, with any parameters.

    Parameters
    ----------
    y, x, residual : View
        OUT, IN, IN or None; all NCHW without halo.
    weights, bias : float32 arrays or Views
        From `pack_weights`, with the weights as (out_channels, in_channels / groups * kh * kw, 1, 1) and one block of
        input; and from `pack_bias`.
    kernel, strides, pads, dilations : tuples of int
    groups : int
    activation : None or (name, attributes)
    """

    cdef Im2colArgs a

    def __init__(self, y, x, residual, weights, bias, kernel, strides, pads, dilations, groups, activation):
        cdef Im2colArgs *a = &self.a
        self.run = run_im2col
        self.bind(a, sizeof(Im2colArgs), &a.act, y, x, residual, weights, bias, activation)
        a.groups, a.ins, a.outs = groups, x.c // groups, y.c // groups
        a.kh, a.kw = kernel
        a.inner = a.ins * a.kh * a.kw
        a.out_blocks = ceil_div(a.outs, self.kernels.vl)
        a.stride_h, a.stride_w = strides
        a.dilation_h, a.dilation_w = dilations
        a.top, a.left = pads[0], pads[1]
        tiles = max(1, min(16, COLUMN_FLOATS // (a.inner * self.kernels.mr)))
        # Large filters take long: a strip then has fewer pixels than a tile holds.
        a.columns = max(1, min(tiles * self.kernels.mr, a.y.h * a.y.w, _step.LONGEST_PIECE // (2 * a.inner)))
        a.strips = ceil_div(a.y.h * a.y.w, a.columns)
        a.in_place = a.kh * a.kw == 1 and tuple(strides) == (1, 1) and not any(pads) and a.x.row == a.x.w
        self.scratch_floats = a.columns * (2 * self.kernels.vl + a.inner)
        self.work(a.x.n * a.strips * (groups if a.in_place else 1),
                  a.x.n * a.y.h * a.y.w * groups * a.inner * (a.out_blocks + 1))
        a.watched = self.at_a_time(1, 2 * a.inner * a.columns) > 0
