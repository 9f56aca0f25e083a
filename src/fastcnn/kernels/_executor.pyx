"""The executor: runs the steps of a plan, in order, inside one parallel region.

The only file that opens a region. Steps are made by the other modules of this room and know their operands as views
into the arena or into the caller's arrays; the memory itself comes from `fastcnn.compiler`.
"""

cimport numpy as cnp
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport INFINITY, NAN, isfinite
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastcnn.kernels._cpu cimport current
from fastcnn.kernels._region cimport fc_meet, fc_meeting, fc_region, fc_take, omp_get_wtime
from fastcnn.kernels._tiles cimport (
    FC_CLIP, FC_HARD_SWISH, FC_LEAKY_RELU, FC_NONE, FC_RELU, FC_SIGMOID, FC_SILU, FC_TANH, fc_activation, fc_tensor,
)

import numpy as np

from fastcnn.kernels import _cpu

cnp.import_array()

# A step is cut into pieces of so many vector operations at least, some microseconds, and so many for each thread: finer
# pieces cost more than they even out (Sapphire Rapids, 2026-11).
PIECE_VECTORS = 8192
cdef enum:
    PIECES = 4

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
    """As `set_activation`, for gradients: an infinite bound is NaN, which nothing reaches, so that infinity itself passes."""
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


cdef class Step:
    """A kernel with its arguments; subclasses fill in `run`, `args` and the operands."""

    def __cinit__(self):
        self.shared = True
        self.kernels = current()

    cdef void operand(self, int index, fc_tensor *tensor, object view) except *:
        """Describe operand `index`; its address is filled in by the executor."""
        self.operands[index] = tensor
        self.slots[index], self.offsets[index] = view.slot, view.offset
        tensor[0] = tensor_of(view)

    cdef void weights(self, int index, fc_tensor *tensor, object source) except *:
        """An operand that is packed: ahead, an array that the step owns; or by an earlier step, a view."""
        if hasattr(source, "slot"):
            self.operand(index, tensor, source)
        else:
            tensor.data = <float *>floats(source)

    cdef void may_be_cut(self, ptrdiff_t units, ptrdiff_t vectors) except *:
        """Let threads cut the work at any unit, as `run` counts them, without doing anything twice; in all it takes about
        so many operations on vectors."""
        self.vectors = vectors
        self.pieces = min(units, vectors // <ptrdiff_t>PIECE_VECTORS)

    @property
    def scratch(self):
        """Floats of scratch memory that each thread needs."""
        return self.scratch_floats


# An operand that lies in the caller's arrays: its address is filled in by every run.
cdef struct Patch:
    fc_tensor *tensor
    int slot
    ptrdiff_t offset


cdef struct Program:
    ptrdiff_t count
    fc_run *runs
    const void **args
    fc_tensor **outputs
    int *shared
    int *waits
    ptrdiff_t *pieces
    int dealt        # to so many threads are the parts of the steps dealt in this run,
    int *cuts        # of each step so many to each,
    uint64_t *left   # and of each thread's these are left, for each step
    double *ends  # when each step was done; NULL unless asked for
    float *scratch
    size_t scratch_stride
    fc_meeting *meeting


cdef void zero_halo(const fc_tensor *t, int tid, int nthreads) noexcept nogil:
    """This thread's share of the zeros around the planes of an output."""
    if t.top + t.left + t.bottom + t.right == 0:
        return
    cdef ptrdiff_t width = t.left + t.w + t.right, r, last
    cdef Walk way = walk(t, tid, nthreads)
    cdef Rows at
    # The zeros right of a row and left of the next one are one stretch, unless the rows are parts of wider ones.
    cdef bint joined = t.row == width * t.lanes
    cdef float *start
    while walks(&way, &at):
        start = t.data + at.image * t.image + at.block * t.block - t.left * t.lanes
        last = at.first + at.count
        for r in range(at.first if at.first > 0 else -t.top, last if last < t.h else t.h + t.bottom):
            if r < 0 or r >= t.h:
                memset(start + r * t.row, 0, width * t.lanes * sizeof(float))
            else:
                if t.left > 0 and not (joined and r > 0):
                    memset(start + r * t.row, 0, t.left * t.lanes * sizeof(float))
                if t.right > 0 or joined:
                    memset(start + r * t.row + (t.left + t.w) * t.lanes, 0,
                           (t.right + (t.left if joined and r + 1 < t.h else 0)) * t.lanes * sizeof(float))


cdef void run_pieces(const Program *p, ptrdiff_t i, float *scratch, int tid) noexcept nogil:
    """This thread's parts of a step, side by side; then those that others, whose processors are slower or busy, have not
    begun yet. There may be fewer threads than the parts are dealt to: OpenMP decides."""
    cdef int turn
    cdef ptrdiff_t piece
    for turn in range(p.dealt):
        while True:
            piece = fc_take(p.left + (tid + turn) % p.dealt * p.count + i, turn > 0)
            if piece < 0:
                break
            p.runs[i](p.args[i], scratch, <int>piece, p.dealt * p.cuts[i])


cdef void deal_pieces(Program *p, int nthreads) noexcept nogil:
    """All parts of all steps to the threads."""
    cdef ptrdiff_t i, cuts
    cdef int tid
    p.dealt = nthreads
    for i in range(p.count):
        cuts = min(PIECES, p.pieces[i] // nthreads)
        p.cuts[i] = <int>cuts
        for tid in range(nthreads if cuts > 1 else 0):
            p.left[tid * p.count + i] = tid * cuts | <uint64_t>((tid + 1) * cuts) << 32


cdef void run_program(void *program, int tid, int nthreads) noexcept nogil:
    cdef const Program *p = <const Program *>program
    cdef float *scratch = p.scratch + tid * p.scratch_stride
    cdef ptrdiff_t i
    for i in range(p.count):
        if nthreads > 1 and (p.waits[i] or p.ends != NULL):
            fc_meet(p.meeting, nthreads)
        (<ptrdiff_t *>scratch)[0] = 0
        if p.shared[i]:
            zero_halo(p.outputs[i], tid, nthreads)
            if nthreads > 1 and p.cuts[i] > 1:
                run_pieces(p, i, scratch, tid)
            else:
                p.runs[i](p.args[i], scratch, tid, nthreads)
        elif tid == 0:
            zero_halo(p.outputs[i], 0, 1)
            p.runs[i](p.args[i], scratch, 0, 1)
        if p.ends != NULL:
            if nthreads > 1:
                fc_meet(p.meeting, nthreads)
            if tid == 0:
                p.ends[i] = omp_get_wtime()


cdef class Executor:
    """Steps bound to memory.

    Parameters
    ----------
    steps : list of Step
    waits : list of bool
        Whether a step must wait until all threads are done with the steps before it.
    arena : float32 array
        Holds the operands in slot 0; offsets count floats.
    scratch : float32 array
        Scratch memory of all threads, two floats of each or more.
    max_threads : int
        Threads that `scratch` suffices for.

    Operands in slot k > 0 lie in the k-th array given to `run`.
    """

    cdef list steps
    cdef object arena, scratch, meeting
    cdef Program program
    cdef Patch *patches
    cdef ptrdiff_t patch_count
    cdef readonly int max_threads

    def __init__(self, list steps, list waits, arena, scratch, int max_threads):
        cdef ptrdiff_t count = len(steps), i
        cdef Step step
        cdef Program *p = &self.program
        self.steps, self.arena, self.scratch, self.max_threads = steps, arena, scratch, max_threads
        p.count = count
        p.runs = <fc_run *>calloc(count + 1, sizeof(fc_run))
        p.args = <const void **>calloc(count + 1, sizeof(void *))
        p.outputs = <fc_tensor **>calloc(count + 1, sizeof(void *))
        p.shared = <int *>calloc(count + 1, sizeof(int))
        p.waits = <int *>calloc(count + 1, sizeof(int))
        p.pieces = <ptrdiff_t *>calloc(count + 1, sizeof(ptrdiff_t))
        p.cuts = <int *>calloc(count + 1, sizeof(int))
        p.left = <uint64_t *>calloc(count * max_threads + 1, sizeof(uint64_t))
        p.meeting = <fc_meeting *>calloc(1, sizeof(fc_meeting))
        self.patches = <Patch *>calloc(count * MAX_OPERANDS + 1, sizeof(Patch))
        if (p.runs == NULL or p.args == NULL or p.outputs == NULL or p.shared == NULL or p.waits == NULL
                or p.pieces == NULL or p.cuts == NULL or p.left == NULL or p.meeting == NULL or self.patches == NULL):
            raise MemoryError("Executor: no memory for the list of steps")
        p.scratch = <float *>floats(scratch)
        p.scratch_stride = len(scratch) // max_threads
        for i in range(count):
            step = steps[i]
            p.runs[i], p.args[i], p.outputs[i], p.shared[i] = step.run, step.args, step.operands[0], step.shared
            p.waits[i], p.pieces[i] = waits[i], step.pieces
            self.bind(step, <float *>floats(arena))

    def __dealloc__(self):
        free(self.program.runs)
        free(<void *>self.program.args)
        free(self.program.outputs)
        free(self.program.shared)
        free(self.program.waits)
        free(self.program.pieces)
        free(self.program.cuts)
        free(self.program.left)
        free(self.program.meeting)
        free(self.patches)

    cdef void bind(self, Step step, float *arena) noexcept:
        """Point the operands of a step into the arena, and note those that lie elsewhere."""
        cdef int k
        for k in range(MAX_OPERANDS):
            if step.operands[k] == NULL:
                continue
            if step.slots[k] == 0:
                step.operands[k].data = arena + step.offsets[k]
            else:
                self.patches[self.patch_count] = Patch(step.operands[k], step.slots[k], step.offsets[k])
                self.patch_count += 1

    def run(self, list arrays, int nthreads):
        """Run all steps on the caller's arrays, the outputs last; the GIL is released."""
        cdef ptrdiff_t i
        cdef Patch *patch
        for i in range(self.patch_count):
            patch = &self.patches[i]
            patch.tensor.data = <float *>floats(arrays[patch.slot - 1]) + patch.offset
        self.run_bound(nthreads)

    cdef void run_bound(self, int nthreads) except *:
        """Run all steps, whose operands are known."""
        cdef int threads = min(nthreads, self.max_threads)
        if threads > 1:
            _cpu.note_region()
            deal_pieces(&self.program, threads)
        with nogil:
            fc_region(run_program, &self.program, threads)

    def times(self, list arrays, int nthreads):
        """Run as `run` does, all threads waiting for each other after every step; the seconds that each step took."""
        cdef double start
        ends = np.empty(max(1, self.program.count))
        cdef double[::1] view = ends
        self.program.ends = &view[0]
        try:
            start = omp_get_wtime()
            self.run(arrays, nthreads)
        finally:
            self.program.ends = NULL
        return np.diff(ends[: self.program.count], prepend=start).tolist()


cdef class Repeat:
    """A plan of one input and one output, for calls like the last one: the shortest way from array to array.

    Parameters
    ----------
    idle : list of Executor
        That nobody uses; each caller takes one, and puts it back.
    shape, result_shape : tuple of int
        Of the input and of the output.
    constants : list of arrays
        What lies between them in the list of arrays that executors take.
    most_threads : int
        More than that are not worth it.
    """

    cdef const fc_kernels *kernels  # the instruction set that the plan was made for
    cdef list idle, constants
    cdef object table, shapes
    cdef float **arrays  # the input's and the output's are filled in by every run, and read before the GIL is released
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
        self.arrays = <float **>address(self.table)
        self.shape = <cnp.npy_intp *>address(self.shapes)
        self.result_shape = self.shape + self.ndim

    cdef bint takes(self, object x) noexcept:
        """Whether it is a float32 array of NumPy's own, C-contiguous and aligned, of that shape."""
        cdef int i
        if not cnp.PyArray_CheckExact(x) or cnp.PyArray_TYPE(x) != cnp.NPY_FLOAT32:
            return False
        if not cnp.PyArray_ISCARRAY_RO(x) or cnp.PyArray_NDIM(x) != self.ndim:
            return False
        for i in range(self.ndim):
            if cnp.PyArray_DIMS(x)[i] != self.shape[i]:
                return False
        return True

    def run(self, x):
        """The output; None where x is not a float32 array of that shape as it is, no executor is idle, or another
        instruction set is in use by now."""
        cdef int threads = 1
        cdef ptrdiff_t i
        cdef Executor executor
        cdef Patch *patch
        if self.kernels != current() or not self.takes(x):
            return None
        if self.most_threads > 1:
            threads = min(<ptrdiff_t>_cpu.get_num_threads(), self.most_threads)
        try:
            executor = self.idle.pop()
        except IndexError:
            return None
        if executor.max_threads < threads:
            return None  # a larger one is made, and takes its place
        result = cnp.PyArray_SimpleNew(self.result_ndim, self.result_shape, cnp.NPY_FLOAT32)
        self.arrays[0], self.arrays[self.count - 1] = <float *>cnp.PyArray_DATA(x), <float *>cnp.PyArray_DATA(result)
        for i in range(executor.patch_count):
            patch = &executor.patches[i]
            patch.tensor.data = self.arrays[patch.slot - 1] + patch.offset
        executor.run_bound(threads)
        self.idle.append(executor)
        return result


cdef struct Chunks:
    uint64_t left  # as of `fc_take`
    Program **programs  # of each thread
    Patch **patches
    ptrdiff_t *patch_counts
    char **arrays
    ptrdiff_t *strides


cdef void run_share(void *raw, int tid, int nthreads) noexcept nogil:
    """Chunks that nobody has begun, by this thread's own executor."""
    cdef Chunks *c = <Chunks *>raw
    cdef ptrdiff_t chunk, i
    cdef Patch *patch
    while True:
        chunk = fc_take(&c.left, 0)
        if chunk < 0:
            return
        for i in range(c.patch_counts[tid]):
            patch = &c.patches[tid][i]
            patch.tensor.data = (
                <float *>(c.arrays[patch.slot - 1] + chunk * c.strides[patch.slot - 1]) + patch.offset)
        run_program(c.programs[tid], 0, 1)


def run_chunks(list executors, list arrays, strides, ptrdiff_t count):
    """Run a plan on each of `count` parts of a batch, every executor on a thread of its own.

    Parameters
    ----------
    executors : list of Executor
        Of one plan.
    arrays : list of arrays
        As for `Executor.run`, the inputs and outputs of all parts one after the other.
    strides : intp array
        Bytes from one part to the next, of each array.
    count : int
    """
    cdef ptrdiff_t[::1] steps = strides
    cdef int threads = len(executors), i
    cdef Executor executor
    # Addresses in arrays of NumPy's: they go away by themselves, whatever is raised.
    table = np.zeros((4, max(threads, len(arrays))), np.intp)
    cdef ptrdiff_t[:, ::1] view = table
    cdef Chunks chunks
    for i in range(threads):
        executor = executors[i]
        view[0, i], view[1, i] = <ptrdiff_t>&executor.program, <ptrdiff_t>executor.patches
        view[2, i] = executor.patch_count
    for i in range(len(arrays)):
        view[3, i] = <ptrdiff_t>address(arrays[i])
    chunks.left = <uint64_t>count << 32
    chunks.programs, chunks.patches = <Program **>&view[0, 0], <Patch **>&view[1, 0]
    chunks.patch_counts, chunks.arrays, chunks.strides = &view[2, 0], <char **>&view[3, 0], &steps[0]
    if threads > 1:
        _cpu.note_region()
    with nogil:
        fc_region(run_share, &chunks, threads)
