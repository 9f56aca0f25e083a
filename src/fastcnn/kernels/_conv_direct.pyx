"""Direct convolution on the blocked layout: the choice of its tiles and the layout of their operands. _direct_rows has
the loops. The input carries its padding as a halo of zeros, so that no loop treats borders. It takes every kernel size,
stride, dilation and number of groups.

    y[n, o, p, q] = act(r[n, o, p, q] + b[o] + s[n, o, p, q]);
    s[n, o, p, q] = sum of x[n, i, p * sh + ky * dh - top, q * sw + kx * dw - left] * w[o, i, ky, kx]
"""

from libc.stddef cimport ptrdiff_t

import numpy as np

from fastcnn.kernels._direct_filters cimport bundle_begins
from fastcnn.kernels._direct_rows cimport (
    BlocksArgs, FamilyArgs, Gather, Layer, NarrowArgs, StepsArgs, run_blocks, run_narrow, run_scattered, run_steps,
)
from fastcnn.kernels._step cimport PANEL_PIXELS, Step, address, ceil_div
from fastcnn.kernels._tiles cimport FC_NARROW_MOST, fc_conv_row, fc_tensor

from fastcnn.kernels._direct_filters import chunk_blocks

cdef enum:
    # docs/tuning.md, "Panels". Gathering takes a load and a store for every input of a tap. From this many blocks of
    # outputs on, it costs less than small tiles.
    GATHER_BLOCKS = 8
    SMALL_TILE = 4  # pixels: smaller tiles have too few sums in flight


def writes_once(ptrdiff_t ins, ptrdiff_t outs, kernel, ptrdiff_t vl):
    """Whether each output is written once, when it is final. Several passes over the input channels write it several
    times. Narrow tiles write some outputs twice: the last two of a row overlap."""
    return ins <= vl * chunk_blocks(vl, kernel, vl) and outs > FC_NARROW_MOST


def writes_planes(ptrdiff_t ins, ptrdiff_t outs, kernel, strides, ptrdiff_t width, ptrdiff_t vl):
    """Whether the output can be plain. It can where narrow tiles compute it from a single channel, in rows of `width`
    pixels."""
    return ins == 1 and kernel[1] > 1 and takes_narrow_tiles(outs, strides, width, vl)


def pools(ptrdiff_t outs, strides, ptrdiff_t width, ptrdiff_t vl):
    """Whether a convolution of a single channel can fuse a maximum of 2 x 2 outputs. Only narrow tiles do, in rows of
    `width` pixels before the pooling."""
    return takes_narrow_tiles(outs, strides, width // 2 * 2, vl)


def reads_planes(ptrdiff_t ins, ptrdiff_t outs, kernel, strides, ptrdiff_t width, ptrdiff_t vl):
    """Whether a convolution of full blocks reads a plain image, to compute few outputs in vectors of pixels. It then
    takes at most half of the products: otherwise most lanes of a block of outputs are empty. A copy of the input costs
    more than a single tap."""
    cdef bint has_taps = kernel[0] * kernel[1] > 1, is_narrow = outs <= min(vl, FC_NARROW_MOST)
    return ins >= vl and has_taps and is_narrow and strides[1] == 1 and 2 * outs * ceil_div(width, vl) <= width


cdef bint takes_narrow_tiles(ptrdiff_t outs, strides, ptrdiff_t width, ptrdiff_t vl) except *:
    """Whether narrow tiles compute the outputs of a plain image, in rows of `width` pixels."""
    return outs <= min(vl, FC_NARROW_MOST) and strides[1] == 1 and width >= vl


cdef union DirectArgs:
    FamilyArgs common  # each of the others begins with the same fields
    BlocksArgs blocks
    StepsArgs steps
    NarrowArgs narrow


cdef class DirectConv(Step):
    """Convolution of a blocked tensor; the input's halo holds the padding.

    Parameters
    ----------
    y, x, residual : View
        OUT, blocked; without a residual plain where `writes_planes` allows it. IN, blocked; with fewer channels than VL
        also lanes = C or plain; plain where `reads_planes` asks for it: rows of VL outputs then lie within the halo.
        The halo is at least pads. IN or None, blocked, of the shape of y.
    weights, bias : float32 arrays or Views
        From `_direct_filters`.
    kernel, strides, pads, dilations : tuples of int
    groups : int
    activation : None or (name, attributes)
    places : None or array of int
        Index of every input channel in x, where groups are not made of full blocks. It requires lanes = VL, and weights
        and bias that are packed with one group and one block of inputs.
    pool : {1, 2}
        2: the outputs are maxima of 2 x 2 pixels, where `pools` allows it. x then has one channel and is plain. There
        is no residual, and the activation is monotone.
    half : bool
        Whether the weights are packed with half a block.
    bundle : int
        As in `_direct_filters.pack_weights`.
    """

    cdef DirectArgs a

    def __init__(self, y, x, residual, weights, bias, kernel, strides, pads, dilations, groups, activation,
                 places=None, pool=1, half=False, bundle=2):
        cdef Layer *layer = &self.a.common.layer
        cdef ptrdiff_t vl = self.kernels.vl, channels = x.c // groups
        cdef bint scattered = places is not None, gathered
        cdef bint short_rows = x.lanes == 1 and channels >= vl  # shorter ones than a vector are computed as one
        cdef bint few = not scattered and (channels < vl or short_rows)  # then there is one group
        cdef bint narrow = few and x.lanes == strides[1] == 1 and y.c <= min(vl, FC_NARROW_MOST)
        self.bind(&self.a, sizeof(DirectArgs), &self.a.common.row.act, y, x, residual, weights, bias, activation)
        layer.groups = 1 if scattered else groups
        layer.out_blocks = ceil_div(y.c // layer.groups, vl)
        begins = bundle_begins(layer.out_blocks, bundle)
        layer.begins, layer.bundles = <const ptrdiff_t *>address(begins), len(begins) - 1
        layer.steps = channels * kernel[0] * kernel[1]
        layer.first_tap = -(pads[0] * layer.x.row + pads[1] * layer.x.lanes)
        self.set_rows(kernel, strides, pool, scattered, narrow)
        gathered = not scattered and self.should_gather(kernel, strides)
        self.set_outputs(gathered)
        if scattered:
            taps = self.choose_scattered(y.c // groups, kernel, strides, dilations, np.reshape(places, (-1, channels)))
        elif gathered:
            taps = self.choose_gathered(channels, kernel, strides, dilations, half)
        elif narrow and (short_rows or pool * layer.columns >= vl):
            taps = self.choose_narrow(y.c, kernel, dilations, strides[0] * layer.x.row if pool == 2 else 0)
        elif few:
            taps = self.choose_steps(kernel, strides, dilations)
        else:
            taps = self.choose_blocks(channels, kernel, strides, dilations, half)
        self.a.common.row.taps = <const ptrdiff_t *>address(taps)
        self.owned = self.owned, taps, begins
        panels, bundles = layer.x.n * layer.panels, layer.groups * layer.bundles
        vectors = layer.x.n * layer.rows * layer.columns * pool * layer.groups * layer.out_blocks * layer.steps
        self.may_be_cut(panels * bundles, vectors)
        if gathered:  # the inputs of a panel serve all its outputs
            self.pieces = min(self.pieces, panels)
        self.set_stretches(bundle, pool)

    cdef void set_stretches(self, bundle, pool) except *:
        """Divide rows that take long into stretches: `goes_on` is called between them."""
        cdef Layer *a = &self.a.common.layer
        cdef ptrdiff_t each = a.steps
        a.least = 1
        if self.run == run_narrow:  # tiles take a vector of pixels at least; the last two of a row may overlap
            a.least, each = self.kernels.vl, 2 * each * self.a.narrow.tile.channels * pool
        else:
            if self.run == run_blocks:
                each = ceil_div(each * self.a.blocks.chunk, self.a.blocks.in_blocks)
            each *= min(bundle, a.out_blocks)
        a.at_a_time = a.least * self.at_a_time(max(1, max(a.columns, PANEL_PIXELS) // a.least), each)

    cdef void set_rows(self, kernel, strides, pool, bint scattered, bint narrow) except *:
        """Set the rows that tiles see: those of the image. Where an output needs only one pixel, all rows of an image
        are joined and divided evenly."""
        cdef Layer *a = &self.a.common.layer
        a.rows, a.columns, a.joined = a.y.h, a.y.w, 0
        a.x_step = pool * strides[0] * a.x.row
        cdef bint itself = tuple(kernel) == tuple(strides) == (1, 1) and a.x.row == a.x.w * a.x.lanes
        if pool == 1 and itself and self.takes_several_rows(scattered):
            a.joined = a.y.h * a.y.w
            a.columns = ceil_div(a.joined, max(1, ceil_div(a.joined, PANEL_PIXELS)))
            while narrow and 0 < a.joined % a.columns < self.kernels.vl:  # the last row is a vector at least
                a.columns += 1
            a.rows = ceil_div(a.joined, a.columns)
            a.x_step = a.columns * a.x.lanes
        a.panels = max(1, min(a.rows, ceil_div(a.rows * a.columns, PANEL_PIXELS)))

    cdef bint takes_several_rows(self, bint scattered) except *:
        """Whether a tile may take pixels from several rows of the output. With gaps between rows it takes them from two
        rows at most, and only from blocked inputs."""
        cdef Layer *a = &self.a.common.layer
        # Tiles of single blocks have twice as many pixels.
        cdef bint long_rows = a.y.w >= self.kernels.mr * (2 if scattered or a.out_blocks % 2 else 1)
        return self.has_no_gaps() or (long_rows and a.x.lanes == self.kernels.vl)

    cdef bint has_no_gaps(self) except *:
        """Whether the rows of the outputs and of the residual have no halo between them."""
        cdef Layer *a = &self.a.common.layer
        return a.y.row == a.y.w * a.y.lanes and (a.residual.row == a.y.row or self.operands[2] == NULL)

    cdef bint should_gather(self, kernel, strides) except *:
        """Whether the inputs of a panel are first copied to neighbouring pixels. It pays where only every second pixel
        is read, or where the rows of the image make small tiles."""
        cdef Layer *a = &self.a.common.layer
        cdef bint pays = a.out_blocks >= GATHER_BLOCKS and a.x.lanes == self.kernels.vl
        cdef bint small_tiles = a.columns // ceil_div(a.columns, self.kernels.mr) < SMALL_TILE
        return pays and self.takes_several_rows(False) and (small_tiles or tuple(kernel) == (1, 1) and strides[1] > 1)

    cdef void set_outputs(self, bint gathered) except *:
        """Set the distances between output pixels. The family of tiles sets x_pixel."""
        cdef Layer *a = &self.a.common.layer
        cdef fc_conv_row *row = &self.a.common.row
        row.blocks = 1
        row.y_block, row.y_pixel, row.residual_block = a.y.block, a.y.lanes, a.residual.block
        if (a.joined or gathered) and not self.has_no_gaps():
            row.gap_every = a.y.w
            row.y_gap, row.residual_gap = a.y.row - a.y.w * a.y.lanes, a.residual.row - a.y.w * a.y.lanes

    cdef object choose_blocks(self, channels, kernel, strides, dilations, half):
        """Choose taps of many channels. As all `choose_` methods, it returns the array of their offsets in x."""
        cdef BlocksArgs *a = &self.a.blocks
        cdef fc_tensor *x = &a.layer.x
        columns = kernel[1]
        a.tile.row.x_pixel = strides[1] * x.lanes
        self.set_blocks(channels, kernel, half)
        if dilations[1] == 1 and a.tile.partial_channels == a.tile.full_channels:
            # The taps of a row of the filter are neighbours: they become one tap with all their channels.
            a.tile.full_channels *= columns
            a.tile.partial_channels = a.tile.full_channels
            a.taps = kernel[0]
            columns = 1
        blocks, rows, pixels = np.ogrid[: a.chunk, : kernel[0], :columns]
        return flat(blocks * x.block + rows * (dilations[0] * x.row) + pixels * (dilations[1] * x.lanes))

    cdef object choose_gathered(self, channels, kernel, strides, dilations, half):
        """Choose taps as `choose_blocks` does, in scratch memory: each has its inputs at neighbouring pixels there."""
        cdef BlocksArgs *a = &self.a.blocks
        cdef fc_tensor *x = &a.layer.x
        cdef Gather *gather = &a.gather
        gather.kh, gather.kw = kernel
        gather.x_row, gather.x_column = dilations[0] * x.row, dilations[1] * x.lanes
        gather.x_pixel = strides[1] * x.lanes
        gather.pixels = ceil_div(a.layer.rows, a.layer.panels) * a.layer.columns
        a.tile.row.x_pixel = x.lanes
        self.set_blocks(channels, kernel, half)
        self.scratch_floats = a.chunk * a.taps * gather.pixels * x.lanes
        return flat(np.arange(a.chunk * a.taps) * (gather.pixels * x.lanes))

    cdef void set_blocks(self, channels, kernel, half) except *:
        """Set the blocks of input channels, with a tap for each position of the filter."""
        cdef BlocksArgs *a = &self.a.blocks
        cdef ptrdiff_t lanes = a.layer.x.lanes
        self.run = run_blocks
        a.half = half
        a.in_blocks = ceil_div(channels, lanes)
        a.chunk = min(a.in_blocks, chunk_blocks(lanes, kernel, self.kernels.vl))
        a.taps = kernel[0] * kernel[1]
        a.tile.x_channel, a.tile.full_channels = 1, lanes
        a.tile.partial_channels = channels - (a.in_blocks - 1) * lanes
        a.tile.partial_taps = a.taps if a.tile.partial_channels < lanes else 0

    cdef object choose_steps(self, kernel, strides, dilations):
        """Choose a tap for each input channel and position of the filter: there are few input channels."""
        cdef StepsArgs *a = &self.a.steps
        self.run = run_steps
        a.tile.row.x_pixel, a.tile.steps = strides[1] * a.layer.x.lanes, a.layer.steps
        return self.step_taps(kernel, dilations)

    cdef object choose_narrow(self, outs, kernel, dilations, pool_row):
        """Choose vectors of pixels: a plain image has few input channels and few output channels."""
        cdef NarrowArgs *a = &self.a.narrow
        self.run = run_narrow
        a.tile.row.x_pixel, a.tile.steps, a.tile.channels, a.tile.x_pool_row = 1, a.layer.steps, outs, pool_row
        return self.step_taps(kernel, dilations)

    cdef object step_taps(self, kernel, dilations):
        """Offsets of the taps [ky][kx][channel] of all channels of x."""
        cdef fc_tensor *x = &self.a.common.layer.x
        rows, pixels, channels = np.ogrid[: kernel[0], : kernel[1], : x.c]
        return flat(rows * (dilations[0] * x.row) + pixels * (dilations[1] * x.lanes)
                    + channels * (x.block if x.lanes == 1 else 1))  # a channel of a plain image is a plane

    cdef object choose_scattered(self, outs, kernel, strides, dilations, places):
        """Choose a tap for each channel, group by group: the channels of a group of `outs` outputs may lie anywhere."""
        cdef StepsArgs *a = &self.a.steps
        cdef fc_tensor *x = &a.layer.x
        self.run = run_scattered
        a.tile.row.x_pixel, a.tile.steps = strides[1] * x.lanes, a.layer.steps
        a.group_outs, a.channels = outs, a.layer.y.c
        blocks, lanes = np.divmod(places[:, None, None], x.lanes)
        rows, pixels = np.ogrid[: kernel[0], : kernel[1]]
        window = rows * (dilations[0] * x.row) + pixels * (dilations[1] * x.lanes)
        return flat(blocks * x.block + lanes + window[..., None])


cdef object flat(places):
    """Flatten distances in floats to one array of ptrdiff_t."""
    return np.ascontiguousarray(np.ravel(places), np.intp)
