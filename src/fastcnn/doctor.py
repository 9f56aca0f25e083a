"""Self-examination: every kernel, on every instruction set of this machine, against its definition in float64.

The tests go further; this is what a user can run where something looks wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from fastcnn import functional as F
from fastcnn import reference
from fastcnn.doctor_training import ROUNDING, Bounded, near, training_checks, winograd
from fastcnn.kernels import _cpu

_EXP_ROUNDINGS = 8  # what a function built on exp may lose: 4 units in the last place


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

    for name, algorithm, x, w, stride, pads, dilation, groups in _CONVOLUTIONS:
        yield (
            f"conv {name}",
            partial(
                _convolution, draw(*x), draw(*w), draw(w[0]), (stride,) * 2, pads, (dilation,) * 2, groups, algorithm
            ),
        )
    for algorithm in _WINOGRAD:
        yield f"conv {algorithm} 3x3", partial(winograd, draw(2, 32, 13, 15), draw(33, 32, 3, 3), algorithm)
    yield "linear", partial(_linear, draw(7, 301), draw(45, 301), draw(45))
    for name, function, define, roundings in _ELEMENTWISE:
        yield name, partial(_rounded, function, define, 6 * draw(2, 21, 13, 12), roundings)
    for name, function, define, roundings in _SUMS:
        yield name, partial(_absolute, function, define, draw(2, 21, 13, 12), roundings)
    for name, function_of_tokens, define_tokens, shapes, roundings in _TOKENS:
        yield name, partial(near, function_of_tokens, define_tokens, tuple(draw(*s) for s in shapes), roundings)
    yield from training_checks(draw)


_CONVOLUTIONS = [
    ("direct 3x3", "direct", (2, 19, 13, 11), (21, 19, 3, 3), 1, (1, 1, 1, 1), 1, 1),
    ("direct 1x1", "direct", (1, 40, 9, 9), (24, 40, 1, 1), 1, (0, 0, 0, 0), 1, 1),
    ("direct 7x7 stride 2", "direct", (1, 3, 31, 29), (33, 3, 7, 7), 2, (3, 3, 2, 2), 1, 1),
    ("direct 3x3 dilated, groups", "direct", (1, 64, 12, 13), (32, 32, 3, 3), 1, (2, 1, 2, 0), 2, 2),
    ("direct 3x3, groups across blocks", "direct", (1, 10, 9, 13), (26, 5, 3, 3), 1, (1, 1, 1, 1), 1, 2),
    ("depthwise 3x3", "depthwise", (2, 37, 14, 13), (37, 1, 3, 3), 1, (1, 1, 1, 1), 1, 37),
    ("depthwise 5x5 stride 2", "depthwise", (1, 20, 15, 14), (20, 1, 5, 5), 2, (1, 2, 2, 2), 1, 20),
    ("im2col 3x3", "im2col", (2, 19, 13, 11), (21, 19, 3, 3), 1, (1, 1, 1, 1), 1, 1),
    ("im2col 5x4, groups", "im2col", (1, 9, 17, 12), (15, 3, 5, 4), 3, (2, 0, 1, 3), 2, 3),
]
_WINOGRAD = ("winograd", "winograd2", "winograd_lean", "winograd6")
_OTHER = np.linspace(-1, 2, 2 * 21 * 13 * 12, dtype=np.float32).reshape(2, 21, 13, 12)
_CHANNEL = np.linspace(0.1, 2, 21, dtype=np.float32)
Function = Callable[[np.ndarray], np.ndarray]
# Name, kernel, definition, and how many roundings of each result are allowed.
_ELEMENTWISE: list[tuple[str, Function, Function, float]] = [
    ("relu", F.relu, reference.relu, 0),
    ("clip", F.relu6, lambda x: reference.clip(x, 0.0, 6.0), 0),
    ("leaky_relu", F.leaky_relu, reference.leaky_relu, 3),
    ("tanh", F.tanh, reference.tanh, _EXP_ROUNDINGS),
    ("sigmoid", F.sigmoid, reference.sigmoid, _EXP_ROUNDINGS),
    ("hardswish", F.hardswish, reference.hard_swish, _EXP_ROUNDINGS),
    ("silu", F.silu, reference.silu, _EXP_ROUNDINGS),
    ("gelu", F.gelu, reference.gelu, _EXP_ROUNDINGS),
    ("softmax", lambda x: F.softmax(x, 1), lambda x: reference.softmax(x, 1), 2 * _EXP_ROUNDINGS + 21),
    (
        "max_pool2d",
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: reference.max_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)),
        0,
    ),
    ("add", lambda x: F.add(x, _OTHER), lambda x: reference.add(x, _OTHER), 1.01),
    ("mul", lambda x: F.mul(x, _OTHER), lambda x: reference.multiply(x, _OTHER), 1.01),
    ("concat", lambda x: F.concat([x, _OTHER]), lambda x: reference.concat([x, _OTHER]), 0),
    ("pad", lambda x: F.pad(x, (1, 2, 3, 0)), lambda x: reference.pad(x, (0, 0, 3, 1, 0, 0, 0, 2)), 0),
    ("flatten", F.flatten, reference.flatten, 0),
]
# The same for sums that may cancel: roundings of the largest input.
_SUMS: list[tuple[str, Function, Function, float]] = [
    (
        "avg_pool2d",
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        lambda x: reference.avg_pool2d(x, (3, 3), (2, 2), (1, 1, 1, 1)),
        16,
    ),
    ("global_avg_pool2d", F.global_avg_pool2d, reference.global_avg_pool2d, 16),
    (
        "batch_norm",
        lambda x: F.batch_norm(x, _CHANNEL, _CHANNEL, _CHANNEL, _CHANNEL),
        lambda x: reference.batch_norm(x, _CHANNEL, _CHANNEL, _CHANNEL, _CHANNEL),
        16,
    ),
]
# What networks of tokens compute, from several arrays: roundings of the largest result.
_HEADS = ((2, 3, 7, 16), (2, 3, 9, 16), (2, 3, 9, 21))
_SEEN = np.where(np.tri(7, 9, 2, dtype=bool), 0.0, -np.inf).astype(np.float32)
_TOKENS: list[tuple[str, Callable[..., np.ndarray], Callable[..., np.ndarray], tuple[tuple[int, ...], ...], float]] = [
    ("erf", F.erf, reference.erf, ((2, 21, 13, 12),), _EXP_ROUNDINGS),
    (
        "softmax of rows",
        lambda x: F.softmax(x, -1),
        lambda x: reference.softmax(x, -1),
        ((2, 7, 45),),
        2 * _EXP_ROUNDINGS,
    ),
    ("permute", lambda x: F.permute(x, (0, 2, 1)), lambda x: x.transpose(0, 2, 1), ((2, 7, 45),), 0),
    ("layer_norm", lambda x, w, b: F.layer_norm(x, 45, w, b), reference.layer_norm, ((2, 7, 45), (45,), (45,)), 64),
    (
        "rms_norm",
        lambda x, w: F.rms_norm(x, 45, w),
        lambda x, w: reference.layer_norm(x, w, centred=False),
        ((2, 7, 45), (45,)),
        64,
    ),
    (
        "group_norm",
        lambda x, w, b: F.group_norm(x, 3, w, b),
        lambda x, w, b: reference.group_norm(x, 3, w, b),
        ((2, 21, 9, 8), (21,), (21,)),
        64,
    ),
    ("matmul", F.matmul, reference.matmul, ((2, 3, 7, 19), (3, 19, 21)), 32),
    ("attention", F.scaled_dot_product_attention, reference.attention, _HEADS, 128),
    (
        "attention with a mask",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, _SEEN),
        lambda q, k, v: reference.attention(q, k, v, _SEEN),
        _HEADS,
        128,
    ),
]


def _convolution(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    algorithm: str,
) -> Bounded:
    """(K + 2) roundings of the sum of sizes: Higham, Accuracy and Stability of Numerical Algorithms, 2002, 3.1."""
    result = F.conv2d(x, weight, bias, stride, pads, dilation, groups, algorithm)
    expected = reference.conv2d(x, weight, bias, stride, pads, dilation, groups)
    sizes = reference.conv2d(np.abs(x), np.abs(weight), np.abs(bias), stride, pads, dilation, groups)
    return result, expected, (np.prod(weight.shape[1:]) + 2) * ROUNDING * sizes


def _linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Bounded:
    sizes = reference.linear(np.abs(x), np.abs(weight), np.abs(bias))
    return F.linear(x, weight, bias), reference.linear(x, weight, bias), (x.shape[1] + 2) * ROUNDING * sizes


def _rounded(
    function: Callable[[np.ndarray], np.ndarray],
    define: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    roundings: float,
) -> Bounded:
    """The error may be `roundings` roundings of each result."""
    expected = define(x)
    return function(x), expected, roundings * ROUNDING * np.abs(expected)


def _absolute(
    function: Callable[[np.ndarray], np.ndarray],
    define: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    roundings: float,
) -> Bounded:
    """The error may be `roundings` roundings of the largest input, for sums that may cancel."""
    expected = define(x)
    return function(x), expected, np.full_like(expected, roundings * ROUNDING * np.abs(x).max())
