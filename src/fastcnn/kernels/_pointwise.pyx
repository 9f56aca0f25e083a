"""Elementwise steps: activations, scale and shift (batch normalisation), sums and products, softmax, constants.

All operands of a step have one layout. Where none has gaps, spans of memory replace rows.
"""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport (
    Rows, Step, Walk, blocks_of, ceil_div, floats, is_dense, set_activation, share, walk, walks,
)
from fastcnn.kernels._tiles cimport (
    FC_ADD, FC_BELOW, FC_DIVIDE, FC_MAXIMUM, FC_MINIMUM, FC_MULTIPLY, FC_SUBTRACT, fc_activation, fc_kernels,
    fc_tensor,
)

cdef enum:
    SPAN_FLOATS = 8192  # a unit of work in a tensor without gaps: docs/tuning.md, "Spans"
    SOFTMAX_OPERATIONS = 32  # on each vector


_OPERATIONS = {
    "Add": FC_ADD, "Mul": FC_MULTIPLY, "Sub": FC_SUBTRACT, "Div": FC_DIVIDE, "Min": FC_MINIMUM, "Max": FC_MAXIMUM,
    "Below": FC_BELOW,
}


cdef struct PointwiseArgs:
    const fc_kernels *kernels
    fc_tensor z  # OUT
    fc_tensor x  # IN
    fc_tensor y  # IN  of binary steps only
    fc_activation act
    const float *scale
    const float *shift
    int op
    bint dense


cdef void run_activate(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const PointwiseArgs *a = <const PointwiseArgs *>raw
    cdef ptrdiff_t total, units, unit, r, start
    cdef Walk way
    cdef Rows at
    if a.dense:
        total = a.x.n * a.x.image
        units = ceil_div(total, SPAN_FLOATS)
        for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
            start = unit * SPAN_FLOATS
            a.kernels.activate(&a.act, a.x.data + start, a.z.data + start, min(SPAN_FLOATS, total - start))
        return
    way = walk(&a.z, tid, nthreads)
    while walks(&way, &at):
        for r in range(at.first, at.first + at.count):
            a.kernels.activate(&a.act, a.x.data + at.image * a.x.image + at.block * a.x.block + r * a.x.row,
                               a.z.data + at.image * a.z.image + at.block * a.z.block + r * a.z.row, a.x.w * a.x.lanes)


cdef class Activate(Step):
    """z = act(x), element by element; z may be x.

    Parameters
    ----------
    z, x : View
        OUT, IN; of the same layout.
    activation : (name, attributes)
    """

    cdef PointwiseArgs a

    def __init__(self, z, x, activation):
        cdef PointwiseArgs *a = &self.a
        self.run, self.args = run_activate, a
        self.operand(0, &a.z, z)
        self.operand(1, &a.x, x)
        a.kernels, a.dense = self.kernels, is_dense(&a.x) and is_dense(&a.z)
        set_activation(&a.act, activation)


cdef void run_affine(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const PointwiseArgs *a = <const PointwiseArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, r
    cdef Walk way = walk(&a.z, tid, nthreads)
    cdef Rows at
    while walks(&way, &at):
        for r in range(at.first, at.first + at.count):
            a.kernels.affine(&a.act, a.scale + at.block * vl, a.shift + at.block * vl,
                             a.x.data + at.image * a.x.image + at.block * a.x.block + r * a.x.row, NULL,
                             a.z.data + at.image * a.z.image + at.block * a.z.block + r * a.z.row, a.x.w * a.x.lanes)


cdef class Affine(Step):
    """z = act(x * scale[channel] + shift[channel]).

    Parameters
    ----------
    z, x : View
        OUT, IN; of the same layout.
    scale, shift : float32 arrays
        VL floats for each block of x. In NCHW a block is one channel, and its VL floats are equal.
    activation : None or (name, attributes)
    """

    cdef PointwiseArgs a

    def __init__(self, z, x, scale, shift, activation):
        cdef PointwiseArgs *a = &self.a
        self.run, self.args, self.owned = run_affine, a, (scale, shift)
        self.operand(0, &a.z, z)
        self.operand(1, &a.x, x)
        a.kernels, a.scale, a.shift = self.kernels, floats(scale), floats(shift)
        set_activation(&a.act, activation)


cdef void run_binary(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Strides of 0 broadcast an operand. A row of one broadcast pixel has step 0."""
    cdef const PointwiseArgs *a = <const PointwiseArgs *>raw
    cdef ptrdiff_t total, units, unit, r, start
    cdef Walk way
    cdef Rows at
    if a.dense:
        total = a.z.n * a.z.image
        units = ceil_div(total, SPAN_FLOATS)
        for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
            start = unit * SPAN_FLOATS
            a.kernels.binary(a.op, &a.act, a.x.data + start, 1, a.y.data + start, 1, a.z.data + start,
                             min(SPAN_FLOATS, total - start))
        return
    way = walk(&a.z, tid, nthreads)
    while walks(&way, &at):
        for r in range(at.first, at.first + at.count):
            a.kernels.binary(
                a.op, &a.act, a.x.data + at.image * a.x.image + at.block * a.x.block + r * a.x.row, a.x.w == a.z.w,
                a.y.data + at.image * a.y.image + at.block * a.y.block + r * a.y.row, a.y.w == a.z.w,
                a.z.data + at.image * a.z.image + at.block * a.z.block + r * a.z.row, a.z.w * a.z.lanes)


cdef class Binary(Step):
    """z = act(x op y), element by element.

    Parameters
    ----------
    op : {"Add", "Mul"}
    z, x, y : View
        OUT, IN, IN; of the same layout. NCHW views are broadcast: along a broadcast dimension, a view has stride 0 or
        width 1.
    activation : None or (name, attributes)
    """

    cdef PointwiseArgs a

    def __init__(self, op, z, x, y, activation):
        cdef PointwiseArgs *a = &self.a
        self.run, self.args = run_binary, a
        self.operand(0, &a.z, z)
        self.operand(1, &a.x, x)
        self.operand(2, &a.y, y)
        a.kernels, a.op = self.kernels, _OPERATIONS[op]
        a.dense = is_dense(&a.x) and is_dense(&a.y) and is_dense(&a.z) and a.x.image == a.z.image == a.y.image \
            and a.x.n == a.y.n == a.z.n
        set_activation(&a.act, activation)


cdef struct SoftmaxArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor x  # IN


cdef void run_softmax(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Views are (outer, length, 1, inner) with strides image and block. Units are rows, or vectors of columns."""
    cdef const SoftmaxArgs *a = <const SoftmaxArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl if a.x.w > 1 else 1, groups = ceil_div(a.x.w, vl), units = a.x.n * groups
    cdef ptrdiff_t unit = share(units, tid, nthreads), end = share(units, tid + 1, nthreads), first, count
    cdef const float *x
    cdef float *y
    while unit < end:
        first = unit % groups * vl
        count = min(groups - unit % groups, end - unit)
        x = a.x.data + unit // groups * a.x.image + first
        y = a.y.data + unit // groups * a.y.image + first
        if a.x.w == 1 and a.x.block == 1 and a.y.block == 1:
            a.kernels.softmax(x, y, a.x.c)
        else:
            a.kernels.softmax_columns(x, a.x.block, y, a.y.block, a.x.c, min(count * vl, a.x.w - first))
        unit += count


cdef class Softmax(Step):
    """y = exp(x) / sum of exp(x) along one axis.

    Parameters
    ----------
    y, x : View
        OUT, IN; NCHW views of (outer, length of the axis, 1, inner).
    """

    cdef SoftmaxArgs a

    def __init__(self, y, x):
        self.run, self.args = run_softmax, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.a.kernels = self.kernels
        vl = self.kernels.vl
        vectors = self.a.x.n * (ceil_div(self.a.x.c, vl) if self.a.x.w == 1 else self.a.x.c * ceil_div(self.a.x.w, vl))
        self.work(self.a.x.n * ceil_div(self.a.x.w, vl), SOFTMAX_OPERATIONS * vectors)


cdef struct FillArgs:
    fc_tensor z  # OUT
    float value


cdef void run_fill(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const FillArgs *a = <const FillArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.z), units = a.z.n * blocks * a.z.h, unit, plane, i
    cdef float *row
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        plane = unit // a.z.h
        row = a.z.data + plane // blocks * a.z.image + plane % blocks * a.z.block + unit % a.z.h * a.z.row
        for i in range(a.z.w * a.z.lanes):
            row[i] = a.value


cdef class Fill(Step):
    """z = value everywhere (OUT z)."""

    cdef FillArgs a

    def __init__(self, z, float value):
        self.run, self.args = run_fill, &self.a
        self.operand(0, &self.a.z, z)
        self.a.value = value
