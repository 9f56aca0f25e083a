"""Elementwise steps: activations, scale and shift (batch normalisation), sums and products, softmax, constants.

All operands of a step have one layout. Where none has gaps, spans of memory replace rows.
"""

from libc.math cimport INFINITY
from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport (
    Rows, Step, Walk, blocks_of, ceil_div, floats, goes_on, is_dense, set_activation, share, walk, walks,
)
from fastcnn.kernels._tiles cimport (
    FC_ADD, FC_BELOW, FC_DIVIDE, FC_EQUAL, FC_EXP, FC_LARGEST, FC_MAXIMUM, FC_MINIMUM, FC_MULTIPLY, FC_NONE,
    FC_SUBTRACT, FC_SUM, fc_activation, fc_kernels, fc_reduce, fc_tensor,
)

cdef enum:
    SPAN_FLOATS = 8192  # a unit of work in a tensor without gaps: docs/tuning.md, "Spans"
    SOFTMAX_OPERATIONS = 32  # on each vector


_OPERATIONS = {
    "Add": FC_ADD, "Mul": FC_MULTIPLY, "Sub": FC_SUBTRACT, "Div": FC_DIVIDE, "Min": FC_MINIMUM, "Max": FC_MAXIMUM,
    "Below": FC_BELOW, "Same": FC_EQUAL,
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


cdef void run_affine_rows(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are parts of rows."""
    cdef const PointwiseArgs *a = <const PointwiseArgs *>raw
    cdef ptrdiff_t parts = ceil_div(a.x.w, SPAN_FLOATS), units = a.x.n * parts, unit, row, first
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        row, first = unit // parts, unit % parts * SPAN_FLOATS
        a.kernels.affine_row(&a.act, a.scale + first, a.shift + first, a.x.data + row * a.x.image + first,
                             a.z.data + row * a.z.image + first, min(SPAN_FLOATS, a.x.w - first))


cdef class AffineRows(Step):
    """z = act(x * scale + shift), for each row of a matrix.

    Parameters
    ----------
    z, x : View
        OUT, IN; matrices (N, 1, 1, C). z may be x.
    scale, shift : float32 arrays (C,) or longer
    activation : None or (name, attributes)
    """

    cdef PointwiseArgs a

    def __init__(self, z, x, scale, shift, activation):
        cdef PointwiseArgs *a = &self.a
        self.run, self.args, self.owned = run_affine_rows, a, (scale, shift)
        self.operand(0, &a.z, z)
        self.operand(1, &a.x, x)
        a.kernels, a.scale, a.shift = self.kernels, floats(scale), floats(shift)
        set_activation(&a.act, activation)


cdef inline ptrdiff_t step_of(const fc_tensor *x, const fc_tensor *z) noexcept nogil:
    """How a row is read: float by float, or one pixel again and again."""
    if x.w == z.w and x.lanes == z.lanes:
        return 1
    return 0 if x.lanes == 1 else x.lanes


cdef void run_binary(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Strides of 0 broadcast an operand. A row of one broadcast pixel has the step of its lanes."""
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
                a.op, &a.act, a.x.data + at.image * a.x.image + at.block * a.x.block + r * a.x.row,
                step_of(&a.x, &a.z), a.y.data + at.image * a.y.image + at.block * a.y.block + r * a.y.row,
                step_of(&a.y, &a.z), a.z.data + at.image * a.z.image + at.block * a.z.block + r * a.z.row,
                a.z.w * a.z.lanes)


cdef class Binary(Step):
    """z = act(x op y), element by element.

    Parameters
    ----------
    op : {"Add", "Mul", "Sub", "Div", "Min", "Max", "Below", "Same"}
        "Below" is 1 where x < y, 0.5 where they are equal, else 0. "Same" is 1 where they are equal, else 0.
    z, x, y : View
        OUT, IN, IN; of the same layout. Operands may have fewer images, rows and columns than z: along a broadcast
        dimension, a view has stride 0 or width 1. A number beside a blocked z has one lane.
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
    ptrdiff_t piece, each  # elements of an axis between two calls of `goes_on`, 0: no calls; operations for one


cdef void combine(const fc_kernels *kernels, int op, int kind, const float *x, ptrdiff_t x_step, const float *y,
                  ptrdiff_t y_step, float *z, ptrdiff_t z_step, ptrdiff_t n, ptrdiff_t columns) noexcept nogil:
    """z = act(x op y) for n elements of neighbouring columns. A y_step of 0 repeats the numbers of the columns."""
    cdef fc_activation act
    cdef ptrdiff_t i
    act.kind, act.low, act.high, act.alpha = kind, -INFINITY, INFINITY, 0.0
    if columns == 1 and x_step == z_step == 1:
        kernels.binary(op, &act, x, 1, y, y_step, z, n)
        return
    for i in range(n):
        kernels.binary(op, &act, x + i * x_step, 1, y + i * y_step, 1, z + i * z_step, columns)


cdef bint softmax_in_pieces(const SoftmaxArgs *a, const float *x, float *y, ptrdiff_t columns,
                            float *scratch) noexcept nogil:
    """Compute the softmax of a long axis of at most VL columns piece by piece. Returns whether it has come to its
    end."""
    cdef ptrdiff_t vl = a.kernels.vl, first, count, i, stage
    cdef double *totals = <double *>scratch
    cdef float *largest = scratch + 2 * vl
    cdef float *part = scratch + 3 * vl
    cdef fc_reduce reduce
    reduce.counts[0] = reduce.counts[1] = 1
    reduce.steps[0] = reduce.steps[1] = 0
    reduce.columns, reduce.y, reduce.root, reduce.divisor = columns, part, 0, 1.0
    for i in range(columns):
        largest[i], totals[i] = -INFINITY, 0.0
    for stage in range(3):
        reduce.kind = FC_LARGEST if stage == 0 else FC_SUM
        first = 0
        while first < a.x.c:
            count = min(a.piece, a.x.c - first)
            if not goes_on(count * a.each):
                return False
            if stage == 2:
                combine(a.kernels, FC_DIVIDE, FC_NONE, y + first * a.y.block, a.y.block, part, 0,
                        y + first * a.y.block, a.y.block, count, columns)
                first += count
                continue
            reduce.counts[2] = count
            reduce.x, reduce.steps[2] = x + first * a.x.block, a.x.block
            if stage == 1:
                combine(a.kernels, FC_SUBTRACT, FC_EXP, reduce.x, a.x.block, largest, 0, y + first * a.y.block,
                        a.y.block, count, columns)
                reduce.x, reduce.steps[2] = y + first * a.y.block, a.y.block
            a.kernels.reduce(&reduce)
            for i in range(columns):
                totals[i] += part[i]
                if stage == 0 and (part[i] > largest[i] or part[i] != part[i]):
                    largest[i] = part[i]
            first += count
        for i in range(columns):
            part[i] = <float>totals[i]
            totals[i] = 0.0
    return True


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
        if a.piece > 0:
            count = 1
            if not softmax_in_pieces(a, x, y, min(vl, a.x.w - first), scratch):
                return
        elif a.x.w == 1 and a.x.block == 1 and a.y.block == 1:
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
        units = self.a.x.n * ceil_div(self.a.x.w, vl)
        self.work(units, SOFTMAX_OPERATIONS * vectors)
        self.a.each = max(1, SOFTMAX_OPERATIONS * vectors // units // self.a.x.c)
        self.a.piece = self.at_a_time(self.a.x.c, self.a.each)
        self.scratch_floats = 4 * vl


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
