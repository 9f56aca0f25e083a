"""Gradients of weights: of convolutions, dense, grouped and depthwise, and of fully connected layers; and of biases.

    dw[o, i, ky, kx] = sum of x[n, i, p * sh + ky * dh - top, q * sw + kx * dw - left] * g[n, o, p, q]

Results are parameters in blocks of outputs, [O/VL][I][kh][kw][VL]. Threads own outputs, and every sum has one order:
image by image, row by row. Chunks of pixels are small enough for the second-level cache to hold them for all channels.
The gradient of inputs has no kernel of its own: it is a convolution with transposed weights.
"""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy, memset

import numpy as np

from fastcnn.kernels._step cimport ONE_TAP, Step, address, blocks_of, ceil_div, floats, goes_on, set_activation, share
from fastcnn.kernels._tiles cimport (
    fc_conv_blocks, fc_conv_grad, fc_depthwise_grad, fc_kernels, fc_pixel_sums, fc_tensor, set_product,
)

from fastcnn.kernels import _step

cdef enum:
    # docs/tuning.md, "Sums of gradients".
    CHUNK_PIXELS = 512  # pixels of outputs summed before the sums are stored
    STRIP_FEATURES = 96
    MOST_BLOCKS = 3  # blocks of outputs in a tile


cdef struct ConvGradArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT a parameter
    fc_tensor x  # IN  blocked or lanes = C, with its padding as halo; plain for run_any
    fc_tensor g  # IN  blocked; plain for run_any
    fc_conv_grad tile
    fc_depthwise_grad rows
    ptrdiff_t groups, ins, in_blocks, out_blocks, out_parts  # of a group
    ptrdiff_t kh, kw, stride_h, stride_w, dilation_h, dilation_w, top, left
    ptrdiff_t columns        # taps of a row of the filter; 1 where they are merged into one tap with more lanes
    ptrdiff_t images, height  # images of a chunk, and rows of each
    bint watched                                # whether `goes_on` is called within a unit
    ptrdiff_t pixels_at_a_time, rows_at_a_time  # pixels of a row, and rows, between two calls; 0: all of them


cdef void run_dense(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (group, part of the output blocks, input block, row of the filter)."""
    cdef const ConvGradArgs *a = <const ConvGradArgs *>raw
    cdef ptrdiff_t units = a.groups * a.out_parts * a.in_blocks * a.kh, unit, image = 0, first
    while image < a.x.n:
        first = 0
        while first < a.g.h:
            for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
                add_products(a, unit, image, first)
            first += a.height
        image += a.images


cdef void add_products(const ConvGradArgs *a, ptrdiff_t unit, ptrdiff_t image, ptrdiff_t first) noexcept nogil:
    """Add the products of one chunk to one unit."""
    cdef fc_conv_grad t = a.tile
    cdef ptrdiff_t vl = a.kernels.vl, ky = unit % a.kh, block = unit // a.kh % a.in_blocks, kx
    cdef ptrdiff_t part = unit // a.kh // a.in_blocks % a.out_parts, group = unit // a.kh // a.in_blocks // a.out_parts
    cdef ptrdiff_t start = share(a.out_blocks, <int>part, <int>a.out_parts), area = a.kh * a.kw
    cdef const float *x = (a.x.data + image * a.x.image + (group * a.in_blocks + block) * a.x.block
                           + (first * a.stride_h + ky * a.dilation_h - a.top) * a.x.row - a.left * a.x.lanes)
    cdef float *y = a.y.data + (group * a.out_blocks + start) * a.ins * area * vl + (block * vl * area + ky * a.kw) * vl
    t.blocks = <int>(share(a.out_blocks, <int>part + 1, <int>a.out_parts) - start)
    t.g = a.g.data + image * a.g.image + (group * a.out_blocks + start) * a.g.block + first * a.g.row
    t.images, t.rows = min(a.images, a.x.n - image), min(a.height, a.g.h - first)
    t.accumulate = image > 0 or first > 0
    if a.columns > 1 or a.kw == 1:
        t.lanes = min(a.x.lanes, a.ins - block * a.x.lanes)
    for kx in range(a.columns):
        t.x = x + kx * a.dilation_w * a.x.lanes
        t.y = y + kx * vl
        if a.watched:
            add_stretches(a, &t)
        else:
            a.kernels.conv_grad(&t)


cdef void add_stretches(const ConvGradArgs *a, const fc_conv_grad *all_pixels) noexcept nogil:
    """Add the products of a tap, `pixels_at_a_time` pixels of each row at a time."""
    cdef fc_conv_grad t = all_pixels[0]
    cdef ptrdiff_t first = 0
    while first < all_pixels.pixels:
        t.pixels = min(a.pixels_at_a_time, all_pixels.pixels - first)
        t.x = all_pixels.x + first * t.x_pixel
        t.g = all_pixels.g + first * a.kernels.vl
        if not goes_on(t.images * t.rows * t.pixels * t.lanes * t.blocks):
            return
        a.kernels.conv_grad(&t)
        t.accumulate = True
        first += t.pixels


cdef void run_depthwise(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are blocks of channels."""
    cdef const ConvGradArgs *a = <const ConvGradArgs *>raw
    cdef fc_depthwise_grad rows = a.rows
    cdef ptrdiff_t vl = a.kernels.vl, blocks = blocks_of(&a.g), block, image, taps = a.kh * a.kw
    for block in range(share(blocks, tid, nthreads), share(blocks, tid + 1, nthreads)):
        rows.y = a.y.data + block * taps * vl
        memset(rows.y, 0, taps * vl * sizeof(float))
        for image in range(a.x.n):
            rows.x = (a.x.data + image * a.x.image + block * a.x.block - a.top * a.x.row - a.left * vl)
            rows.g = a.g.data + image * a.g.image + block * a.g.block
            if a.watched and not goes_on(a.g.h * a.g.w * taps):
                return
            if a.rows_at_a_time > 0:
                add_rows(a, &rows)
            else:
                a.kernels.depthwise_grad(&rows)


cdef void add_rows(const ConvGradArgs *a, const fc_depthwise_grad *image) noexcept nogil:
    """Add an image to the gradient of a depthwise filter, tap by tap. Each call takes some rows, or some pixels of a
    row."""
    cdef fc_depthwise_grad rows = image[0]
    cdef ptrdiff_t tap, r, first
    rows.kh = rows.kw = 1
    for tap in range(image.kh * image.kw):
        rows.y = image.y + tap * a.kernels.vl
        r = 0
        while r < image.rows:
            rows.rows, first = min(a.rows_at_a_time, image.rows - r), 0
            while first < image.pixels:
                rows.pixels = min(a.pixels_at_a_time, image.pixels - first)
                rows.x = (image.x + tap // image.kw * image.x_row + tap % image.kw * image.x_col + r * image.x_step
                          + first * image.x_pixel)
                rows.g = image.g + r * image.g_row + first * a.kernels.vl
                if not goes_on(rows.rows * rows.pixels):
                    return
                a.kernels.depthwise_grad(&rows)
                first += rows.pixels
            r += rows.rows


cdef void run_any(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Compute the gradient element by element, from NCHW, for groups that are not made of full blocks. Units are the
    weights of one output and one input."""
    cdef const ConvGradArgs *a = <const ConvGradArgs *>raw
    cdef ptrdiff_t outs = a.g.c // a.groups, units = a.g.c * a.ins, unit, o, i, ky, kx, n, p, q, r, c, vl = a.kernels.vl
    cdef ptrdiff_t area = a.kh * a.kw
    cdef const float *x
    cdef const float *g
    cdef double total
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        o, i = unit // a.ins, unit % a.ins
        for ky in range(a.kh):
            for kx in range(a.kw):
                total = 0.0
                for n in range(a.x.n):
                    for p in range(a.g.h):
                        r = p * a.stride_h + ky * a.dilation_h - a.top
                        if r < 0 or r >= a.x.h:
                            continue
                        if a.watched and not goes_on(a.g.w):
                            return
                        x = a.x.data + n * a.x.image + (o // outs * a.ins + i) * a.x.block + r * a.x.row
                        g = a.g.data + n * a.g.image + o * a.g.block + p * a.g.row
                        for q in range(a.g.w):
                            c = q * a.stride_w + kx * a.dilation_w - a.left
                            if c >= 0 and c < a.x.w:
                                total += <double>x[c] * g[q]
                a.y.data[((o // vl * a.ins + i) * area + ky * a.kw + kx) * vl + o % vl] = <float>total


cdef class ConvGradWeight(Step):
    """Gradient of the weights of a convolution.

    Parameters
    ----------
    y, x, g : View
        OUT a parameter; IN the input, blocked or lanes = C, halo at least pads; IN the gradient of the output, blocked.
        Or both inputs are plain without halo.
    kernel, strides, pads, dilations : tuples of int
    groups : int
    """

    cdef ConvGradArgs a

    def __init__(self, y, x, g, kernel, strides, pads, dilations, groups):
        cdef ConvGradArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl
        self.args = a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.g, g)
        a.kernels, a.groups, a.ins = self.kernels, groups, x.c // groups
        a.kh, a.kw = kernel
        a.stride_h, a.stride_w = strides
        a.dilation_h, a.dilation_w = dilations
        a.top, a.left = pads[0], pads[1]
        vectors = a.x.n * a.g.h * a.g.w * a.ins * a.kh * a.kw * ceil_div(a.g.c, vl)
        if g.lanes == 1:
            self.run = run_any
            self.work(a.g.c * a.ins, vectors * vl)
            a.watched = self.at_a_time(1, a.g.w) > 0
        elif groups > 1 and groups == x.c == g.c:
            self.run = run_depthwise
            self.work(blocks_of(&a.g), vectors)
            self.set_depthwise_stretches()
            a.rows.kh, a.rows.kw, a.rows.rows, a.rows.pixels = a.kh, a.kw, g.h, g.w
            a.rows.x_row, a.rows.x_col, a.rows.x_pixel = a.dilation_h * a.x.row, a.dilation_w * vl, a.stride_w * vl
            a.rows.x_step, a.rows.g_row = a.stride_h * a.x.row, a.g.row
        else:
            self.run = run_dense
            self.set_dense()
            self.work(groups * a.out_parts * a.in_blocks * a.kh, vectors)
            lanes = max(a.tile.lanes, a.x.lanes) * min(MOST_BLOCKS, a.out_blocks)
            a.pixels_at_a_time = self.at_a_time(a.g.w, a.images * a.height * lanes)
            a.watched = a.pixels_at_a_time > 0

    cdef void set_depthwise_stretches(self) except *:
        """Set after how much work `goes_on` is called: an image, or where that takes long, some rows or pixels of one
        tap."""
        cdef ConvGradArgs *a = &self.a
        cdef ptrdiff_t pixels = a.g.h * a.g.w, image = pixels * a.kh * a.kw, longest = _step.LONGEST_PIECE
        if image <= longest:
            a.watched = self.at_a_time(1, image) > 0
            return
        a.watched = True
        a.pixels_at_a_time = self.at_a_time(a.g.w, 1)
        a.rows_at_a_time = self.at_a_time(a.g.h, a.g.w) if a.pixels_at_a_time == a.g.w else 1

    cdef void set_dense(self) except *:
        cdef ConvGradArgs *a = &self.a
        cdef fc_conv_grad *t = &a.tile
        cdef ptrdiff_t vl = self.kernels.vl, area = a.kh * a.kw
        a.in_blocks, a.out_blocks = ceil_div(a.ins, a.x.lanes), ceil_div(a.g.c // a.groups, vl)
        a.out_parts = ceil_div(a.out_blocks, MOST_BLOCKS)
        a.columns = a.kw
        lanes = np.arange(a.x.lanes) * area
        if a.x.lanes < vl and a.dilation_w == 1 and a.kw > 1:
            # The taps of a row of the filter lie side by side: one tap with all their channels.
            a.columns = 1
            lanes = (np.arange(a.kw)[:, None] + lanes).ravel()
            t.lanes = a.kw * a.x.lanes
        to = np.ascontiguousarray(lanes * vl, np.intp)
        self.owned = to
        t.to = <const ptrdiff_t *>address(to)
        t.pixels = a.g.w
        t.x_image, t.x_row, t.x_pixel = a.x.image, a.stride_h * a.x.row, a.stride_w * a.x.lanes
        t.g_image, t.g_row, t.g_block, t.y_block = a.g.image, a.g.row, a.g.block, a.ins * area * vl
        a.images, a.height = max(1, CHUNK_PIXELS // (a.g.h * a.g.w)), a.g.h
        if a.images == 1:
            a.height = max(1, min(a.g.h, CHUNK_PIXELS // a.g.w))


cdef struct LinearGradArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT a parameter
    fc_tensor x  # IN  rows
    fc_tensor g  # IN  rows
    fc_conv_blocks product
    ptrdiff_t out_blocks, strips
    ptrdiff_t at_a_time  # features of a product; below those of a strip, `goes_on` is called before each


cdef void run_linear(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Multiply the transpose of x with g. Units are (pair of output blocks, strip of features)."""
    cdef const LinearGradArgs *a = <const LinearGradArgs *>raw
    cdef fc_conv_blocks product = a.product
    cdef ptrdiff_t vl = a.kernels.vl, pairs = ceil_div(a.out_blocks, 2), packed = -1
    cdef ptrdiff_t unit, block, first, last, n, count, width
    for unit in range(share(pairs * a.strips, tid, nthreads), share(pairs * a.strips, tid + 1, nthreads)):
        block, first = unit // a.strips * 2, unit % a.strips * STRIP_FEATURES
        product.row.blocks = <int>min(2, a.out_blocks - block)
        if packed != block:
            width = product.row.blocks * vl
            count = min(width, a.g.w - block * vl)
            for n in range(a.g.n):
                memcpy(scratch + n * width, a.g.data + n * a.g.image + block * vl, count * sizeof(float))
                memset(scratch + n * width + count, 0, (width - count) * sizeof(float))
            packed = block
        product.row.w = scratch
        product.ahead = scratch
        last = min(first + STRIP_FEATURES, a.x.w)
        while first < last:
            product.row.pixels = min(a.at_a_time, last - first)
            product.row.x = a.x.data + first
            product.row.y = a.y.data + (block * a.x.w + first) * vl
            if a.at_a_time < STRIP_FEATURES and not goes_on(product.row.pixels * product.row.blocks * a.x.n):
                return
            a.kernels.conv_blocks(&product)
            first += product.row.pixels


cdef class LinearGradWeight(Step):
    """y[o, i] = sum over n of g[n, o] * x[n, i].

    Parameters
    ----------
    y, x, g : View
        OUT a parameter; IN rows; IN rows.
    """

    cdef LinearGradArgs a

    def __init__(self, y, x, g):
        cdef LinearGradArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl
        zeros = np.zeros(2 * vl, np.float32)
        self.run, self.args, self.owned = run_linear, a, zeros
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.g, g)
        a.kernels = self.kernels
        a.out_blocks, a.strips = ceil_div(a.g.w, vl), ceil_div(a.x.w, STRIP_FEATURES)
        set_activation(&a.product.row.act, None)
        set_product(&a.product, ONE_TAP, a.x.n, a.x.image, 1)
        a.product.row.bias = floats(zeros)
        a.product.row.y_pixel, a.product.row.y_block = vl, a.x.w * vl
        self.scratch_floats = 2 * vl * a.x.n
        self.work(ceil_div(a.out_blocks, 2) * a.strips, a.x.n * a.x.w * a.out_blocks)
        a.at_a_time = self.at_a_time(STRIP_FEATURES, 2 * a.x.n) or STRIP_FEATURES


cdef struct SumArgs:
    const fc_kernels *kernels
    fc_tensor y     # OUT a parameter
    fc_tensor g     # IN  blocked
    bint watched    # whether `goes_on` is called before each image


cdef void run_channel_sum(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const SumArgs *a = <const SumArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, blocks = ceil_div(a.y.c, vl), block, image, k
    cdef double *totals = <double *>scratch
    cdef fc_pixel_sums sums
    sums.x, sums.moments, sums.sums, sums.shift = NULL, 0, totals, scratch
    sums.rows, sums.pixels, sums.g_row, sums.x_row = a.g.h, a.g.w, a.g.row, 0
    for block in range(share(blocks, tid, nthreads), share(blocks, tid + 1, nthreads)):
        memset(totals, 0, vl * sizeof(double))
        for image in range(a.g.n):
            if a.watched and not goes_on(a.g.h * a.g.w):
                return
            sums.g = a.g.data + image * a.g.image + block * a.g.block
            a.kernels.pixel_sums(&sums)
        for k in range(vl):
            a.y.data[block * vl + k] = <float>totals[k]


cdef class ChannelSum(Step):
    """Gradient of a bias: y[c] = sum of g over all dimensions but the channels.

    Parameters
    ----------
    y, g : View
        OUT a parameter; IN blocked images.
    """

    cdef SumArgs a

    def __init__(self, y, g):
        self.run, self.args = run_channel_sum, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.g, g)
        self.a.kernels = self.kernels
        self.scratch_floats = 2 * self.kernels.vl
        blocks, pixels = ceil_div(self.a.y.c, self.kernels.vl), self.a.g.h * self.a.g.w
        self.work(blocks, blocks * self.a.g.n * pixels)
        self.a.watched = self.at_a_time(1, pixels) > 0
