"""Normalisation over groups of channels and all pixels of an image, and its gradients; blocked layout.

    mean, var of the x of a group;  h = (x - mean) / sqrt(var + epsilon);  y = h * weight + bias;
    dx = (gw - mean(gw) - h * mean(gw * h)) / sqrt(var + epsilon),  gw = g * weight

The formulas are those of Wu and He, Group normalization, 2018. The mean and variance of each channel of each image are
a parameter (C, 2 N), [C/VL][N][2][VL]. So are the sums of its gradients. Whoever reads them adds up the channels
of its groups, always in the same order.
"""

from libc.math cimport INFINITY, sqrt
from libc.stddef cimport ptrdiff_t
from libc.string cimport memset

from fastcnn.kernels._step cimport Step, blocks_of, goes_on, share
from fastcnn.kernels._tiles cimport FC_NONE, fc_activation, fc_gate, fc_kernels, fc_pixel_sums, fc_tensor


cdef struct GroupArgs:
    const fc_kernels *kernels
    fc_tensor y        # OUT like x; or a parameter
    fc_tensor x        # IN  blocked
    fc_tensor g        # IN  gradient of the result
    fc_tensor moments  # IN  mean, var of each channel
    fc_tensor sums     # IN  sums of the gradient: of g, and of g * (x - the channel's mean)
    fc_tensor weight, bias  # IN  parameters (C,)
    ptrdiff_t groups
    double epsilon
    bint flat  # whether the rows of a plane follow each other without gaps
    ptrdiff_t piece  # pixels between two calls of `goes_on`

# What the channels of a group have in common. It is kept, because the next block often belongs to the same group.
cdef struct Group:
    ptrdiff_t number, image
    double mean, inverse  # 1 / deviation
    double first, second  # sums of gw, and of gw * h


cdef inline float *pair_of(const GroupArgs *a, const fc_tensor *t, ptrdiff_t channel, ptrdiff_t image) noexcept nogil:
    """The first of a channel's two numbers; the second lies VL floats behind it."""
    cdef ptrdiff_t vl = a.kernels.vl
    return t.data + channel // vl * t.block + 2 * image * vl + channel % vl


cdef void group_moments(const GroupArgs *a, ptrdiff_t group, ptrdiff_t image, double *mean,
                        double *inverse) noexcept nogil:
    """Compute the mean and 1 / deviation of a group."""
    cdef ptrdiff_t vl = a.kernels.vl, size = a.x.c // a.groups, c
    cdef double total = 0.0, squares = 0.0, away
    cdef const float *pair
    for c in range(group * size, (group + 1) * size):
        total += pair_of(a, &a.moments, c, image)[0]
    mean[0] = total / size
    for c in range(group * size, (group + 1) * size):
        pair = pair_of(a, &a.moments, c, image)
        away = pair[0] - mean[0]
        squares += pair[vl] + away * away
    inverse[0] = 1.0 / sqrt(squares / size + a.epsilon)


cdef inline bint is_flat(const fc_tensor *t) noexcept nogil:
    return t.row == t.w * t.lanes


cdef void run_moments(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are blocks of channels of an image. The sums of gradients are computed in the same way as moments."""
    cdef const GroupArgs *a = <const GroupArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, blocks = blocks_of(&a.x), unit, image, block, k, r, first
    cdef ptrdiff_t rows = 1 if a.flat else a.x.h, length = a.x.h * a.x.w // rows
    cdef double count = <double>(a.x.h * a.x.w), mean
    cdef double *totals = <double *>scratch
    cdef float *to
    cdef const float *x
    cdef fc_pixel_sums sums
    cdef bint of_gradient = a.g.data != NULL
    sums.x, sums.moments, sums.sums, sums.gate.affine, sums.rows = NULL, not of_gradient, totals, NULL, 1
    for unit in range(share(a.x.n * blocks, tid, nthreads), share(a.x.n * blocks, tid + 1, nthreads)):
        image, block = unit // blocks, unit % blocks
        memset(totals, 0, 2 * vl * sizeof(double))
        x = a.x.data + image * a.x.image + block * a.x.block
        sums.shift = x
        if of_gradient:
            sums.shift = pair_of(a, &a.moments, block * vl, image)
        for r in range(rows):
            first = 0
            while first < length:
                sums.pixels = min(a.piece, length - first)
                if not goes_on(2 * sums.pixels):
                    return
                sums.g = x + r * a.x.row + first * vl
                if of_gradient:
                    sums.x = sums.g
                    sums.g = a.g.data + image * a.g.image + block * a.g.block + r * a.g.row + first * vl
                a.kernels.pixel_sums(&sums)
                first += sums.pixels
        to = a.y.data + block * a.y.block + 2 * image * vl
        for k in range(vl):
            if of_gradient:
                to[k], to[vl + k] = <float>totals[k], <float>totals[vl + k]
                continue
            mean = totals[k] / count
            to[k] = <float>(sums.shift[k] + mean)
            to[vl + k] = <float>max(0.0, totals[vl + k] / count - mean * mean)


cdef class GroupMoments(Step):
    """y = mean and (biased) variance of each channel of each image; or the sums of g, and of g * (x - the mean).

    Parameters
    ----------
    y, x : View
        OUT a parameter (C, 2 N); IN blocked.
    g, moments : View or None
        IN like x, and a parameter (C, 2 N); both for sums.
    """

    cdef GroupArgs a

    def __init__(self, y, x, g, moments):
        cdef GroupArgs *a = &self.a
        self.run, self.args, a.kernels = run_moments, a, self.kernels
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.g, g)
        self.operand(3, &a.moments, moments)
        self.scratch_floats = 4 * self.kernels.vl
        a.flat = is_flat(&a.x) and (g is None or is_flat(&a.g))
        units = a.x.n * blocks_of(&a.x)
        self.work(units, 2 * units * a.x.h * a.x.w)
        a.piece = self.at_a_time(a.x.h * a.x.w, 2) or a.x.h * a.x.w


cdef void set_group(const GroupArgs *a, Group *group, ptrdiff_t number, ptrdiff_t image) noexcept nogil:
    """Compute what the channels of a group have in common, unless it is known."""
    cdef ptrdiff_t vl = a.kernels.vl, size = a.x.c // a.groups, c
    cdef const float *sums
    if group.number == number and group.image == image:
        return
    group.number, group.image, group.first, group.second = number, image, 0.0, 0.0
    group_moments(a, number, image, &group.mean, &group.inverse)
    if a.g.data == NULL:
        return
    for c in range(number * size, (number + 1) * size):
        sums = pair_of(a, &a.sums, c, image)
        group.first += <double>a.weight.data[c] * sums[0]
        group.second += <double>a.weight.data[c] * group.inverse * (
            sums[vl] + <double>sums[0] * (pair_of(a, &a.moments, c, image)[0] - group.mean))


cdef void set_lanes(const GroupArgs *a, Group *group, ptrdiff_t block, ptrdiff_t image, float *lanes) noexcept nogil:
    """Compute what each lane of a block takes: scale and shift of x; for the gradient [3][VL], the factors of g and x,
    and what is added."""
    cdef ptrdiff_t vl = a.kernels.vl, size = a.x.c // a.groups, c, k
    cdef double count = <double>(size * a.x.h * a.x.w), slope
    for c in range(block * vl, min((block + 1) * vl, a.x.c)):
        set_group(a, group, c // size, image)
        k = c - block * vl
        slope = a.weight.data[c] * group.inverse
        lanes[k] = <float>slope
        if a.g.data == NULL:
            lanes[vl + k] = <float>((a.bias.data[c] if a.bias.data != NULL else 0.0) - group.mean * slope)
        else:
            slope = -group.inverse * group.inverse * group.second / count
            lanes[vl + k] = <float>slope
            lanes[2 * vl + k] = <float>(-group.inverse * group.first / count - slope * group.mean)


cdef void run_apply(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are blocks of channels of an image."""
    cdef const GroupArgs *a = <const GroupArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, blocks = blocks_of(&a.x), unit, image, block, r, first, count
    cdef ptrdiff_t rows = 1 if a.flat else a.x.h, length = a.x.h * a.x.w // rows
    cdef const float *x
    cdef float *y
    cdef fc_activation act
    cdef fc_gate gate
    cdef Group group
    group.number = -1
    act.kind, act.low, act.high, act.alpha = FC_NONE, -INFINITY, INFINITY, 0.0
    gate.affine = NULL
    for unit in range(share(a.x.n * blocks, tid, nthreads), share(a.x.n * blocks, tid + 1, nthreads)):
        image, block = unit // blocks, unit % blocks
        memset(scratch, 0, 3 * vl * sizeof(float))
        set_lanes(a, &group, block, image, scratch)
        for r in range(rows):
            first = 0
            while first < length:
                count = min(a.piece, length - first)
                if not goes_on(4 * count):
                    return
                x = a.x.data + image * a.x.image + block * a.x.block + r * a.x.row + first * vl
                y = a.y.data + image * a.y.image + block * a.y.block + r * a.y.row + first * vl
                if a.g.data == NULL:
                    a.kernels.affine(&act, scratch, scratch + vl, x, NULL, y, count * vl)
                else:
                    a.kernels.blend(&gate, scratch, a.g.data + image * a.g.image + block * a.g.block + r * a.g.row
                                    + first * vl, x, y, count * vl)
                first += count


cdef class GroupNorm(Step):
    """y = (x - mean) / sqrt(var + epsilon) * weight + bias.

    Parameters
    ----------
    y, x, moments : View
        OUT, IN blocked; IN a parameter (C, 2 N). y may be x.
    weight, bias : View, float32 array [C/VL][VL], or None for the bias
    groups : int
    epsilon : float
    """

    cdef GroupArgs a

    def __init__(self, y, x, moments, weight, bias, ptrdiff_t groups, double epsilon):
        cdef GroupArgs *a = &self.a
        self.run, self.args, a.kernels, self.owned = run_apply, a, self.kernels, (weight, bias)
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        self.operand(2, &a.moments, moments)
        self.weights(3, &a.weight, weight)
        if bias is not None:
            self.weights(4, &a.bias, bias)
        a.groups, a.epsilon = groups, epsilon
        self.scratch_floats = 3 * self.kernels.vl
        a.flat = is_flat(&a.x) and is_flat(&a.y)
        units = a.x.n * blocks_of(&a.x)
        self.work(units, 4 * units * a.x.h * a.x.w)
        a.piece = self.at_a_time(a.x.h * a.x.w, 4) or a.x.h * a.x.w


cdef class GroupNormGrad(Step):
    """y = gradient of x.

    Parameters
    ----------
    y, g, x, moments, sums : View
        OUT, IN, IN blocked; IN parameters (C, 2 N). y may be g or x.
    weight : View or float32 array [C/VL][VL]
    groups : int
    epsilon : float
    """

    cdef GroupArgs a

    def __init__(self, y, g, x, moments, sums, weight, ptrdiff_t groups, double epsilon):
        cdef GroupArgs *a = &self.a
        self.run, self.args, a.kernels, self.owned = run_apply, a, self.kernels, weight
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.operand(2, &a.x, x)
        self.operand(3, &a.moments, moments)
        self.operand(4, &a.sums, sums)
        self.weights(5, &a.weight, weight)
        a.groups, a.epsilon = groups, epsilon
        self.scratch_floats = 3 * self.kernels.vl
        a.flat = is_flat(&a.x) and is_flat(&a.y) and is_flat(&a.g)
        units = a.x.n * blocks_of(&a.x)
        self.work(units, 4 * units * a.x.h * a.x.w)
        a.piece = self.at_a_time(a.x.h * a.x.w, 4) or a.x.h * a.x.w


cdef void run_total(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are groups."""
    cdef const GroupArgs *a = <const GroupArgs *>raw
    cdef ptrdiff_t vl = a.kernels.vl, size = a.y.c // a.groups, images = a.sums.w // 2, group, c, image
    cdef double mean, inverse
    cdef double *totals = <double *>scratch
    cdef const float *sums
    for group in range(share(a.groups, tid, nthreads), share(a.groups, tid + 1, nthreads)):
        memset(totals, 0, 2 * size * sizeof(double))
        for image in range(images):
            if not goes_on(4 * size):
                return
            group_moments(a, group, image, &mean, &inverse)
            for c in range(group * size, (group + 1) * size):
                sums = pair_of(a, &a.sums, c, image)
                totals[2 * (c - group * size)] += sums[0]
                totals[2 * (c - group * size) + 1] += inverse * (
                    sums[vl] + <double>sums[0] * (pair_of(a, &a.moments, c, image)[0] - mean))
        for c in range(group * size, (group + 1) * size):
            pair_of(a, &a.y, c, 0)[0] = <float>totals[2 * (c - group * size)]
            pair_of(a, &a.y, c, 0)[vl] = <float>totals[2 * (c - group * size) + 1]


cdef class GroupTotal(Step):
    """y = sum over all images of g, and of g * h, for each channel: the gradients of bias and weight.

    Parameters
    ----------
    y, sums, moments : View
        OUT a parameter (C, 2); IN parameters (C, 2 N).
    groups : int
    epsilon : float
    """

    cdef GroupArgs a

    def __init__(self, y, sums, moments, ptrdiff_t groups, double epsilon):
        cdef GroupArgs *a = &self.a
        self.run, self.args, a.kernels = run_total, a, self.kernels
        self.operand(0, &a.y, y)
        self.operand(1, &a.sums, sums)
        self.operand(2, &a.moments, moments)
        a.groups, a.epsilon, a.x.c = groups, epsilon, a.y.c
        size, images = a.y.c // groups, a.sums.w // 2
        self.scratch_floats = 4 * size
        self.work(groups, 4 * groups * size * images)
        self.at_a_time(images, 4 * size)
