"""Images whose pixels are weighted sums of pixels of other images, rows and columns apart: resizing, and its gradient.

Each thread owns rows of a block of channels.
"""

import numpy as np

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._step cimport Step, address, blocks_of, floats, goes_on, share
from fastcnn.kernels._tiles cimport fc_kernels, fc_resample, fc_tensor


cdef struct ResampleArgs:
    const fc_kernels *kernels
    fc_tensor y  # OUT blocked
    fc_tensor x  # IN  blocked
    fc_resample row
    const ptrdiff_t *row_starts
    ptrdiff_t each  # operations on vectors in a row


cdef void run_resample(const void *raw, float *scratch, int tid, int nthreads) noexcept nogil:
    cdef const ResampleArgs *a = <const ResampleArgs *>raw
    cdef ptrdiff_t blocks = blocks_of(&a.y), units = a.y.n * blocks * a.y.h, unit, image, block, r
    cdef fc_resample row = a.row
    for unit in range(share(units, tid, nthreads), share(units, tid + 1, nthreads)):
        if not goes_on(a.each):
            return
        r, block, image = unit % a.y.h, unit // a.y.h % blocks, unit // a.y.h // blocks
        row.x = a.x.data + image * a.x.image + block * a.x.block
        row.y = a.y.data + image * a.y.image + block * a.y.block + r * a.y.row
        row.rows, row.row_weights = a.row.rows + a.row_starts[r], a.row.row_weights + a.row_starts[r]
        row.row_count = a.row_starts[r + 1] - a.row_starts[r]
        a.kernels.resample(&row)


cdef class Resample(Step):
    """y[p, q] = sum over taps i of row p and j of column q of their weights times x[i, j].

    Parameters
    ----------
    y, x : View
        OUT, IN; blocked.
    rows, columns : (starts, indices, weights)
        Taps of all rows and columns of y, in x: output i has those from starts[i] to starts[i + 1].
    """

    cdef ResampleArgs a

    def __init__(self, y, x, rows, columns):
        cdef ResampleArgs *a = &self.a
        self.run, self.args = run_resample, a
        self.operand(0, &a.y, y)
        self.operand(1, &a.x, x)
        a.kernels = self.kernels
        starts = [np.ascontiguousarray(part[0], np.intp) for part in (rows, columns)]
        offsets = [np.ascontiguousarray(part[1] * step, np.intp) for part, step in ((rows, x.row), (columns, x.lanes))]
        weights = [np.ascontiguousarray(part[2], np.float32) for part in (rows, columns)]
        self.owned = starts, offsets, weights
        a.row_starts, a.row.starts = <const ptrdiff_t *>address(starts[0]), <const ptrdiff_t *>address(starts[1])
        a.row.rows, a.row.columns = <const ptrdiff_t *>address(offsets[0]), <const ptrdiff_t *>address(offsets[1])
        a.row.row_weights, a.row.weights = floats(weights[0]), floats(weights[1])
        a.row.pixels = a.y.w
        taps = max(1, len(offsets[0]) // max(1, a.y.h)) * len(offsets[1])
        a.each = 4 * (a.y.w + taps)
        units = a.y.n * blocks_of(&a.y) * a.y.h
        self.work(units, units * a.each)
        self.at_a_time(1, a.each)
