"""Local response normalisation across channels of a blocked tensor (Krizhevsky, Sutskever, Hinton, 2012), and its
gradient. Each thread owns rows of pixels."""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport Step, blocks_of, goes_on, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_lrn_row, fc_tensor


cdef struct LrnArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT blocked
    fc_tensor x  # IN  blocked
    fc_tensor g  # IN  blocked gradient of the result; data is NULL in the forward pass
    fc_lrn_row row
    ptrdiff_t at_a_time  # pixels of a row between two calls of `goes_on`; 0: no calls


cdef void compute_row(const LrnArgs *a, const fc_lrn_row *row, const float *g, float *scratch) noexcept nogil:
    if g == NULL:
        a.kernels.lrn_row(row, scratch)
    else:
        a.kernels.lrn_grad_row(row, g, a.g.block, scratch)


cdef void run_lrn(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const LrnArgs *a = <const LrnArgs *>raw
    cdef fc_lrn_row row = a.row
    cdef ptrdiff_t units = a.y.n * a.y.h, unit, image, r, first
    cdef const float *g = NULL
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        image, r = unit // a.y.h, unit % a.y.h
        row.x = a.x.data + image * a.x.image + r * a.x.row
        row.y = a.y.data + image * a.y.image + r * a.y.row
        if a.g.data != NULL:
            g = a.g.data + image * a.g.image + r * a.g.row
        if a.at_a_time == 0:
            compute_row(a, &row, g, scratch)
            continue
        first = 0
        while first < a.y.w:
            row.pixels = min(a.at_a_time, a.y.w - first)
            if not goes_on(row.pixels * blocks_of(&a.x) * row.size):
                return
            compute_row(a, &row, g, scratch)
            row.x += row.pixels * a.kernels.vl
            row.y += row.pixels * a.kernels.vl
            if g != NULL:
                g += row.pixels * a.kernels.vl
            first += row.pixels


cdef void set_row(fc_lrn_row *row, const fc_tensor *y, const fc_tensor *x, ptrdiff_t size) noexcept nogil:
    row.x_block, row.y_block = x.block, y.block
    row.channels, row.pixels = x.c, x.w
    row.before, row.size = (size - 1) // 2, size


cdef class Lrn(Step):
    """y = x / (bias + alpha / size * s)^beta, with s the sum of squares of `size` neighbouring channels.

    Parameters
    ----------
    y, x : View
        OUT, IN; both blocked.
    size : int
    alpha, beta, bias : float
    """

    cdef LrnArgs a

    def __init__(self, y, x, size, alpha, beta, bias):
        cdef LrnArgs *a = &self.a
        self.run, self.args = run_lrn, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels = self.kernels
        set_row(&a.row, &a.y, &a.x, size)
        a.row.scale, a.row.bias, a.row.beta = alpha / size, bias, beta
        self.scratch_floats = a.row.before + a.x.c + size + 2 * self.kernels.vl
        each = blocks_of(&a.x) * size
        self.work(a.y.n * a.y.h, a.y.n * a.y.h * a.y.w * each)
        a.at_a_time = self.at_a_time(a.y.w, each)


cdef class LrnGrad(Step):
    """The gradient of x in `Lrn`.

    Parameters
    ----------
    y, g, x : View
        OUT, IN the gradient of the result, IN; all blocked.
    size : int
    alpha, beta, bias : float
    """

    cdef LrnArgs a

    def __init__(self, y, g, x, size, alpha, beta, bias):
        cdef LrnArgs *a = &self.a
        self.run, self.args = run_lrn, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.g, g)
        self.operand(2, &a.x, x)
        a.kernels = self.kernels
        set_row(&a.row, &a.y, &a.x, size)
        a.row.scale, a.row.bias, a.row.beta = alpha / size, bias, beta
        self.scratch_floats = 2 * (a.x.c + size + 2 * self.kernels.vl) + size - 1
        each = 2 * blocks_of(&a.x) * size
        self.work(a.y.n * a.y.h, a.y.n * a.y.h * a.y.w * each)
        a.at_a_time = self.at_a_time(a.y.w, each)
