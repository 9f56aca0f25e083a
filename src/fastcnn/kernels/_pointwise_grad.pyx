"""Gradients of elementwise functions and softmax, dropout, and zeros between pixels."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastcnn.kernels._step cimport Step, blocks_of, ceil_div, goes_on, is_dense, set_gradient_activation, share
from fastcnn.kernels._tiles cimport fc_activation, fc_kernels, fc_tensor

cdef enum:
    SPAN_FLOATS = 8192  # docs/tuning.md, "Spans"
    COUNTERS = 16  # of Philox side by side
    WORDS = 64  # that they give


cdef struct GradArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor g  # IN
    fc_tensor v  # IN
    fc_activation act
    bint dense
    ptrdiff_t piece  # elements of an axis between two calls of `goes_on`; 0: no calls


cdef void run_activate_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const GradArgs *a = <const GradArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.g), total, units, unit, image, block, r, start
    if a.dense:
        total = a.g.n * a.g.image
        units = ceil_div(total, SPAN_FLOATS)
        for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
            start = unit * SPAN_FLOATS
            a.kernels.activate_grad(&a.act, a.g.data + start, a.v.data + start, a.y.data + start,
                                    min(SPAN_FLOATS, total - start))
        return
    units = a.g.n * blocks * a.g.h
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        r, block, image = unit % a.g.h, unit // a.g.h % blocks, unit // a.g.h // blocks
        a.kernels.activate_grad(&a.act, a.g.data + image * a.g.image + block * a.g.block + r * a.g.row,
                                a.v.data + image * a.v.image + block * a.v.block + r * a.v.row,
                                a.y.data + image * a.y.image + block * a.y.block + r * a.y.row, a.g.w * a.g.lanes)


cdef class ActivateGrad(Step):
    """y = g * act'(.), element by element; y may be g.

    Parameters
    ----------
    y, g, v : View
        OUT, IN, IN; of one layout. v is the output of the activation, but the input of the kinds of `OF_INPUT`
        in ops/activation.py.
    activation : (name, attributes)
    """

    cdef GradArgs a

    def __init__(self, y, g, v, activation):
        cdef GradArgs *a = &self.a
        self.run, self.args = run_activate_grad, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.operand(2, &a.v, v)
        a.kernels, a.dense = self.kernels, is_dense(&a.g) and is_dense(&a.v) and is_dense(&a.y)
        set_gradient_activation(&a.act, activation)


cdef bint softmax_grad_in_pieces(const GradArgs *a, const float *g, const float *v, float *y) noexcept nogil:
    """Compute a column of a long axis. Returns whether it has come to its end."""
    cdef double total = 0.0
    cdef ptrdiff_t k
    for k in range(a.g.c):
        if k % a.piece == 0 and not goes_on(a.piece):
            return False
        total += <double>g[k * a.g.block] * v[k * a.v.block]
    for k in range(a.g.c):
        if k % a.piece == 0 and not goes_on(a.piece):
            return False
        y[k * a.y.block] = v[k * a.v.block] * <float>(g[k * a.g.block] - total)
    return True


cdef void run_softmax_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are rows, or vectors of columns."""
    cdef const GradArgs *a = <const GradArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl if a.g.w > 1 else 1, groups = ceil_div(a.g.w, vl), units = a.g.n * groups
    cdef ptrdiff_t unit, image, first, columns, k
    cdef const float *g
    cdef const float *v
    cdef float *y
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        image, first = unit // groups, unit % groups * vl
        g = a.g.data + image * a.g.image + first
        v = a.v.data + image * a.v.image + first
        y = a.y.data + image * a.y.image + first
        columns = min(vl, a.g.w - first)
        if a.piece > 0:
            for k in range(columns):
                if not softmax_grad_in_pieces(a, g + k, v + k, y + k):
                    return
        elif a.g.w == 1 and a.g.block == a.v.block == a.y.block == 1:
            a.kernels.softmax_grad(g, v, y, a.g.c)
        else:
            a.kernels.softmax_grad_columns(g, a.g.block, v, a.v.block, y, a.y.block, a.g.c, columns)


cdef class SoftmaxGrad(Step):
    """y = v * (g - sum of g * v along the axis). v is the output of the softmax.

    Parameters
    ----------
    y, g, v : View
        OUT, IN, IN; NCHW views of (outer, length of the axis, 1, inner).
    """

    cdef GradArgs a

    def __init__(self, y, g, v):
        self.run, self.args = run_softmax_grad, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.g, g)
        self.operand(2, &self.a.v, v)
        self.a.kernels = self.kernels
        vl = self.kernels.vl
        vectors = self.a.g.n * (ceil_div(self.a.g.c, vl) if self.a.g.w == 1 else self.a.g.c * ceil_div(self.a.g.w, vl))
        self.work(self.a.g.n * ceil_div(self.a.g.w, vl), 4 * vectors)
        self.a.piece = self.at_a_time(self.a.g.c, 1)


cdef struct DropoutArgs:
    fc_tensor y      # OUT
    fc_tensor x      # IN
    fc_tensor clock  # IN  seed and step, as four 32-bit words
    uint32_t layer
    uint64_t threshold
    float scale
    bint in_order  # whether memory has the order of NCHW


cdef union Bits:
    float number
    uint32_t bits


cdef inline void philox(uint32_t *words, uint64_t first, int count, const uint32_t *clock,
                        uint32_t layer) noexcept nogil:
    """Philox4x32-10: four random words from each of some counters (Salmon et al., Parallel random numbers: as easy as
    1, 2, 3, 2011). The seed is the key; the step, the layer and the number of the counter are the counter."""
    cdef uint32_t c0[COUNTERS]
    cdef uint32_t c1[COUNTERS]
    cdef uint32_t c2[COUNTERS]
    cdef uint32_t c3[COUNTERS]
    cdef uint32_t key0 = clock[0], key1 = clock[1], step0 = clock[2], step1 = clock[3]
    cdef uint64_t a, b
    cdef int j, _
    for j in range(count):
        c0[j] = <uint32_t>(first + j)
        c1[j] = <uint32_t>((first + j) >> 32) ^ step1
        c2[j] = layer
        c3[j] = step0
    for _ in range(10):
        for j in range(count):
            a = <uint64_t>0xD2511F53U * c0[j]
            b = <uint64_t>0xCD9E8D57U * c2[j]
            c0[j] = <uint32_t>(b >> 32) ^ c1[j] ^ key0
            c1[j] = <uint32_t>b
            c2[j] = <uint32_t>(a >> 32) ^ c3[j] ^ key1
            c3[j] = <uint32_t>a
        key0 += 0x9E3779B9U
        key1 += 0xBB67AE85U
    for j in range(count):
        words[4 * j] = c0[j]
        words[4 * j + 1] = c1[j]
        words[4 * j + 2] = c2[j]
        words[4 * j + 3] = c3[j]


cdef void run_dropout_in_order(const DropoutArgs *a, int tid, int nthreads) noexcept nogil:
    cdef const uint32_t *clock = <const uint32_t *>a.clock.data
    cdef uint32_t words[WORDS]
    cdef ptrdiff_t total = a.x.n * a.x.image, units = ceil_div(total, WORDS), unit, i
    cdef uint64_t threshold = a.threshold
    cdef float scale = a.scale
    cdef Bits value
    cdef const float *x
    cdef float *y
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        philox(words, <uint64_t>(unit * COUNTERS), COUNTERS, clock, a.layer)
        x, y = a.x.data + unit * WORDS, a.y.data + unit * WORDS
        for i in range(min(<ptrdiff_t>WORDS, total - unit * WORDS)):
            value.number = x[i] * scale
            value.bits &= 0 - <uint32_t>(words[i] >= threshold)  # a branch on random words is never foreseen
            y[i] = value.number


cdef void run_dropout(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Element i of the array takes word i % 4 of counter i / 4. i counts in the order of NCHW, for every layout."""
    cdef const DropoutArgs *a = <const DropoutArgs *>raw
    cdef const uint32_t *clock = <const uint32_t *>a.clock.data
    cdef uint32_t words[4]
    cdef ptrdiff_t blocks = blocks_of(&a.x), units = a.x.n * blocks * a.x.h, unit, image, block, r, i, k, lanes
    cdef uint64_t index, ready = <uint64_t>-1
    cdef const float *x
    cdef float *y
    if a.in_order:
        run_dropout_in_order(a, tid, nthreads)
        return
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        r, block, image = unit % a.x.h, unit // a.x.h % blocks, unit // a.x.h // blocks
        x = a.x.data + image * a.x.image + block * a.x.block + r * a.x.row
        y = a.y.data + image * a.y.image + block * a.y.block + r * a.y.row
        lanes = min(a.x.lanes, a.x.c - block * a.x.lanes)
        for i in range(a.x.w):
            for k in range(lanes):
                index = ((image * a.x.c + block * a.x.lanes + k) * a.x.h + r) * a.x.w + i
                if index // 4 != ready:
                    ready = index // 4
                    philox(words, ready, 1, clock, a.layer)
                y[i * a.x.lanes + k] = x[i * a.x.lanes + k] * a.scale if words[index % 4] >= a.threshold else 0.0


cdef class Dropout(Step):
    """y = x / (1 - ratio), or 0 for a random share `ratio` of the elements.

    Parameters
    ----------
    y, x, clock : View
        OUT, IN of one layout; IN four 32-bit words: seed and step. y may be x.
    ratio : float
    layer : int
        Number of the layer: each layer has random numbers of its own.
    """

    cdef DropoutArgs a

    def __init__(self, y, x, clock, double ratio, uint32_t layer):
        cdef DropoutArgs *a = &self.a
        self.run, self.args = run_dropout, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.clock, clock)
        a.layer, a.threshold = layer, <uint64_t>(ratio * 4294967296.0)
        a.scale = 1.0 / (1.0 - ratio) if ratio < 1 else 0.0
        one_by_one = a.x.lanes == 1 or (a.x.h * a.x.w == 1 and a.x.c % a.x.lanes == 0)
        a.in_order = one_by_one and is_dense(&a.x) and is_dense(&a.y)


cdef struct SpreadArgs:
    fc_tensor y  # OUT
    fc_tensor x  # IN
    ptrdiff_t top, left, stride_h, stride_w


cdef void run_spread(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const SpreadArgs *a = <const SpreadArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.y), units = a.y.n * blocks * a.y.h, lanes = a.y.lanes
    cdef ptrdiff_t unit, image, block, r, q, c
    cdef const float *x
    cdef float *y
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        r, block, image = unit % a.y.h, unit // a.y.h % blocks, unit // a.y.h // blocks
        y = a.y.data + image * a.y.image + block * a.y.block + r * a.y.row
        memset(y, 0, a.y.w * lanes * sizeof(float))
        r -= a.top
        if r < 0 or r % a.stride_h or r // a.stride_h >= a.x.h:
            continue
        x = a.x.data + image * a.x.image + block * a.x.block + r // a.stride_h * a.x.row
        for q in range(a.x.w):
            c = q * a.stride_w + a.left
            if 0 <= c < a.y.w:
                memcpy(y + c * lanes, x + q * lanes, lanes * sizeof(float))


cdef class Spread(Step):
    """y[top + sh * p, left + sw * q] = x[p, q]; all other elements are 0. top and left may be negative.

    Parameters
    ----------
    y, x : View
        OUT, IN of one layout.
    strides, begins : pairs of int
    """

    cdef SpreadArgs a

    def __init__(self, y, x, strides, begins):
        self.run, self.args = run_spread, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.a.stride_h, self.a.stride_w = strides
        self.a.top, self.a.left = begins
