"""Gradients of elementwise functions and softmax, dropout, sums over broadcast dimensions, and zeros between pixels."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastcnn.kernels._step cimport Step, blocks_of, ceil_div, goes_on, is_dense, set_gradient_activation, share
from fastcnn.kernels._tiles cimport fc_activation, fc_kernels, fc_tensor

cdef enum:
    SPAN_FLOATS = 8192  # docs/tuning.md, "Spans"


cdef struct GradArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT
    fc_tensor g  # IN
    fc_tensor v  # IN
    fc_activation act
    bint dense


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


cdef void run_softmax_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are rows, or vectors of columns."""
    cdef const GradArgs *a = <const GradArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl if a.g.w > 1 else 1, groups = ceil_div(a.g.w, vl), units = a.g.n * groups
    cdef ptrdiff_t unit, image, first, columns
    cdef const float *g
    cdef const float *v
    cdef float *y
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        image, first = unit // groups, unit % groups * vl
        g = a.g.data + image * a.g.image + first
        v = a.v.data + image * a.v.image + first
        y = a.y.data + image * a.y.image + first
        columns = min(vl, a.g.w - first)
        if a.g.w == 1 and a.g.block == a.v.block == a.y.block == 1:
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


cdef struct DropoutArgs:
    fc_tensor y      # OUT
    fc_tensor x      # IN
    fc_tensor clock  # IN  seed and step, as four 32-bit words
    uint32_t layer
    uint64_t threshold
    float scale


cdef void philox(uint32_t *counter, uint32_t key0, uint32_t key1) noexcept nogil:
    """Philox4x32-10: four random words from a counter and a key (Salmon et al., Parallel random numbers: as easy as
    1, 2, 3, 2011)."""
    cdef uint64_t a, b
    cdef int _
    for _ in range(10):
        a = <uint64_t>0xD2511F53U * counter[0]
        b = <uint64_t>0xCD9E8D57U * counter[2]
        counter[0] = <uint32_t>(b >> 32) ^ counter[1] ^ key0
        counter[1] = <uint32_t>b
        counter[2] = <uint32_t>(a >> 32) ^ counter[3] ^ key1
        counter[3] = <uint32_t>a
        key0 += 0x9E3779B9U
        key1 += 0xBB67AE85U


cdef void run_dropout(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Element i of the array takes word i % 4 of counter i / 4. i counts in the order of NCHW, for every layout."""
    cdef const DropoutArgs *a = <const DropoutArgs *>raw
    cdef const uint32_t *clock = <const uint32_t *>a.clock.data
    cdef uint32_t counter[4]
    cdef ptrdiff_t blocks = blocks_of(&a.x), units = a.x.n * blocks * a.x.h, unit, image, block, r, i, k, lanes
    cdef uint64_t index, ready = <uint64_t>-1
    cdef const float *x
    cdef float *y
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
                    counter[0], counter[1] = <uint32_t>ready, <uint32_t>(ready >> 32) ^ clock[3]
                    counter[2], counter[3] = a.layer, clock[2]
                    philox(counter, clock[0], clock[1])
                y[i * a.x.lanes + k] = x[i * a.x.lanes + k] * a.scale if counter[index % 4] >= a.threshold else 0.0


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


cdef struct MoveArgs:
    fc_tensor y  # OUT
    fc_tensor x  # IN
    ptrdiff_t steps[4]  # strides of x, 0 where y repeats it; or of pixels
    ptrdiff_t sizes[4]
    ptrdiff_t top, left, stride_h, stride_w
    bint watched  # whether `goes_on` is called before each row


cdef void run_sum_to(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are elements of y. Each is a sum over the dimensions in which it is broadcast."""
    cdef const MoveArgs *a = <const MoveArgs *>raw
    cdef ptrdiff_t units = a.y.n * a.y.c * a.y.h * a.y.w, unit, n, c, h, w, start
    cdef ptrdiff_t counts[4]
    cdef double total
    counts[0], counts[1] = a.x.n // a.y.n, a.x.c // a.y.c
    counts[2], counts[3] = a.x.h // a.y.h, a.x.w // a.y.w
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        start = (unit // (a.y.c * a.y.h * a.y.w) * a.x.image + unit // (a.y.h * a.y.w) % a.y.c * a.x.block
                 + unit // a.y.w % a.y.h * a.x.row + unit % a.y.w)
        total = 0.0
        for n in range(counts[0]):
            for c in range(counts[1]):
                for h in range(counts[2]):
                    if a.watched and not goes_on(counts[3]):
                        return
                    for w in range(counts[3]):
                        total += a.x.data[start + n * a.x.image + c * a.x.block + h * a.x.row + w]
        a.y.data[unit] = <float>total


cdef class SumTo(Step):
    """y = sum of x over the dimensions where y has size 1 and x more.

    Parameters
    ----------
    y, x : View
        OUT dense, IN; plain, of four dimensions.
    """

    cdef MoveArgs a

    def __init__(self, y, x):
        self.run, self.args = run_sum_to, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.work(y.n * y.c * y.h * y.w, x.n * x.c * x.h * x.w)
        self.a.watched = self.at_a_time(1, x.w) > 0


cdef void run_spread(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const MoveArgs *a = <const MoveArgs *>raw
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

    cdef MoveArgs a

    def __init__(self, y, x, strides, begins):
        self.run, self.args = run_spread, &self.a
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.a.stride_h, self.a.stride_w = strides
        self.a.top, self.a.left = begins
