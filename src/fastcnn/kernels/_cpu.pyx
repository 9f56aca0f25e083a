# cython: binding=True
"""The processor: which instruction set the kernels use, and how many threads.

Only this module decides on the number of threads. The order of precedence is: `num_threads` of a context or
`set_num_threads`; FASTCNN_NUM_THREADS; OMP_NUM_THREADS. Without these, it is the smaller of the processors this process
may run on and the CPU quota of its control groups.

A lower limit of the OpenMP runtime (threadpoolctl, OMP_THREAD_LIMIT) always holds. The threads themselves are those of
csrc/team.c: OpenMP supplies nothing but its limits.
"""

import math
import os
import threading

from libc.limits cimport INT_MAX

from fastcnn.kernels._tiles cimport fc_kernels

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
_refused = None  # why FASTCNN_ISA cannot be had, until another is set


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
    global _current, _current_name, _refused
    cdef const fc_kernels *table = _find(name)
    if table == NULL:
        raise ValueError(f"FASTCNN_ISA={name!r}, expected one of {', '.join(isa_names())}")
    if not table.available:
        raise ValueError(f"FASTCNN_ISA={name!r}, but this processor supports only: {cpu_features()}")
    previous = _current_name
    _current, _current_name, _refused = table, name, None
    return previous


def isa():
    """Name of the instruction set in use.

    Raises
    ------
    ValueError
        If FASTCNN_ISA asks for one that is not there: told by the first call, as programs cannot catch what an import
        raises.
    """
    if _refused is not None:
        raise ValueError(_refused)
    return _current_name


def vector_length():
    """Floats in a vector of the instruction set in use. A block has as many channels."""
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


def _from_environment(str name):
    """The number of threads that a variable sets; None where it is not set or not a number from 1 to 1024."""
    given = os.environ.get(name, "")
    text = given.split(",")[0].strip()
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 1024:
        return int(text)
    if given and name == "FASTCNN_NUM_THREADS":  # OpenMP's runtime warns of its own variable
        import warnings

        from fastcnn.errors import FastcnnWarning

        warnings.warn(f"{name}={given[:40]!r}, expected a number from 1 to 1024: it is not used", FastcnnWarning)
    return None


def _control_groups():
    """Folders of this process's control groups and of all their parents: (folder, version)."""
    try:
        with open("/proc/self/cgroup") as file:
            lines = file.read().split("\n")
    except OSError:
        lines = []
    for line in (*lines, "0::/", ":cpu:/"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        version, root = (1, "/sys/fs/cgroup/cpu") if controllers else (2, "/sys/fs/cgroup")
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            yield "/".join([root, *parts[:depth]]), version


def _quota_of(folder, version):
    """Processors granted by one control group, or None."""
    try:
        if version == 2:
            with open(f"{folder}/cpu.max") as file:
                quota, period = file.read().split()[:2]
        else:
            with open(f"{folder}/cpu.cfs_quota_us") as file:
                quota = file.read()
            with open(f"{folder}/cpu.cfs_period_us") as file:
                period = file.read()
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None  # the group does not exist, or its quota is "max": none


def _quota():
    """Processors that the strictest control group grants, and its folder; or None. Each limits all groups below it."""
    quotas = [(_quota_of(folder, version), folder) for folder, version in _control_groups()]
    return min((quota for quota in quotas if quota[0] is not None), default=None)


def _environment_numbers():
    """What environment and system say of the number of threads: (source, number or None), the strongest first."""
    numbers = [(name, _from_environment(name)) for name in ("FASTCNN_NUM_THREADS", "OMP_NUM_THREADS")]
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processors = ("processors this process may run on", affinity)
    quota, folder = _quota() or (None, None)
    granted = ("quota of the control group" if quota is None else f"quota of the control group {folder}", quota)
    # The smaller one counts.
    return [*numbers, *([granted, processors] if quota is not None and quota < affinity else [processors, granted])]


_numbers = _environment_numbers()
_default_source, _default = next((source, number) for source, number in _numbers if number is not None)


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
        *_numbers,
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
    count = _default if _process_wide is None else _process_wide
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


cdef bint is_main_thread() noexcept:
    return PyThread_get_thread_ident() == _main_thread


cdef void note_threads() noexcept nogil:
    global _threads_were_used
    _threads_were_used = True


def _warn_of_missing_threads(wanted, present):
    global _warned_of_missing_threads
    import warnings

    from fastcnn.errors import FastcnnWarning

    _warned_of_missing_threads = True
    warnings.warn(f"{wanted} threads were asked for, the system has given {present}", FastcnnWarning, stacklevel=2)


def note_missing_threads(wanted, present):
    """Warn, after a run for which the system had fewer threads than were wanted.

    Raises
    ------
    RuntimeError
        In a child process that a signal handler forked within a run: the work of the threads is lost.
    """
    if present < 0:
        raise RuntimeError("the process was forked while a network ran: its threads are in the parent")
    if not _warned_of_missing_threads:
        _warn_of_missing_threads(wanted, present)


def _child_started():
    global _after_fork, _main_thread
    _after_fork = _threads_were_used
    _main_thread = PyThread_get_thread_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_child_started)

set_isa(available_isas()[0])
if os.environ.get("FASTCNN_ISA"):
    try:
        set_isa(os.environ["FASTCNN_ISA"])
    except ValueError as error:
        _refused = str(error)
