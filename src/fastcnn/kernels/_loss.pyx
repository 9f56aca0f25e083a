"""Losses of a batch and their gradients, in doubles, by one thread, as scores are few beside activations.

    CrossEntropy  loss = -sum over n, c of t * log_softmax(s);        ds = softmax(s) * (sum over c of t) - t;
    MSE           loss = mean of (s - t)^2;                           ds = 2 (s - t) / count;
    BinaryCE      loss = mean of max(s, 0) - s t + log(1 + e^-|s|);   ds = (sigmoid(s) - t) / count;
    Linear        loss = sum of s t;                                  ds = t;

s are the scores, t the targets. Targets of a cross-entropy include class weights, label smoothing, and the factor of
the mean over the batch. Targets of the linear loss are the gradients of another loss, which is computed outside.
"""

from libc.math cimport INFINITY, exp, fabs, isnan, log, log1p
from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport Step, goes_on
from fastcnn.kernels._tiles cimport fc_tensor

cdef enum:
    CROSS_ENTROPY
    MSE
    BINARY
    LINEAR
    SPAN_CLASSES = 4096
    OPERATIONS = 16  # estimated operations on vectors that take as long as an exponential of one double

_KINDS = {"CrossEntropy": CROSS_ENTROPY, "MeanSquaredError": MSE, "BinaryCrossEntropy": BINARY, "LinearLoss": LINEAR}


cdef struct LossArgs:
    fc_tensor y       # OUT the loss; or its gradient, like scores
    fc_tensor scores  # IN  rows
    fc_tensor target  # IN  rows
    int kind
    bint watched  # whether `goes_on` is called before each span of classes


cdef bint leaves(const LossArgs *a, ptrdiff_t k) noexcept nogil:
    """Whether to stop before class k."""
    return a.watched and k % SPAN_CLASSES == 0 and not goes_on(SPAN_CLASSES * OPERATIONS)


cdef void largest_and_log_sum(const LossArgs *a, const float *s, double *largest, double *log_sum) noexcept nogil:
    """Compute log(sum of e^s) = largest + log_sum. A NaN anywhere makes both NaN."""
    cdef double top = -INFINITY, total = 0.0
    cdef ptrdiff_t k
    for k in range(a.scores.w):
        if s[k] > top or isnan(s[k]):
            top = s[k]
    for k in range(a.scores.w):
        if leaves(a, k):
            return
        total += exp(s[k] - top)
    largest[0], log_sum[0] = top, log(total)


cdef void run_loss(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const LossArgs *a = <const LossArgs *>raw
    cdef double total = 0.0, largest = 0.0, log_sum = 0.0
    cdef ptrdiff_t n, k, classes = a.scores.w
    cdef const float *s
    cdef const float *t
    for n in range(a.scores.n):
        s, t = a.scores.data + n * a.scores.image, a.target.data + n * a.target.image
        if a.kind == CROSS_ENTROPY:
            largest_and_log_sum(a, s, &largest, &log_sum)
        for k in range(classes):
            if leaves(a, k):
                return
            if a.kind == CROSS_ENTROPY:
                if t[k] != 0:  # 0 * log 0 is 0
                    total += t[k] * (largest + log_sum - s[k])
            elif a.kind == MSE:
                total += (<double>s[k] - t[k]) * (<double>s[k] - t[k])
            elif a.kind == LINEAR:
                total += <double>s[k] * t[k]
            else:
                total += (s[k] if s[k] > 0 or isnan(s[k]) else 0.0) - <double>s[k] * t[k] + log1p(exp(-fabs(s[k])))
    if a.kind == MSE or a.kind == BINARY:
        total /= <double>(a.scores.n * classes)
    a.y.data[0] = <float>total


cdef void run_loss_grad(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const LossArgs *a = <const LossArgs *>raw
    cdef double largest = 0.0, log_sum = 0.0, weight = 0.0, count = <double>(a.scores.n * a.scores.w)
    cdef ptrdiff_t n, k, classes = a.scores.w
    cdef const float *s
    cdef const float *t
    cdef float *y
    for n in range(a.scores.n):
        s, t = a.scores.data + n * a.scores.image, a.target.data + n * a.target.image
        y = a.y.data + n * a.y.image
        if a.kind == CROSS_ENTROPY:
            largest_and_log_sum(a, s, &largest, &log_sum)
            weight = 0.0
            for k in range(classes):
                weight += t[k]
        for k in range(classes):
            if leaves(a, k):
                return
            if a.kind == CROSS_ENTROPY:
                y[k] = <float>(exp(s[k] - largest - log_sum) * weight - t[k])
            elif a.kind == MSE:
                y[k] = <float>(2.0 * (<double>s[k] - t[k]) / count)
            elif a.kind == LINEAR:
                y[k] = t[k]
            else:
                y[k] = <float>((1.0 / (1.0 + exp(-<double>s[k])) - t[k]) / count)


cdef class Loss(Step):
    """y = the loss of a batch.

    Parameters
    ----------
    y, scores, target : View
        OUT one number; IN rows, IN rows of the same width.
    kind : {"CrossEntropy", "MeanSquaredError", "BinaryCrossEntropy", "LinearLoss"}
    """

    cdef LossArgs a

    def __init__(self, y, scores, target, kind):
        self.run, self.args, self.shared = run_loss, &self.a, False
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.scores, scores)
        self.operand(2, &self.a.target, target)
        self.a.kind = _KINDS[kind]
        self.work(1, 2 * OPERATIONS * self.a.scores.n * self.a.scores.w)
        self.a.watched = self.at_a_time(1, SPAN_CLASSES * OPERATIONS) > 0


cdef class LossGrad(Step):
    """y = gradient of the scores. Operands are those of `Loss`, with y like scores."""

    cdef LossArgs a

    def __init__(self, y, scores, target, kind):
        self.run, self.args, self.shared = run_loss_grad, &self.a, False
        self.operand(0, &self.a.y, y)
        self.operand(1, &self.a.scores, scores)
        self.operand(2, &self.a.target, target)
        self.a.kind = _KINDS[kind]
        self.work(1, 2 * OPERATIONS * self.a.scores.n * self.a.scores.w)
        self.a.watched = self.at_a_time(1, SPAN_CLASSES * OPERATIONS) > 0
