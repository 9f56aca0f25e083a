"""Which batches pay on this machine: a short measurement of a model, when it is loaded.

batcher.py gathers requests into batches of the sizes that pay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

__all__ = ["batch_sizes", "measured", "useful_sizes"]

_GAIN = 0.97  # of the time for each image, which a larger batch must not exceed
_SECONDS = 0.15  # for each size
_MOST_RUNS, _WARM_UP = 15, 1
_BUDGET = 6.0  # seconds; sizes that are not reached are not used


def batch_sizes(most: int) -> list[int]:
    """Return the sizes that may be used: powers of two, of which each needs a compiled plan.

    Examples
    --------
    >>> batch_sizes(20)
    [1, 2, 4, 8, 16]
    """
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most][:6]


def measured(
    run: Callable[[int], object], sizes: list[int], clock: Callable[[], float] = perf_counter
) -> dict[int, float]:
    """Return the seconds that a batch of each size takes: the least of several runs.

    Parameters
    ----------
    run : callable
        Runs a batch of a size.
    sizes : list of int
        Ascending.
    clock : callable
        Seconds that only grow.

    Examples
    --------
    >>> now = iter(range(100))
    >>> measured(lambda size: None, [1, 2], lambda: next(now))
    {1: 1, 2: 1}
    """
    times: dict[int, float] = {}
    begin = clock()
    for size in sizes:
        for _ in range(_WARM_UP):  # compiles
            run(size)
        best, spent = float("inf"), 0.0
        for _ in range(_MOST_RUNS):
            start = clock()
            run(size)
            took = clock() - start
            best, spent = min(best, took), spent + took
            if spent >= _SECONDS:
                break
        times[size] = best
        if clock() - begin > _BUDGET:
            break
    return times


def useful_sizes(times: Mapping[int, float]) -> list[int]:
    """Return the sizes of batches in which an image takes less time than in all smaller ones; 1 is always there.

    Examples
    --------
    >>> useful_sizes({1: 1.0, 2: 1.5, 4: 3.0, 8: 4.0}), useful_sizes({1: 1.0, 2: 2.0})
    ([1, 2, 8], [1])
    """
    useful: list[int] = []
    best = float("inf")
    for size, seconds in sorted(times.items()):
        if not useful or seconds / size < _GAIN * best:
            useful.append(size)
            best = seconds / size
    return useful
