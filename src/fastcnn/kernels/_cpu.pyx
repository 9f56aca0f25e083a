# cython: binding=True
"""The processor: which instruction set the kernels use, and how many threads.

Only this module decides on the number of threads. The order of precedence is: `num_threads` of a context or
`set_num_threads`; FASTCNN_NUM_THREADS; OMP_NUM_THREADS. Without these, it is the smaller of the processors this process
may run on and the CPU quota of its control groups. environment.py reads the variables and asks the system, once, when
the first call needs to know.

A lower limit of the OpenMP runtime (threadpoolctl, OMP_THREAD_LIMIT) always holds. The threads themselves are those of
csrc/team.c: OpenMP supplies nothing but its limits.
"""

import os
import threading
from contextlib import nullcontext

from libc.limits cimport INT_MAX

from fastcnn.kernels._tiles cimport fc_kernels

from fastcnn.kernels.environment import environment_numbers, warn

cdef extern from "fastcnn.h":
    const fc_kernels *const *fc_all_kernels()
    const char *fc_cpu_features()

cdef extern from "openmp.h":
    int fc_openmp_threads() nogil
    int fc_openmp_limit() nogil

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept

cdef const fc_kernels *_current = NULL
cdef str _current_name = None


cdef const fc_kernels *current() except NULL:
    if _current == NULL:
        _begin()
    return _current


cdef int _begin() except -1:
    """Use what FASTCNN_ISA names, or else the fastest. What cannot be had is warned of, once."""
    wanted, fastest = os.environ.get("FASTCNN_ISA"), available_isas()[0]
    try:
        _use(wanted or fastest)
    except ValueError as error:
        _use(fastest)
        warn(f"FASTCNN_ISA={wanted[:40]!r}, {error}: it is not used")
    return 0


cdef const fc_kernels *_find(str name) except? NULL:
    cdef const fc_kernels *const *table = fc_all_kernels()
    while table[0] != NULL:
        if table[0].isa.decode() == name:
            return table[0]
        table += 1
    return NULL


def isa_names():
    """Names of all instruction sets of this build, fastest first, including those that this machine cannot run.

    Examples
    --------
    >>> isa_names()[-1]
    'generic'
    """
    names = []
    cdef const fc_kernels *const *table = fc_all_kernels()
    while table[0] != NULL:
        names.append(table[0].isa.decode())
        table += 1
    return names


def available_isas():
    """Names of the instruction sets that this machine runs, fastest first.

    Examples
    --------
    >>> 'generic' in available_isas()
    True
    """
    return [name for name in isa_names() if _find(name).available]


def cpu_features():
    """The vector extensions of this machine, as text.

    Examples
    --------
    >>> isinstance(cpu_features(), str)
    True
    """
    return fc_cpu_features().decode()


def set_isa(str name):
    """Use the kernels of one instruction set from now on. Returns the name of the previous one.

    Parameters
    ----------
    name : str
        One of `available_isas()`.

    Raises
    ------
    ValueError
        Where the name is unknown or this machine cannot run it.

    Examples
    --------
    >>> previous = set_isa('generic')
    >>> set_isa(previous)
    'generic'
    """
    previous = isa()
    try:
        _use(name)
    except ValueError as error:
        raise ValueError(f"name={name!r}, {error}") from None
    return previous


cdef int _use(str name) except -1:
    global _current, _current_name
    cdef const fc_kernels *table = _find(name)
    if table == NULL:
        raise ValueError(f"expected one of {', '.join(isa_names())}")
    if not table.available:
        raise ValueError(f"but this processor supports only: {cpu_features()}")
    _current, _current_name = table, name
    return 0


def isa():
    """Name of the instruction set in use."""
    current()
    return _current_name


def vector_length():
    """Floats in a vector of the instruction set in use. A block has as many channels."""
    return current().vl


def tile_pixels():
    """Pixels in the largest convolution tile of the instruction set in use."""
    return current().mr


def measure_peak(double seconds=0.05):
    """Multiply-add peak of one core in FLOP/s, as the best of several bursts.

    Parameters
    ----------
    seconds : float
        Time to spend.

    Examples
    --------
    >>> measure_peak(0.01) > 1e8
    True
    """
    return best_rate(_burst, seconds)


def _burst():
    cdef float sink
    return current().multiply_add_burst(100_000, &sink)


def best_rate(burst, double seconds):
    """Operations per second of the fastest of several bursts. ``burst()`` returns how many operations it did."""
    from time import perf_counter

    best = 0.0
    end = perf_counter() + seconds
    while True:
        start = perf_counter()
        operations = burst()
        now = perf_counter()
        best = max(best, operations / (now - start))
        if now > end:
            return best


# ---------------------------------------------------------------------------------------------------- threads

_openmp_at_import, _openmp_thread_limit = fc_openmp_threads(), fc_openmp_limit()


class _Chosen(threading.local):
    count = None  # threads in the num_threads() context of one Python thread


_chosen = _Chosen()
_process_wide = None  # set_num_threads()
_after_fork = False
_warned_of_missing_threads = False
cdef bint _threads_were_used = False
cdef unsigned long _main_thread = threading.main_thread().ident


def _positive_int(value, str name):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}={value!r}, expected a positive integer")
    value = value.__index__()
    if not 1 <= value <= 1024:
        raise ValueError(f"{name}={value}, expected an integer from 1 to 1024")
    return value


_numbers = None  # of environment.py, once a call has needed them
_default = None
_default_source = None


def _known_numbers():
    """What environment and system say, asked once."""
    global _numbers, _default, _default_source
    if _numbers is None:
        refused = []
        _numbers = environment_numbers(refused)
        _default_source, _default = next((source, number) for source, number in _numbers if number is not None)
        if refused:  # after all is known: where warnings are errors, the next call works
            warn("; ".join(refused))
    return _numbers


def threads_and_source():
    """The number of threads of the next call, and where it comes from."""
    count = get_num_threads()
    if _after_fork:
        return count, "forked child of a process that had used threads"
    if _chosen.count is not None:
        return count, "num_threads context"
    wanted, source = (_default, _default_source) if _process_wide is None else (_process_wide, "set_num_threads")
    return count, source if count == wanted else "limit of the OpenMP runtime"


def thread_numbers():
    """Where a number of threads may come from, the strongest first: (source, number, or None where it says nothing).

    Examples
    --------
    >>> [source for source, number in thread_numbers()][:2]
    ['num_threads context', 'set_num_threads']
    """
    limits = [] if _openmp_thread_limit == INT_MAX else [_openmp_thread_limit]  # OMP_THREAD_LIMIT
    limits += [fc_openmp_threads()] if fc_openmp_threads() < _openmp_at_import else []  # threadpoolctl
    return [
        ("num_threads context", _chosen.count),
        ("set_num_threads", _process_wide),
        *_known_numbers(),
        ("limit of the OpenMP runtime", min(limits, default=None)),
    ]


def get_num_threads():
    """The number of threads that the next call uses.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    cdef int limit
    if _after_fork:
        return 1
    count = _chosen.count
    if count is not None:
        return count if count < _openmp_thread_limit else _openmp_thread_limit
    count = _process_wide
    if count is None:
        if _default is None:
            _known_numbers()
        count = _default
    count = count if count < _openmp_thread_limit else _openmp_thread_limit
    limit = fc_openmp_threads()
    return limit if limit < _openmp_at_import and limit < count else count


def set_num_threads(n):
    """Set the number of threads of all later calls in this process.

    Parameters
    ----------
    n : int or None
        1 to 1024; None restores the number of the environment.

    Raises
    ------
    TypeError, ValueError
        Where n is not a positive integer.

    Examples
    --------
    >>> set_num_threads(2)
    >>> get_num_threads()
    2
    >>> set_num_threads(None)
    """
    global _process_wide
    _process_wide = None if n is None else _positive_int(n, "n")


class num_threads:
    """Context that sets the number of threads of calls from this Python thread, and restores it on leaving.

    Parameters
    ----------
    n : int
        1 to 1024.

    Examples
    --------
    >>> with num_threads(1):
    ...     get_num_threads()
    1
    """

    def __init__(self, n):
        self._count = _positive_int(n, "n")

    def __enter__(self):
        self._previous = _chosen.count
        _chosen.count = self._count
        return self

    def __exit__(self, *exception):
        _chosen.count = self._previous


def threads_of_call(n):
    """The context of a call with `num_threads=n`: with None, the number stays as it is."""
    return nullcontext() if n is None else num_threads(_positive_int(n, "num_threads"))


cdef bint is_main_thread() noexcept:
    return PyThread_get_thread_ident() == _main_thread


cdef void note_threads() noexcept nogil:
    global _threads_were_used
    _threads_were_used = True


def note_missing_threads(wanted, present):
    """Warn, after a run for which the system had fewer threads than were wanted.

    Raises
    ------
    RuntimeError
        In a child process that a signal handler forked within a run: the work of the threads is lost.
    """
    global _warned_of_missing_threads
    if present < 0:
        raise RuntimeError("the process was forked while a network ran: its threads are in the parent")
    if not _warned_of_missing_threads:
        _warned_of_missing_threads = True
        warn(f"{wanted} threads were asked for, the system has given {present}")


def _child_started():
    global _after_fork, _main_thread
    _after_fork = _threads_were_used
    _main_thread = PyThread_get_thread_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_child_started)
