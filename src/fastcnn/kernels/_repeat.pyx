"""Repeated calls: a path from array to array with as little Python as possible, by executors that are bound already."""

cimport numpy as cnp
from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._cpu cimport current
from fastcnn.kernels._executor cimport Executor
from fastcnn.kernels._program cimport Patch
from fastcnn.kernels._step cimport address
from fastcnn.kernels._tiles cimport fc_kernels

import numpy as np

from fastcnn.kernels import _cpu

cnp.import_array()


cdef class Repeat:
    """A plan of one input and one output, for calls with the same shape.

    Parameters
    ----------
    idle : list of Executor
        Executors that no thread uses. Each call takes one, and puts it back.
    shape, result_shape : tuple of int
        Shapes of the input and of the output.
    constants : list of arrays
        The arrays between the input and the output in the list that executors take.
    most_threads : int
        More threads would not make the plan faster.
    """

    cdef const fc_kernels *kernels  # the instruction set that the plan was made for
    cdef list idle, constants
    cdef object table, shapes
    cdef char **arrays  # every run sets those of input and output, and reads them before it releases the GIL
    cdef ptrdiff_t count
    cdef int ndim, result_ndim
    cdef cnp.npy_intp *shape
    cdef cnp.npy_intp *result_shape
    cdef ptrdiff_t most_threads

    def __init__(self, list idle, tuple shape, list constants, tuple result_shape, ptrdiff_t most_threads):
        self.idle, self.constants, self.most_threads, self.kernels = idle, constants, most_threads, current()
        self.count = len(constants) + 2
        self.table = np.array([0, *[<ptrdiff_t>address(array) for array in constants], 0], np.intp)
        self.shapes = np.array([*shape, *result_shape], np.intp)
        self.ndim, self.result_ndim = len(shape), len(result_shape)
        self.arrays = <char **>address(self.table)
        self.shape = <cnp.npy_intp *>address(self.shapes)
        self.result_shape = self.shape + self.ndim

    cdef bint takes(self, object x) noexcept:
        """Whether x is exactly an ndarray of float32, C-contiguous and aligned, of the shape of this plan."""
        cdef int i
        if not cnp.PyArray_CheckExact(x) or cnp.PyArray_TYPE(x) != cnp.NPY_FLOAT32:
            return False
        if not cnp.PyArray_ISCARRAY_RO(x) or cnp.PyArray_NDIM(x) != self.ndim:
            return False
        for i in range(self.ndim):
            if cnp.PyArray_DIMS(x)[i] != self.shape[i]:
                return False
        return True

    cdef bint gives(self, object out, object x) noexcept:
        """Whether the output can be written to `out`: as `takes`, writeable, and no memory of x."""
        cdef int i
        cdef const char *start
        cdef const char *other = <const char *>cnp.PyArray_DATA(x)
        if not cnp.PyArray_CheckExact(out) or cnp.PyArray_TYPE(out) != cnp.NPY_FLOAT32:
            return False
        if not cnp.PyArray_ISCARRAY(out) or cnp.PyArray_NDIM(out) != self.result_ndim:
            return False
        for i in range(self.result_ndim):
            if cnp.PyArray_DIMS(out)[i] != self.result_shape[i]:
                return False
        start = <const char *>cnp.PyArray_DATA(out)
        return start + cnp.PyArray_NBYTES(out) <= other or other + cnp.PyArray_NBYTES(x) <= start

    def run(self, x, out=None):
        """Compute the output, to `out` if it is given. Returns None where `takes` refuses x or `gives` refuses `out`.
        Neither can it help where no executor is idle, or the instruction set has changed."""
        cdef int threads = 1
        cdef ptrdiff_t i
        cdef Executor executor
        cdef Patch *patch
        if self.kernels != current() or not self.takes(x) or not (out is None or self.gives(out, x)):
            return None
        if self.most_threads > 1:
            threads = min(<ptrdiff_t>_cpu.get_num_threads(), self.most_threads)
        try:
            executor = self.idle.pop()
        except IndexError:
            return None
        if executor.max_threads < threads:
            return None  # the caller replaces it by one for more threads
        result = out
        if out is None:
            result = cnp.PyArray_SimpleNew(self.result_ndim, self.result_shape, cnp.NPY_FLOAT32)
        self.arrays[0], self.arrays[self.count - 1] = <char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(result)
        for i in range(executor.patch_count):
            patch = &executor.patches[i]
            patch.tensor.data = <float *>(self.arrays[patch.slot - 1] + patch.offset)
        executor.run_bound(threads)
        self.idle.append(executor)
        return result
