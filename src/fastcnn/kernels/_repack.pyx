"""Parameters in the orders that kernels read, packed again in every training step.

A parameter (O, ...) is stored in blocks of output channels, [O/VL][...][VL]. Gradients and optimizers use this order.
Lanes without a channel may hold anything. Constant filters are packed by the modules of the kernels that read them.
"""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._direct_filters cimport Bundle, bundle_of
from fastcnn.kernels._step cimport Step, ceil_div, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_tensor


cdef struct RepackArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor x  # IN  a parameter
    ptrdiff_t groups, outs, ins, area  # groups; outputs and inputs of a group; taps of a filter
    ptrdiff_t lanes, most  # input channels in a block, and in a chunk
    ptrdiff_t bundle  # the most blocks of outputs in a bundle


cdef void output_vector(const RepackArgs *a, ptrdiff_t first, ptrdiff_t row, float *to) noexcept nogil:
    """Copy the weights of VL outputs from two blocks of x, for one input channel and tap."""
    cdef ptrdiff_t vl = a.kernels.vl, rows = a.ins * a.area, o
    for o in range(first, first + vl):
        to[o - first] = a.x.data[(o // vl * rows + row) * vl + o % vl] if o < a.x.c else 0.0


cdef void run_direct(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Pack in the order of `_direct_filters.pack_weights`. Units are (group, block of outputs, block of inputs)."""
    cdef const RepackArgs *a = <const RepackArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, blocks = ceil_div(a.outs, vl), in_blocks = ceil_div(a.ins, a.lanes)
    cdef ptrdiff_t units = a.groups * blocks * in_blocks, unit, group, block, before, size, width, first, count, tap, i
    cdef ptrdiff_t start
    cdef Bundle bundle
    cdef float *to
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        first, block, group = unit % in_blocks * a.lanes, unit // in_blocks % blocks, unit // in_blocks // blocks
        bundle = bundle_of(block, blocks, a.bundle)
        width = bundle.width
        before = first // a.most * a.most
        size = min(a.most, a.ins - before)
        count = min(a.lanes, a.ins - first)
        to = a.y.data + ((group * blocks * a.ins + before * blocks + bundle.begin * size + (first - before) * width)
                         * a.area + block - bundle.begin) * vl
        start = group * a.outs + block * vl
        for tap in range(a.area):
            if start % vl == 0:
                a.kernels.copy_pixels(a.x.data + start * a.ins * a.area + (first * a.area + tap) * vl,
                                      a.area * vl, to + tap * count * width * vl, width * vl, count)
                continue
            for i in range(count):
                output_vector(a, start, (first + i) * a.area + tap, to + (tap * count + i) * width * vl)


cdef class PackDirect(Step):
    """y = the filters x in the order of `_direct_filters.pack_weights`.

    Parameters
    ----------
    y, x : View
        OUT flat, IN a parameter.
    groups, ins, area : int
        Groups; input channels of a group; taps of a filter. For a bias, the last two are 1.
    lanes, chunk, bundle : int
        As in `pack_weights`.
    """

    cdef RepackArgs a

    def __init__(self, y, x, ptrdiff_t groups, ptrdiff_t ins, ptrdiff_t area, ptrdiff_t lanes, ptrdiff_t chunk,
                 ptrdiff_t bundle):
        cdef RepackArgs *a = &self.a
        self.run, self.args = run_direct, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels, a.groups, a.outs, a.ins, a.area = self.kernels, groups, x.c // groups, ins, area
        a.lanes, a.most, a.bundle = lanes, ins if chunk < 0 else chunk * lanes, bundle


cdef void run_transpose(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (block of y's outputs, block of x's outputs). With groups, units are single outputs of y."""
    cdef const RepackArgs *a = <const RepackArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, blocks = ceil_div(a.y.c, vl), others = ceil_div(a.x.c, vl), unit, c, group, o, i
    cdef ptrdiff_t tap, out, rows = a.ins * a.area, count
    cdef float *y
    cdef const float *x
    if a.groups > 1:
        for c in range(share(a.y.c, tid, nthreads), share(a.y.c, tid + 1, nthreads)):
            group, i = c // a.ins, c % a.ins
            for o in range(a.outs):
                out = group * a.outs + o
                for tap in range(a.area):
                    a.y.data[((c // vl * a.outs + o) * a.area + a.area - 1 - tap) * vl + c % vl] = (
                        a.x.data[(out // vl * rows + i * a.area + tap) * vl + out % vl])
        return
    for unit in range(share(blocks * others, tid, nthreads), share(blocks * others, tid + 1, nthreads)):
        c, o = unit // others * vl, unit % others * vl
        count = min(vl, a.x.c - o)
        for tap in range(a.area):
            x = a.x.data + o * rows + (c * a.area + tap) * vl
            y = a.y.data + c * a.outs * a.area + (o * a.area + a.area - 1 - tap) * vl
            a.kernels.interleave(x, a.area * vl, scratch, min(vl, a.y.c - c), count)
            a.kernels.copy_pixels(scratch, vl, y, a.area * vl, count)


cdef class Transpose(Step):
    """y[g * I + i, o, tap] = x[g * O + o, i, -1 - tap]: inputs and outputs are exchanged, and filters are rotated by
    180 degrees.

    Parameters
    ----------
    y, x : View
        OUT, IN parameters.
    groups, ins, area : int
        Groups; input channels of a group of x; taps of a filter.
    """

    cdef RepackArgs a

    def __init__(self, y, x, ptrdiff_t groups, ptrdiff_t ins, ptrdiff_t area):
        cdef RepackArgs *a = &self.a
        self.run, self.args = run_transpose, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels, a.groups, a.outs, a.ins, a.area = self.kernels, groups, x.c // groups, ins, area
        self.scratch_floats = a.kernels.vl * a.kernels.vl
