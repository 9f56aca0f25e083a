"""Gradients of attention of several heads, on blocked images whose pixels are tokens.

With the weights, softmax(scale * q @ k^T + bias), and the gradient g of the output:

    slopes  =  weights * (g @ v^T - sum of g * y)

    of_v    =  weights^T @ g

    of_q    =  scale * slopes @ k

    of_k    =  scale * slopes^T @ q

The weights are computed again, for one strip of queries at a time. The sum is over the channels of a query; a further
channel of g, which a value of 1 multiplies, subtracts it within the product.
"""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._heads cimport Channels, channels_of, flatten, gather_head, pack_rows, pack_turned, store_head
from fastcnn.kernels._product cimport PASS_STEPS, Product, multiply, set_strips, taps_of
from fastcnn.kernels._step cimport Step, address, ceil_div, goes_on, set_activation, share
from fastcnn.kernels._tiles cimport FC_MULTIPLY, fc_kernels, fc_scaled_pixels, fc_softmax_strip, fc_tensor

cdef enum:
    # docs/tuning.md, "Gradients of attention".
    SCORE_FLOATS = 16384  # of a strip
    OPERATIONS_OF_A_SCORE = 48  # on vectors, for a vector of scores beside the products


# Places in scratch memory.
cdef struct Places:
    ptrdiff_t keys, values, key_rows, scores, slopes, turned, queries, grads, results, rows, of_k, of_v, inverse, some


cdef struct GradArgs:
    const fc_kernels *kernels
    fc_tensor y       # OUT blocked; of the bias: plain, (images of the bias, heads, queries, keys) without gaps
    fc_tensor g       # IN  blocked
    fc_tensor result  # IN  blocked, the attention's output
    fc_tensor q       # IN  blocked
    fc_tensor k       # IN  blocked
    fc_tensor v       # IN  blocked
    fc_tensor bias    # IN  plain, strides of 0 where it is broadcast; data is NULL without one
    Channels of_g, of_q, of_k, of_v
    bint wants_q, wants_k, wants_v, wants_bias, watched
    Product scores, slopes, to_q, to_k, to_v
    fc_softmax_strip softmax
    fc_scaled_pixels inverse, store
    Places at
    float scale, one
    ptrdiff_t heads, queries, keys, key_blocks, head_blocks, value_blocks, bias_floats, bias_images
    ptrdiff_t strip, strips  # queries of a strip at most, and strips of a head


cdef void set_sums(const GradArgs *a, ptrdiff_t queries, float *scratch) noexcept nogil:
    """Store what is subtracted from the slopes of each query, the sum of g * y, as a further channel of g."""
    cdef ptrdiff_t vl = a.kernels.vl, count = a.of_g.count, distance = a.strip * vl, block, q, lane, lanes
    cdef float *g = scratch + a.at.grads
    cdef float *y = scratch + a.at.results
    cdef const float *row
    cdef double even, odd
    for block in range(a.value_blocks):
        a.kernels.binary(FC_MULTIPLY, &a.store.act, g + block * distance, 1, y + block * distance, 1,
                         y + block * distance, queries * vl)
    g += count // vl * distance + count % vl
    for q in range(queries):
        even = odd = 0.0
        for block in range(a.value_blocks):
            row, lanes = y + block * distance + q * vl, min(vl, count - block * vl)
            for lane in range(lanes // 2):  # two sums do not wait for each other
                even += row[2 * lane]
                odd += row[2 * lane + 1]
            if lanes % 2 == 1:
                even += row[lanes - 1]
        g[q * vl] = <float>-(even + odd)


cdef bint compute_slopes(const GradArgs *a, ptrdiff_t image, ptrdiff_t head, ptrdiff_t first, ptrdiff_t queries,
                         float *scratch) noexcept nogil:
    """Compute the weights of some queries, and the gradients of their scores. Returns whether the run continues."""
    cdef ptrdiff_t vl = a.kernels.vl, distance = a.strip * vl, block
    cdef float *scores = scratch + a.at.scores
    cdef float *slopes = scratch + a.at.slopes
    cdef fc_softmax_strip softmax = a.softmax
    cdef fc_scaled_pixels inverse = a.inverse
    gather_head(a.kernels, &a.q, &a.of_q, image, head, first, queries, scratch + a.at.queries, distance)
    if not multiply(&a.scores, scratch + a.at.queries, scratch + a.at.keys, scores, queries, a.key_blocks, False):
        return False
    softmax.x, softmax.inverse, softmax.queries = scores, scratch + a.at.inverse, queries
    if a.bias.data != NULL:
        softmax.bias = a.bias.data + image % a.bias.n * a.bias.image + head * a.bias.block + first * a.bias.row
        softmax.bias_end = a.bias.data + a.bias_floats
    if a.watched and not goes_on(queries * a.key_blocks * OPERATIONS_OF_A_SCORE):
        return False
    a.kernels.softmax_strip(&softmax)
    inverse.x, inverse.y, inverse.scale, inverse.pixels = scores, scores, scratch + a.at.inverse, queries
    a.kernels.scale_pixels(&inverse)
    gather_head(a.kernels, &a.g, &a.of_g, image, head, first, queries, scratch + a.at.grads, distance)
    gather_head(a.kernels, &a.result, &a.of_g, image, head, first, queries, scratch + a.at.results, distance)
    set_sums(a, queries, scratch)
    if not multiply(&a.slopes, scratch + a.at.grads, scratch + a.at.values, slopes, queries, a.key_blocks, False):
        return False
    for block in range(a.key_blocks):
        a.kernels.binary(FC_MULTIPLY, &a.store.act, slopes + block * distance, 1, scores + block * distance, 1,
                         slopes + block * distance, queries * vl)
    return True


cdef void turn_strip(const GradArgs *a, const float *x, ptrdiff_t queries, float *y) noexcept nogil:
    """[block of keys][query][VL] to [block of queries][key][VL]."""
    cdef ptrdiff_t vl = a.kernels.vl, block, of_keys
    for block in range(ceil_div(queries, vl)):
        for of_keys in range(a.key_blocks):
            a.kernels.turn(x + of_keys * a.strip * vl + block * vl * vl, vl,
                           y + block * a.keys * vl + of_keys * vl * vl, vl, min(vl, queries - block * vl),
                           min(vl, a.keys - of_keys * vl))


cdef bint gather_up(const GradArgs *a, const Product *product, const fc_tensor *t, const Channels *c,
                    ptrdiff_t image, ptrdiff_t head, ptrdiff_t first, ptrdiff_t queries, const float *weights,
                    float *total, float *scratch) noexcept nogil:
    """Add to the gradient of keys or values what the queries of a strip give them."""
    cdef Product own = product[0]
    own.inner = queries
    turn_strip(a, weights, queries, scratch + a.at.turned)
    if not pack_rows(a.kernels, t, c, image, head, first, queries, scratch + a.at.rows, a.watched):
        return False
    return multiply(&own, scratch + a.at.turned, scratch + a.at.rows, total, a.keys, ceil_div(c.count, a.kernels.vl),
                    first > 0)


cdef void add_to_bias(const GradArgs *a, ptrdiff_t image, ptrdiff_t head, ptrdiff_t first, ptrdiff_t queries,
                      const float *slopes) noexcept nogil:
    """Add the gradients of scores to that of the bias. The first image of a bias begins."""
    cdef ptrdiff_t vl = a.kernels.vl, q, key
    cdef float *y = a.y.data + ((image % a.bias_images * a.heads + head) * a.queries + first) * a.keys
    cdef float before
    for q in range(queries):
        for key in range(a.keys):
            before = y[q * a.keys + key] if image >= a.bias_images else 0.0
            y[q * a.keys + key] = before + slopes[key // vl * a.strip * vl + q * vl + key % vl]


cdef bint compute_head(const GradArgs *a, ptrdiff_t image, ptrdiff_t head, float *scratch) noexcept nogil:
    """Compute the gradients of one head of an image. Returns whether the run continues."""
    cdef ptrdiff_t vl = a.kernels.vl, number, first, queries
    cdef fc_scaled_pixels scaled = a.store
    cdef int strips = <int>a.strips
    cdef float *slopes = scratch + a.at.slopes
    if not pack_turned(a.kernels, &a.k, &a.of_k, image, head, False, scratch + a.at.keys, scratch + a.at.some,
                       a.watched):
        return False
    if not pack_turned(a.kernels, &a.v, &a.of_v, image, head, True, scratch + a.at.values, scratch + a.at.some,
                       a.watched):
        return False
    if a.wants_q and not pack_rows(a.kernels, &a.k, &a.of_k, image, head, 0, a.keys, scratch + a.at.key_rows,
                                   a.watched):
        return False
    for number in range(strips):
        first = share(a.queries, <int>number, strips)
        queries = share(a.queries, <int>number + 1, strips) - first
        if not compute_slopes(a, image, head, first, queries, scratch):
            return False
        if a.wants_bias:
            add_to_bias(a, image, head, first, queries, slopes)
        if a.wants_v and not gather_up(a, &a.to_v, &a.g, &a.of_g, image, head, first, queries, scratch + a.at.scores,
                                       scratch + a.at.of_v, scratch):
            return False
        if a.wants_k and not gather_up(a, &a.to_k, &a.q, &a.of_q, image, head, first, queries, slopes,
                                       scratch + a.at.of_k, scratch):
            return False
        if a.wants_q:
            if not multiply(&a.to_q, slopes, scratch + a.at.key_rows, scratch + a.at.results, queries, a.head_blocks,
                            False):
                return False
            scaled.scale, scaled.x_block, scaled.channels = &a.scale, a.strip * vl, a.of_q.count
            store_head(a.kernels, &a.y, &a.of_q, image, head, first, queries, scratch + a.at.results, scaled)
    scaled.x_block = a.keys * vl
    if a.wants_k:
        scaled.scale, scaled.channels = &a.scale, a.of_k.count
        store_head(a.kernels, &a.y, &a.of_k, image, head, 0, a.keys, scratch + a.at.of_k, scaled)
    if a.wants_v:
        scaled.scale, scaled.channels = &a.one, a.of_v.count
        store_head(a.kernels, &a.y, &a.of_v, image, head, 0, a.keys, scratch + a.at.of_v, scaled)
    return True


cdef void run_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are the heads of the images; for the bias those of its images, which add up over the batch."""
    cdef const GradArgs *a = <const GradArgs *>raw
    cdef ptrdiff_t images = a.bias_images if a.wants_bias else a.q.n, unit, image
    for unit in range(share(images * a.heads, tid, nthreads), share(images * a.heads, tid + 1, nthreads)):
        image = unit // a.heads
        while image < a.q.n:
            if not compute_head(a, image, unit % a.heads, scratch):
                return
            image += images


cdef class HeadAttentionGrad(Step):
    """Gradients of y = softmax(scale * q @ k^T + bias) @ v for each image and head.

    Parameters
    ----------
    y : View
        OUT; blocked, with the channels and pixels of the operands whose gradients are wanted, of which no other channel
        is written. For the bias it is plain, (Nb * heads, queries, keys).
    grad, result, q, k, v : View
        IN; blocked, pixels are tokens. `result` is the attention's output, `grad` its gradient.
    bias : View or None
        IN; plain, (Nb, heads or 1, queries or 1, keys). Image n takes n modulo Nb.
    heads, head_dim, value_dim : int
    places : six int
        In q, k and v, the first channel of the first head, and the distance from one head to the next.
    scale : float
    of : str
        Letters of the operands whose gradients are wanted, which are parts of one image; "bias" for that of the bias.
    """

    cdef GradArgs a

    def __init__(self, y, grad, result, q, k, v, bias, ptrdiff_t heads, ptrdiff_t head_dim, ptrdiff_t value_dim,
                 places, double scale, str of):
        cdef GradArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl
        self.run, self.args, a.kernels, a.heads = run_grad, a, self.kernels, heads
        a.scale, a.one = scale, 1.0
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, grad)
        self.operand(2, &a.result, result)
        self.operand(3, &a.q, q)
        self.operand(4, &a.k, k)
        self.operand(5, &a.v, v)
        self.operand(6, &a.bias, bias)
        a.of_q = channels_of(places[0], places[1], head_dim, heads, vl)
        a.of_k = channels_of(places[2], places[3], head_dim, heads, vl)
        a.of_v = channels_of(places[4], places[5], value_dim, heads, vl)
        a.of_g = channels_of(0, value_dim, value_dim, heads, vl)
        a.wants_bias = of == "bias"
        a.wants_q, a.wants_k, a.wants_v = (not a.wants_bias and letter in of for letter in "qkv")
        if not a.wants_bias:
            flatten(&a.y)
        flatten(&a.g)
        flatten(&a.result)
        flatten(&a.q)
        flatten(&a.k)
        flatten(&a.v)
        a.queries, a.keys = a.q.h * a.q.w, a.k.h * a.k.w
        a.key_blocks, a.head_blocks = ceil_div(a.keys, vl), ceil_div(head_dim, vl)
        a.value_blocks = ceil_div(value_dim, vl)
        a.softmax.keys, a.softmax.scale = a.keys, scale
        if bias is not None:
            a.bias_floats, a.bias_images = bias.n * bias.c * bias.h * bias.w, bias.n
            a.bias.block = a.bias.block if a.bias.c > 1 else 0
            a.softmax.bias_query = a.bias.row = a.bias.row if a.bias.h > 1 else 0
        self.divide()
        self.set_products()
        self.set_work()

    cdef void divide(self) except *:
        """Divide the queries into strips, and the scratch memory."""
        cdef GradArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, mr = self.kernels.mr, blocks = max(a.head_blocks, a.value_blocks), strip
        most = mr * max(1, min(8, SCORE_FLOATS // max(1, a.key_blocks * vl * mr)))
        a.strips = max(1, ceil_div(a.queries, most))
        strip = a.strip = ceil_div(a.queries, a.strips)
        sizes = (
            a.of_k.count * a.key_blocks * vl,
            (a.of_v.count + 1) * a.key_blocks * vl,
            a.keys * a.head_blocks * vl,
            strip * a.key_blocks * vl,
            strip * a.key_blocks * vl,
            ceil_div(strip, vl) * a.keys * vl,
            strip * a.head_blocks * vl,
            strip * ceil_div(a.of_v.count + 1, vl) * vl,
            strip * blocks * vl,
            strip * blocks * vl,
            a.keys * a.head_blocks * vl,
            a.keys * a.value_blocks * vl,
            strip,
            vl * vl,
        )
        begins = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
        (a.at.keys, a.at.values, a.at.key_rows, a.at.scores, a.at.slopes, a.at.turned, a.at.queries, a.at.grads,
         a.at.results, a.at.rows, a.at.of_k, a.at.of_v, a.at.inverse, a.at.some, self.scratch_floats) = begins

    cdef void set_products(self) except *:
        cdef GradArgs *a = &self.a
        cdef ptrdiff_t vl = self.kernels.vl, strip = a.strip * vl, keys = a.keys * vl
        channels = taps_of(max(a.head_blocks, ceil_div(a.of_v.count + 1, vl), a.key_blocks), strip)
        turned = taps_of(ceil_div(a.strip, vl), keys)
        self.owned = channels, turned
        set_strips(&a.scores, self.kernels, <const ptrdiff_t *>address(channels), a.of_q.count, strip)
        set_strips(&a.slopes, self.kernels, <const ptrdiff_t *>address(channels), a.of_v.count + 1, strip)
        set_strips(&a.to_q, self.kernels, <const ptrdiff_t *>address(channels), a.keys, strip)
        set_strips(&a.to_k, self.kernels, <const ptrdiff_t *>address(turned), a.strip, keys)
        set_strips(&a.to_v, self.kernels, <const ptrdiff_t *>address(turned), a.strip, keys)
        a.softmax.x_block = a.inverse.x_block = a.inverse.y_block = strip
        a.inverse.y_pixel, a.inverse.scale_step, a.inverse.channels = vl, 1, a.key_blocks * vl
        a.store.y_block, a.store.y_pixel, a.store.scale_step = a.y.block, vl, 0
        set_activation(&a.inverse.act, None)
        set_activation(&a.store.act, None)

    cdef void set_work(self) except *:
        cdef GradArgs *a = &self.a
        cdef ptrdiff_t each = a.key_blocks * (3 * a.of_q.count + 2 * a.of_v.count + OPERATIONS_OF_A_SCORE)
        self.work((a.bias_images if a.wants_bias else a.q.n) * a.heads, a.q.n * a.heads * a.queries * each)
        # Between two calls of `goes_on` lies the softmax of a strip, or a product's pass.
        each = max(a.strip * a.key_blocks * OPERATIONS_OF_A_SCORE,
                   max(a.strip, a.keys) * self.kernels.wide_blocks * <ptrdiff_t>PASS_STEPS)
        a.watched = self.at_a_time(max(1, a.strips), each) > 0
        for product in range(5):
            (&a.scores)[product].watched = a.watched
