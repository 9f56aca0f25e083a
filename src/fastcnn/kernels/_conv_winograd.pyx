"""Winograd convolution, F(2x2, 3x3), F(4x4, 3x3) and F(6x6, 3x3), on the blocked layout: 3 x 3, one group, stride 1.
F(2x2, 3x3) also has stride 2.

A block of patches is transformed (V) and multiplied with the transformed filters (U). There is one matrix product for
each component; a patch has as many components as pixels. The products (M) are transformed back:

    V[component][input block][patch]  U[component][bundle of output blocks]  M[component][output block][patch]

V and M of a block of patches lie in scratch memory. The input carries its padding as halo, and zeros up to the end of
the last patch. csrc/tiles/winograd.h has the algebra. With stride 2, some components of V share a U, and some products
share an M.

Where m does not divide the size of the output, some patches in a line have m - 1 outputs. They need no products of the
last component: only output m does. Tall patches have m rows of outputs and need the last row of components, low ones
have m - 1. Broad patches have m columns and need the last column, slim ones have m - 1. Over all images of a batch,
patches are sorted so that the patches of each product are neighbours:

    [low and broad | tall and broad | tall and slim | low and slim]

Where there are few patches, lean filters may be transformed while they are read, again for each tile of patches (see
csrc/tiles/winograd_sums.h). V is then [tile of patches][input block][component][patch], and M holds one output block.
"""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memset

import numpy as np

from fastcnn.kernels._direct_filters cimport bundle_begins
from fastcnn.kernels._step cimport LINE_FLOATS, Step, address, ceil_div, floats, goes_on, odd_lines, share
from fastcnn.kernels._tiles cimport (
    FC_NONE, bytes_per_step, fc_conv_blocks, fc_kernels, fc_tensor, fc_winograd_output, fc_winograd_sums, most_pixels,
)

cdef enum:
    # docs/tuning.md, "Winograd".
    PATCHES = 28  # in a block: enough products for each read of the transformed filters
    # Floats between the filters in use and those that are prefetched. With few input channels, the next bundle of
    # output blocks comes too soon for a prefetch.
    LEAST_AHEAD = 2048
    # For lean filters: the patches that share a read, and the blocks of input channels that stay in the first two
    # levels of caches meanwhile.
    PATCHES_TOGETHER = 16
    CHUNK_BLOCKS = 4


def line_products(m, stride=1):
    """The products of F(m, 3) in one dimension, as triples: the components of U, of V, and of M that takes their
    product."""
    if stride == 2:
        return [(0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 0), (3, 4, 2)]
    return [(i, i, i) for i in range(m + 2)]


def line_sizes(m, stride=1):
    """Numbers of components of U, V and M in one dimension."""
    return tuple(1 + max(components) for components in zip(*line_products(m, stride)))


def filter_numbers(m, stride=1, lean=False):
    """Numbers of a filter as `_winograd_filters.pack_winograd` packs it."""
    return 9 if lean else line_sizes(m, stride)[0] ** 2


def patch_counts(size, m, whole=False):
    """Count the patches of m outputs, and those of m - 1 outputs after them, along a line of `size` outputs.

    With `whole`, all patches have m outputs, and the last one may end outside the image. It may also end outside where
    all patches have m - 1 outputs.
    """
    count = -(-size // m)
    slim = 0 if whole else min(count, count * m - size)
    return count - slim, slim


cdef struct Product:
    ptrdiff_t u, v, m     # components
    ptrdiff_t accumulate  # whether M holds an earlier product
    ptrdiff_t begin, end  # the patches that need it


cdef struct Place:
    ptrdiff_t x, y, residual  # offsets of a patch's first pixel from the first one of a block of channels
    ptrdiff_t rows, columns   # rows and columns of outputs inside the image


cdef struct Ready:
    ptrdiff_t block        # 1 + the block of patches whose places and V are in this scratch memory
    Place places[PATCHES]


# Floats of `Ready` at the start of the scratch memory: a multiple of a cache line.
cdef ptrdiff_t READY_FLOATS = ceil_div(sizeof(Ready), LINE_FLOATS * sizeof(float)) * LINE_FLOATS


cdef struct WinogradArgs:
    const fc_kernels *kernels
    fc_tensor y         # OUT blocked
    fc_tensor x         # IN  blocked, with padding and overhang as halo
    fc_tensor weights   # IN  packed
    fc_tensor bias      # IN  padded to full blocks
    fc_tensor residual  # IN  like y; data is NULL without one
    const float *zeros  # the bias of the products
    const ptrdiff_t *taps  # offsets of the input blocks in V
    const Product *products
    fc_winograd_output output
    ptrdiff_t m, stride, kind, top, left
    ptrdiff_t components, sums  # components of V, as many as products; components of M
    ptrdiff_t pool      # side of the windows of a fused maximum: 1 or 2
    ptrdiff_t rows, tall_rows, columns, broad_columns  # rows and columns of patches in an image
    ptrdiff_t first_tall, end_broad, end_tall, total   # indices of patches in the order of the batch
    ptrdiff_t patches, blocks  # of a block, blocks of the batch; lean: of a tile, blocks of PATCHES_TOGETHER
    ptrdiff_t ins, outs        # blocks of input channels and of output channels
    ptrdiff_t bundles          # number of bundles of output blocks
    const ptrdiff_t *begins    # the first block of each bundle, and the end of the last one
    ptrdiff_t v_component, m_component, u_component  # floats from one component to the next
    ptrdiff_t v_block    # floats from one block of input channels to the next
    bint watched         # whether `goes_on` is called within a unit


cdef void locate(const WinogradArgs *a, ptrdiff_t first, ptrdiff_t count, Place *places) noexcept nogil:
    """Compute the places of `count` patches from `first` on."""
    cdef ptrdiff_t vl = a.kernels.vl, patch, index, below, beside, row, column, image, height, width
    cdef bint tall, broad
    for patch in range(first, first + count):
        tall, broad = a.first_tall <= patch and patch < a.end_tall, patch < a.end_broad
        below = a.tall_rows if tall else a.rows - a.tall_rows  # patches of this kind in a column of an image
        beside = a.broad_columns if broad else a.columns - a.broad_columns
        index = patch
        if tall:
            index -= a.first_tall if broad else a.end_broad
        elif not broad:
            index -= a.end_tall
        row, column, image = index // beside % below, index % beside, index // beside // below
        row = row * a.m if tall else a.tall_rows * a.m + row * (a.m - 1)
        column = column * a.m if broad else a.broad_columns * a.m + column * (a.m - 1)
        height, width = (a.m if tall else a.m - 1) // a.pool, (a.m if broad else a.m - 1) // a.pool
        places.x = (image * a.x.image + (row * a.stride - a.top) * a.x.row + (column * a.stride - a.left) * vl)
        row, column = row // a.pool, column // a.pool
        places.y = image * a.y.image + row * a.y.row + column * vl
        places.residual = image * a.residual.image + row * a.residual.row + column * vl
        places.rows, places.columns = min(height, a.y.h - row), min(width, a.y.w - column)
        places += 1


cdef void transform_inputs(const WinogradArgs *a, const Place *places, ptrdiff_t count, float *v) noexcept nogil:
    """Transform patches block by block of channels: neighbouring patches share cache lines."""
    cdef ptrdiff_t vl = a.kernels.vl, block, p
    for block in range(a.ins):
        for p in range(count):
            a.kernels.winograd_input[a.kind](a.x.data + block * a.x.block + places[p].x, a.x.row,
                                             v + block * a.v_block + p * vl, a.v_component)


cdef void multiply(const WinogradArgs *a, ptrdiff_t first, ptrdiff_t last, ptrdiff_t patch0, ptrdiff_t count,
                   const float *v, float *m) noexcept nogil:
    """Compute the products for bundles first .. last of output blocks. Components are the outermost loop, so that U is
    read as one stream."""
    cdef ptrdiff_t vl = a.kernels.vl, most = a.kernels.wide_blocks, bundle, block, begin
    cdef const Product *product
    cdef fc_conv_blocks tile
    memset(&tile, 0, sizeof(tile))
    tile.row.bias, tile.row.taps, tile.row.act.kind = a.zeros, a.taps, FC_NONE
    tile.x_channel, tile.row.x_pixel = 1, vl
    tile.row.y_block, tile.row.y_pixel = a.patches * vl, vl
    tile.full_channels, tile.partial_channels = vl, a.x.c - (a.ins - 1) * vl
    tile.partial_taps = 1 if tile.partial_channels < vl else 0
    tile.full_taps = a.ins - tile.partial_taps
    for product in a.products[:a.components]:
        begin = max(0, product.begin - patch0)
        tile.row.pixels = min(count, product.end - patch0) - begin
        if tile.row.pixels <= 0:
            continue
        tile.row.x, tile.accumulate = v + product.v * a.v_component + begin * vl, <int>product.accumulate
        # Divisions take long beside short rows, so that all bundles share this one: docs/tuning.md, "Short rows".
        tile.ahead_bytes = bytes_per_step(most, ceil_div(tile.row.pixels, most_pixels(a.kernels, most)), vl)
        for bundle in range(first, last):
            block = a.begins[bundle]
            tile.row.blocks = <int>(a.begins[bundle + 1] - block)
            tile.row.w = a.weights.data + product.u * a.u_component + block * vl * a.x.c
            tile.row.y = m + product.m * a.m_component + ((block - a.begins[first]) * a.patches + begin) * vl
            # The weights of the next bundle, or later ones.
            tile.ahead = tile.row.w + max(<ptrdiff_t>LEAST_AHEAD, tile.row.blocks * vl * a.x.c)
            if a.watched and not goes_on(tile.row.pixels * tile.row.blocks * a.x.c):
                return
            a.kernels.conv_blocks(&tile)


cdef void transform_outputs(const WinogradArgs *a, ptrdiff_t first, ptrdiff_t last, const Place *places,
                            ptrdiff_t count, const float *m) noexcept nogil:
    cdef ptrdiff_t vl = a.kernels.vl, block, p
    cdef fc_winograd_output output = a.output
    for block in range(first, last):
        output.bias = a.bias.data + block * vl
        for p in range(count):
            output.rows, output.columns = places[p].rows, places[p].columns
            output.m = m + ((block - first) * a.patches + p) * vl
            output.y = a.y.data + block * a.y.block + places[p].y
            if a.residual.data != NULL:
                output.residual = a.residual.data + block * a.residual.block + places[p].residual
            if a.pool == 2:
                a.kernels.winograd_pooled[a.kind](&output)
            else:
                a.kernels.winograd_output[a.kind](&output)


cdef void run_winograd(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (block of patches, part of the output blocks). With few blocks of patches, threads share the channels
    of a block: each of them then transforms its inputs."""
    cdef const WinogradArgs *a = <const WinogradArgs *>raw
    cdef ptrdiff_t parts = 1, unit, block, part, first, count, low, high
    cdef Ready *ready = <Ready *>scratch
    cdef float *v = scratch + READY_FLOATS
    cdef float *m = v + a.components * a.v_component
    if a.blocks < 2 * nthreads and nthreads > 1:
        parts = min(a.bundles, max(2, ceil_div(nthreads, a.blocks)))
    for unit in range(share(a.blocks * parts, tid, nthreads), share(a.blocks * parts, tid + 1, nthreads)):
        block, part = unit // parts, unit % parts
        first = block * a.patches
        count = min(a.patches, a.total - first)
        low, high = a.bundles * part // parts, a.bundles * (part + 1) // parts
        if ready.block != block + 1:
            locate(a, first, count, ready.places)
            transform_inputs(a, ready.places, count, v)
            ready.block = block + 1
        multiply(a, low, high, first, count, v, m)
        transform_outputs(a, a.begins[low], a.begins[high], ready.places, count, m)


cdef inline bint needs_last_row(const WinogradArgs *a, ptrdiff_t patch0) noexcept nogil:
    """Whether any patch of the tile that begins at `patch0` is tall."""
    return max(a.first_tall, patch0) < min(a.end_tall, patch0 + a.patches)


cdef void multiply_lean(const WinogradArgs *a, ptrdiff_t block, ptrdiff_t patch0, ptrdiff_t few, const float *v,
                        float *m) noexcept nogil:
    """Compute the products for one output block and `few` tiles of patches, chunk by chunk of the input channels."""
    cdef ptrdiff_t vl = a.kernels.vl, most = CHUNK_BLOCKS * vl, channel = 0, rows = 0, row, patch, tall, i
    cdef fc_winograd_sums sums
    for i in range(few):
        rows += 6 if needs_last_row(a, patch0 + i * a.patches) else 5
    sums.ahead_bytes = ceil_div(9 * vl * <ptrdiff_t>sizeof(float), rows)
    while channel < a.x.c:
        sums.channels = min(most, a.x.c - channel)
        sums.accumulate = channel > 0
        sums.w = a.weights.data + (block * a.x.c + channel) * 9 * vl
        if a.watched and not goes_on(a.components * few * a.patches * sums.channels):
            return
        row = 0
        for i in range(few):
            patch = patch0 + i * a.patches
            tall = max(0, a.first_tall - patch)
            sums.broad, sums.tall = a.end_broad - patch, min(a.patches, a.end_tall - patch) - tall
            sums.first_tall = min(tall, a.patches - a.patches // 2)
            sums.v = v + i * a.ins * a.v_block + channel // vl * a.v_block
            sums.m = m + i * a.m_component * a.sums
            sums.ahead = (sums.w + sums.channels * 9 * vl
                          + sums.channels * row * sums.ahead_bytes // <ptrdiff_t>sizeof(float))
            a.kernels.winograd_sums(&sums)
            row += 6 if sums.tall > 0 else 5
        channel += most


cdef void run_lean(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (block of patches, output block). Each thread transforms the inputs of its own patches."""
    cdef const WinogradArgs *a = <const WinogradArgs *>raw
    cdef ptrdiff_t unit, block, first, few, i, left
    cdef Ready *ready = <Ready *>scratch
    cdef float *v = scratch + READY_FLOATS
    cdef float *m = v + PATCHES_TOGETHER // a.patches * a.ins * a.v_block
    for unit in range(share(a.blocks * a.outs, tid, nthreads), share(a.blocks * a.outs, tid + 1, nthreads)):
        block = unit // a.outs
        first = block * PATCHES_TOGETHER
        left = min(PATCHES_TOGETHER, a.total - first)
        few = ceil_div(left, a.patches)
        if ready.block != block + 1:
            locate(a, first, left, ready.places)
            for i in range(few):
                transform_inputs(a, ready.places + i * a.patches, min(a.patches, left - i * a.patches),
                                 v + i * a.ins * a.v_block)
            ready.block = block + 1
        multiply_lean(a, unit % a.outs, first, few, v, m)
        for i in range(few):
            transform_outputs(a, unit % a.outs, unit % a.outs + 1, ready.places + i * a.patches,
                              min(a.patches, left - i * a.patches), m + i * a.m_component * a.sums)


cdef class WinogradConv(Step):
    """Winograd convolution of a blocked tensor.

    Parameters
    ----------
    y, x, residual : View
        OUT, IN (halo at least `ops.conv.winograd_halo`), IN or None; all blocked.
    weights, bias : float32 arrays or Views
        From `_winograd_filters.pack_winograd` and `_direct_filters.pack_bias`.
    m : {2, 4, 6}
    stride : {1, 2}
    pads : tuple of int
    pool : {1, 2}
        2: the outputs are maxima of 2 x 2 pixels. There is then no residual, and the activation is monotone.
    activation : None or (name, attributes)
    lean : bool
        Whether filters are transformed while they are read. It requires m = 4 and stride 1.
    """

    cdef WinogradArgs a

    def __init__(self, y, x, residual, weights, bias, m, stride, pads, pool, activation, lean=False):
        cdef WinogradArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, n, low, slim
        self.run = run_lean if lean else run_winograd
        self.bind(a, sizeof(WinogradArgs), &a.output.act, y, x, residual, weights, bias, activation)
        a.m, a.stride, a.top, a.left, a.pool = m, stride, pads[0], pads[1], pool
        a.kind = m // 2 - 1 if stride == 1 else 3
        a.components, a.sums = (side ** 2 for side in line_sizes(m, stride)[1:])
        n = a.x.n
        a.tall_rows, low = patch_counts(a.y.h * pool, m, pool > 1)
        a.broad_columns, slim = patch_counts(a.y.w * pool, m, pool > 1)
        a.rows, a.columns = a.tall_rows + low, a.broad_columns + slim
        a.first_tall = n * low * a.broad_columns
        a.end_broad = n * a.rows * a.broad_columns
        a.end_tall = a.end_broad + n * a.tall_rows * slim
        a.total = n * a.rows * a.columns
        a.ins, a.outs = ceil_div(a.x.c, vl), ceil_div(a.y.c, vl)
        a.output.y_row, a.output.residual_row = a.y.row, a.residual.row
        self.owned = self.owned, self.lay_out_lean() if lean else self.lay_out()
        a.output.component = a.m_component
        self.may_be_cut((a.outs if lean else a.bundles) * a.blocks, a.components * a.total * a.x.c * a.outs)
        if not lean:  # more pieces of a block transform its inputs more often
            self.pieces = min(self.pieces, 2 * a.blocks)
        each = a.patches * self.kernels.wide_blocks * a.x.c
        if lean:
            each = CHUNK_BLOCKS * vl * PATCHES_TOGETHER * a.components
        a.watched = self.at_a_time(1, each) > 0

    cdef object lay_out(self):
        """Lay out scratch memory for blocks of patches. Return the arrays that the arguments point to."""
        cdef WinogradArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl
        begins = bundle_begins(a.outs, self.kernels.wide_blocks)
        a.begins, a.bundles = <const ptrdiff_t *>address(begins), len(begins) - 1
        zeros = np.zeros(self.kernels.wide_blocks * vl, np.float32)
        a.zeros = floats(zeros)
        # Blocks have equal sizes, multiples of a tile where that is possible.
        tile = most_pixels(self.kernels, self.kernels.wide_blocks)
        a.blocks = ceil_div(a.total, PATCHES // tile * tile)
        a.patches = min(a.total, ceil_div(ceil_div(a.total, a.blocks), tile) * tile)
        a.blocks = ceil_div(a.total, a.patches)
        taps = np.arange(a.ins, dtype=np.intp) * (a.patches * vl)
        a.taps = <const ptrdiff_t *>address(taps)
        products = self.list_products()
        a.products = <const Product *>address(products)
        a.v_component, a.v_block = odd_lines(a.ins * a.patches * vl), a.patches * vl
        a.m_component = odd_lines((a.outs + 1) * a.patches * vl)
        a.u_component = a.outs * vl * a.x.c
        self.scratch_floats = READY_FLOATS + a.components * a.v_component + a.sums * a.m_component
        return zeros, taps, products, begins

    cdef object list_products(self):
        """List the products in the order of U in memory, as an array of Product."""
        cdef WinogradArgs *a = &self.a
        line = line_products(a.m, a.stride)
        us, vs, sums = line_sizes(a.m, a.stride)
        begun = set()
        rows = []
        pairs = ((us * u + u2, vs * v + v2, sums * to + to2) for u, v, to in line for u2, v2, to2 in line)
        for u, v, to in sorted(pairs):
            tall, broad = to // sums == sums - 1, to % sums == sums - 1
            rows.append((u, v, to, to in begun, a.first_tall if tall else 0,
                         a.end_broad if broad else a.end_tall if tall else a.total))
            begun.add(to)
        return np.array(rows, np.intp)

    cdef object lay_out_lean(self):
        cdef WinogradArgs *a = &self.a
        cdef ptrdiff_t together
        a.patches, a.blocks = self.kernels.winograd_patches, ceil_div(a.total, PATCHES_TOGETHER)
        a.v_component = a.m_component = a.patches * self.kernels.vl
        a.v_block = a.components * a.v_component
        together = PATCHES_TOGETHER // a.patches
        self.scratch_floats = READY_FLOATS + together * (a.ins * a.v_block + a.sums * a.m_component)
        return None
