"""A step that calls Python: NumPy computes its output. The calling thread runs it, and holds the GIL meanwhile."""

cimport numpy as cnp
from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._program cimport stop_with
from fastcnn.kernels._step cimport MAX_OPERANDS, Step
from fastcnn.kernels._tiles cimport fc_tensor

import numpy as np

cnp.import_array()

MOST_INPUTS = MAX_OPERANDS - 1


cdef object array_of(const fc_tensor *t):
    """The values of a plain tensor as an array (N, C, H, W), which is a view."""
    cdef cnp.npy_intp sizes[4]
    cdef cnp.npy_intp strides[4]
    sizes[0], sizes[1], sizes[2], sizes[3] = t.n, t.c, t.h, t.w
    strides[0], strides[1], strides[2] = t.image * 4, t.block * 4, t.row * 4
    strides[3] = 4
    return cnp.PyArray_New(
        np.ndarray, 4, sizes, cnp.NPY_FLOAT32, strides, t.data, 0, cnp.NPY_ARRAY_WRITEABLE | cnp.NPY_ARRAY_ALIGNED, None
    )


cdef void run_evaluate(const void *step, float *scratch, int tid, int nthreads) noexcept nogil:
    with gil:
        try:
            (<Evaluate>step).evaluate()
        except BaseException as error:
            stop_with(error)


cdef class Evaluate(Step):
    """y = function([x, ...]).

    Parameters
    ----------
    function : callable
        Takes a list of arrays, which it must not change, and gives an array of the shape of y.
    shapes : sequence of tuple of int
        Of y and of each input.
    y : View
        OUT plain.
    *inputs : View
        IN plain; at most `MOST_INPUTS`.
    """

    cdef object function
    cdef tuple shapes
    cdef fc_tensor tensors[MAX_OPERANDS]

    def __init__(self, function, shapes, *views):
        self.run, self.args, self.shared = run_evaluate, <const void *>self, False
        self.function, self.shapes = function, tuple(shapes)
        self.between = 1  # `stop_with` needs the watch of a step that calls `goes_on`
        for k, view in enumerate(views):
            self.operand(k, &self.tensors[k], view)

    @property
    def on_caller(self):
        return True

    cdef int evaluate(self) except -1:
        cdef ptrdiff_t k
        arrays = []
        for k in range(1, len(self.shapes)):
            array = array_of(&self.tensors[k]).reshape(self.shapes[k])
            array.flags.writeable = False
            arrays.append(array)
        result = self.function(arrays)
        if result.shape != self.shapes[0]:
            raise ValueError(f"a result of shape {result.shape}, expected {self.shapes[0]}")
        y = array_of(&self.tensors[0])
        y[...] = result.reshape(y.shape)
        return 0
