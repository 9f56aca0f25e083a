"""Direct convolution on the blocked layout. The input carries its padding as a halo of zeros: nothing here knows of
borders. Refuses nothing.

    y[n, o, p, q] = act(r[n, o, p, q] + b[o] + sum over i, ky, kx of
                        x[n, i, p * sh + ky * dh - top, q * sw + kx * dw - left] * w[o, i, ky, kx])

Loops, outside in: panel of pixels, chunk of input channels, bundle of output blocks, rows, tiles. A panel's inputs stay in
the second-level cache while all output channels go by, and the weights of a bundle and a chunk in the first-level one
while the pixels go by (Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008). Where only every
second pixel is read, or the rows of the image make small tiles, a panel's inputs are first gathered side by side.
"""

from libc.stddef cimport ptrdiff_t

import numpy as np

from fastcnn.kernels._direct_filters cimport bundle_begins
from fastcnn.kernels._step cimport PANEL_PIXELS, Step, WeightedOperands, address, ceil_div, goes_on, share
from fastcnn.kernels._tiles cimport FC_NARROW_MOST, fc_conv_row, fc_kernels, fc_tensor, look_ahead, most_pixels

from fastcnn.kernels._direct_filters import block_lanes, chunk_blocks

cdef enum:
    # Gathering costs a load and a store for every input of a tap: little beside so many blocks of output channels. Tiles
    # of fewer pixels than that have too few sums in flight.
    GATHER_BLOCKS = 8
    SMALL_TILE = 4


def writes_once(ptrdiff_t ins, ptrdiff_t outs, kernel, ptrdiff_t vl):
    """Whether each output is written once, finished: in one pass over the input channels, and not by vectors of pixels,
    of which the last ones of a row overlap."""
    return ins <= vl * chunk_blocks(vl, kernel, vl) and outs > FC_NARROW_MOST


def writes_planes(ptrdiff_t ins, ptrdiff_t outs, kernel, strides, ptrdiff_t width, ptrdiff_t vl):
    """Whether the output can be plain: of grey images that make few, with vectors of pixels, `width` of them in a row."""
    return ins == 1 and kernel[1] > 1 and fills_vectors_with_pixels(outs, strides, width, vl)


def pools(ptrdiff_t outs, strides, ptrdiff_t width, ptrdiff_t vl):
    """Whether maxima of 2 x 2 pixels can be taken where a convolution of grey images computes them: of few outputs, with
    vectors of pixels (`width` of them in a row, before the maxima)."""
    return fills_vectors_with_pixels(outs, strides, width // 2 * 2, vl)


cdef bint fills_vectors_with_pixels(ptrdiff_t outs, strides, ptrdiff_t width, ptrdiff_t vl) except *:
    """Whether csrc/tiles/conv_narrow.h computes the outputs of a grey image, `width` of them in a row."""
    return outs <= min(vl, FC_NARROW_MOST) and strides[1] == 1 and width >= vl


cdef struct ConvArgs:
    const fc_kernels *kernels
    fc_tensor y          # OUT blocked, or plain (see writes_planes)
    fc_tensor x          # IN  blocked, lanes = C or plain, with its padding as halo
    fc_tensor weights   # IN  packed
    fc_tensor bias      # IN  whole blocks
    fc_tensor residual   # IN  like y; data is NULL without one
    fc_conv_row row      # what all rows share
    ptrdiff_t groups, in_blocks, out_blocks, bundles  # of a group
    const ptrdiff_t *begins  # of bundles, and the end of the last one
    ptrdiff_t taps, steps  # of a block; of a group
    ptrdiff_t chunk      # blocks of input in one pass
    ptrdiff_t top, left, stride, dilation
    ptrdiff_t rows, columns, pixels  # rows as the tiles see them
    ptrdiff_t panels
    ptrdiff_t pool       # outputs along one side of a maximum: 1 or 2
    ptrdiff_t x_step     # from one such row to the next
    bint gathered        # panels' inputs are copied to scratch memory: [tap][pixel][VL]
    ptrdiff_t kh, kw, x_row, x_col, x_pixel  # what that copy needs: the filter, and distances between taps and pixels
    ptrdiff_t panel_pixels
    # Outputs of a row before the thread asks whether to go on, 0: it does not; and at least.
    ptrdiff_t at_a_time, least
    bint half            # the last block of outputs is at most half full: see `leaves_half`
    bint scattered       # a group's channels lie anywhere in blocks: weights and bias are packed as of one group
    ptrdiff_t group_outs, channels  # outputs of a group, and of all


cdef void run_conv(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (panel, bundle of output blocks)."""
    cdef const ConvArgs *a = <const ConvArgs *>raw
    cdef ptrdiff_t planes = a.groups * a.bundles, units = a.x.n * a.panels * planes, panel, bundle, count
    cdef ptrdiff_t unit = share(units, tid, nthreads), end = share(units, tid + 1, nthreads)
    while unit < end:
        panel, bundle = unit // planes, unit % a.bundles
        count = min(a.bundles - bundle, end - unit)
        if a.scattered:
            scattered_panel(a, panel // a.panels, panel % a.panels, a.begins[bundle], a.begins[bundle + count])
        else:
            conv_panel(a, panel // a.panels, panel % a.panels, unit % planes // a.bundles, bundle, bundle + count, scratch)
        unit += count


cdef void gather(const ConvArgs *a, const float *x, ptrdiff_t blocks, ptrdiff_t rows, float *y) noexcept nogil:
    """Inputs of all taps in some blocks, for the outputs of some rows: [block][ky][kx][pixel][VL]."""
    cdef ptrdiff_t block, ky, kx, r
    for block in range(blocks):
        for ky in range(a.kh):
            for kx in range(a.kw):
                for r in range(rows):
                    a.kernels.copy_pixels(x + block * a.x.block + r * a.x_step + ky * a.x_row + kx * a.x_col,
                                          a.x_pixel, y + r * a.columns * a.x.lanes, a.x.lanes, a.columns)
                y += a.panel_pixels * a.x.lanes


cdef void conv_panel(const ConvArgs *a, ptrdiff_t image, ptrdiff_t panel, ptrdiff_t group, ptrdiff_t first,
                     ptrdiff_t last, float *scratch) noexcept nogil:
    """Bundles first .. last of output blocks of a group, for one panel. Gathered inputs count as a single row."""
    cdef fc_conv_row row = a.row
    cdef ptrdiff_t vl = a.kernels.vl, low = share(a.rows, <int>panel, <int>a.panels), high, start = 0, bundle, block, count
    cdef ptrdiff_t steps, rows, pixels
    cdef const float *x = (a.x.data + image * a.x.image + group * a.in_blocks * a.x.block - a.top * a.x.row
                           - a.left * a.x.lanes)
    cdef const float *inputs
    high = share(a.rows, <int>panel + 1, <int>a.panels)
    rows = 1 if a.gathered else high - low
    pixels = (high - low) * a.columns if a.gathered else a.pool * a.columns
    while start < a.in_blocks:
        count = min(a.chunk, a.in_blocks - start)
        row.finish = start + count == a.in_blocks
        row.accumulate = start > 0
        row.last = a.row.last if row.finish else 0
        row.whole = count * a.taps - row.last
        steps = row.whole * row.lanes + row.last * row.last_lanes
        inputs = x + start * a.x.block
        if a.gathered:
            gather(a, inputs + low * a.x_step, count, high - low, scratch)
            inputs = scratch
        for bundle in range(first, last):
            block = a.begins[bundle]
            row.blocks = <int>(a.begins[bundle + 1] - block)
            row.half = a.half and bundle + 1 == a.bundles
            row.w = a.weights.data + block * steps * vl
            row.w += a.out_blocks * (group * a.steps + start * a.taps * row.lanes) * vl
            conv_rows(a, &row, inputs, image, group * a.out_blocks + block, low, rows, pixels, steps)
        start += count


cdef void conv_rows(const ConvArgs *a, fc_conv_row *row, const float *x, ptrdiff_t image, ptrdiff_t block,
                    ptrdiff_t first, ptrdiff_t rows, ptrdiff_t pixels, ptrdiff_t steps) noexcept nogil:
    """A bundle of blocks of outputs, for some rows of so many pixels and sums of so many steps."""
    cdef ptrdiff_t vl = a.kernels.vl, tiles = ceil_div(pixels, most_pixels(a.kernels, row.blocks)), r
    row.bias = a.bias.data + block * vl
    look_ahead(row, steps, rows * tiles, vl)
    for r in range(first, first + rows):
        row.pixels = min(a.columns, a.pixels - r * a.columns) if a.pixels else pixels
        row.x = x if a.gathered else x + r * a.x_step
        if a.at_a_time == 0:
            place_outputs(a, row, image, block, r * a.columns)
            a.kernels.conv_row(row)
        else:
            conv_stretches(a, row, image, block, r * a.columns, steps)
        row.ahead += tiles * steps * row.ahead_bytes // <ptrdiff_t>sizeof(float)


cdef void place_outputs(const ConvArgs *a, fc_conv_row *row, ptrdiff_t image, ptrdiff_t block,
                        ptrdiff_t at) noexcept nogil:
    """Where the outputs of a block go, from the `at`-th one of an image on."""
    cdef ptrdiff_t width = a.y.w, lanes = a.y.lanes
    row.y = a.y.data + image * a.y.image + block * a.y.block + at // width * a.y.row + at % width * lanes
    if a.residual.data != NULL:
        row.residual = (a.residual.data + image * a.residual.image + block * a.residual.block
                        + at // width * a.residual.row + at % width * lanes)
    row.until_gap = width - at % width if a.row.y_width else 0


cdef void conv_stretches(const ConvArgs *a, const fc_conv_row *row, ptrdiff_t image, ptrdiff_t block, ptrdiff_t at,
                         ptrdiff_t steps) noexcept nogil:
    """One row as the tiles see it, some of its pixels at a time."""
    cdef fc_conv_row part = row[0]
    cdef ptrdiff_t outputs = row.pixels // a.pool, i, begin
    cdef ptrdiff_t count = max(1, min(ceil_div(outputs, a.at_a_time), outputs // a.least))
    for i in range(count):
        begin = share(outputs, <int>i, <int>count)
        part.pixels = (share(outputs, <int>i + 1, <int>count) - begin) * a.pool
        part.x = row.x + begin * a.pool * row.x_pixel
        place_outputs(a, &part, image, block, at + begin)
        if not goes_on(part.pixels * steps * row.blocks):
            return
        a.kernels.conv_row(&part)


cdef void scattered_panel(const ConvArgs *a, ptrdiff_t image, ptrdiff_t panel, ptrdiff_t first,
                          ptrdiff_t last) noexcept nogil:
    """Blocks first .. last of outputs, for one panel. A block is computed once for each group that it has channels of,
    and keeps those of the groups before."""
    cdef fc_conv_row row = a.row
    cdef ptrdiff_t vl = a.kernels.vl, low = share(a.rows, <int>panel, <int>a.panels), block = first, group, most, width
    cdef ptrdiff_t rows = share(a.rows, <int>panel + 1, <int>a.panels) - low
    cdef bint joined
    cdef const float *x = a.x.data + image * a.x.image - a.top * a.x.row - a.left * a.x.lanes
    while block < last:
        width = min(2, a.out_blocks - block // 2 * 2)  # blocks whose weights are packed side by side
        most = last_group(a, block)
        joined = width == 2 and block % 2 == 0 and most == last_group(a, block + 1)  # all of the next is this group's
        for group in range(block * vl // a.group_outs, most + 1):
            row.blocks = 2 if joined and group == most else 1
            row.taps = a.row.taps + group * a.steps
            row.w = a.weights.data + (block // 2 * 2 * a.steps + block % 2) * vl
            row.w_skip = (width - 1) * vl
            row.kept = max(0, group * a.group_outs - block * vl)
            row.finish = group == most
            conv_rows(a, &row, x, image, block, low, rows, a.columns, a.steps)
        block += 2 if joined else 1


cdef ptrdiff_t last_group(const ConvArgs *a, ptrdiff_t block) noexcept nogil:
    """The last group that a block of outputs has channels of."""
    return (min(a.channels, (block + 1) * a.kernels.vl) - 1) // a.group_outs


cdef class DirectConv(Step):
    """Convolution of a blocked tensor; the input's halo holds the padding.

    Parameters
    ----------
    y, x, residual : View
        OUT (blocked, or plain where `writes_planes` says so and there is no residual), IN (blocked, of few channels also
        lanes = C or plain; halo at least pads), IN or None (blocked, shape of y).
    weights, bias : float32 arrays or Views
        From `_direct_filters`.
    kernel, strides, pads, dilations : tuples of int
    groups : int
    activation : None or (name, attributes)
    places : None or array of int
        In x, of every input channel, where those of a group are not whole blocks one after the other; lanes = VL, and
        weights and bias are packed as those of one group, of one block of inputs.
    pool : {1, 2}
        2: the outputs are maxima of 2 x 2 pixels, of what `pools` says. Then x has one channel and is plain, there is no
        residual, and the activation is monotone.
    half : bool
        Whether the weights are packed as for half a block.
    bundle : int
        As in `_direct_filters.pack_weights`.
    """

    cdef ConvArgs a

    def __init__(self, y, x, residual, weights, bias, kernel, strides, pads, dilations, groups, activation,
                 places=None, pool=1, half=False, bundle=2):
        cdef ConvArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl
        self.run, self.args, self.args_size = run_conv, a, sizeof(ConvArgs)
        self.bind(<WeightedOperands *>a, &a.row.act, y, x, weights, bias, activation)
        self.operand(2, &a.residual, residual)
        channels = x.c // groups
        a.scattered = places is not None
        a.group_outs, a.channels = y.c // groups, y.c
        a.groups = 1 if a.scattered else groups
        lanes = block_lanes(x.lanes, channels)
        a.in_blocks = ceil_div(channels, lanes)
        a.out_blocks = ceil_div(y.c // a.groups, vl)
        begins = bundle_begins(a.out_blocks, bundle)
        a.begins, a.bundles = <const ptrdiff_t *>address(begins), len(begins) - 1
        a.steps = channels * kernel[0] * kernel[1]
        a.top, a.left = pads[0], pads[1]
        a.chunk = min(a.in_blocks, chunk_blocks(lanes, kernel, vl))
        a.row.y_block, a.row.y_pixel = a.y.block, a.y.lanes
        a.row.residual_block = a.residual.block
        a.row.narrow = y.c // a.groups if a.out_blocks == 1 and not a.scattered else 0
        a.pool, a.half = pool, half
        a.row.x_below = strides[0] * a.x.row if pool == 2 else 0
        self.set_rows(kernel, strides)
        gather = not a.scattered and self.should_gather(kernel, strides)
        if (a.pixels or gather) and not self.gapless_outputs():
            a.row.y_width, a.row.y_gap = a.y.w, a.y.row - a.y.w * a.y.lanes
            a.row.residual_gap = a.residual.row - a.y.w * a.y.lanes
        if a.scattered:
            taps = self.set_scattered_taps(channels, kernel, strides, dilations, places)
        else:
            taps = (self.set_gathered_taps(channels, kernel, strides, dilations) if gather
                    else self.set_taps(channels, kernel, strides, dilations))
        self.owned = weights, bias, taps, begins
        panels, bundles = a.x.n * a.panels, a.groups * a.bundles
        self.may_be_cut(panels * bundles, a.x.n * a.rows * a.columns * a.pool * a.groups * a.out_blocks * a.steps)
        if a.gathered:  # the inputs of a panel are for all its outputs
            self.pieces = min(self.pieces, panels)
        self.set_stretches(bundle)

    cdef void set_stretches(self, bundle) except *:
        """Of rows that take long; a vector of pixels at least, where tiles may take them."""
        cdef ConvArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, each = ceil_div(a.steps * a.chunk, a.in_blocks)
        if a.row.narrow > 0 and a.row.x_pixel == 1 and a.pool * a.columns >= vl:
            a.least, each = vl, 2 * each * a.row.narrow * a.pool  # of what is almost two vectors
        else:
            a.least, each = 1, each * min(bundle, a.out_blocks)
        a.at_a_time = a.least * self.at_a_time(max(1, max(a.columns, PANEL_PIXELS) // a.least), each)

    cdef object set_taps(self, channels, kernel, strides, dilations):
        """Where the inputs of one sum lie; gives the array that holds it."""
        cdef ConvArgs *a = &self.a
        cdef fc_conv_row *row = &a.row
        columns = kernel[1]
        row.x_lane, row.x_pixel = 1, strides[1] * a.x.lanes
        row.lanes = a.x.lanes
        row.last_lanes = channels - (a.in_blocks - 1) * a.x.lanes
        steps = 1
        if a.in_blocks == 1 and channels < self.kernels.vl:  # few channels: every tap is a single step
            steps, row.lanes, row.last_lanes = channels, 1, 1
        elif dilations[1] == 1 and row.last_lanes == row.lanes:
            # The taps of a row of the filter lie side by side: one tap with all their lanes.
            row.lanes *= columns
            row.last_lanes = row.lanes
            columns = 1
        a.taps = kernel[0] * columns * steps
        row.last = a.taps if row.last_lanes < row.lanes else 0
        blocks, rows, pixels, lanes = np.ogrid[: a.chunk, : kernel[0], :columns, :steps]
        if a.x.lanes == 1:  # a channel is a plane
            lanes = lanes * a.x.block
        taps = blocks * a.x.block + rows * (dilations[0] * a.x.row) + pixels * (dilations[1] * a.x.lanes) + lanes
        taps = np.ascontiguousarray(taps.ravel(), np.intp)
        row.taps = <const ptrdiff_t *>address(taps)
        return taps

    cdef object set_scattered_taps(self, channels, kernel, strides, dilations, places):
        """As `set_taps`, one group after the other: every step is a tap."""
        cdef ConvArgs *a = &self.a
        cdef fc_conv_row *row = &a.row
        row.x_pixel, row.lanes, row.whole, row.last = strides[1] * a.x.lanes, 1, a.steps, 0
        blocks, lanes = np.divmod(np.reshape(places, (-1, 1, 1, channels)), a.x.lanes)
        rows, pixels = np.ogrid[: kernel[0], : kernel[1]]
        window = rows * (dilations[0] * a.x.row) + pixels * (dilations[1] * a.x.lanes)
        taps = blocks * a.x.block + lanes + window[..., None]
        taps = np.ascontiguousarray(taps.ravel(), np.intp)
        row.taps = <const ptrdiff_t *>address(taps)
        return taps

    cdef bint should_gather(self, kernel, strides) except *:
        cdef ConvArgs *a = &self.a
        cdef bint pays = a.out_blocks >= GATHER_BLOCKS and a.x.lanes == self.kernels.vl
        cdef bint small_tiles = a.columns // ceil_div(a.columns, self.kernels.mr) < SMALL_TILE
        return pays and self.takes_several_rows() and (small_tiles or tuple(kernel) == (1, 1) and strides[1] > 1)

    cdef bint takes_several_rows(self) except *:
        """Whether tiles may be of pixels from several rows of the output: where there are gaps, from two at most, and of
        blocked inputs side by side."""
        cdef ConvArgs *a = &self.a
        # Tiles of single blocks have twice as many pixels.
        cdef bint long_rows = a.y.w >= self.kernels.mr * (2 if a.scattered or a.out_blocks % 2 else 1)
        return self.gapless_outputs() or (long_rows and a.x.lanes == self.kernels.vl)

    cdef bint gapless_outputs(self) except *:
        cdef ConvArgs *a = &self.a
        return a.y.row == a.y.w * a.y.lanes and (a.residual.row == a.y.row or self.operands[2] == NULL)

    cdef object set_gathered_taps(self, channels, kernel, strides, dilations):
        """As `set_taps`, where each tap's inputs lie side by side in scratch memory."""
        cdef ConvArgs *a = &self.a
        cdef fc_conv_row *row = &a.row
        a.gathered = True
        a.kh, a.kw = kernel
        a.x_row, a.x_col = dilations[0] * a.x.row, dilations[1] * a.x.lanes
        a.x_pixel = strides[1] * a.x.lanes
        a.panel_pixels = ceil_div(a.rows, a.panels) * a.columns
        a.taps = a.kh * a.kw
        row.x_lane, row.x_pixel, row.lanes = 1, a.x.lanes, a.x.lanes
        row.last_lanes = channels - (a.in_blocks - 1) * a.x.lanes
        row.last = a.taps if row.last_lanes < row.lanes else 0
        taps = np.arange(a.chunk * a.taps, dtype=np.intp) * (a.panel_pixels * a.x.lanes)
        row.taps = <const ptrdiff_t *>address(taps)
        self.scratch_floats = a.chunk * a.taps * a.panel_pixels * a.x.lanes
        return taps

    cdef void set_rows(self, kernel, strides) except *:
        """Rows as in the image; or, where a pixel needs itself only, stretches of the flattened plane."""
        cdef ConvArgs *a = &self.a
        a.rows, a.columns, a.pixels = a.y.h, a.y.w, 0
        a.x_step = a.pool * strides[0] * a.x.row
        cdef bint itself = a.pool == 1 and tuple(kernel) == (1, 1) and tuple(strides) == (1, 1) and a.x.row == a.x.w * a.x.lanes
        if itself and self.takes_several_rows():
            a.pixels = a.y.h * a.y.w
            a.rows = max(1, ceil_div(a.pixels, PANEL_PIXELS))
            a.columns = ceil_div(a.pixels, a.rows)
            a.rows = ceil_div(a.pixels, a.columns)
            a.x_step = a.columns * a.x.lanes
        a.panels = ceil_div(a.rows * a.columns, PANEL_PIXELS)
        a.panels = max(1, min(a.rows, a.panels))
