"""The loops of direct convolution around its tiles, for each family (see csrc/fastcnn.h). _conv_direct chooses one.

From the outermost to the innermost, the loops are: panel of rows, chunk of input channels, bundle of output blocks,
rows, tiles. The inputs of a panel stay in the second-level cache for all output channels. The weights of a bundle and a
chunk stay in the first-level cache for all pixels of the panel. Reference: Goto and van de Geijn, Anatomy of
High-Performance Matrix Multiplication, 2008.
"""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport ceil_div, goes_on, share
from fastcnn.kernels._tiles cimport (
    FC_NONE, fc_conv_blocks, fc_conv_narrow, fc_conv_row, fc_conv_steps, look_ahead, most_pixels,
)

# Calls the tiles of a family. The row is the first field of their struct.
ctypedef void (*Tiles)(const Layer *layer, const fc_conv_row *row) noexcept nogil

# Some bundles of output blocks of one group, for one panel.
cdef struct Part:
    ptrdiff_t image, group
    ptrdiff_t first, last  # bundles [first, last)
    ptrdiff_t low, high    # rows [low, high)


cdef bint next_part(const Layer *a, ptrdiff_t *unit, ptrdiff_t end, Part *part) noexcept nogil:
    """Take the next bundles of one panel and group from the units [unit, end). Units are (image, panel, group, bundle).
    Returns whether there are any."""
    cdef ptrdiff_t planes = a.groups * a.bundles, panel = unit[0] // planes % a.panels
    if unit[0] >= end:
        return False
    part.image, part.group = unit[0] // planes // a.panels, unit[0] % planes // a.bundles
    part.first = unit[0] % a.bundles
    part.last = min(a.bundles, part.first + end - unit[0])
    part.low, part.high = share(a.rows, <int>panel, <int>a.panels), share(a.rows, <int>panel + 1, <int>a.panels)
    unit[0] += part.last - part.first
    return True


cdef ptrdiff_t count_units(const Layer *a) noexcept nogil:
    return a.x.n * a.panels * a.groups * a.bundles


cdef inline void place_outputs(const Layer *a, fc_conv_row *row, ptrdiff_t image, ptrdiff_t block, ptrdiff_t at,
                               bint finished) noexcept nogil:
    """Point a row at its outputs from pixel `at` of the image on, in the blocks from `block` on.

    `finished` says that its sums are complete: the residual is then added.
    """
    cdef ptrdiff_t line = at // a.y.w, pixel = at % a.y.w
    row.y = a.y.data + image * a.y.image + block * a.y.block + line * a.y.row + pixel * a.y.lanes
    row.residual = NULL
    if finished and a.residual.data != NULL:
        row.residual = (a.residual.data + image * a.residual.image + block * a.residual.block + line * a.residual.row
                        + pixel * a.y.lanes)
    row.until_gap = a.y.w - pixel if row.gap_every else 0


cdef void compute_stretches(const Layer *a, fc_conv_row *row, Tiles tiles, ptrdiff_t image, ptrdiff_t block,
                            ptrdiff_t at, ptrdiff_t window, bint finished) noexcept nogil:
    """Compute a row, some of its outputs at a time. Each output has `window` pixels side by side."""
    cdef ptrdiff_t outputs = row.pixels // window, i, begin
    cdef ptrdiff_t count = max(1, min(ceil_div(outputs, a.at_a_time), outputs // a.least))
    cdef const float *x = row.x
    for i in range(count):
        begin = share(outputs, <int>i, <int>count)
        row.pixels = (share(outputs, <int>i + 1, <int>count) - begin) * window
        row.x = x + begin * window * row.x_pixel
        place_outputs(a, row, image, block, at + begin, finished)
        if not goes_on(row.pixels * a.steps * row.blocks):
            return
        tiles(a, row)


cdef void blocks_tiles(const Layer *layer, const fc_conv_row *row) noexcept nogil:
    layer.kernels.conv_blocks(<const fc_conv_blocks *>row)


cdef void steps_tiles(const Layer *layer, const fc_conv_row *row) noexcept nogil:
    layer.kernels.conv_steps(<const fc_conv_steps *>row)


cdef void narrow_tiles(const Layer *layer, const fc_conv_row *row) noexcept nogil:
    layer.kernels.conv_narrow(<const fc_conv_narrow *>row)


cdef inline ptrdiff_t row_pixels(const Layer *a, ptrdiff_t r) noexcept nogil:
    """Pixels of a row. The last of joined rows may have fewer than the others."""
    return min(a.columns, a.joined - r * a.columns) if a.joined else a.columns


cdef void run_blocks(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const BlocksArgs *a = <const BlocksArgs *>raw
    cdef ptrdiff_t units = count_units(&a.layer), unit = share(units, tid, nthreads)
    cdef Part part
    while next_part(&a.layer, &unit, share(units, tid + 1, nthreads), &part):
        blocks_part(a, &part, scratch)


cdef void gather(const BlocksArgs *a, const float *x, ptrdiff_t blocks, ptrdiff_t rows, float *y) noexcept nogil:
    """Copy the inputs of all taps in some blocks, for the outputs of some rows, to [block][ky][kx][pixel][VL]."""
    cdef const Gather *g = &a.gather
    cdef ptrdiff_t block, ky, kx, r, lanes = a.layer.x.lanes
    for block in range(blocks):
        for ky in range(g.kh):
            for kx in range(g.kw):
                for r in range(rows):
                    a.layer.kernels.copy_pixels(
                        x + block * a.layer.x.block + r * a.layer.x_step + ky * g.x_row + kx * g.x_column, g.x_pixel,
                        y + r * a.layer.columns * lanes, lanes, a.layer.columns)
                y += g.pixels * lanes


cdef void blocks_part(const BlocksArgs *a, const Part *part, float *scratch) noexcept nogil:
    """Compute a part, chunk by chunk of the input channels. Gathered inputs count as a single row."""
    cdef const Layer *layer = &a.layer
    cdef fc_conv_blocks tile = a.tile
    cdef ptrdiff_t vl = layer.kernels.vl, start = 0, bundle, block, count, steps
    cdef bint finishes
    cdef const float *x = (layer.x.data + part.image * layer.x.image + part.group * a.in_blocks * layer.x.block
                           + part.low * layer.x_step + layer.first_tap)
    cdef const float *inputs
    while start < a.in_blocks:
        count = min(a.chunk, a.in_blocks - start)
        finishes = start + count == a.in_blocks
        tile.accumulate = start > 0
        tile.row.act.kind = a.tile.row.act.kind if finishes else FC_NONE
        tile.partial_taps = a.tile.partial_taps if finishes else 0
        tile.full_taps = count * a.taps - tile.partial_taps
        steps = tile.full_taps * tile.full_channels + tile.partial_taps * tile.partial_channels
        inputs = x + start * layer.x.block
        if a.gather.kh > 0:
            gather(a, inputs, count, part.high - part.low, scratch)
            inputs = scratch
        for bundle in range(part.first, part.last):
            block = layer.begins[bundle]
            tile.row.blocks = <int>(layer.begins[bundle + 1] - block)
            tile.half = a.half and bundle + 1 == layer.bundles
            tile.row.w = layer.weights.data + vl * (
                block * steps + layer.out_blocks * (part.group * layer.steps + start * a.taps * tile.full_channels))
            bundle_rows(a, &tile, part, inputs, part.group * layer.out_blocks + block, steps, finishes)
        start += count


cdef void bundle_rows(const BlocksArgs *a, fc_conv_blocks *tile, const Part *part, const float *x, ptrdiff_t block,
                      ptrdiff_t steps, bint finishes) noexcept nogil:
    """Compute the rows of a part for one bundle. Each sum has `steps` products."""
    cdef const Layer *layer = &a.layer
    cdef bint gathered = a.gather.kh > 0
    cdef ptrdiff_t vl = layer.kernels.vl, rows = 1 if gathered else part.high - part.low, r
    cdef ptrdiff_t pixels = (part.high - part.low) * layer.columns if gathered else layer.columns
    cdef ptrdiff_t tiles = ceil_div(pixels, most_pixels(layer.kernels, tile.row.blocks))
    tile.row.bias = layer.bias.data + block * vl
    look_ahead(tile, steps, rows * tiles, vl)
    for r in range(part.low, part.low + rows):
        tile.row.pixels = pixels if gathered else row_pixels(layer, r)
        tile.row.x = x + (r - part.low) * layer.x_step
        if layer.at_a_time == 0:
            place_outputs(layer, &tile.row, part.image, block, r * layer.columns, finishes)
            layer.kernels.conv_blocks(tile)
        else:
            compute_stretches(layer, &tile.row, blocks_tiles, part.image, block, r * layer.columns, 1, finishes)
        tile.ahead += tiles * steps * tile.ahead_bytes // <ptrdiff_t>sizeof(float)


cdef void run_steps(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const StepsArgs *a = <const StepsArgs *>raw
    cdef const Layer *layer = &a.layer
    cdef fc_conv_steps tile = a.tile
    cdef ptrdiff_t units = count_units(layer), unit = share(units, tid, nthreads), bundle, block
    cdef Part part
    while next_part(layer, &unit, share(units, tid + 1, nthreads), &part):
        for bundle in range(part.first, part.last):
            block = layer.begins[bundle]
            tile.row.blocks = <int>(layer.begins[bundle + 1] - block)
            tile.row.w = layer.weights.data + block * layer.steps * layer.kernels.vl
            steps_rows(a, &tile, &part, block, True)


cdef void steps_rows(const StepsArgs *a, fc_conv_steps *tile, const Part *part, ptrdiff_t block,
                     bint finishes) noexcept nogil:
    """Compute the rows of a part for some blocks of outputs."""
    cdef const Layer *layer = &a.layer
    cdef ptrdiff_t r
    cdef const float *x = layer.x.data + part.image * layer.x.image + layer.first_tap
    tile.row.bias = layer.bias.data + block * layer.kernels.vl
    for r in range(part.low, part.high):
        tile.row.pixels = row_pixels(layer, r)
        tile.row.x = x + r * layer.x_step
        if layer.at_a_time == 0:
            place_outputs(layer, &tile.row, part.image, block, r * layer.columns, finishes)
            layer.kernels.conv_steps(tile)
        else:
            compute_stretches(layer, &tile.row, steps_tiles, part.image, block, r * layer.columns, 1, finishes)


cdef void run_scattered(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const StepsArgs *a = <const StepsArgs *>raw
    cdef ptrdiff_t units = count_units(&a.layer), unit = share(units, tid, nthreads)
    cdef Part part
    while next_part(&a.layer, &unit, share(units, tid + 1, nthreads), &part):
        scattered_part(a, &part)


cdef void scattered_part(const StepsArgs *a, const Part *part) noexcept nogil:
    """Compute a block of outputs once for each group that has channels in it. The channels of earlier groups keep their
    values."""
    cdef const Layer *layer = &a.layer
    cdef fc_conv_steps tile = a.tile
    cdef ptrdiff_t vl = layer.kernels.vl, block = layer.begins[part.first], group, most, width
    cdef bint joined
    while block < layer.begins[part.last]:
        width = min(2, layer.out_blocks - block // 2 * 2)  # blocks of this bundle
        most = last_group(a, block)
        # Whether all channels of the next block belong to this block's last group.
        joined = width == 2 and block % 2 == 0 and most == last_group(a, block + 1)
        for group in range(block * vl // a.group_outs, most + 1):
            tile.row.blocks = 2 if joined and group == most else 1
            tile.row.taps = a.tile.row.taps + group * layer.steps
            tile.row.w = layer.weights.data + (block // 2 * 2 * layer.steps + block % 2) * vl
            tile.row.act.kind = a.tile.row.act.kind if group == most else FC_NONE
            tile.w_skip = (width - 1) * vl
            tile.kept = max(0, group * a.group_outs - block * vl)
            steps_rows(a, &tile, part, block, group == most)
        block += 2 if joined else 1


cdef ptrdiff_t last_group(const StepsArgs *a, ptrdiff_t block) noexcept nogil:
    """The last group that has channels in a block of outputs."""
    return (min(a.channels, (block + 1) * a.layer.kernels.vl) - 1) // a.group_outs


cdef void run_narrow(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Compute rows by narrow tiles. There is a single block of outputs."""
    cdef const NarrowArgs *a = <const NarrowArgs *>raw
    cdef const Layer *layer = &a.layer
    cdef fc_conv_narrow tile = a.tile
    cdef ptrdiff_t units = count_units(layer), unit = share(units, tid, nthreads), r
    cdef ptrdiff_t window = 2 if tile.x_pool_row else 1  # side of the pooling window of one output
    cdef Part part
    cdef const float *x
    tile.row.w, tile.row.bias = layer.weights.data, layer.bias.data
    while next_part(layer, &unit, share(units, tid + 1, nthreads), &part):
        x = layer.x.data + part.image * layer.x.image + layer.first_tap
        for r in range(part.low, part.high):
            tile.row.pixels = window * row_pixels(layer, r)
            tile.row.x = x + r * layer.x_step
            if layer.at_a_time == 0:
                place_outputs(layer, &tile.row, part.image, 0, r * layer.columns, True)
                layer.kernels.conv_narrow(&tile)
            else:
                compute_stretches(layer, &tile.row, narrow_tiles, part.image, 0, r * layer.columns, window, True)
