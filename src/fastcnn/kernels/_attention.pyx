"""Attention of several heads: softmax(scale * q @ k^T + bias) @ v, for each image and head, on blocked images whose
pixels are tokens. Scores exist for one strip of queries at a time, in scratch memory."""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy

from fastcnn.kernels._product cimport PASS_STEPS, Product, multiply, packed_block, set_strips, taps_of
from fastcnn.kernels._step cimport LINE_FLOATS, Step, address, ceil_div, goes_on, set_activation, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_scaled_pixels, fc_softmax_strip, fc_tensor

from fastcnn.kernels import _step

cdef enum:
    # Floats of the scores of a strip, and the number of units from which on heads are not divided:
    # docs/tuning.md, "Attention".
    SCORE_FLOATS = 8192
    MANY_UNITS = 12
    OPERATIONS_OF_A_SCORE = 32  # on vectors, for a vector of scores in the softmax


# Where the heads of an operand, or of the output, have their channels.
cdef struct Channels:
    ptrdiff_t start, step, count
    bint whole  # whether all heads begin at a block


cdef struct AttentionArgs:
    const fc_kernels *kernels
    fc_tensor y     # OUT blocked
    fc_tensor q     # IN  blocked
    fc_tensor k     # IN  blocked
    fc_tensor v     # IN  blocked
    fc_tensor bias  # IN  plain, strides of 0 where it is broadcast; data is NULL without one
    Channels of_y, of_q, of_k, of_v
    Product scores, results
    fc_softmax_strip softmax
    fc_scaled_pixels store
    bint in_place  # whether queries are read where they lie
    bint watched
    ptrdiff_t heads, queries, keys, key_blocks, value_blocks
    ptrdiff_t strip, strips, parts  # queries of a strip at most; strips and parts of a head
    ptrdiff_t at_a_time             # queries of one call of the softmax, at most
    ptrdiff_t keys_at, values_at, scores_at, results_at, queries_at, inverse_at  # places in scratch memory


# Pixels of an image that lie side by side.
cdef struct Run:
    ptrdiff_t row, column, pixels


cdef bint next_run(const fc_tensor *t, ptrdiff_t first, ptrdiff_t last, Run *run) noexcept nogil:
    """Take the pixels of one row from `first` on. Returns whether there are any before `last`."""
    run.row, run.column = first // t.w, first % t.w
    run.pixels = min(last - first, t.w - run.column)
    return first < last


cdef void gather(const fc_kernels *kernels, const fc_tensor *t, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t count,
                 ptrdiff_t first, ptrdiff_t pixels, float *y, ptrdiff_t y_pixel) noexcept nogil:
    """Copy up to VL channels of some pixels to vectors y_pixel apart. Lanes beyond `count` may hold anything."""
    cdef ptrdiff_t vl = kernels.vl, lane = channel % vl, low = min(count, vl - lane), p
    cdef const float *x
    cdef Run run
    while next_run(t, first, first + pixels, &run):
        x = t.data + image * t.image + channel // vl * t.block + run.row * t.row + run.column * vl
        if lane == 0:
            kernels.copy_pixels(x, vl, y, y_pixel, run.pixels)
        else:
            for p in range(run.pixels):
                memcpy(y + p * y_pixel, x + p * vl + lane, low * sizeof(float))
                if low < count:
                    memcpy(y + p * y_pixel + low, x + p * vl + t.block, (count - low) * sizeof(float))
        y, first, pixels = y + run.pixels * y_pixel, first + run.pixels, pixels - run.pixels


cdef void scatter(const fc_tensor *t, ptrdiff_t vl, ptrdiff_t image, ptrdiff_t channel, ptrdiff_t count,
                  ptrdiff_t first, ptrdiff_t pixels, const float *x) noexcept nogil:
    """Copy up to VL channels of some pixels from neighbouring vectors, and nothing else: the inverse of `gather`."""
    cdef ptrdiff_t lane = channel % vl, low = min(count, vl - lane), p
    cdef float *y
    cdef Run run
    while next_run(t, first, first + pixels, &run):
        y = t.data + image * t.image + channel // vl * t.block + run.row * t.row + run.column * vl
        for p in range(run.pixels):
            memcpy(y + p * vl + lane, x + p * vl, low * sizeof(float))
            if low < count:
                memcpy(y + p * vl + t.block, x + p * vl + low, (count - low) * sizeof(float))
        x, first, pixels = x + run.pixels * vl, first + run.pixels, pixels - run.pixels


cdef bint pack_keys(const AttentionArgs *a, ptrdiff_t image, ptrdiff_t channel, float *packed,
                    float *some) noexcept nogil:
    """Pack the transposed keys of a head. `some` is room for VL vectors. Returns whether the run continues."""
    cdef ptrdiff_t vl = a.kernels.vl, dims = a.of_k.count, block, part, keys, count, step = 0
    cdef bint in_place = a.of_k.whole and a.k.h == 1
    cdef const float *x = a.k.data + image * a.k.image + channel // vl * a.k.block
    cdef float *to
    for block in range(a.key_blocks):
        if a.watched and not goes_on(2 * dims):
            return False
        keys = min(vl, a.keys - block * vl)
        to = packed_block(a.kernels, packed, dims, block, a.key_blocks, &step)
        for part in range(ceil_div(dims, vl)):
            count = min(vl, dims - part * vl)
            if in_place:
                a.kernels.turn(x + part * a.k.block + block * vl * vl, vl, to, step, keys, count)
            else:
                gather(a.kernels, &a.k, image, channel + part * vl, count, block * vl, keys, some, vl)
                a.kernels.turn(some, vl, to, step, keys, count)
            to += count * step
    return True


cdef bint pack_values(const AttentionArgs *a, ptrdiff_t image, ptrdiff_t channel, float *packed) noexcept nogil:
    """Pack the values of a head. Returns whether the run continues."""
    cdef ptrdiff_t vl = a.kernels.vl, block, step = 0
    cdef float *to
    for block in range(a.value_blocks):
        if a.watched and not goes_on(a.keys):
            return False
        to = packed_block(a.kernels, packed, a.keys, block, a.value_blocks, &step)
        gather(a.kernels, &a.v, image, channel + block * vl, min(vl, a.of_v.count - block * vl), 0, a.keys, to, step)
    return True


cdef void store(const AttentionArgs *a, ptrdiff_t image, ptrdiff_t head, ptrdiff_t first, ptrdiff_t queries,
                float *scratch) noexcept nogil:
    """Divide the results of a strip by the sums of their weights, and bring them to the output."""
    cdef ptrdiff_t vl = a.kernels.vl, channel = head * a.of_y.step, done = 0, block
    cdef float *x = scratch + a.results_at
    cdef fc_scaled_pixels scaled = a.store
    cdef Run run
    scaled.channels = a.value_blocks * vl
    if not a.of_y.whole:
        scaled.x, scaled.y, scaled.y_block = x, x, scaled.x_block
        scaled.scale, scaled.pixels = scratch + a.inverse_at, queries
        a.kernels.scale_pixels(&scaled)
        for block in range(a.value_blocks):
            scatter(&a.y, vl, image, channel + block * vl, min(vl, a.of_y.count - block * vl), first, queries,
                    x + block * scaled.x_block)
        return
    while next_run(&a.y, first + done, first + queries, &run):
        scaled.x, scaled.scale, scaled.pixels = x + done * vl, scratch + a.inverse_at + done, run.pixels
        scaled.y = (a.y.data + image * a.y.image + channel // vl * a.y.block + run.row * a.y.row + run.column * vl)
        a.kernels.scale_pixels(&scaled)
        done += run.pixels


cdef bint compute_strip(const AttentionArgs *a, ptrdiff_t image, ptrdiff_t head, ptrdiff_t first, ptrdiff_t queries,
                        float *scratch) noexcept nogil:
    """Compute the outputs of some queries, of which the keys and values are packed. Returns whether the run
    continues."""
    cdef ptrdiff_t vl = a.kernels.vl, channel = a.of_q.start + head * a.of_q.step, part, count
    cdef float *scores = scratch + a.scores_at
    cdef const float *x = scratch + a.queries_at
    cdef fc_softmax_strip softmax = a.softmax
    if a.in_place:
        x = a.q.data + image * a.q.image + channel // vl * a.q.block + first * vl
    else:
        for part in range(ceil_div(a.of_q.count, vl)):
            count = min(vl, a.of_q.count - part * vl)
            gather(a.kernels, &a.q, image, channel + part * vl, count, first, queries,
                   scratch + a.queries_at + part * vl * a.strip, vl)
    if not multiply(&a.scores, x, scratch + a.keys_at, scores, queries, a.key_blocks, False):
        return False
    softmax.x, softmax.inverse, part = scores, scratch + a.inverse_at, 0
    if a.bias.data != NULL:
        softmax.bias = a.bias.data + image % a.bias.n * a.bias.image + head * a.bias.block + first * a.bias.row
    while part < queries:
        softmax.queries = min(a.at_a_time, queries - part)
        if a.watched and not goes_on(softmax.queries * a.key_blocks * OPERATIONS_OF_A_SCORE):
            return False
        a.kernels.softmax_strip(&softmax)
        softmax.x += softmax.queries * vl
        softmax.inverse += softmax.queries
        softmax.bias += softmax.queries * softmax.bias_query
        part += softmax.queries
    if not multiply(&a.results, scores, scratch + a.values_at, scratch + a.results_at, queries, a.value_blocks, False):
        return False
    store(a, image, head, first, queries, scratch)
    return True


cdef void run_attention(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (image, head, part of the strips). The first number in the scratch memory tells which head is packed:
    it may serve several units."""
    cdef const AttentionArgs *a = <const AttentionArgs *>raw
    cdef ptrdiff_t units = a.q.n * a.heads * a.parts, unit, image, head, strip, first
    cdef ptrdiff_t *ready = <ptrdiff_t *>scratch
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        image, head = unit // a.parts // a.heads, unit // a.parts % a.heads
        if ready[0] != unit // a.parts + 1:
            if not pack_keys(a, image, a.of_k.start + head * a.of_k.step, scratch + a.keys_at, scratch + a.scores_at):
                return
            if not pack_values(a, image, a.of_v.start + head * a.of_v.step, scratch + a.values_at):
                return
            ready[0] = unit // a.parts + 1
        for strip in range(share(a.strips, <int>(unit % a.parts), <int>a.parts),
                           share(a.strips, <int>(unit % a.parts) + 1, <int>a.parts)):
            first = share(a.queries, <int>strip, <int>a.strips)
            if not compute_strip(a, image, head, first, share(a.queries, <int>strip + 1, <int>a.strips) - first,
                                 scratch):
                return


cdef void flatten(fc_tensor *t) noexcept:
    """Take the pixels of an image without gaps as one row."""
    if t.row == t.w * t.lanes:
        t.h, t.w, t.row = 1, t.h * t.w, t.h * t.row


cdef Channels channels_of(ptrdiff_t start, ptrdiff_t step, ptrdiff_t count, ptrdiff_t heads, ptrdiff_t vl) noexcept:
    cdef Channels c
    c.start, c.step, c.count = start, step, count
    c.whole = start % vl == 0 and (step % vl == 0 or heads == 1)
    return c


cdef class HeadAttention(Step):
    """y = softmax(scale * q @ k^T + bias) @ v for each image and head.

    Parameters
    ----------
    y, q, k, v : View
        OUT, IN, IN, IN; blocked, pixels are tokens.
    bias : View or None
        IN; plain, (Nb, heads or 1, queries or 1, keys). Image n takes n modulo Nb.
    heads, head_dim, value_dim : int
    places : six int
        In q, k and v, the first channel of the first head, and the distance from one head to the next.
    scale : float
    """

    cdef AttentionArgs a

    def __init__(self, y, q, k, v, bias, ptrdiff_t heads, ptrdiff_t head_dim, ptrdiff_t value_dim, places,
                 double scale):
        cdef AttentionArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl
        self.run, self.args, a.kernels, a.heads = run_attention, a, self.kernels, heads
        self.operand(0, &a.y, y)
        self.operand(1, &a.q, q)
        self.operand(2, &a.k, k)
        self.operand(3, &a.v, v)
        self.operand(4, &a.bias, bias)
        a.of_q = channels_of(places[0], places[1], head_dim, heads, vl)
        a.of_k = channels_of(places[2], places[3], head_dim, heads, vl)
        a.of_v = channels_of(places[4], places[5], value_dim, heads, vl)
        a.of_y = channels_of(0, value_dim, value_dim, heads, vl)
        flatten(&a.y)
        flatten(&a.q)
        flatten(&a.k)
        flatten(&a.v)
        a.queries, a.keys = a.q.h * a.q.w, a.k.h * a.k.w
        a.key_blocks, a.value_blocks = ceil_div(a.keys, vl), ceil_div(value_dim, vl)
        a.in_place = a.of_q.whole and a.q.h == 1
        a.softmax.keys, a.softmax.scale = a.keys, scale
        if bias is not None:
            a.bias.block = a.bias.block if a.bias.c > 1 else 0
            a.softmax.bias_query = a.bias.row = a.bias.row if a.bias.h > 1 else 0
        self.divide()

    cdef void divide(self) except *:
        """Divide the queries into strips, and the scratch memory."""
        cdef AttentionArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, mr = self.kernels.mr, dims = ceil_div(a.of_q.count, vl), units, each
        most = mr * max(1, min(8, SCORE_FLOATS // max(1, a.key_blocks * vl * mr)))
        a.strips = max(1, ceil_div(a.queries, most))
        a.strip = ceil_div(a.queries, a.strips)
        units = max(1, a.q.n * a.heads)
        a.parts = 1 if units >= MANY_UNITS else min(a.strips, ceil_div(MANY_UNITS, units))
        a.keys_at = LINE_FLOATS
        a.values_at = a.keys_at + a.of_k.count * a.key_blocks * vl
        a.scores_at = a.values_at + a.keys * a.value_blocks * vl
        a.results_at = a.scores_at + max(a.strip * a.key_blocks * vl, vl * vl)
        a.queries_at = a.results_at + a.strip * a.value_blocks * vl
        a.inverse_at = a.queries_at + (0 if a.in_place else dims * a.strip * vl)
        self.scratch_floats = a.inverse_at + a.strip
        columns = taps_of(dims, a.q.block if a.in_place else a.strip * vl)
        keys = taps_of(a.key_blocks, a.strip * vl)
        self.owned = columns, keys
        set_strips(&a.scores, self.kernels, <const ptrdiff_t *>address(columns), a.of_q.count, a.strip * vl)
        set_strips(&a.results, self.kernels, <const ptrdiff_t *>address(keys), a.keys, a.strip * vl)
        a.softmax.x_block = a.store.x_block = a.strip * vl
        a.store.y_block, a.store.y_pixel, a.store.scale_step = a.y.block, vl, 1
        set_activation(&a.store.act, None)
        each = a.key_blocks * (a.of_q.count + OPERATIONS_OF_A_SCORE) + a.value_blocks * a.keys
        self.may_be_cut(a.q.n * a.heads * a.parts, a.q.n * a.heads * a.queries * each)
        # Between two calls of `goes_on` lies the softmax of some queries, or a product's pass.
        each = max(1, a.key_blocks * OPERATIONS_OF_A_SCORE)
        a.at_a_time = max(1, min(a.strip, <ptrdiff_t>_step.LONGEST_PIECE // each))
        each = max(a.at_a_time * each, a.strip * self.kernels.wide_blocks * <ptrdiff_t>PASS_STEPS)
        a.watched = a.scores.watched = a.results.watched = self.at_a_time(a.strips, each) > 0
