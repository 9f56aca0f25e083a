"""Convolution in bfloat16 of a blocked tensor of floats, with sums in float32. A fully connected layer is a convolution
of one pixel.

The loops are panel of rows, bundle of output blocks, rows, tiles. The inputs of a panel are rounded once, into scratch
memory, for all bundles that a thread computes.
"""

from libc.math cimport INFINITY
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint16_t

import numpy as np

from fastcnn.kernels._cpu cimport current
from fastcnn.kernels._step cimport Step, address, ceil_div, goes_on, set_activation, share
from fastcnn.kernels._tiles cimport FC_CLIP, fc_activation, fc_kernels, fc_tensor

cdef extern from "bf16.h" nogil:
    ctypedef struct fc_bf16_conv:
        const uint16_t *x
        const ptrdiff_t *taps
        const uint16_t *w
        const float *bias
        const float *residual
        float *y
        ptrdiff_t full_taps, partial_taps, partial_pairs
        ptrdiff_t pixels, x_pixel, y_pixel
        ptrdiff_t y_block, residual_block
        int blocks
        float low, high

    ctypedef struct fc_bf16_kernels:
        const char *name
        int vl
        int available
        void (*conv)(const fc_bf16_conv *row) noexcept nogil
        void (*round_pixels)(const float *x, ptrdiff_t x_pixel, uint16_t *y, ptrdiff_t pixels) noexcept nogil

    const fc_bf16_kernels *fc_bf16(int vl)

cdef enum:
    PANEL_BYTES = 1 << 18  # of rounded inputs: docs/tuning.md, "bfloat16"
    READY = 16  # floats at the start of the scratch memory: the first number tells which panel is rounded


cdef struct ConvArgs:
    const fc_kernels *kernels
    fc_tensor y                # OUT blocked
    fc_tensor x                # IN  blocked, with its padding as halo
    fc_tensor weights
    fc_tensor bias
    fc_tensor residual         # IN  like y; data is NULL without one
    const fc_bf16_kernels *tiles
    fc_bf16_conv tile          # the fields that all rows share
    fc_activation act
    ptrdiff_t images, height, columns  # of outputs; images of one pixel are the columns of one
    ptrdiff_t blocks, bundles  # of outputs
    ptrdiff_t in_blocks, panels
    ptrdiff_t first_tap        # floats from the first pixel of x to the first tap of the first output
    ptrdiff_t x_step           # floats of x from the first row of one row of outputs to that of the next
    ptrdiff_t x_pixel          # floats of x from one rounded pixel to the next
    ptrdiff_t width            # rounded pixels of a row
    ptrdiff_t under, step      # rounded rows under a row of outputs, and from one row of outputs to the next
    ptrdiff_t most_rows        # of a panel, rounded
    ptrdiff_t bundle_weights   # numbers of a full bundle
    bint joined                # whether the pixels of all rows of a panel follow each other


def available():
    """Whether this machine multiplies in bfloat16 with the instruction set in use."""
    return fc_bf16(current().vl) != NULL


def pack_bf16_weights(weight, vl, scale=None):
    """Pack filters (O, C, kh, kw) for `Bf16Conv`, times a factor for each output.

    Returns
    -------
    uint16 array
        For each bundle of one or two blocks of outputs [taps][pairs][blocks][VL][2]: first all full blocks of inputs.
    """
    outs, ins, kh, kw = weight.shape
    if scale is not None:
        weight = weight * scale[:, None, None, None]
    blocks, full, rest = -(-outs // vl), ins // vl, ins % vl
    padded = np.zeros((blocks * vl, -(-ins // 2) * 2, kh * kw), np.float32)
    padded[:outs, :ins] = weight.reshape(outs, ins, -1)
    rounded = round_to_bf16(padded)
    parts = []
    for start in range(0, blocks, 2):
        bundle = rounded[start * vl : (start + 2) * vl]
        # [block of outputs][VL][block of inputs][pair][2][taps], as [block of inputs][taps][pair][block][VL][2]
        count = len(bundle) // vl
        whole = bundle[:, : full * vl].reshape(count, vl, full, vl // 2, 2, kh * kw).transpose(2, 5, 3, 0, 1, 4)
        last = bundle[:, full * vl :].reshape(count, vl, -(-rest // 2), 2, kh * kw).transpose(4, 2, 0, 1, 3)
        parts += [whole.ravel(), last.ravel()]
    return np.concatenate(parts)


def round_to_bf16(numbers):
    """Round float32 to bfloat16, half to even, as uint16. NaN stays NaN.

    Examples
    --------
    >>> [hex(number) for number in round_to_bf16(np.array([1.0, -2.0, 1.00390625, 1.01171875], np.float32))]
    ['0x3f80', '0xc000', '0x3f80', '0x3f82']
    """
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(numbers), np.uint16(0x7FC0), rounded)


cdef void run_conv(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (image, panel, bundle)."""
    cdef const ConvArgs *a = <const ConvArgs *>raw
    cdef ptrdiff_t units = a.images * a.panels * a.bundles, unit, panel, low, high
    cdef ptrdiff_t *ready = <ptrdiff_t *>scratch
    cdef uint16_t *rounded = <uint16_t *>(scratch + READY)
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        panel = unit // a.bundles
        low = share(a.height, <int>(panel % a.panels), <int>a.panels)
        high = share(a.height, <int>(panel % a.panels) + 1, <int>a.panels)
        if not goes_on((high - low) * a.columns * a.bundle_weights // a.kernels.vl // 2):
            return
        if ready[0] != panel + 1:
            round_panel(a, a.x.data + panel // a.panels * a.x.image + a.first_tap + low * a.x_step, high - low, rounded)
            ready[0] = panel + 1
        bundle_rows(a, panel // a.panels, unit % a.bundles, low, high, rounded)


cdef void round_panel(const ConvArgs *a, const float *x, ptrdiff_t rows, uint16_t *rounded) noexcept nogil:
    """Round the inputs of some rows of outputs, to [block][row][pixel][VL]."""
    cdef ptrdiff_t block, r, count = (rows - 1) * a.step + a.under, vl = a.kernels.vl
    cdef ptrdiff_t between = a.x_step // a.step
    for block in range(a.in_blocks):
        for r in range(count):
            a.tiles.round_pixels(x + block * a.x.block + r * between, a.x_pixel,
                                 rounded + (block * a.most_rows + r) * a.width * vl, a.width)


cdef void bundle_rows(const ConvArgs *a, ptrdiff_t image, ptrdiff_t bundle, ptrdiff_t low, ptrdiff_t high,
                      const uint16_t *rounded) noexcept nogil:
    """Compute the outputs of a bundle in some rows."""
    cdef fc_bf16_conv tile = a.tile
    cdef ptrdiff_t block = 2 * bundle, vl = a.kernels.vl, r
    tile.blocks = <int>min(2, a.blocks - block)
    tile.w = <const uint16_t *>a.weights.data + bundle * a.bundle_weights
    tile.bias = a.bias.data + block * vl
    for r in range(low, low + 1 if a.joined else high):
        tile.x = rounded + (r - low) * a.step * a.width * vl
        tile.pixels = (high - low if a.joined else 1) * a.columns
        tile.y = a.y.data + image * a.y.image + block * a.y.block + r * a.y.row
        if a.residual.data != NULL:
            tile.residual = a.residual.data + image * a.residual.image + block * a.residual.block + r * a.residual.row
        a.tiles.conv(&tile)
        if a.act.kind > FC_CLIP:
            activate(a, &tile)


cdef void activate(const ConvArgs *a, const fc_bf16_conv *tile) noexcept nogil:
    """Apply an activation that is more than bounds to the outputs of a row."""
    cdef ptrdiff_t block, pixel, vl = a.kernels.vl
    cdef bint dense = tile.y_pixel == vl
    cdef float *y
    for block in range(tile.blocks):
        for pixel in range(1 if dense else tile.pixels):
            y = tile.y + block * tile.y_block + pixel * tile.y_pixel
            a.kernels.activate(&a.act, y, y, vl * (tile.pixels if dense else 1))


cdef class Bf16Conv(Step):
    """Convolution of a blocked tensor in bfloat16; the input's halo holds the padding.

    Parameters
    ----------
    y, x, residual : View
        OUT blocked; IN blocked, halo at least pads; IN or None, blocked, of the shape of y.
    weights : uint16 array
        From `pack_bf16_weights`.
    bias : float32 array
        In full blocks.
    kernel, strides, pads, dilations : tuples of int
    activation : (str, dict) or None
    """

    cdef ConvArgs a

    def __init__(self, y, x, residual, weights, bias, kernel, strides, pads, dilations, activation):
        cdef ConvArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, pixels
        a.tiles = fc_bf16(vl)
        if a.tiles == NULL:
            raise RuntimeError("this machine has no instructions for bfloat16 beside the instruction set in use")
        self.run, self.args, self.args_size = run_conv, a, sizeof(ConvArgs)
        a.kernels = self.kernels
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.residual, residual)
        a.weights.data, a.bias.data = <float *>address(weights), <float *>address(bias)
        set_activation(&a.act, activation)
        a.tile.low = a.act.low if a.act.kind <= FC_CLIP else -INFINITY
        a.tile.high = a.act.high if a.act.kind <= FC_CLIP else INFINITY
        a.blocks, a.in_blocks = ceil_div(y.c, vl), ceil_div(x.c, vl)
        a.bundles = ceil_div(a.blocks, 2)
        a.tile.y_block, a.tile.residual_block = a.y.block, a.residual.block
        taps = self.set_rows(kernel, strides, pads, dilations)
        self.owned = weights, bias, taps
        self.scratch_floats = READY + ceil_div(a.in_blocks * a.most_rows * a.width * vl, 2)
        pixels = a.images * a.height * a.columns
        self.may_be_cut(a.images * a.panels * a.bundles, pixels * a.blocks * a.bundle_weights // (4 * vl))
        self.between = self.unit()

    cdef object set_rows(self, kernel, strides, pads, dilations):
        """Set which inputs are rounded, and where taps find them. Returns the offsets of the taps."""
        cdef ConvArgs *a = &self.a
        cdef ptrdiff_t vl = a.kernels.vl, full = a.x.c // vl, most, row, pairs
        cdef bint narrow = tuple(kernel) == (1, 1), residual = self.operands[2] != NULL
        cdef bint single = narrow and a.y.h == a.y.w == 1 and (not residual or a.residual.image == a.y.image)
        a.images, a.height, a.columns, a.tile.y_pixel = a.y.n, a.y.h, a.y.w, vl
        if single:
            a.images, a.columns, a.tile.y_pixel = 1, a.y.n, a.y.image
        a.first_tap = -(pads[0] * a.x.row + pads[1] * vl)
        a.x_step = strides[0] * a.x.row
        a.under = (kernel[0] - 1) * dilations[0] + 1
        if narrow:  # only the pixels that are read
            a.step, a.width, a.tile.x_pixel = 1, a.columns, vl
            a.x_pixel = a.x.image if single else strides[1] * vl
        else:
            a.step, a.x_pixel, a.tile.x_pixel = strides[0], vl, strides[1] * vl
            a.width = (a.y.w - 1) * strides[1] + (kernel[1] - 1) * dilations[1] + 1
        row = a.in_blocks * a.width * vl * 2 * a.step
        most = max(1, (PANEL_BYTES - row // a.step * (a.under - a.step)) // max(1, row))
        a.panels = max(1, ceil_div(a.height, most))
        a.most_rows = (ceil_div(a.height, a.panels) - 1) * a.step + a.under
        a.joined = single or narrow and a.y.row == a.y.w * vl and (not residual or a.residual.row == a.y.w * vl)
        blocks, rows, columns = np.ogrid[: a.in_blocks, : kernel[0], : kernel[1]]
        taps = ((blocks * a.most_rows + rows * dilations[0]) * a.width + columns * dilations[1]) * vl
        taps = np.ascontiguousarray(np.ravel(taps), np.intp)
        a.tile.taps = <const ptrdiff_t *>address(taps)
        a.tile.full_taps = full * kernel[0] * kernel[1]
        a.tile.partial_taps = len(taps) - a.tile.full_taps
        a.tile.partial_pairs = ceil_div(a.x.c % vl, 2)
        pairs = a.tile.full_taps * (vl // 2) + a.tile.partial_taps * a.tile.partial_pairs
        a.bundle_weights = pairs * 2 * 2 * vl
        return taps
