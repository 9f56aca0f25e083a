"""Steps of optimizers, in place, on parameters and gradients of one layout; and the norm of all gradients.

training/optimizers.py has the formulas. Their numbers come at run time as a row of floats, in the order of `SETTINGS`:
a learning rate schedule needs no new plan.
"""

from libc.math cimport sqrt
from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport Step, blocks_of, ceil_div, goes_on, share
from fastcnn.kernels._tiles cimport FC_ADAM, FC_ADAMW, FC_RMSPROP, FC_SGD, fc_kernels, fc_tensor, fc_update

SETTINGS = ("rate", "decay", "momentum", "epsilon", "beta2", "one_minus_beta1", "one_minus_beta2", "correction1",
            "correction2")
_KINDS = {"SGD": FC_SGD, "Adam": FC_ADAM, "AdamW": FC_ADAMW, "RMSprop": FC_RMSPROP}

cdef enum:
    SPAN_FLOATS = 4096  # docs/tuning.md, "Spans"


cdef struct UpdateArgs:
    const fc_kernels *kernels
    fc_tensor p         # INOUT
    fc_tensor g         # IN
    fc_tensor settings  # IN
    fc_tensor scale     # IN  factor of the gradients; data is NULL where they are not clipped
    fc_tensor m, v, c   # INOUT state; data is NULL where the optimizer has none
    int kind, nesterov
    ptrdiff_t pieces    # pieces of a block


cdef void run_update(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Units are pieces of blocks."""
    cdef const UpdateArgs *a = <const UpdateArgs *>raw
    cdef ptrdiff_t length = a.p.block, units = blocks_of(&a.p) * a.p.n * a.pieces, unit, block, start
    cdef const float *s = a.settings.data
    cdef fc_update how
    how.kind, how.nesterov = a.kind, a.nesterov
    how.scale = a.scale.data[0] if a.scale.data != NULL else 1.0
    how.rate, how.decay, how.momentum, how.epsilon, how.beta2 = s[0], s[1], s[2], s[3], s[4]
    how.one_minus_beta1, how.one_minus_beta2, how.correction1, how.correction2 = s[5], s[6], s[7], s[8]
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        block, start = unit // a.pieces, unit % a.pieces * SPAN_FLOATS
        a.kernels.update(&how, a.p.data + block * a.p.block + start, a.g.data + block * a.g.block + start,
                         a.m.data + block * a.m.block + start if a.m.data != NULL else NULL,
                         a.v.data + block * a.v.block + start if a.v.data != NULL else NULL,
                         a.c.data + block * a.c.block + start if a.c.data != NULL else NULL,
                         min(SPAN_FLOATS, length - start))


cdef class Update(Step):
    """One step of an optimizer.

    Parameters
    ----------
    p, m, v, c : View
        INOUT; the parameter, and its state or None. Without gaps, or a block after the other.
    g, settings, scale : View
        IN the gradient, the numbers of the formula, a factor of the gradient or None.
    kind : {"SGD", "Adam", "AdamW", "RMSprop"}
    nesterov : bool
    """

    cdef UpdateArgs a

    def __init__(self, p, m, v, c, g, settings, scale, kind, nesterov):
        cdef UpdateArgs *a = &self.a
        self.run, self.args = run_update, a
        self.operand(0, &a.p, p)
        self.operand(1, &a.g, g)
        self.operand(2, &a.settings, settings)
        self.operand(3, &a.scale, scale)
        self.operand(4, &a.m, m)
        self.operand(5, &a.v, v)
        self.operand(6, &a.c, c)
        if p.lanes == 1:  # dense: one block
            a.p.block, a.p.n, a.p.c = a.p.n * a.p.image, 1, 1
        a.kernels, a.kind, a.nesterov, a.pieces = self.kernels, _KINDS[kind], nesterov, ceil_div(a.p.block, SPAN_FLOATS)


cdef struct NormArgs:
    fc_tensor y  # OUT one number
    fc_tensor g  # IN
    fc_tensor previous  # IN  one number; data is NULL for the first gradient
    double limit
    ptrdiff_t at_a_time  # pixels between two calls of `goes_on`


cdef void run_square(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    """Sum squares. Lanes without a channel may hold anything, and do not count."""
    cdef const NormArgs *a = <const NormArgs *>raw
    cdef double total = a.previous.data[0] if a.previous.data != NULL else 0.0
    cdef ptrdiff_t image, block, i, k, lanes
    cdef const float *g
    for image in range(a.g.n):
        for block in range(blocks_of(&a.g)):
            g = a.g.data + image * a.g.image + block * a.g.block
            lanes = min(a.g.lanes, a.g.c - block * a.g.lanes)
            for i in range(a.g.h * a.g.w):
                if i % a.at_a_time == 0 and not goes_on(min(a.at_a_time, a.g.h * a.g.w) * lanes):
                    return
                for k in range(lanes):
                    total += <double>g[i * a.g.lanes + k] * g[i * a.g.lanes + k]
    a.y.data[0] = <float>total


cdef class SquaredNorm(Step):
    """y = previous + sum of g * g.

    Parameters
    ----------
    y, g, previous : View
        OUT one number; IN a gradient without gaps in its blocks; IN one number or None.
    """

    cdef NormArgs a

    def __init__(self, y, g, previous):
        self.run, self.args, self.shared = run_square, &self.a, False
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.g, g)
        self.operand(2, &self.a.previous, previous)
        pixels = self.a.g.h * self.a.g.w
        self.work(1, self.a.g.n * blocks_of(&self.a.g) * pixels * self.a.g.lanes)
        self.a.at_a_time = self.at_a_time(pixels, self.a.g.lanes) or max(1, pixels)


cdef void run_clip(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const NormArgs *a = <const NormArgs *>raw
    cdef double factor = a.limit / (sqrt(<double>a.g.data[0]) + 1e-6)
    a.y.data[0] = <float>(1.0 if factor > 1.0 else factor)


cdef class ClipScale(Step):
    """y = min(1, limit / (sqrt(g) + 1e-6)), as in PyTorch's clip_grad_norm_. A NaN stays NaN.

    Parameters
    ----------
    y, g : View
        OUT, IN one number each.
    limit : float
    """

    cdef NormArgs a

    def __init__(self, y, g, double limit):
        self.run, self.args, self.shared = run_clip, &self.a, False
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.g, g)
        self.a.limit = limit
