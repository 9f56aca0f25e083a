"""Arrays that are broadcast: operations on two of them, copies, and reductions, which are their gradients.

Arrays are plain. Loops over their dimensions are merged where that is possible, so that the innermost one is long.
"""

from fastcnn.kernels._pointwise import _OPERATIONS

from libc.math cimport sqrt
from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._loops cimport Loops, place, set_loops
from fastcnn.kernels._step cimport Step, ceil_div, goes_on, set_activation, share
from fastcnn.kernels._tiles cimport (
    FC_LARGEST, FC_SQUARES, FC_SUM, fc_activation, fc_kernels, fc_reduce, fc_tensor,
)

cdef enum:
    SPAN_FLOATS = 8192  # the longest part of an innermost loop in a unit: docs/tuning.md, "Spans"
    REDUCED_LOOPS = 3  # of a reduction, in the tile

cdef struct BroadcastArgs:
    const fc_kernels *kernels
    fc_tensor z  # OUT
    fc_tensor x  # IN
    fc_tensor y  # IN  of operations on two arrays
    Loops loops  # around the innermost one
    ptrdiff_t length, x_step, y_step  # of the innermost loop
    fc_activation act
    int op
    float factor


cdef void run_broadcast(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are spans of the innermost loop."""
    cdef const BroadcastArgs *a = <const BroadcastArgs *>raw
    cdef ptrdiff_t spans = ceil_div(a.length, SPAN_FLOATS), total = a.loops.units * spans, unit, row, first
    cdef const float *y
    for unit in range(share(total, tid, nthreads), share(total, tid + 1, nthreads)):
        row, first = unit // spans, unit % spans * SPAN_FLOATS
        y = &a.factor
        if a.y.data != NULL:
            y = a.y.data + place(&a.loops, 2, row) + first * a.y_step
        a.kernels.binary(a.op, &a.act, a.x.data + place(&a.loops, 1, row) + first * a.x_step, a.x_step, y, a.y_step,
                         a.z.data + place(&a.loops, 0, row) + first, min(SPAN_FLOATS, a.length - first))


cdef class Broadcast(Step):
    """z = act(x op y), of plain arrays that are broadcast.

    Parameters
    ----------
    op : str
        As in `_pointwise.Binary`.
    z, x : View
        OUT, IN.
    y : View or float
        IN; or a factor of x.
    sizes : sequence of int
        Of the loops, outermost first. The last one runs over neighbouring elements of z.
    steps : sequence of sequences of int
        For z, x and y: from one element of each loop to the next; 0 where an operand is broadcast.
    activation : None or (name, attributes)
    """

    cdef BroadcastArgs a

    def __init__(self, op, z, x, y, sizes, steps, activation):
        cdef BroadcastArgs *a = &self.a
        self.run, self.args = run_broadcast, a
        self.operand(0, &a.z, z)
        self.operand(1, &a.x, x)
        if isinstance(y, float):
            a.factor = y
        else:
            self.operand(2, &a.y, y)
        a.kernels, a.op = self.kernels, _OPERATIONS[op]
        last = len(sizes) - 1
        a.length, a.x_step, a.y_step = sizes[last], steps[1][last], steps[2][last]
        set_loops(&a.loops, sizes[:last], [row[:last] for row in steps])
        set_activation(&a.act, activation)
        self.work(a.loops.units * ceil_div(a.length, SPAN_FLOATS),
                  a.loops.units * (2 + ceil_div(a.length, self.kernels.vl)) * 8)


cdef struct ReduceArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT dense
    fc_tensor x  # IN
    Loops loops  # over what is kept; operands are y and x
    fc_reduce tile
    ptrdiff_t groups  # of columns in a unit of the loops
    int longest  # the loop with the most elements, which long reductions divide
    ptrdiff_t piece, each  # its elements between two calls of `goes_on`, 0: no calls; operations for one of them


cdef bint reduce_in_pieces(const ReduceArgs *a, fc_reduce whole, float *scratch) noexcept nogil:
    """Compute a long reduction piece by piece. Returns whether it has come to its end."""
    cdef ptrdiff_t vl = a.kernels.vl, count = whole.counts[a.longest], first = 0, i
    cdef double *totals = <double *>scratch
    cdef float *part = scratch + 2 * vl
    cdef fc_reduce piece = whole
    piece.y, piece.divisor, piece.root = part, 1.0, 0
    while first < count:
        piece.counts[a.longest] = min(a.piece, count - first)
        piece.x = whole.x + first * whole.steps[a.longest]
        if not goes_on(piece.counts[a.longest] * a.each):
            return False
        a.kernels.reduce(&piece)
        for i in range(whole.columns):
            if first == 0 or (whole.kind == FC_LARGEST and (part[i] > totals[i] or part[i] != part[i])):
                totals[i] = part[i]
            elif whole.kind != FC_LARGEST:
                totals[i] += part[i]
        first += a.piece
    for i in range(whole.columns):
        totals[i] = totals[i] if whole.kind == FC_LARGEST else totals[i] / whole.divisor
        whole.y[i] = <float>(sqrt(totals[i]) if whole.root else totals[i])
    return True


cdef void run_reduce(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are vectors of neighbouring results, or single ones."""
    cdef const ReduceArgs *a = <const ReduceArgs *>raw
    cdef ptrdiff_t total = a.loops.units * a.groups, vl = a.kernels.vl, unit, row, first
    cdef fc_reduce tile = a.tile
    for unit in range(share(total, tid, nthreads), share(total, tid + 1, nthreads)):
        row, first = unit // a.groups, unit % a.groups * vl
        tile.columns = min(vl, a.tile.columns - first)
        tile.x = a.x.data + place(&a.loops, 1, row) + first
        tile.y = a.y.data + place(&a.loops, 0, row) + first
        if a.piece == 0:
            a.kernels.reduce(&tile)
        elif not reduce_in_pieces(a, tile, scratch):
            return


_KINDS = {"sum": FC_SUM, "squares": FC_SQUARES, "largest": FC_LARGEST}


cdef class Reduce(Step):
    """y = sum, root of the sum of squares, or maximum of x along some dimensions.

    Parameters
    ----------
    y, x : View
        OUT dense, IN; plain.
    kind : {"sum", "squares", "largest"}
    kept, reduced : pairs of sequences of int
        Sizes of the loops over the kept and the reduced dimensions, outermost first, and the steps of x in them. At
        most three are reduced.
    columns : int
        Neighbouring elements of x that belong to neighbouring results; 1 where the innermost loop is reduced.
    divisor : float
        Of the sum.
    """

    cdef ReduceArgs a

    def __init__(self, y, x, kind, kept, reduced, ptrdiff_t columns, double divisor):
        cdef ReduceArgs *a = &self.a
        cdef int i
        self.run, self.args = run_reduce, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels = self.kernels
        sizes, steps = kept
        into, at = [], columns
        for size in reversed(sizes):
            into.insert(0, at)
            at *= size
        set_loops(&a.loops, sizes, [into, steps])
        missing = REDUCED_LOOPS - len(reduced[0])
        if missing < 0:
            raise ValueError(f"{len(reduced[0])} loops are reduced, expected at most {REDUCED_LOOPS}")
        elements = 1
        for i in range(REDUCED_LOOPS):
            a.tile.counts[i] = 1 if i < missing else reduced[0][i - missing]
            a.tile.steps[i] = 0 if i < missing else reduced[1][i - missing]
            elements *= a.tile.counts[i]
            if a.tile.counts[i] > a.tile.counts[a.longest]:
                a.longest = i
        a.tile.kind, a.tile.root, a.tile.divisor, a.tile.columns = _KINDS[kind], kind == "squares", divisor, columns
        a.groups = ceil_div(columns, self.kernels.vl)
        vectors = elements if columns > 1 or a.tile.steps[2] != 1 else ceil_div(elements, self.kernels.vl)
        units = a.loops.units * a.groups
        self.work(units, 4 * units * (4 + vectors))
        a.each = max(1, ceil_div(4 * vectors, a.tile.counts[a.longest]))
        a.piece = self.at_a_time(a.tile.counts[a.longest], a.each)
        self.scratch_floats = 3 * self.kernels.vl
