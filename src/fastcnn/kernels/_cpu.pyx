"""The processor: which instruction set the kernels use, and how many threads.

The one file that owns thread counts. The order of precedence: `num_threads` of a context or `set_num_threads`,
FASTCNN_NUM_THREADS, OMP_NUM_THREADS, then the smaller of the processors this process may run on and the CPU quota
of its control group. A lower limit set on the OpenMP runtime (threadpoolctl) always holds.
"""

import math
import os
import threading

from libc.stddef cimport ptrdiff_t

from fastcnn.kernels._tiles cimport fc_kernels

cdef extern from "fastcnn.h":
    const fc_kernels *const *fc_all_kernels()
    const char *fc_cpu_features()

cdef extern from "omp.h":
    int omp_get_max_threads() nogil

cdef const fc_kernels *_current = NULL
cdef str _current_name = None


cdef const fc_kernels *current() noexcept:
    return _current


cdef const fc_kernels *_find(str name) except? NULL:
    cdef const fc_kernels *const *table = fc_all_kernels()
    while table[0] != NULL:
        if table[0].isa.decode() == name:
            return table[0]
        table += 1
    return NULL


def isa_names():
    """Names of all instruction sets of this build, best first; the unusable ones included.

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
    """Names of the instruction sets that this machine runs, best first.

    Examples
    --------
    >>> 'generic' in available_isas()
    True
    """
    return [name for name in isa_names() if _find(name).available]


def cpu_features():
    """The vector extensions found, as text.

    Examples
    --------
    >>> isinstance(cpu_features(), str)
    True
    """
    return fc_cpu_features().decode()


def set_isa(str name):
    """Use the kernels of one instruction set from now on; gives back the name of the previous one.

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
    global _current, _current_name
    cdef const fc_kernels *table = _find(name)
    if table == NULL:
        raise ValueError(f"FASTCNN_ISA={name!r}, expected one of {', '.join(isa_names())}")
    if not table.available:
        raise ValueError(f"FASTCNN_ISA={name!r}, but this processor supports only: {cpu_features()}")
    previous = _current_name
    _current, _current_name = table, name
    return previous


def isa():
    """Name of the instruction set in use."""
    return _current_name


def vector_length():
    """Floats in a vector of the instruction set in use: channels in a block."""
    return _current.vl


def tile_pixels():
    """Pixels in the largest convolution tile of the instruction set in use."""
    return _current.mr


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
    from time import perf_counter

    cdef float sink
    cdef double best = 0.0
    end = perf_counter() + seconds
    while True:
        start = perf_counter()
        operations = _current.multiply_add_burst(100_000, &sink)
        now = perf_counter()
        best = max(best, operations / (now - start))
        if now > end:
            return best


# ---------------------------------------------------------------------------------------------------- threads

_openmp_at_import = omp_get_max_threads()


class _Chosen(threading.local):
    count = None  # of num_threads() contexts of one Python thread


_chosen = _Chosen()
_process_wide = None  # set_num_threads()
_after_fork = False
_region_has_run = False


def _positive_int(value, str name):
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}={value!r}, expected a positive integer")
    value = value.__index__()
    if not 1 <= value <= 1024:
        raise ValueError(f"{name}={value}, expected an integer from 1 to 1024")
    return value


def _from_environment(str name):
    text = os.environ.get(name, "").split(",")[0].strip()
    return int(text) if text.isdigit() and 1 <= int(text) <= 1024 else None


def _quota():
    """Processors granted by the control group (version 2, then 1), or None."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()[:2]
    except (OSError, ValueError):
        try:
            with open("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") as file:
                quota = file.read().strip()
            with open("/sys/fs/cgroup/cpu/cpu.cfs_period_us") as file:
                period = file.read().strip()
        except OSError:
            return None
    try:
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):
        return None  # "max": no quota


def _default_threads():
    for name in ("FASTCNN_NUM_THREADS", "OMP_NUM_THREADS"):
        count = _from_environment(name)
        if count is not None:
            return count, name
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    if quota is not None and quota < affinity:
        return quota, "quota of the control group"
    return affinity, "processors this process may run on"


_default, _default_source = _default_threads()


def threads_and_source():
    """The number of threads of the next call, and where it comes from."""
    count = get_num_threads()
    if _after_fork:
        return count, "forked child of a process that had used threads"
    if _chosen.count is not None:
        return count, "num_threads context"
    wanted, source = (_default, _default_source) if _process_wide is None else (_process_wide, "set_num_threads")
    return count, source if count == wanted else "limit of the OpenMP runtime"


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
        return count
    count = _default if _process_wide is None else _process_wide
    limit = omp_get_max_threads()
    return limit if limit < _openmp_at_import and limit < count else count


def set_num_threads(n):
    """Set the number of threads of all later calls in this process.

    Parameters
    ----------
    n : int or None
        1 to 1024; None goes back to the environment's number.

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
    """Context: the number of threads of calls from this Python thread, restored on leaving.

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


def note_region():
    """Called by the executor before its first parallel region: from then on forked children stay on one thread,
    because the OpenMP runtime's workers do not survive a fork, and waiting for them would never end."""
    global _region_has_run
    _region_has_run = True


def _child_started():
    global _after_fork
    _after_fork = _region_has_run


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_child_started)

set_isa(os.environ.get("FASTCNN_ISA") or available_isas()[0])
