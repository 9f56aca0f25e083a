"""Steps: a kernel with its arguments. Each kernel module defines its own. _executor binds them to memory."""

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY, NAN, isfinite
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport PTRDIFF_MAX

from fastcnn.kernels._cpu cimport current
from fastcnn.kernels._tiles cimport (
    FC_ABS, FC_CLIP, FC_ERF, FC_EXP, FC_GELU, FC_GELU_TANH, FC_HARD_SWISH, FC_LEAKY_RELU, FC_NEGATIVE, FC_NONE,
    FC_RECIPROCAL, FC_RELU, FC_SIGMOID, FC_SILU, FC_SQRT, FC_TANH, fc_activation, fc_tensor,
)

# Operations on vectors in the smallest piece of a step: docs/tuning.md, "Pieces".
PIECE_VECTORS = 8192
# Operations on vectors in the longest piece, or between two calls of `goes_on`: docs/tuning.md, "Pieces".
LONGEST_PIECE = 1 << 23
# Operations that take as long as moving a vector between memory and a register: docs/tuning.md, "Pieces".
cdef enum:
    OPERATIONS_OF_A_MOVE = 8

cdef extern from *:
    """
    static _Thread_local void *fastcnn_watch;
    """
    void *_watch "fastcnn_watch"

# The offset of the only tap of a matrix product.
cdef ptrdiff_t _no_distance = 0
ONE_TAP = &_no_distance

_KINDS = {
    None: FC_NONE, "Clip": FC_CLIP, "Relu": FC_RELU, "LeakyRelu": FC_LEAKY_RELU, "Tanh": FC_TANH,
    "Sigmoid": FC_SIGMOID, "HardSwish": FC_HARD_SWISH, "Swish": FC_SILU, "Gelu": FC_GELU, "Erf": FC_ERF,
    "Abs": FC_ABS, "Exp": FC_EXP, "Sqrt": FC_SQRT, "Neg": FC_NEGATIVE, "Reciprocal": FC_RECIPROCAL,
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
    elif name == "Gelu" and attributes["approximate"] == "tanh":
        act.kind = FC_GELU_TANH


cdef void set_gradient_activation(fc_activation *act, object description) except *:
    """As `set_activation`, for gradients. An infinite bound becomes NaN: no value reaches it, and infinity passes."""
    set_activation(act, description)
    act.low, act.high = act.low if isfinite(act.low) else NAN, act.high if isfinite(act.high) else NAN


cdef const void *address(object array) except NULL:
    """Address of a C-contiguous array. The caller keeps the array alive."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_C_CONTIGUOUS)
    cdef const void *start = buffer.buf
    PyBuffer_Release(&buffer)
    return start


cdef const float *floats(object array) except NULL:
    """Address of a C-contiguous float32 array; TypeError for others. The caller keeps the array alive."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
    cdef const float *start = <const float *>buffer.buf
    cdef bint fits = buffer.itemsize == sizeof(float) and buffer.format[0] == b"f"
    PyBuffer_Release(&buffer)
    if not fits:
        raise TypeError(f"array: {array.dtype}, expected float32")
    return start


cdef fc_tensor tensor_of(object view) except *:
    """The tensor of a view. Its address is not known yet."""
    cdef fc_tensor tensor
    tensor.data = NULL
    tensor.n, tensor.c, tensor.h, tensor.w = view.n, view.c, view.h, view.w
    tensor.image, tensor.block, tensor.row = view.image, view.block, view.row
    tensor.lanes = view.lanes
    tensor.top, tensor.left, tensor.bottom, tensor.right = view.halo
    tensor.item, tensor.fill = view.item, view.fill
    return tensor


cdef Watch *set_watch(Watch *watch) noexcept nogil:
    """Set the watch that `goes_on` asks in this thread, or NULL. Returns the previous one."""
    global _watch
    cdef Watch *previous = <Watch *>_watch
    _watch = watch
    return previous


cdef bint goes_on(ptrdiff_t vectors) noexcept nogil:
    """Whether a run continues. A step calls it within a unit, before it computes `vectors` operations on vectors."""
    cdef Watch *watch = <Watch *>_watch
    return watch == NULL or watch.ask(watch, vectors)


cdef class Step:
    """A kernel with its arguments; subclasses fill in `run`, `args` and the operands."""

    def __cinit__(self):
        self.shared = True
        self.kernels = current()

    cdef void operand(self, int index, fc_tensor *tensor, object view) except *:
        """Describe operand `index`. The executor sets its address. Where the view is None, the address stays NULL."""
        if view is None:
            return
        self.operands[index] = tensor
        self.slots[index], self.offsets[index] = view.slot, view.offset * view.item
        tensor[0] = tensor_of(view)

    cdef void weights(self, int index, fc_tensor *tensor, object source) except *:
        """Describe packed weights. They are an array that the step owns, or the view of an earlier step's output."""
        if hasattr(source, "slot"):
            self.operand(index, tensor, source)
        else:
            tensor.data = <float *>floats(source)

    cdef void bind(self, void *args, size_t args_size, fc_activation *act, y, x, residual, weights, bias,
                   activation) except *:
        """Describe the operands of a layer with weights. `args` begins with WeightedOperands."""
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
        """As `work`, for a step that threads may cut into pieces to help each other. Pieces must not repeat work."""
        self.work(units, vectors)
        self.pieces = min(units, vectors // <ptrdiff_t>PIECE_VECTORS)

    cdef void work(self, ptrdiff_t units, ptrdiff_t vectors) noexcept:
        """Set the estimated operations on vectors of the step, and the most parts into which it can be divided."""
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
        """Into how many pieces to cut the work so that none takes longer than `longest`. A piece is at least a unit."""
        if self.vectors <= longest:
            return 1
        return ceil_div(ceil_div(self.vectors, self.unit()), max(1, longest // self.unit()))

    @property
    def longest(self):
        """Estimated operations on vectors that a thread does before it can stop."""
        self.estimate_work()
        return self.between or self.unit()

    cdef void estimate_work(self) noexcept:
        """Estimate the work of a step that has not set it: each vector of its operands is moved once, in any number of
        parts."""
        cdef int k
        cdef fc_tensor *t
        if self.units > 0 or self.vectors > 0:
            return
        self.units = PTRDIFF_MAX if self.shared else 1
        for k in range(MAX_OPERANDS):
            t = self.operands[k]
            if t != NULL:
                self.vectors += OPERATIONS_OF_A_MOVE * (t.n * blocks_of(t) * t.h * t.w * t.lanes // self.kernels.vl)

    @property
    def on_caller(self):
        """Whether the thread that called the run computes the step. It is then a stage of its own."""
        return False

    @property
    def scratch(self):
        """Floats of scratch memory that each thread needs."""
        return self.scratch_floats
