"""The profile of a prediction: the time of each step, beside the limits of the machine.

Steps and their arithmetic come from the compiled plan. The limits are measured on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn._figure import drawn
from fastcnn._table import as_html, as_table
from fastcnn.kernels import _cpu, _executor, _pool, storage
from fastcnn.kernels.view import View

if TYPE_CHECKING:
    from fastcnn.compiler.network import Runnable

__all__ = ["Profile", "StepProfile", "profile_plan"]

_HEADINGS = ("step", "kernel", "ms", "share", "GFLOP/s", "GB/s", "of limit", "limit")
_LEFT_ALIGNED = (0, 1, 7)


@dataclass(frozen=True)
class StepProfile:
    """One step of a prediction.

    Attributes
    ----------
    name : str
        Path of the layer, or the name of the node.
    fused : tuple of str
        Layers that are fused into the step.
    kernel : str
        Name of the kernel, for instance "direct" or "winograd".
    reasons : mapping of str to str
        Why the other algorithms were not chosen.
    seconds : float
        Median time.
    operations : int
        Floating point operations by the layer's definition; a multiply-add counts two. Winograd does fewer, and can
        exceed the peak.
    bytes : int
        Size of inputs, weights and output.
    limit : {"arithmetic", "memory"}
        The slower of two: the arithmetic at the multiply-add peak, or moving the bytes at the memory's bandwidth.
    percent : float
        Time at this limit, in percent of the measured time. It exceeds 100 if data stay in the caches, or if Winograd
        saves arithmetic.
    """

    name: str
    fused: tuple[str, ...]
    kernel: str
    reasons: Mapping[str, str]
    seconds: float
    operations: int
    bytes: int
    limit: str
    percent: float


@dataclass(frozen=True)
class Profile:
    """Times of all steps; ``print`` shows them as a table.

    Attributes
    ----------
    steps : list of StepProfile
        In the order of execution.
    seconds : float
        Median time of a prediction. It lacks the waits that timing adds between steps, and is less than their sum.
    isa : str
        Instruction set.
    threads : int
    peak : float
        Measured multiply-add peak of the threads, FLOP/s.
    bandwidth : float
        Measured bytes a second that the threads read from memory.
    """

    steps: list[StepProfile]
    seconds: float
    isa: str
    threads: int
    peak: float
    bandwidth: float

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as plain numbers, strings, lists and dicts, for `json.dump`."""
        return asdict(self)

    def __str__(self) -> str:
        total = sum(step.seconds for step in self.steps) or 1.0
        rows = [_HEADINGS, *(_cells(step, total) for step in self.steps)]
        return as_table(
            rows,
            _LEFT_ALIGNED,
            (
                f"{1e3 * self.seconds:.3f} ms, {sum(step.operations for step in self.steps) / self.seconds / 1e9:.1f} "
                f"GFLOP/s; {self.isa}, {self.threads} thread(s), multiply-add peak {self.peak / 1e9:.0f} GFLOP/s, "
                f"memory {self.bandwidth / 1e9:.0f} GB/s"
            ),
        )

    def _repr_html_(self) -> str:
        return as_html(self)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw the roofline: arithmetic per byte and speed of each step, below the machine's limit.

        Parameters
        ----------
        path : path-like
            Image to write; the suffix (.png, .svg, .pdf) names the format.

        Raises
        ------
        ImportError
            Without matplotlib, which ``pip install "fastcnn[plot]"`` brings.

        Notes
        -----
        Williams, Waterman and Patterson, Roofline: an insightful visual performance model, 2009.
        """
        drawn("Profile.plot", (8, 5), self._draw, path)

    def _draw(self, figure: Any) -> None:
        axes = figure.add_subplot()
        steps = [step for step in self.steps if step.operations]
        for kernel in sorted({step.kernel for step in steps}):
            own = [step for step in steps if step.kernel == kernel]
            axes.scatter(
                [step.operations / step.bytes for step in own],
                [step.operations / step.seconds / 1e9 for step in own],
                s=[10 + 400 * step.seconds / self.seconds for step in own],
                alpha=0.6,
                label=kernel,
            )
        intensity = np.geomspace(0.1, max([1000.0, *(step.operations / step.bytes for step in steps)]), 100)
        axes.plot(
            intensity,
            np.minimum(self.peak, self.bandwidth * intensity) / 1e9,
            color="black",
            linewidth=1,
            label="limit of the machine",
        )
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="FLOP per byte",
            ylabel="GFLOP/s",
            title=f"Roofline: {1e3 * self.seconds:.2f} ms, {self.isa}, {self.threads} thread(s); areas are times",
        )
        axes.legend(fontsize=8)


def _cells(step: StepProfile, total: float) -> tuple[str, ...]:
    return (
        step.name,
        step.kernel,
        f"{1e3 * step.seconds:.4f}",
        f"{100 * step.seconds / total:.1f} %",
        f"{step.operations / step.seconds / 1e9:.1f}",
        f"{step.bytes / step.seconds / 1e9:.1f}",
        f"{step.percent:.0f} %",
        step.limit,
    )


def profile_plan(plan: Runnable, inputs: Sequence[np.ndarray], repeats: int) -> Profile:
    """Time the steps of a plan.

    Parameters
    ----------
    plan : Runnable
    inputs : sequence of float32 arrays
    repeats : int
        Runs whose median time counts.
    """
    threads = plan.threads()
    peak, bandwidth = _cpu.measure_peak(0.1) * threads, measure_bandwidth(threads)
    plan.run(inputs)  # the first run pays for memory's first use
    times = np.median(plan.times(inputs, repeats), axis=0)
    steps = []
    for info, seconds in zip(plan.steps, times.tolist(), strict=True):
        arithmetic, memory = info.operations / peak, info.bytes / bandwidth
        steps.append(
            StepProfile(
                info.name,
                info.fused,
                info.kernel,
                info.reasons,
                seconds,
                info.operations,
                info.bytes,
                "arithmetic" if arithmetic > memory else "memory",
                100 * max(arithmetic, memory) / seconds,
            )
        )
    return Profile(steps, _median_seconds(plan, inputs, repeats), _cpu.isa(), threads, peak, bandwidth)


def _median_seconds(plan: Runnable, inputs: Sequence[np.ndarray], repeats: int) -> float:
    """Return the median time of a run, from outside."""
    times = []
    for _ in range(repeats):
        start = perf_counter()
        plan.run(inputs)
        times.append(perf_counter() - start)
    return float(np.median(times))


def measure_bandwidth(threads: int, megabytes: int = 128) -> float:
    """Measure the bytes a second that `threads` read from memory: the best of several passes.

    Parameters
    ----------
    threads : int
    megabytes : int
        Size of the array; more than the caches hold.
    """
    vl = _cpu.vector_length()
    planes, pixels = 64, megabytes * (1 << 20) // (4 * vl * 64)
    x = View(1, planes * vl, 1, pixels, planes * pixels * vl, pixels * vl, pixels * vl, vl, slot=1)
    y = View(1, planes * vl, 1, 1, planes * vl, vl, vl, vl, slot=2)
    arrays = [np.zeros(x.image, np.float32), np.empty(y.image, np.float32)]
    arrays[0].fill(1.0)  # writes to each page, as untouched pages share one page of zeros
    arena, scratch = storage.allocate(1), storage.allocate(threads * storage.ALIGNMENT)
    executor = _executor.Executor([_pool.GlobalMean(y, x)], [False], arena, scratch, threads)
    best = min(executor.times(arrays, threads)[0] for _ in range(5))
    return arrays[0].nbytes / best
