"""Programs: the steps of a plan, bound to memory, and how threads share them.

Steps that need not wait for each other are a stage. Each stage is divided into lanes, one for each thread that is
wanted. csrc/team.c decides which thread computes which lane. Large steps are cut into pieces. A thread that is done
with its own takes pieces that others have not begun. Between two pieces, the calling thread looks for signals.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.limits cimport INT_MAX
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastcnn.kernels._step cimport Rows, Walk, Watch, blocks_of, ceil_div, set_watch, share, walk, walks
from fastcnn.kernels._team cimport (
    fc_default_float_modes, fc_do_job, fc_job, fc_restore_float_modes, fc_seconds, fc_take,
)
from fastcnn.kernels._tiles cimport fc_tensor

cdef enum:
    PIECES = 4  # of each lane, where threads can help each other: docs/tuning.md, "Pieces"
    VECTORS_BETWEEN_LOOKS = 1 << 20  # operations on vectors after which the calling thread reads the clock

cdef double SECONDS_BETWEEN_LOOKS = 0.02

# A function that the calling thread asks, beside Python's signal handlers, whether to stop.
_wants_stop = None


def stop_where(asked):
    """Stop later runs with KeyboardInterrupt soon after `asked()` becomes true. The calling thread of a run calls it.

    Parameters
    ----------
    asked : callable or None
        Returns a bool.

    Returns
    -------
    callable or None
        The previous one.
    """
    global _wants_stop
    previous, _wants_stop = _wants_stop, asked
    return previous


cdef inline char *first_padding(const fc_tensor *t, ptrdiff_t image, ptrdiff_t block) noexcept nogil:
    """The first byte of the padding on the left of row 0."""
    return <char *>t.data + (image * t.image + block * t.block - t.left * t.lanes) * t.item


cdef void fill_halo(const fc_tensor *t, int tid, int nthreads) noexcept nogil:
    """Write this lane's share of the padding around the planes of an output."""
    if t.top + t.left + t.bottom + t.right == 0:
        return
    cdef ptrdiff_t pixel = t.lanes * t.item, row = t.row * t.item, width = (t.left + t.w + t.right) * pixel, r, last
    cdef Walk way = walk(t, tid, nthreads)
    cdef Rows at
    # The padding right of a row and left of the next one are neighbours, unless the rows are parts of wider ones.
    cdef bint joined = row == width
    cdef char *start
    cdef ptrdiff_t plane, blocks = blocks_of(t)
    if t.h == 0:  # no rows to walk along
        for plane in range(share(t.n * blocks, tid, nthreads), share(t.n * blocks, tid + 1, nthreads)):
            start = first_padding(t, plane // blocks, plane % blocks)
            for r in range(-t.top, t.bottom):
                memset(start + r * row, t.fill, width)
    while walks(&way, &at):
        start = first_padding(t, at.image, at.block)
        last = at.first + at.count
        for r in range(at.first if at.first > 0 else -t.top, last if last < t.h else t.h + t.bottom):
            if r < 0 or r >= t.h:
                memset(start + r * row, t.fill, width)
            else:
                if t.left > 0 and not (joined and r > 0):
                    memset(start + r * row, t.fill, t.left * pixel)
                if t.right > 0 or joined:
                    memset(start + r * row + (t.left + t.w) * pixel, t.fill,
                           (t.right + (t.left if joined and r + 1 < t.h else 0)) * pixel)


cdef void deal(Program *p, int lanes) noexcept nogil:
    """Cut all steps into pieces for a number of lanes, and deal the pieces to the lanes."""
    cdef ptrdiff_t i, cuts
    cdef int lane
    if p.lanes != lanes:
        p.lanes = lanes
        for i in range(p.count):
            cuts = ceil_div(p.least[i], lanes)
            if lanes > 1:
                cuts = max(cuts, min(PIECES, p.pieces[i] // lanes))
            p.cuts[i] = <int>max(1, min(cuts, INT_MAX // lanes))
    for i in range(p.count):
        if p.cuts[i] > 1 and lanes > 1:
            for lane in range(lanes):
                p.left[lane * p.count + i] = lane * p.cuts[i] | <uint64_t>((lane + 1) * p.cuts[i]) << 32


cdef void look(Program *p, ptrdiff_t vectors) noexcept nogil:
    """Look for signals where enough time has passed. `vectors` is the operations on vectors since the last call."""
    cdef double now
    p.vectors_since += vectors
    if p.vectors_since < VECTORS_BETWEEN_LOOKS:
        return
    p.vectors_since = 0
    now = fc_seconds()
    if p.looked == 0:
        p.looked = now
    elif now - p.looked > SECONDS_BETWEEN_LOOKS:
        p.looked = now
        pause(p)


cdef void pause(void *program) noexcept nogil:
    """Run the handlers of pending signals. What they raise stops the program, and is kept until its end."""
    cdef Program *p = <Program *>program
    if not p.looks or p.stop[0]:
        return
    with gil:
        try:
            PyErr_CheckSignals()
            if _wants_stop is not None and _wants_stop():
                raise KeyboardInterrupt
        except BaseException as error:
            keep_error(p, error)


cdef void keep_error(Program *p, object error) noexcept:
    """Stop the program, and keep what has stopped it until its end."""
    if p.error == NULL:
        Py_INCREF(error)
        p.error = <PyObject *>error
    p.stop[0] = True


cdef void raise_error(Program *p) except *:
    """Raise what has stopped the program."""
    if p.error == NULL:
        return
    error = <object>p.error
    p.error = NULL
    Py_DECREF(error)
    raise error


# The watch that `goes_on` asks within a unit of a step.
cdef struct StepWatch:
    Watch watch
    Program *program
    bint looks


cdef bint ask(Watch *watch, ptrdiff_t vectors) noexcept nogil:
    cdef StepWatch *w = <StepWatch *>watch
    if w.looks:
        look(w.program, vectors)
    return not w.program.stop[0]


cdef void stop_with(object error) noexcept:
    """Stop the program that runs in this thread, by an exception within one of its steps."""
    cdef Watch *watch = set_watch(NULL)
    set_watch(watch)
    keep_error((<StepWatch *>watch).program, error)


cdef void run_pieces(Program *p, ptrdiff_t i, float *scratch, int lane, bint looks) noexcept nogil:
    """Compute the pieces of one lane in their order, then pieces of other lanes that no thread has begun."""
    cdef int turn, pieces = p.lanes * p.cuts[i]
    cdef ptrdiff_t piece
    if p.lanes == 1:
        for piece in range(pieces):
            if p.stop[0]:
                return
            p.runs[i](p.args[i], scratch, <int>piece, pieces)
            if looks:
                look(p, p.vectors[i] // pieces)
        return
    for turn in range(p.lanes):
        while not p.stop[0]:
            piece = fc_take(p.left + (lane + turn) % p.lanes * p.count + i, turn > 0)
            if piece < 0:
                break
            p.runs[i](p.args[i], scratch, <int>piece, pieces)
            if looks:
                look(p, p.vectors[i] // pieces)


cdef void watch_step(Program *p, ptrdiff_t i, float *scratch, int lane, bint looks) noexcept nogil:
    """As `share_step`, for a step that calls `goes_on` within its units."""
    cdef StepWatch w
    cdef Watch *previous
    w.watch.ask, w.program, w.looks = ask, p, looks
    previous = set_watch(&w.watch)  # a signal handler may have started this run within another one
    share_step(p, i, scratch, lane, looks)
    set_watch(previous)


cdef void share_step(Program *p, ptrdiff_t i, float *scratch, int lane, bint looks) noexcept nogil:
    """Compute one lane of a step."""
    (<ptrdiff_t *>scratch)[0] = 0
    if not p.shared[i]:
        if lane > 0:
            return
        fill_halo(p.outputs[i], 0, 1)
        p.runs[i](p.args[i], scratch, 0, 1)
    else:
        fill_halo(p.outputs[i], lane, p.lanes)
        if p.cuts[i] > 1:
            run_pieces(p, i, scratch, lane, looks)
            return
        p.runs[i](p.args[i], scratch, lane, p.lanes)
    if looks:
        look(p, p.vectors[i] // p.lanes)


cdef void share_stage(void *program, int stage, int lane, int worker) noexcept nogil:
    """Compute one lane of a stage. The caller is worker 0. No later stage begins before this returns."""
    cdef Program *p = <Program *>program
    cdef float *scratch = p.scratch + worker * p.scratch_stride
    cdef ptrdiff_t i
    stage += p.first_stage
    cdef bint looks = worker == 0 and stage < p.last_stop
    for i in range(p.begins[stage], p.begins[stage + 1]):
        if p.stop[0]:
            return
        if p.watched[i]:
            watch_step(p, i, scratch, lane, looks)
        else:
            share_step(p, i, scratch, lane, looks)


cdef void run_alone(Program *p) noexcept nogil:
    """Run all stages on the calling thread."""
    cdef int stage
    for stage in range(p.stages):
        share_stage(p, stage, 0, 0)


cdef void prepare(Program *p, int lanes) noexcept nogil:
    """Prepare a run."""
    p.vectors_since, p.looked, p.first_stage = 0, 0, 0
    deal(p, lanes)


cdef int share_program(Program *p) noexcept nogil:
    """Run all stages on several threads; the calling thread alone computes those that are its own.

    Returns the number of threads, or FC_JOB_LOST.
    """
    cdef fc_job job
    cdef int threads = p.lanes, stage = 0, end
    job.share, job.work, job.lanes = share_stage, p, p.lanes
    # `pause` does not know the stage. Where a run must not stop from some stage on, only `look` may stop it.
    job.pause = NULL
    if p.last_stop >= p.stages:
        job.pause = pause
    while stage < p.stages and not p.stop[0] and threads >= 0:
        end = stage
        while end < p.stages and not p.on_caller[end]:
            end += 1
        p.first_stage, job.stages = stage, end - stage
        if end > stage:
            threads = min(threads, fc_do_job(&job))
        else:
            share_stage(p, 0, 0, 0)
            end += 1
        stage = end
    return threads


cdef int run_program(Program *p, int lanes) noexcept nogil:
    """Run all stages in the default floating-point modes. Returns the number of threads, or FC_JOB_LOST."""
    cdef unsigned long modes = fc_default_float_modes()
    cdef int threads = 1
    p.stop[0] = False
    prepare(p, lanes)
    if lanes == 1:
        run_alone(p)
    else:
        threads = share_program(p)
    fc_restore_float_modes(modes)
    return threads


cdef void run_chunks(void *raw, int stage, int lane, int worker) noexcept nogil:
    """Run chunks that no thread has begun, by this thread's own program."""
    cdef Chunks *c = <Chunks *>raw
    cdef Program *p = c.programs[worker]
    cdef ptrdiff_t chunk, i
    cdef Patch *patch
    while not c.stop:
        chunk = fc_take(&c.left, 0)
        if chunk < 0:
            return
        for i in range(c.patch_counts[worker]):
            patch = &c.patches[worker][i]
            patch.tensor.data = <float *>(
                c.arrays[patch.slot - 1] + chunk * c.strides[patch.slot - 1] + patch.offset)
        run_alone(p)


cdef void pause_chunks(void *raw) noexcept nogil:
    pause((<Chunks *>raw).programs[0])


cdef int share_chunks(Chunks *c, int lanes) noexcept nogil:
    """Run all chunks, as `run_program` runs a program."""
    cdef unsigned long modes = fc_default_float_modes()
    cdef fc_job job
    cdef int lane, threads
    c.stop = False
    for lane in range(lanes):
        prepare(c.programs[lane], 1)
    job.share, job.pause, job.work, job.stages, job.lanes = run_chunks, pause_chunks, c, 1, lanes
    threads = fc_do_job(&job)
    fc_restore_float_modes(modes)
    return threads


cdef double seconds() noexcept nogil:
    """Seconds of a clock that only goes forward."""
    return fc_seconds()


cdef class default_float_modes:
    """Context in which the calling thread rounds to nearest and keeps subnormal numbers, as kernels do. Another library
    may have set other modes: they are restored on leaving.

    Examples
    --------
    >>> with default_float_modes():
    ...     pass
    """

    cdef unsigned long modes

    def __enter__(self):
        self.modes = fc_default_float_modes()
        return self

    def __exit__(self, *exception):
        fc_restore_float_modes(self.modes)
