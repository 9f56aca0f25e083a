"""What environment and system say of the number of threads: variables, processors, control groups.

_cpu.pyx asks once, when the first call needs a number, and decides.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

__all__ = ["environment_numbers", "warn"]

_ROOT = "/"  # of the system's files


def warn(message: str) -> None:
    """Give a FastcnnWarning."""
    import warnings  # slow to import, and seldom needed

    from fastcnn.errors import FastcnnWarning

    warnings.warn(message, FastcnnWarning, stacklevel=2)


def environment_numbers(refused: list[str]) -> list[tuple[str, int | None]]:
    """The number of threads by source, None where it says nothing; the strongest source first.

    Values of variables that are no number are told to `refused`.
    """
    numbers = [(name, _from_variable(name, refused)) for name in ("FASTCNN_NUM_THREADS", "OMP_NUM_THREADS")]
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processors = ("processors this process may run on", affinity)
    quota, folder = _quota() or (None, None)
    granted = ("quota of the control group" if quota is None else f"quota of the control group {folder}", quota)
    # The smaller one counts.
    return [*numbers, *([granted, processors] if quota is not None and quota < affinity else [processors, granted])]


def _from_variable(name: str, refused: list[str]) -> int | None:
    given = os.environ.get(name, "")
    text = given.split(",")[0].strip()  # OpenMP takes a number for each level of nested teams
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 1024:
        return int(text)
    if given:
        refused.append(f"{name}={given[:40]!r}, expected a number from 1 to 1024: it is not used")
    return None


def _control_groups() -> Iterator[tuple[str, int]]:
    """Folders of this process's control groups and of all their parents: (folder, version)."""
    try:
        with open(f"{_ROOT}proc/self/cgroup") as file:
            lines = file.read().split("\n")
    except OSError:
        lines = []
    for line in (*lines, "0::/", ":cpu:/"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        version, root = (1, f"{_ROOT}sys/fs/cgroup/cpu") if controllers else (2, f"{_ROOT}sys/fs/cgroup")
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            yield "/".join([root, *parts[:depth]]), version


def _quota_of(folder: str, version: int) -> int | None:
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


def _quota() -> tuple[int, str] | None:
    """Processors that the strictest control group grants, and its folder; or None. Each limits all groups below it."""
    granted = [(quota, folder) for folder, version in _control_groups() if (quota := _quota_of(folder, version))]
    return min(granted, default=None)
