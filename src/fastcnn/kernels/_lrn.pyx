"""Local response normalisation across channels of a blocked tensor (Krizhevsky, Sutskever, Hinton, 2012)."""

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._executor cimport Step, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_lrn_row, fc_tensor


cdef struct LrnArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT blocked
    fc_tensor x  # IN  blocked
    fc_lrn_row row


cdef void run_lrn(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const LrnArgs *a = <const LrnArgs *>raw
    cdef fc_lrn_row row = a.row
    cdef ptrdiff_t units = a.y.n * a.y.h, unit
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        row.x = a.x.data + unit // a.y.h * a.x.image + unit % a.y.h * a.x.row
        row.y = a.y.data + unit // a.y.h * a.y.image + unit % a.y.h * a.y.row
        a.kernels.lrn_row(&row, scratch)


cdef class Lrn(Step):
    """y = x / (bias + alpha / size * sum of squares of `size` channels around each)^beta.

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
        a.row.x_block, a.row.y_block = a.x.block, a.y.block
        a.row.channels, a.row.pixels = a.x.c, a.x.w
        a.row.before, a.row.size = (size - 1) // 2, size
        a.row.scale, a.row.bias, a.row.beta = alpha / size, bias, beta
        self.scratch_floats = a.row.before + a.x.c + size + 2 * self.kernels.vl
