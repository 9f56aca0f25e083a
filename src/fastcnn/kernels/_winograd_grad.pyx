"""Gradient of 3 x 3 filters, stride 1, one group, by Winograd's F(4x4, 3x3): a quarter of the multiplications.

A patch d of the input gives Y = A^T [(G w G^T) * (B^T d B)] A; see Lavin and Gray, https://arxiv.org/abs/1509.09308.
With g the gradient of Y, it follows that

    dw = G^T [sum over patches of (B^T d B) * (A g A^T)] G

The sums are 36 matrix products, over patches. Threads own blocks of output channels. Each thread transforms all inputs:
that costs little beside the products.

    V[component][input block][patch]  U[component][output block][patch]  M[component][output block][input]
"""

from libc.stddef cimport ptrdiff_t

import numpy as np

from fastcnn.kernels._step cimport Step, address, ceil_div, floats, goes_on, odd_lines, share
from fastcnn.kernels._tiles cimport fc_conv_grad, fc_kernels, fc_tensor

from fastcnn.kernels._winograd_filters import filter_matrix

cdef enum:
    PATCHES = 64      # patches summed before the sums are stored: docs/tuning.md, "Winograd"
    MOST_BLOCKS = 12  # blocks of outputs whose sums a thread keeps at the same time
    TILE_BLOCKS = 3
    COMPONENTS = 36


cdef struct WinogradGradArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT a parameter
    fc_tensor x  # IN  blocked, with padding and overhang as halo
    fc_tensor g  # IN  blocked
    const float *matrix
    const ptrdiff_t *to
    ptrdiff_t top, left, patch_rows, patch_columns, patches, ins, outs, parts
    ptrdiff_t v_component, u_component, m_component
    bint watched  # whether `goes_on` is called within a unit


cdef struct Place:
    ptrdiff_t image, row, column  # place of a patch's first output


cdef inline Place place_of(const WinogradGradArgs *a, ptrdiff_t patch) noexcept nogil:
    cdef Place place
    place.column = patch % a.patch_columns * 4
    place.row = patch // a.patch_columns % a.patch_rows * 4
    place.image = patch // a.patch_columns // a.patch_rows
    return place


cdef void transform(const WinogradGradArgs *a, ptrdiff_t first, ptrdiff_t count, ptrdiff_t low, ptrdiff_t high,
                    float *v, float *u) noexcept nogil:
    """Transform patches first .. first + count, of all inputs and of the gradients of output blocks low .. high."""
    cdef ptrdiff_t vl = a.kernels.vl, block, p
    cdef Place at
    for block in range(a.ins):
        for p in range(count):
            at = place_of(a, first + p)
            a.kernels.winograd_input[1](
                a.x.data + at.image * a.x.image + block * a.x.block + (at.row - a.top) * a.x.row
                + (at.column - a.left) * vl, a.x.row, v + (block * a.patches + p) * vl, a.v_component)
    for block in range(low, high):
        for p in range(count):
            at = place_of(a, first + p)
            a.kernels.winograd_spread(
                a.g.data + at.image * a.g.image + block * a.g.block + at.row * a.g.row + at.column * vl, a.g.row,
                a.g.h - at.row, a.g.w - at.column, u + ((block - low) * a.patches + p) * vl, a.u_component)


cdef void add_products(const WinogradGradArgs *a, ptrdiff_t count, ptrdiff_t blocks, bint more, const float *v,
                       const float *u, float *m) noexcept nogil:
    cdef ptrdiff_t vl = a.kernels.vl, component, block, start, tiles = ceil_div(blocks, TILE_BLOCKS), t
    cdef fc_conv_grad tile
    tile.images = tile.rows = 1
    tile.pixels, tile.to, tile.accumulate = count, a.to, more
    tile.x_image = tile.x_row = tile.g_image = tile.g_row = 0
    tile.x_pixel, tile.g_block, tile.y_block = vl, a.patches * vl, a.x.c * vl
    for component in range(COMPONENTS):
        for t in range(tiles):
            start = share(blocks, <int>t, <int>tiles)
            tile.blocks = <int>(share(blocks, <int>t + 1, <int>tiles) - start)
            if a.watched and not goes_on(count * tile.blocks * a.x.c):
                return
            tile.g = u + component * a.u_component + start * a.patches * vl
            for block in range(a.ins):
                tile.lanes = min(vl, a.x.c - block * vl)
                tile.x = v + component * a.v_component + block * a.patches * vl
                tile.y = m + component * a.m_component + (start * a.x.c + block * vl) * vl
                a.kernels.conv_grad(&tile)


cdef void run_winograd_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are blocks of outputs. A thread computes at most MOST_BLOCKS of them at the same time."""
    cdef const WinogradGradArgs *a = <const WinogradGradArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, total = a.x.n * a.patch_rows * a.patch_columns, first, low, high, block, i
    cdef ptrdiff_t start = share(a.outs, tid, nthreads), end = share(a.outs, tid + 1, nthreads)
    cdef float *v = scratch
    cdef float *u = v + COMPONENTS * a.v_component
    cdef float *m = u + COMPONENTS * a.u_component
    cdef int part, parts = <int>ceil_div(end - start, MOST_BLOCKS)
    for part in range(parts):
        low, high = start + share(end - start, part, parts), start + share(end - start, part + 1, parts)
        first = 0
        while first < total:
            if a.watched and not goes_on(COMPONENTS * a.patches * (a.ins + high - low)):
                return
            transform(a, first, min(a.patches, total - first), low, high, v, u)
            add_products(a, min(a.patches, total - first), high - low, first > 0, v, u, m)
            first += a.patches
        for block in range(low, high):
            for i in range(a.x.c):
                a.kernels.winograd_weight(a.matrix, m + ((block - low) * a.x.c + i) * vl, a.m_component,
                                          a.y.data + (block * a.x.c + i) * 9 * vl)


cdef class WinogradGradWeight(Step):
    """Gradient of the weights of a 3 x 3 convolution.

    Parameters
    ----------
    y, x, g : View
        OUT a parameter; IN the input, blocked, with a halo of at least `ops.conv.winograd_halo` for 4 x 4 outputs; IN
        the gradient of the output, blocked.
    pads : tuple of int
    """

    cdef WinogradGradArgs a

    def __init__(self, y, x, g, pads):
        cdef WinogradGradArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, kept
        self.run, self.args = run_winograd_grad, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.g, g)
        matrix = np.ascontiguousarray(filter_matrix(4), np.float32)
        to = np.arange(vl, dtype=np.intp) * vl
        self.owned = matrix, to
        a.kernels, a.matrix, a.to = self.kernels, floats(matrix), <const ptrdiff_t *>address(to)
        a.top, a.left = pads[0], pads[1]
        a.patch_rows, a.patch_columns = ceil_div(a.g.h, 4), ceil_div(a.g.w, 4)
        a.patches = min(PATCHES, a.x.n * a.patch_rows * a.patch_columns)
        a.ins, a.outs = ceil_div(a.x.c, vl), ceil_div(a.g.c, vl)
        kept = min(a.outs, MOST_BLOCKS)
        a.v_component, a.u_component = odd_lines(a.ins * a.patches * vl), odd_lines(kept * a.patches * vl)
        a.m_component = odd_lines(kept * a.x.c * vl)
        self.scratch_floats = COMPONENTS * (a.v_component + a.u_component + a.m_component)
        # Each part of the outputs transforms all inputs again.
        patches = a.x.n * a.patch_rows * a.patch_columns
        self.work(ceil_div(a.outs, <ptrdiff_t>MOST_BLOCKS), COMPONENTS * patches * a.x.c * (a.outs + 8))
        a.watched = self.at_a_time(1, max(a.patches * TILE_BLOCKS * a.x.c, COMPONENTS * a.patches * (a.ins + kept))) > 0
