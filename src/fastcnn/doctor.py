"""Self-examination: every kernel, on every instruction set of this machine, against its definition in float64.

The tests go further; this is what a user can run where something looks wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fastcnn import functional as F
from fastcnn import reference
from fastcnn.kernels import _cpu

_ROUNDING = 2.0**-24  # relative error of one float32 operation
_EXP_ROUNDINGS = 8  # what a function built on exp may lose: 4 units in the last place
Bounded = tuple[np.ndarray, np.ndarray, np.ndarray]  # result, expectation, allowed error


@dataclass(frozen=True)
class CheckResult:
    """One kernel on one instruction set.

    Attributes
    ----------
    name, isa : str
    threads : int
    error : float
        Largest error divided by what rounding explains: up to 1 is right.
    passed : bool
    """

    name: str
    isa: str
    threads: int
    error: float
    passed: bool


def run_checks() -> list[CheckResult]:
    """Check every kernel for every available instruction set, on one thread and on all.

    Returns
    -------
    list of CheckResult

    Examples
    --------
    >>> all(result.passed for result in run_checks())
    True
    """
    results = []
    current = _cpu.isa()
    try:
        for isa in _cpu.available_isas():
            _cpu.set_isa(isa)
            for threads in sorted({1, _cpu.get_num_threads()}):
                with _cpu.num_threads(threads):
                    results += [_judge(name, isa, threads, check) for name, check in _checks()]
    finally:
        _cpu.set_isa(current)
    return results


def _judge(name: str, isa: str, threads: int, check: Callable[[], Bounded]) -> CheckResult:
    result, expected, allowed = check()
    with np.errstate(invalid="ignore"):
        error = np.abs(result - expected) / np.maximum(allowed, 1e-30)
    worst = float(error.max()) if result.shape == expected.shape else float("inf")
    return CheckResult(name, isa, threads, worst, bool(worst <= 1.0))  # NaN is not <= 1


def _checks() -> Iterator[tuple[str, Callable[[], Bounded]]]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    convolutions = [
        ("direct 3x3", "direct", (2, 19, 13, 11), (21, 19, 3, 3), 1, (1, 1, 1, 1), 1, 1),
        ("direct 1x1", "direct", (1, 40, 9, 9), (24, 40, 1, 1), 1, (0, 0, 0, 0), 1, 1),
        ("direct 7x7 stride 2", "direct", (1, 3, 31, 29), (33, 3, 7, 7), 2, (3, 3, 2, 2), 1, 1),
        ("direct 3x3 dilated, groups", "direct", (1, 64, 12, 13), (32, 32, 3, 3), 1, (2, 1, 2, 0), 2, 2),
        ("depthwise 3x3", "depthwise", (2, 37, 14, 13), (37, 1, 3, 3), 1, (1, 1, 1, 1), 1, 37),
        ("depthwise 5x5 stride 2", "depthwise", (1, 20, 15, 14), (20, 1, 5, 5), 2, (1, 2, 2, 2), 1, 20),
        ("im2col 3x3", "im2col", (2, 19, 13, 11), (21, 19, 3, 3), 1, (1, 1, 1, 1), 1, 1),
        ("im2col 5x4, groups", "im2col", (1, 9, 17, 12), (15, 3, 5, 4), 3, (2, 0, 1, 3), 2, 3),
    ]
    for name, algorithm, x, w, stride, pads, dilation, groups in convolutions:
        yield f"conv {name}", lambda: _convolution(
            draw(*x), draw(*w), draw(w[0]), (stride, stride), pads, (dilation, dilation), groups, algorithm
        )
    yield "linear", lambda: _linear(draw(7, 301), draw(45, 301), draw(45))
    for name, function, define in _ELEMENTWISE:
        yield name, lambda: _rounded(function, define, 6 * draw(3, 5, 7, 11), _EXP_ROUNDINGS)
    yield "max_pool2d", lambda: _rounded(
        lambda x: F.max_pool2d(x, 3, 2, 1), lambda x: reference.max_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)),
        draw(2, 21, 13, 12), 0,
    )
    yield "avg_pool2d", lambda: _absolute(
        lambda x: F.avg_pool2d(x, 3, 2, 1), lambda x: reference.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)),
        draw(2, 21, 13, 12), 16,
    )
    yield "global_avg_pool2d", lambda: _absolute(
        F.global_avg_pool2d, reference.global_avg_pool2d, draw(2, 21, 13, 12), 16
    )
    mean, spread, weight, bias = draw(21), draw(21) ** 2 + 0.1, draw(21), draw(21)
    yield "batch_norm", lambda: _absolute(
        lambda x: F.batch_norm(x, mean, spread, weight, bias),
        lambda x: reference.batch_norm(x, mean, spread, weight, bias), draw(2, 21, 13, 12), 400,
    )
    yield "softmax", lambda: _rounded(F.softmax, reference.softmax, draw(5, 1001), 64)
    other = draw(2, 21, 13, 12)
    yield "add", lambda: _rounded(lambda x: F.add(x, other), lambda x: reference.add(x, other), draw(2, 21, 13, 12), 1)
    yield "mul", lambda: _rounded(
        lambda x: F.mul(x, other), lambda x: reference.multiply(x, other), draw(2, 21, 13, 12), 1
    )
    yield "concat", lambda: _rounded(
        lambda x: F.concat([x, other]), lambda x: reference.concat([x, other]), draw(2, 5, 13, 12), 0
    )
    yield "pad", lambda: _rounded(
        lambda x: F.pad(x, (1, 2, 3, 0)), lambda x: reference.pad(x, (0, 0, 3, 1, 0, 0, 0, 2)), draw(2, 5, 13, 12), 0
    )
    yield "flatten", lambda: _rounded(F.flatten, reference.flatten, draw(2, 5, 13, 12), 0)


_ELEMENTWISE: list[tuple[str, Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = [
    ("relu", F.relu, reference.relu),
    ("clip", F.relu6, lambda x: reference.clip(x, 0.0, 6.0)),
    ("leaky_relu", F.leaky_relu, reference.leaky_relu),
    ("tanh", F.tanh, reference.tanh),
    ("sigmoid", F.sigmoid, reference.sigmoid),
    ("hardswish", F.hardswish, reference.hard_swish),
    ("silu", F.silu, reference.silu),
]


def _convolution(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: tuple[int, int], pads: tuple[int, ...],
    dilation: tuple[int, int], groups: int, algorithm: str,
) -> Bounded:
    """(K + 2) roundings of the sum of sizes: Higham, Accuracy and Stability of Numerical Algorithms, 2002, 3.1."""
    result = F.conv2d(x, weight, bias, stride, pads, dilation, groups, algorithm)
    expected = reference.conv2d(x, weight, bias, stride, pads, dilation, groups)
    sizes = reference.conv2d(np.abs(x), np.abs(weight), np.abs(bias), stride, pads, dilation, groups)
    return result, expected, (np.prod(weight.shape[1:]) + 2) * _ROUNDING * sizes


def _linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Bounded:
    sizes = reference.linear(np.abs(x), np.abs(weight), np.abs(bias))
    return F.linear(x, weight, bias), reference.linear(x, weight, bias), (x.shape[1] + 2) * _ROUNDING * sizes


def _rounded(
    function: Callable[[np.ndarray], np.ndarray], define: Callable[[np.ndarray], np.ndarray], x: np.ndarray,
    roundings: float,
) -> Bounded:
    """So many roundings of each result."""
    expected = define(x)
    return function(x), expected, roundings * _ROUNDING * np.abs(expected)


def _absolute(
    function: Callable[[np.ndarray], np.ndarray], define: Callable[[np.ndarray], np.ndarray], x: np.ndarray,
    roundings: float,
) -> Bounded:
    """So many roundings of the largest input: for sums that may cancel."""
    expected = define(x)
    return function(x), expected, np.full_like(expected, roundings * _ROUNDING * np.abs(x).max())
