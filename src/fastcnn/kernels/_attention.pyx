"""Attention of several heads: softmax(scale * q @ k^T + bias) @ v, for each image and head, on blocked images whose
pixels are tokens. Scores exist for one strip of queries at a time, in scratch memory."""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._heads cimport Channels, channels_of, flatten, gather_head, pack_rows, pack_turned, store_head
from fastcnn.kernels._product cimport PASS_STEPS, Product, multiply, set_strips, taps_of
from fastcnn.kernels._step cimport LINE_FLOATS, Step, address, ceil_div, goes_on, set_activation, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_scaled_pixels, fc_softmax_strip, fc_tensor

from fastcnn.kernels import _step

cdef enum:
    # docs/tuning.md, "Attention".
    SCORE_FLOATS = 16384  # of a strip
    OPERATIONS_OF_A_SCORE = 32  # on vectors, for a vector of scores in the softmax


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
    ptrdiff_t heads, queries, keys, key_blocks, value_blocks, bias_floats
    ptrdiff_t strip, strips  # queries of a strip at most, and strips of a head
    ptrdiff_t at_a_time      # queries of one call of the softmax, at most
    ptrdiff_t keys_at, values_at, scores_at, results_at, queries_at, inverse_at  # places in scratch memory


cdef bint compute_strip(const AttentionArgs *a, ptrdiff_t image, ptrdiff_t head, ptrdiff_t first, ptrdiff_t queries,
                        float *scratch) noexcept nogil:
    """Compute the outputs of some queries, of which the keys and values are packed. Returns whether the run
    continues."""
    cdef ptrdiff_t vl = a.kernels.vl, channel = a.of_q.start + head * a.of_q.step, part
    cdef float *scores = scratch + a.scores_at
    cdef const float *x = scratch + a.queries_at
    cdef fc_softmax_strip softmax = a.softmax
    cdef fc_scaled_pixels scaled = a.store
    if a.in_place:
        x = a.q.data + image * a.q.image + channel // vl * a.q.block + first * vl
    else:
        gather_head(a.kernels, &a.q, &a.of_q, image, head, first, queries, scratch + a.queries_at, a.strip * vl)
    if not multiply(&a.scores, x, scratch + a.keys_at, scores, queries, a.key_blocks, False):
        return False
    softmax.x, softmax.inverse, part = scores, scratch + a.inverse_at, 0
    if a.bias.data != NULL:
        softmax.bias = a.bias.data + image % a.bias.n * a.bias.image + head * a.bias.block + first * a.bias.row
        softmax.bias_end = a.bias.data + a.bias_floats
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
    scaled.scale = scratch + a.inverse_at
    store_head(a.kernels, &a.y, &a.of_y, image, head, first, queries, scratch + a.results_at, scaled)
    return True


cdef void run_attention(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are (image, head, strip). The first number in the scratch memory tells which head is packed: it serves the
    following strips."""
    cdef const AttentionArgs *a = <const AttentionArgs *>raw
    cdef ptrdiff_t units = a.q.n * a.heads * a.strips, unit, image, head, number, first
    cdef ptrdiff_t *ready = <ptrdiff_t *>scratch
    cdef int strip
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        number, strip = unit // a.strips, <int>(unit % a.strips)
        image, head = number // a.heads, number % a.heads
        if ready[0] != number + 1:
            if not pack_turned(a.kernels, &a.k, &a.of_k, image, head, False, scratch + a.keys_at,
                               scratch + a.scores_at, a.watched):
                return
            if not pack_rows(a.kernels, &a.v, &a.of_v, image, head, 0, a.keys, scratch + a.values_at, a.watched):
                return
            ready[0] = number + 1
        first = share(a.queries, strip, <int>a.strips)
        if not compute_strip(a, image, head, first, share(a.queries, strip + 1, <int>a.strips) - first, scratch):
            return


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
            a.bias_floats = bias.n * bias.c * bias.h * bias.w
            a.bias.block = a.bias.block if a.bias.c > 1 else 0
            a.softmax.bias_query = a.bias.row = a.bias.row if a.bias.h > 1 else 0
        self.divide()

    cdef void divide(self) except *:
        """Divide the queries into strips, and the scratch memory."""
        cdef AttentionArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, mr = self.kernels.mr, dims = ceil_div(a.of_q.count, vl), each
        most = mr * max(1, min(8, SCORE_FLOATS // max(1, a.key_blocks * vl * mr)))
        a.strips = max(1, ceil_div(a.queries, most))
        a.strip = ceil_div(a.queries, a.strips)
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
        a.store.channels = a.value_blocks * vl
        set_activation(&a.store.act, None)
        each = a.key_blocks * (a.of_q.count + OPERATIONS_OF_A_SCORE) + a.value_blocks * a.keys
        self.may_be_cut(a.q.n * a.heads * a.strips, a.q.n * a.heads * a.queries * each)
        # Between two calls of `goes_on` lies the softmax of some queries, or a product's pass.
        each = max(1, a.key_blocks * OPERATIONS_OF_A_SCORE)
        a.at_a_time = max(1, min(a.strip, <ptrdiff_t>_step.LONGEST_PIECE // each))
        each = max(a.at_a_time * each, a.strip * self.kernels.wide_blocks * <ptrdiff_t>PASS_STEPS)
        a.watched = a.scores.watched = a.results.watched = self.at_a_time(a.strips, each) > 0
