"""Steps: a kernel with its arguments. Each kernel module of this room makes its own. _executor binds them to memory."""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY, NAN, isfinite
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport PTRDIFF_MAX

from fastcnn.kernels._cpu cimport current
from fastcnn.kernels._tiles cimport (
    FC_CLIP, FC_HARD_SWISH, FC_LEAKY_RELU, FC_NONE, FC_RELU, FC_SIGMOID, FC_SILU, FC_TANH, fc_activation, fc_tensor,
)

# Operations on vectors in the smallest piece of a step: docs/tuning.md, "Pieces".
PIECE_VECTORS = 8192
# And in the longest piece, or between two questions whether to go on with it: docs/tuning.md, "Pieces".
LONGEST_PIECE = 1 << 23

cdef extern from *:
    """
    static _Thread_local void *fastcnn_watch;
    """
    void *_watch "fastcnn_watch"

# The tap of a matrix product.
cdef ptrdiff_t _no_distance = 0
ONE_TAP = &_no_distance

_KINDS = {
    None: FC_NONE, "Clip": FC_CLIP, "Relu": FC_RELU, "LeakyRelu": FC_LEAKY_RELU, "Tanh": FC_TANH,
    "Sigmoid": FC_SIGMOID, "HardSwish": FC_HARD_SWISH, "Swish": FC_SILU,
}


cdef void set_activation(fc_activation *act, object description) except *:
    """Fill in an activation from None or (ONNX name, attributes)."""
    name, attributes = description if description is not None else (None, {})
    act.kind = _KINDS[name]
    act.low, act.high, act.alpha = -INFINITY, INFINITY, 0.0
    if name == "Relu":
        act.low = 0.0
    elif name == "Clip":
        act.low, act.high = attributes["min"], attributes["max"]
    elif name == "LeakyRelu":
        act.alpha = attributes["alpha"]


cdef void set_gradient_activation(fc_activation *act, object description) except *:
    """As `set_activation`, for gradients. An infinite bound is NaN, which nothing reaches, so that infinity passes."""
    set_activation(act, description)
    act.low, act.high = act.low if isfinite(act.low) else NAN, act.high if isfinite(act.high) else NAN


cdef const void *address(object array) except NULL:
    """Address of a C-contiguous array; whoever asks keeps the array."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_C_CONTIGUOUS)
    cdef const void *start = buffer.buf
    PyBuffer_Release(&buffer)
    return start


cdef fc_tensor tensor_of(object view) except *:
    """A view, its address not known yet."""
    cdef fc_tensor tensor
    tensor.data = NULL
    tensor.n, tensor.c, tensor.h, tensor.w = view.n, view.c, view.h, view.w
    tensor.image, tensor.block, tensor.row = view.image, view.block, view.row
    tensor.lanes = view.lanes
    tensor.top, tensor.left, tensor.bottom, tensor.right = view.halo
    return tensor


cdef Watch *set_watch(Watch *watch) noexcept nogil:
    """Who is asked from now on in this thread, or NULL; gives who was before."""
    global _watch
    cdef Watch *previous = <Watch *>_watch
    _watch = watch
    return previous


cdef bint goes_on(ptrdiff_t vectors) noexcept nogil:
    """Within a unit of a step, before so many operations on vectors: whether they are still wanted."""
    cdef Watch *watch = <Watch *>_watch
    return watch == NULL or watch.ask(watch, vectors)


cdef class Step:
    """A kernel with its arguments; subclasses fill in `run`, `args` and the operands."""

    def __cinit__(self):
        self.shared = True
        self.kernels = current()

    cdef void operand(self, int index, fc_tensor *tensor, object view) except *:
        """Describe operand `index`; its address is filled in by the executor. NULL stays the address of None."""
        if view is None:
            return
        self.operands[index] = tensor
        self.slots[index], self.offsets[index] = view.slot, view.offset
        tensor[0] = tensor_of(view)

    cdef void weights(self, int index, fc_tensor *tensor, object source) except *:
        """An operand that is packed: ahead, an array that the step owns; or by an earlier step, a view."""
        if hasattr(source, "slot"):
            self.operand(index, tensor, source)
        else:
            tensor.data = <float *>floats(source)

    cdef void bind(self, void *args, size_t args_size, fc_activation *act, y, x, residual, weights, bias,
                   activation) except *:
        """Describe what every layer with weights takes, where `args` begin with WeightedOperands."""
        cdef WeightedOperands *own = <WeightedOperands *>args
        self.args, self.args_size, self.owned = args, args_size, (weights, bias)
        own.kernels = self.kernels
        self.operand(0, &own.y, y)
        self.operand(1, &own.x, x)
        self.operand(2, &own.residual, residual)
        self.weights(3, &own.weights, weights)
        self.weights(4, &own.bias, bias)
        set_activation(act, activation)

    cdef void may_be_cut(self, ptrdiff_t units, ptrdiff_t vectors) except *:
        """As `work`, for a step that threads may cut into pieces to help each other: nothing is then done twice."""
        self.work(units, vectors)
        self.pieces = min(units, vectors // <ptrdiff_t>PIECE_VECTORS)

    cdef void work(self, ptrdiff_t units, ptrdiff_t vectors) noexcept:
        """How many operations on vectors the step takes, about, and into how many parts it can be divided."""
        self.units, self.vectors = units, vectors

    cdef ptrdiff_t at_a_time(self, ptrdiff_t count, ptrdiff_t each) except -1:
        """How many of `count` parts of a unit come between two calls of `goes_on`; 0 where the unit is short.

        Each part takes `each` operations on vectors.
        """
        cdef ptrdiff_t longest = LONGEST_PIECE, number = max(1, min(count, longest // max(1, each)))
        if self.unit() <= longest:
            return 0
        self.between = max(self.between, number * each)
        return number

    cdef ptrdiff_t unit(self) noexcept:
        """Operations on vectors in a unit."""
        return ceil_div(self.vectors, max(1, min(self.units, self.vectors)))

    cdef ptrdiff_t pieces_of(self, ptrdiff_t longest) noexcept:
        """Into how many pieces the work is cut so that none takes longer, as far as units are short enough."""
        if self.vectors <= longest:
            return 1
        return ceil_div(ceil_div(self.vectors, self.unit()), max(1, longest // self.unit()))

    @property
    def longest(self):
        """Operations on vectors, about, that a thread does at least until it looks whether to go on."""
        self.estimate_work()
        return self.between or self.unit()

    cdef void estimate_work(self) noexcept:
        """Of a step that has not told it: as many operations as vectors of its operands, in any number of parts."""
        cdef int k
        cdef fc_tensor *t
        if self.units > 0 or self.vectors > 0:
            return
        self.units = PTRDIFF_MAX if self.shared else 1
        for k in range(MAX_OPERANDS):
            t = self.operands[k]
            if t != NULL:
                self.vectors += t.n * blocks_of(t) * t.h * t.w * t.lanes // self.kernels.vl

    @property
    def scratch(self):
        """Floats of scratch memory that each thread needs."""
        return self.scratch_floats
