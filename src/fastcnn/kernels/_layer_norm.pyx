"""Normalisation of pixels over their channels, of a blocked tensor or of the rows of a matrix, and its gradients.

tiles/layer_norm.h has the formulas. The mean and 1 / deviation of each pixel are a parameter (pixels, 2): the gradients
read them. Threads own strips of VL pixels, but blocks of channels where sums run over pixels.
"""

from libc.stddef cimport ptrdiff_t
from libc.string cimport memset

from fastcnn.kernels._step cimport Step, ceil_div, goes_on, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_layer_norm, fc_tensor

cdef enum:
    STATS, FORWARD, GRADIENT  # what a step computes

cdef struct LayerNormArgs:
    const fc_kernels *kernels
    fc_tensor y       # OUT like x; or a parameter: statistics, or sums of gradients
    fc_tensor x       # IN  blocked, or rows (N, 1, 1, C)
    fc_tensor g       # IN  gradient of the result
    fc_tensor stats   # IN  a parameter (pixels, 2)
    fc_tensor weight  # IN  a parameter (C,); data is NULL without one
    fc_tensor bias    # IN  the same
    fc_layer_norm pixels
    int what
    ptrdiff_t runs, length  # how often pixels lie side by side, and how many


cdef void describe(LayerNormArgs *a, const fc_kernels *kernels, float epsilon, bint centred, bint dense) noexcept:
    """Set what all pixels have in common. Where `dense`, the rows of an image follow each other without gaps."""
    cdef fc_layer_norm *p = &a.pixels
    cdef bint rows = a.x.lanes == 1
    a.kernels = kernels
    p.epsilon, p.centred, p.padded = epsilon, centred, not rows
    if rows:
        a.runs, a.length, p.channels = 1, a.x.n, a.x.w
        p.x_block = p.g_block = p.y_block = kernels.vl
        p.x_pixel, p.g_pixel, p.y_pixel = a.x.image, a.g.image, a.y.image
    else:
        a.runs, a.length = (a.x.n, a.x.h * a.x.w) if dense else (a.x.n * a.x.h, a.x.w)
        p.channels = a.x.c
        p.x_block, p.g_block, p.y_block = a.x.block, a.g.block, a.y.block
        p.x_pixel = p.g_pixel = p.y_pixel = kernels.vl


cdef inline bint has_gaps(const fc_tensor *t) noexcept nogil:
    return t.row != t.w * t.lanes


cdef inline ptrdiff_t run_of(const LayerNormArgs *a, const fc_tensor *t, ptrdiff_t run) noexcept nogil:
    """Where a run of pixels begins."""
    if a.runs == a.x.n or a.x.lanes == 1:
        return run * t.image
    return run // a.x.h * t.image + run % a.x.h * t.row


cdef void run_strips(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const LayerNormArgs *a = <const LayerNormArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, strips = ceil_div(a.length, vl), total = a.runs * strips
    cdef ptrdiff_t unit = share(total, tid, nthreads), end = share(total, tid + 1, nthreads), run, first, count
    cdef fc_layer_norm pixels = a.pixels
    pixels.weight, pixels.bias = a.weight.data, a.bias.data
    while unit < end:
        run, first = unit // strips, unit % strips * vl
        count = min(strips - unit % strips, end - unit)
        pixels.pixels, pixels.first = min(count * vl, a.length - first), run * a.length + first
        pixels.x = a.x.data + run_of(a, &a.x, run) + first * pixels.x_pixel
        if a.what == STATS:
            pixels.stats = a.y.data
            a.kernels.layer_norm_stats(&pixels)
        else:
            pixels.y = a.y.data + run_of(a, &a.y, run) + first * pixels.y_pixel
            if a.what == FORWARD:
                a.kernels.layer_norm(&pixels)
            else:
                pixels.g = a.g.data + run_of(a, &a.g, run) + first * pixels.g_pixel
                pixels.stats = a.stats.data
                a.kernels.layer_norm_grad(&pixels)
        unit += count


cdef class _Strips(Step):
    """A step whose units are strips of pixels."""

    cdef LayerNormArgs a

    cdef void strips(self, int what, int passes, double epsilon, bint centred) except *:
        cdef LayerNormArgs *a = &self.a
        self.run, self.args, a.what = run_strips, a, what
        dense = not has_gaps(&a.x) and (what == STATS or not has_gaps(&a.y)) \
            and (what != GRADIENT or not has_gaps(&a.g))
        describe(a, self.kernels, epsilon, centred, dense)
        units = a.runs * ceil_div(a.length, self.kernels.vl)
        self.work(units, units * self.kernels.vl * ceil_div(a.pixels.channels, self.kernels.vl) * passes)


cdef class LayerNorm(_Strips):
    """y = (x - mean) / sqrt(mean of (x - mean)^2 + epsilon) * weight + bias, for each pixel over its channels.

    Parameters
    ----------
    y, x : View
        OUT, IN; both blocked, or both rows (N, 1, 1, C). y may be x.
    weight, bias : View, float32 array [C/VL][VL], or None
        IN parameters (C,).
    epsilon : float
    centred : bool
        Whether the mean is subtracted.
    """

    def __init__(self, y, x, weight, bias, epsilon, centred):
        cdef LayerNormArgs *a = &self.a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.owned = (weight, bias)
        if weight is not None:
            self.weights(2, &a.weight, weight)
        if bias is not None:
            self.weights(3, &a.bias, bias)
        self.strips(FORWARD, 6, epsilon, centred)


cdef class LayerNormStats(_Strips):
    """y = mean and 1 / deviation of each pixel.

    Parameters
    ----------
    y, x : View
        OUT a parameter (pixels, 2); IN as in `LayerNorm`.
    epsilon : float
    centred : bool
    """

    def __init__(self, y, x, epsilon, centred):
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.x, x)
        self.strips(STATS, 4, epsilon, centred)


cdef class LayerNormGrad(_Strips):
    """y = gradient of x.

    Parameters
    ----------
    y, g, x, stats : View
        OUT, IN, IN as in `LayerNorm`; IN a parameter (pixels, 2). y may be g or x.
    weight : View, float32 array [C/VL][VL], or None
    centred : bool
    """

    def __init__(self, y, g, x, stats, weight, centred):
        cdef LayerNormArgs *a = &self.a
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.operand(2, &a.x, x)
        self.operand(3, &a.stats, stats)
        self.owned = weight
        if weight is not None:
            self.weights(4, &a.weight, weight)
        self.strips(GRADIENT, 12, 0.0, centred)


cdef void run_sums(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are blocks of channels."""
    cdef const LayerNormArgs *a = <const LayerNormArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, channels = a.pixels.channels, blocks = ceil_div(channels, vl), block, run, k
    cdef double *sums = <double *>scratch
    cdef fc_layer_norm pixels = a.pixels
    pixels.stats, pixels.pixels = a.stats.data, a.length
    for block in range(share(blocks, tid, nthreads), share(blocks, tid + 1, nthreads)):
        memset(sums, 0, 2 * vl * sizeof(double))
        for run in range(a.runs):
            if not goes_on(4 * a.length):
                return
            pixels.first = run * a.length
            pixels.x = a.x.data + run_of(a, &a.x, run) + block * pixels.x_block
            pixels.g = a.g.data + run_of(a, &a.g, run) + block * pixels.g_block
            a.kernels.layer_norm_sums(&pixels, sums, vl if pixels.padded else min(vl, channels - block * vl))
        for k in range(2 * vl):
            a.y.data[2 * block * vl + k] = <float>sums[k]


cdef class LayerNormSums(Step):
    """y = sum of g and sum of g * h over all pixels, h = (x - mean) / deviation: the gradients of bias and weight.

    Parameters
    ----------
    y, g, x, stats : View
        OUT a parameter (C, 2); IN, IN as in `LayerNorm`; IN a parameter (pixels, 2).
    """

    cdef LayerNormArgs a

    def __init__(self, y, g, x, stats):
        cdef LayerNormArgs *a = &self.a
        self.run, self.args = run_sums, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.operand(2, &a.x, x)
        self.operand(3, &a.stats, stats)
        describe(a, self.kernels, 0.0, True, not has_gaps(&a.x) and not has_gaps(&a.g))
        self.scratch_floats = 4 * self.kernels.vl
        blocks = ceil_div(a.pixels.channels, self.kernels.vl)
        self.work(blocks, 4 * blocks * a.runs * a.length)
        self.at_a_time(a.runs, 4 * a.length)
