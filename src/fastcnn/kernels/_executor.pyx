"""The executor: runs the steps of a plan on the caller's arrays.

`fastcnn.compiler` supplies the memory that steps work in. _program shares the steps among threads. _repeat is a shorter
path for repeated calls.
"""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport PTRDIFF_MAX, uint64_t
from libc.stdlib cimport calloc, free

from fastcnn.kernels._cpu cimport is_main_thread, note_threads
from fastcnn.kernels._program cimport Chunks, Patch, Program, raise_error, run_program, seconds, share_chunks
from fastcnn.kernels._step cimport MAX_OPERANDS, Step, address, fc_run, floats
from fastcnn.kernels._team cimport FC_MOST_LANES
from fastcnn.kernels._tiles cimport fc_tensor

import numpy as np

from fastcnn.kernels import _cpu, _step


cdef class Executor:
    """Steps bound to memory.

    Parameters
    ----------
    steps : list of Step
    waits : list of bool
        Whether a step must wait until all threads are done with the steps before it.
    arena : float32 array
        Memory of the operands in slot 0.
    scratch : float32 array
        Scratch memory of all threads, at least two floats for each.
    max_threads : int
        Threads that `scratch` suffices for.
    first_update : int
        The first step that changes state that outlives the run. From there on, signals wait until the end.

    Operands in slot k > 0 lie in the k-th array of `run`.
    """

    def __init__(self, list steps, list waits, arena, scratch, int max_threads, ptrdiff_t first_update=PTRDIFF_MAX):
        cdef ptrdiff_t count = len(steps), longest = _step.LONGEST_PIECE, i
        cdef Step step
        cdef Program *p = &self.program
        self.steps, self.arena, self.scratch, self.max_threads = steps, arena, scratch, max_threads
        self.reserve(count)
        p.count, p.stop = count, &p.own_stop
        p.scratch = <float *>floats(scratch)
        p.scratch_stride = len(scratch) // max_threads
        for i in range(count):
            step = steps[i]
            p.runs[i], p.args[i], p.outputs[i], p.shared[i] = step.run, step.args, step.operands[0], step.shared
            step.estimate_work()
            p.pieces[i], p.least[i], p.vectors[i] = step.pieces, step.pieces_of(longest), step.vectors
            p.watched[i] = step.between > 0
            if i == 0 or waits[i] or step.on_caller or p.on_caller[p.stages - 1]:
                p.begins[p.stages], p.on_caller[p.stages] = i, step.on_caller
                p.stages += 1
            if i <= first_update:
                p.last_stop = p.stages - 1 if i == first_update else p.stages
            self.bind(step, <char *>floats(arena))
        p.begins[p.stages] = count

    cdef void reserve(self, ptrdiff_t count) except *:
        """Allocate the tables of `count` steps."""
        cdef Program *p = &self.program
        p.runs = <fc_run *>calloc(count + 1, sizeof(fc_run))
        p.args = <const void **>calloc(count + 1, sizeof(void *))
        p.outputs = <fc_tensor **>calloc(count + 1, sizeof(void *))
        p.shared = <int *>calloc(count + 1, sizeof(int))
        p.pieces = <ptrdiff_t *>calloc(count + 1, sizeof(ptrdiff_t))
        p.least = <ptrdiff_t *>calloc(count + 1, sizeof(ptrdiff_t))
        p.vectors = <ptrdiff_t *>calloc(count + 1, sizeof(ptrdiff_t))
        p.watched = <int *>calloc(count + 1, sizeof(int))
        p.begins = <ptrdiff_t *>calloc(count + 1, sizeof(ptrdiff_t))
        p.on_caller = <int *>calloc(count + 1, sizeof(int))
        p.cuts = <int *>calloc(count + 1, sizeof(int))
        p.left = <uint64_t *>calloc(count * self.max_threads + 1, sizeof(uint64_t))
        self.patches = <Patch *>calloc(count * MAX_OPERANDS + 1, sizeof(Patch))
        if (p.runs == NULL or p.args == NULL or p.outputs == NULL or p.shared == NULL or p.pieces == NULL
                or p.least == NULL or p.vectors == NULL or p.watched == NULL or p.begins == NULL or p.cuts == NULL
                or p.on_caller == NULL or p.left == NULL or self.patches == NULL):
            raise MemoryError("Executor: no memory for the list of steps")

    def __dealloc__(self):
        free(self.program.runs)
        free(<void *>self.program.args)
        free(self.program.outputs)
        free(self.program.shared)
        free(self.program.pieces)
        free(self.program.least)
        free(self.program.vectors)
        free(self.program.watched)
        free(self.program.begins)
        free(self.program.on_caller)
        free(self.program.cuts)
        free(self.program.left)
        free(self.patches)

    cdef void bind(self, Step step, char *arena) noexcept:
        """Point the operands of a step into the arena. Remember those in the caller's arrays as patches."""
        cdef int k
        for k in range(MAX_OPERANDS):
            if step.operands[k] == NULL:
                continue
            if step.slots[k] == 0:
                step.operands[k].data = <float *>(arena + step.offsets[k])
            else:
                self.patches[self.patch_count] = Patch(step.operands[k], step.slots[k], step.offsets[k])
                self.patch_count += 1

    def run(self, list arrays, int nthreads):
        """Run all steps on the caller's arrays, of which the outputs are the last. The run releases the GIL.

        Raises
        ------
        BaseException
            What a signal handler has raised, such as KeyboardInterrupt. The outputs are then incomplete.
        """
        self.bind_arrays(arrays)
        self.run_bound(nthreads)

    cdef void bind_arrays(self, list arrays) except *:
        cdef ptrdiff_t i
        cdef Patch *patch
        for i in range(self.patch_count):
            patch = &self.patches[i]
            patch.tensor.data = <float *>(<char *>address(arrays[patch.slot - 1]) + patch.offset)

    cdef void run_bound(self, int nthreads) except *:
        """Run all steps. The addresses of all operands are set already."""
        cdef int lanes = min(nthreads, self.max_threads, FC_MOST_LANES), threads
        self.program.looks = is_main_thread()
        if lanes > 1:
            note_threads()
        with nogil:
            threads = run_program(&self.program, lanes)
        if self.program.error != NULL:
            raise_error(&self.program)
        # After a training step, only a lost job is reported. A warning raised as an error would hide its update.
        if threads != lanes and (threads < 0 or self.program.last_stop >= self.program.stages):
            _cpu.note_missing_threads(lanes, threads)

    def run_in_pieces(self, list arrays, int nthreads, list ends, reached):
        """Run all steps, and call ``reached(i)`` as soon as the first ``ends[i]`` steps are done, for each i in order.

        Parameters
        ----------
        arrays, nthreads
            As for `run`.
        ends : list of int
            Ascending; the last one is the number of steps.
        reached : callable
        """
        cdef Program *p = &self.program
        cdef Program whole = self.program
        cdef int first = 0, last
        cdef ptrdiff_t i, end
        self.bind_arrays(arrays)
        try:
            for i in range(len(ends)):
                last, end = first, ends[i]
                while last < whole.stages and whole.begins[last] < end:
                    last += 1
                if last > first:
                    p.begins, p.on_caller, p.stages = whole.begins + first, whole.on_caller + first, last - first
                    p.last_stop = max(0, min(whole.last_stop, last) - first)
                    self.run_bound(nthreads)
                    first = last
                reached(i)
        finally:
            p.begins, p.stages, p.last_stop = whole.begins, whole.stages, whole.last_stop
            p.on_caller = whole.on_caller

    def times(self, list arrays, int nthreads):
        """Run as `run` does, step by step. Returns the seconds that each step took."""
        cdef Program *p = &self.program
        cdef Program whole = self.program
        cdef ptrdiff_t ends[2]
        cdef int on_caller
        cdef double start
        times = []
        self.bind_arrays(arrays)
        # The program consists of one step at a time.
        p.begins, p.stages, p.on_caller = ends, 1, &on_caller
        try:
            for i in range(whole.count):
                ends[0], ends[1], on_caller = i, i + 1, self.steps[i].on_caller
                p.last_stop = i < whole.begins[whole.last_stop]
                start = seconds()
                self.run_bound(nthreads)
                times.append(seconds() - start)
        finally:
            p.begins, p.stages, p.last_stop = whole.begins, whole.stages, whole.last_stop
            p.on_caller = whole.on_caller
        return times


def run_chunks(list executors, list arrays, strides, ptrdiff_t count):
    """Run a plan on each of `count` parts of a batch, each executor on its own thread.

    Parameters
    ----------
    executors : list of Executor
        Executors of one plan, one for each thread.
    arrays : list of arrays
        As for `Executor.run`. Each holds all parts one after the other.
    strides : intp array
        Bytes from one part to the next, of each array.
    count : int
        Number of parts.
    """
    cdef ptrdiff_t[::1] steps = strides
    cdef int lanes = min(len(executors), FC_MOST_LANES), threads, i
    cdef Executor executor
    # NumPy arrays hold the addresses: they are freed even where something is raised.
    table = np.zeros((4, max(lanes, len(arrays))), np.intp)
    cdef ptrdiff_t[:, ::1] view = table
    cdef Chunks chunks
    for i in range(len(arrays)):
        view[3, i] = <ptrdiff_t>address(arrays[i])
    for i in range(lanes):  # nothing may be raised until the programs have their own stop again
        executor = executors[i]
        executor.program.stop, executor.program.looks = &chunks.stop, i == 0 and is_main_thread()
        view[0, i], view[1, i] = <ptrdiff_t>&executor.program, <ptrdiff_t>executor.patches
        view[2, i] = executor.patch_count
    chunks.left = <uint64_t>count << 32
    chunks.programs, chunks.patches = <Program **>&view[0, 0], <Patch **>&view[1, 0]
    chunks.patch_counts, chunks.arrays, chunks.strides = &view[2, 0], <char **>&view[3, 0], &steps[0]
    if lanes > 1:
        note_threads()
    with nogil:
        threads = share_chunks(&chunks, lanes)
    for i in range(lanes):
        executor = executors[i]
        executor.program.stop = &executor.program.own_stop
    executor = executors[0]
    if executor.program.error != NULL:
        raise_error(&executor.program)
    if threads != lanes:
        _cpu.note_missing_threads(lanes, threads)
