"""Batch normalisation in training: statistics of a batch, normalisation by them, and its gradients; blocked layout.

    mean, var of x over images and pixels;  h = (x - mean) / sqrt(var + eps);  y = act(gamma * h + beta + residual);
    dx = gamma / sqrt(var + eps) * (g - mean(g) - h * mean(g * h));  dgamma = sum of g * h;  dbeta = sum of g

The formulas are those of Ioffe and Szegedy, 2015. g is the gradient of gamma * h + beta. Where there is no residual, a
gate may compute it from the gradient of y, for a ReLU or Clip. The gate computes gamma * h + beta again, which costs
less than to read y.

A pair of numbers for each channel, (mean, var) or (sum of g, sum of g * h), is a parameter (C, 2): [C/VL][2][VL]. Each
thread sums all pixels of its blocks of channels, so that sums have one order. Doubles hold the sums. Variances are sums
of squared differences from the first pixel, so that a large mean costs no digits.
"""

from libc.math cimport sqrt
from libc.stddef cimport ptrdiff_t
from libc.string cimport memset

from fastcnn.kernels._step cimport Step, blocks_of, ceil_div, goes_on, set_activation, set_gradient_activation, share
from fastcnn.kernels._tiles cimport fc_activation, fc_gate, fc_kernels, fc_pixel_sums, fc_tensor


cdef struct NormArgs:
    const fc_kernels *kernels
    fc_tensor y      # OUT pairs, or like x
    fc_tensor x      # IN  blocked
    fc_tensor g      # IN  gradient of the output, or of gamma * h + beta
    fc_tensor stats  # IN  mean, var
    fc_tensor sums   # IN  sums of the gradient
    fc_tensor gamma, beta  # IN  parameters
    fc_tensor residual     # IN  like x; data is NULL without one
    fc_activation act
    fc_gate gate
    double epsilon
    bint watched     # whether `goes_on` is called before each image


cdef void affine_of(const NormArgs *a, ptrdiff_t block, float *affine) noexcept nogil:
    """Compute the scale and shift of gamma * h + beta = x * scale + shift: [2][VL]."""
    cdef ptrdiff_t vl = a.kernels.vl, k
    for k in range(vl):
        affine[k] = <float>(a.gamma.data[block * vl + k] / sqrt(a.stats.data[(2 * block + 1) * vl + k] + a.epsilon))
        affine[vl + k] = a.beta.data[block * vl + k] - a.stats.data[2 * block * vl + k] * affine[k]


cdef void set_gate(fc_gate *gate, object activation) except *:
    """Set the bounds of a Relu or Clip."""
    cdef fc_activation act
    set_gradient_activation(&act, activation)
    gate.affine, gate.low, gate.high = NULL, act.low, act.high


cdef void run_stats(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const NormArgs *a = <const NormArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, blocks = blocks_of(&a.x), block, image, k
    cdef double count = <double>(a.x.n * a.x.h * a.x.w), mean
    cdef double *totals = <double *>scratch
    cdef fc_pixel_sums sums
    sums.x, sums.moments, sums.sums = NULL, 1, totals
    sums.rows, sums.pixels, sums.g_row, sums.x_row = a.x.h, a.x.w, a.x.row, 0
    for block in range(share(blocks, tid, nthreads), share(blocks, tid + 1, nthreads)):
        memset(totals, 0, 2 * vl * sizeof(double))
        sums.shift = a.x.data + block * a.x.block
        for image in range(a.x.n):
            if a.watched and not goes_on(a.x.h * a.x.w):
                return
            sums.g = a.x.data + image * a.x.image + block * a.x.block
            a.kernels.pixel_sums(&sums)
        for k in range(vl):
            mean = totals[k] / count
            a.y.data[2 * block * vl + k] = <float>(sums.shift[k] + mean)
            a.y.data[(2 * block + 1) * vl + k] = <float>max(0.0, totals[vl + k] / count - mean * mean)


cdef class BatchStats(Step):
    """y = mean and (biased) variance of each channel.

    Parameters
    ----------
    y, x : View
        OUT a parameter (C, 2); IN blocked.
    """

    cdef NormArgs a

    def __init__(self, y, x):
        cdef NormArgs *a = &self.a
        self.run, self.args = run_stats, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels = self.kernels
        self.scratch_floats = 4 * self.kernels.vl
        self.work(blocks_of(&a.x), blocks_of(&a.x) * a.x.n * a.x.h * a.x.w)
        a.watched = self.at_a_time(1, a.x.h * a.x.w) > 0


cdef void run_normalize(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are planes, or their rows where there are gaps."""
    cdef const NormArgs *a = <const NormArgs *>raw
    cdef bint added = a.residual.data != NULL, flat = a.x.row == a.x.w * a.x.lanes == a.y.row
    if added and a.residual.row != a.x.row:
        flat = False
    cdef ptrdiff_t vl = a.kernels.vl, blocks = blocks_of(&a.x), rows = 1 if flat else a.x.h, unit, block, image, r
    cdef ptrdiff_t length = (a.x.h if flat else 1) * a.x.w * vl, ready = -1
    cdef const float *residual = NULL
    for unit in range(share(a.x.n * blocks * rows, tid, nthreads), share(a.x.n * blocks * rows, tid + 1, nthreads)):
        r, block, image = unit % rows, unit // rows % blocks, unit // rows // blocks
        if block != ready:
            affine_of(a, block, scratch)
            ready = block
        if added:
            residual = a.residual.data + image * a.residual.image + block * a.residual.block + r * a.residual.row
        a.kernels.affine(&a.act, scratch, scratch + vl, a.x.data + image * a.x.image + block * a.x.block + r * a.x.row,
                         residual, a.y.data + image * a.y.image + block * a.y.block + r * a.y.row, length)


cdef class Normalize(Step):
    """y = act((x - mean) / sqrt(var + epsilon) * gamma + beta + residual).

    Parameters
    ----------
    y, x, stats, gamma, beta, residual : View
        OUT, IN blocked; IN parameters (C, 2), (C,), (C,); IN like x, or None. y may be x or the residual.
    epsilon : float
    activation : None or (name, attributes)
    """

    cdef NormArgs a

    def __init__(self, y, x, stats, gamma, beta, residual, double epsilon, activation):
        cdef NormArgs *a = &self.a
        self.run, self.args = run_normalize, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.stats, stats)
        self.operand(3, &a.gamma, gamma)
        self.operand(4, &a.beta, beta)
        self.operand(5, &a.residual, residual)
        a.kernels, a.epsilon = self.kernels, epsilon
        set_activation(&a.act, activation)
        self.scratch_floats = 2 * self.kernels.vl


cdef void run_norm_sums(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const NormArgs *a = <const NormArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, blocks = blocks_of(&a.x), block, image, k
    cdef double *totals = <double *>scratch
    cdef float *affine = scratch + 4 * vl
    cdef fc_pixel_sums sums
    sums.moments, sums.sums, sums.gate = 0, totals, a.gate
    sums.rows, sums.pixels, sums.g_row, sums.x_row = a.x.h, a.x.w, a.g.row, a.x.row
    for block in range(share(blocks, tid, nthreads), share(blocks, tid + 1, nthreads)):
        memset(totals, 0, 2 * vl * sizeof(double))
        if a.gamma.data != NULL:
            affine_of(a, block, affine)
            sums.gate.affine = affine
        sums.shift = a.stats.data + 2 * block * vl
        for image in range(a.x.n):
            if a.watched and not goes_on(a.x.h * a.x.w):
                return
            sums.g = a.g.data + image * a.g.image + block * a.g.block
            sums.x = a.x.data + image * a.x.image + block * a.x.block
            a.kernels.pixel_sums(&sums)
        for k in range(vl):
            a.y.data[2 * block * vl + k] = <float>totals[k]
            a.y.data[(2 * block + 1) * vl + k] = <float>(
                totals[vl + k] / sqrt(a.stats.data[(2 * block + 1) * vl + k] + a.epsilon))


cdef class NormSums(Step):
    """y = sum of g and sum of g * h for each channel: the gradients of beta and gamma.

    Parameters
    ----------
    y, g, x, stats : View
        OUT a parameter (C, 2); IN blocked, blocked, a parameter (C, 2).
    gamma, beta : View
        IN parameters (C,); None without activation.
    epsilon : float
    activation : None or (name, attributes)
        A Relu or Clip whose output g is the gradient of.
    """

    cdef NormArgs a

    def __init__(self, y, g, x, stats, gamma, beta, double epsilon, activation):
        cdef NormArgs *a = &self.a
        self.run, self.args = run_norm_sums, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.operand(2, &a.x, x)
        self.operand(3, &a.stats, stats)
        if activation is not None:
            self.operand(4, &a.gamma, gamma)
            self.operand(5, &a.beta, beta)
        a.kernels, a.epsilon = self.kernels, epsilon
        set_gate(&a.gate, activation)
        self.scratch_floats = 6 * self.kernels.vl
        self.work(blocks_of(&a.x), 2 * blocks_of(&a.x) * a.x.n * a.x.h * a.x.w)
        a.watched = self.at_a_time(1, a.x.h * a.x.w) > 0


cdef void run_norm_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """dx = a * g + b * x + c, with one a, b and c for each channel. Units are planes, or their rows where there are
    gaps."""
    cdef const NormArgs *a = <const NormArgs *>raw
    cdef bint flat = a.x.row == a.x.w * a.x.lanes and a.y.row == a.y.w * a.y.lanes and a.g.row == a.g.w * a.g.lanes
    cdef ptrdiff_t vl = a.kernels.vl, blocks = blocks_of(&a.x), rows = 1 if flat else a.x.h, unit, block, image, r, k
    cdef ptrdiff_t length = (a.x.h if flat else 1) * a.x.w * vl, ready = -1
    cdef double count = <double>(a.x.n * a.x.h * a.x.w), inverse, slope, second
    cdef fc_gate gate = a.gate
    for unit in range(share(a.x.n * blocks * rows, tid, nthreads), share(a.x.n * blocks * rows, tid + 1, nthreads)):
        r, block, image = unit % rows, unit // rows % blocks, unit // rows // blocks
        if block != ready:
            for k in range(vl):
                inverse = 1.0 / sqrt(a.stats.data[(2 * block + 1) * vl + k] + a.epsilon)
                slope = a.gamma.data[block * vl + k] * inverse
                second = -slope * inverse * a.sums.data[(2 * block + 1) * vl + k] / count
                scratch[k] = <float>slope
                scratch[vl + k] = <float>second
                scratch[2 * vl + k] = <float>(-slope * a.sums.data[2 * block * vl + k] / count
                                              - second * a.stats.data[2 * block * vl + k])
            if a.beta.data != NULL:
                gate.affine = scratch + 3 * vl
                affine_of(a, block, scratch + 3 * vl)
            ready = block
        a.kernels.blend(&gate, scratch, a.g.data + image * a.g.image + block * a.g.block + r * a.g.row,
                        a.x.data + image * a.x.image + block * a.x.block + r * a.x.row,
                        a.y.data + image * a.y.image + block * a.y.block + r * a.y.row, length)


cdef class NormGrad(Step):
    """y = gradient of x.

    Parameters
    ----------
    y, g, x, stats, gamma, sums, beta : View
        OUT, IN, IN blocked; IN parameters (C, 2), (C,), (C, 2), (C,). y may be g. beta is None without activation.
    epsilon : float
    activation : None or (name, attributes)
        A Relu or Clip whose output g is the gradient of.
    """

    cdef NormArgs a

    def __init__(self, y, g, x, stats, gamma, sums, beta, double epsilon, activation):
        cdef NormArgs *a = &self.a
        self.run, self.args = run_norm_grad, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.operand(2, &a.x, x)
        self.operand(3, &a.stats, stats)
        self.operand(4, &a.gamma, gamma)
        self.operand(5, &a.sums, sums)
        if activation is not None:
            self.operand(6, &a.beta, beta)
        a.kernels, a.epsilon = self.kernels, epsilon
        set_gate(&a.gate, activation)
        self.scratch_floats = 5 * self.kernels.vl


cdef struct RunningArgs:
    fc_tensor y      # INOUT a parameter (C,)
    fc_tensor stats  # IN
    ptrdiff_t vl, column
    float momentum, factor


cdef void run_running(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const RunningArgs *a = <const RunningArgs *>raw
    cdef ptrdiff_t block, k
    for block in range(ceil_div(a.y.c, a.vl)):
        for k in range(block * a.vl, (block + 1) * a.vl):
            a.y.data[k] += a.momentum * (a.factor * a.stats.data[(block + a.column) * a.vl + k] - a.y.data[k])


cdef class RunningUpdate(Step):
    """y += momentum * (factor * statistic - y).

    Parameters
    ----------
    y, stats : View
        INOUT a parameter (C,); IN a parameter (C, 2).
    column : {0, 1}
        0: the mean, 1: the variance.
    momentum, factor : float
    """

    cdef RunningArgs a

    def __init__(self, y, stats, ptrdiff_t column, float momentum, float factor):
        cdef RunningArgs *a = &self.a
        self.run, self.args, self.shared = run_running, a, False
        self.operand(0, &a.y, y)
        self.operand(1, &a.stats, stats)
        a.vl, a.column, a.momentum, a.factor = self.kernels.vl, column, momentum, factor
