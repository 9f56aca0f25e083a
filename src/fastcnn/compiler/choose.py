"""Choosing: which algorithm computes a convolution.

Each algorithm of a list tells in words why it cannot compute a layer, and estimates how long it would take. The fastest
of those that can is chosen. An estimate depends on the layer, the instruction set and the size of the batch alone. The
number of threads and the place of an image in the batch therefore never change the algorithm. `Model.summary()` shows
the choice for a single image, and the reasons against the others. An error tells the reason against a forced algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import gcd, prod, sqrt

from fastcnn._record import record
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node
from fastcnn.kernels import _conv_bf16, _cpu
from fastcnn.kernels._conv_winograd import filter_numbers, line_products, line_sizes, patch_counts
from fastcnn.ops.base import resolve_pads
from fastcnn.ops.decisions import ConvChoice

# The estimates assume these rates of one core: docs/tuning.md, "Estimates".

# Operations a second, by the floats in a vector; a multiply-add counts two.
ARITHMETIC = {16: 130e9, 8: 85e9, 4: 20e9}
# Bytes a second of weights that the third-level cache may hold, and the most bytes of them.
NEAR_STREAM, NEAR_BYTES = 22e9, 4 << 20
# Bytes a second of larger weights, which come from memory. All cores share its bandwidth.
WEIGHT_STREAM = 9e9
# Bytes a second of activations that a transform or a copy moves.
TRANSFORM = 30e9
# The fraction of ARITHMETIC that remains if filters are transformed while they are read.
LEAN_ARITHMETIC = {16: 0.8, 8: 0.65, 4: 0.65}
# A further fraction (LEAN_FAR) if LEAN_PATCHES patches, which share the transformed filters, have more than LEAN_BYTES:
# the second-level cache does not hold them.
LEAN_PATCHES, LEAN_BYTES, LEAN_FAR = 16, 1 << 20, 0.8
# How many times ARITHMETIC products in bfloat16 are.
BFLOAT16 = 1.9
# The fraction of ARITHMETIC that remains for Winograd's algorithm with stride 2, which adds its products to sums in
# memory.
STRIDED_ARITHMETIC = 0.9


@record
class Problem:
    """The properties of a convolution on which the choice depends.

    Attributes
    ----------
    in_channels, out_channels, groups : int
    kernel, strides, dilations : tuple of int
        Height, width.
    vl : int
        Channels in a block.
    size : tuple of int
        Height and width of the output.
    packed_ahead : bool
        Whether weights are packed once, for many calls.
    images : int
        Images for which the weights are read once.
    bfloat16 : bool
        Whether products may be of numbers that are rounded to bfloat16.
    """

    in_channels: int
    out_channels: int
    groups: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    vl: int
    size: tuple[int, int]
    packed_ahead: bool = True
    images: int = 1
    bfloat16: bool = False

    @property
    def key(self) -> str:
        """The layer in words, by which tuning remembers it; the same for every batch.

        Examples
        --------
        >>> Problem(64, 128, 1, (3, 3), (2, 2), (1, 1), vl=8, size=(28, 28)).key
        '64 to 128 channels, 3x3, stride 2x2, dilation 1x1, groups 1, output 28x28, blocks of 8'
        """
        kernel, stride, dilation, size = (
            "x".join(map(str, pair)) for pair in (self.kernel, self.strides, self.dilations, self.size)
        )
        return (
            f"{self.in_channels} to {self.out_channels} channels, {kernel}, stride {stride}, dilation {dilation}, "
            f"groups {self.groups}, output {size}, blocks of {self.vl}"
        )

    @property
    def operations(self) -> float:
        """Floating point operations of the definition, for one image; a multiply-add counts two."""
        taps = self.kernel[0] * self.kernel[1] * self.in_channels // self.groups
        return 2.0 * taps * self.out_channels * self.size[0] * self.size[1]


@record
class Algorithm:
    """A way to compute a convolution.

    Attributes
    ----------
    name : str
    layout : {"blocked", "plain"}
        The layout that it reads and writes; a blocked input carries its padding as a halo.
    why_not : callable
        From a Problem to the reason why the algorithm cannot compute it; "" if it can.
    seconds : callable
        From a Problem to the estimated time of an image on one core.
    error : float
        Largest rounding error for operands of random sign, relative to the Euclidean norm of the result, divided by
        sqrt(in_channels + 8) (see `error_of`). 0 if only the products of the definition are added.
    on_request : str
        Why it is taken only if it is asked for by name; "" if it is also chosen without that.
    """

    name: str
    layout: str
    why_not: Callable[[Problem], str]
    seconds: Callable[[Problem], float]
    error: float = 0.0
    on_request: str = ""

    def error_of(self, channels: int) -> float:
        """The largest relative error for a number of input channels; it grows as a random walk does.

        Examples
        --------
        >>> f"{ALGORITHMS[2].error_of(64):.1e}"
        '4.2e-06'
        """
        return self.error * sqrt(channels + 8)


def _why_not_depthwise(p: Problem) -> str:
    if p.groups == p.in_channels == p.out_channels and p.groups > 1:
        return ""
    return f"not depthwise: {p.in_channels} channels to {p.out_channels} in {p.groups} groups"


def _why_not_winograd(*strides: int) -> Callable[[Problem], str]:
    def why_not(p: Problem) -> str:
        if p.kernel != (3, 3) or p.strides not in [(stride, stride) for stride in strides] or p.dilations != (1, 1):
            return (
                f"kernel {p.kernel}, stride {p.strides}, dilation {p.dilations}: it takes 3 x 3, stride "
                f"{' or '.join(map(str, strides))}, dilation 1"
            )
        return "" if p.groups == 1 else f"{p.groups} groups: it takes one"

    return why_not


def _why_not_bfloat16(p: Problem) -> str:
    if not _conv_bf16.available() or p.vl != _cpu.vector_length():
        return "the instruction set in use has no products in bfloat16"
    if p.in_channels < p.vl or p.groups > 1:
        return f"{p.in_channels} channels, {p.groups} groups: it takes at least {p.vl}, and one group"
    return "" if p.packed_ahead else "its weights are packed ahead, and not in every call"


def _bfloat16_seconds(p: Problem) -> float:
    """The time of products, and of rounding inputs, which are read as floats."""
    outs = -(-p.out_channels // p.vl) * p.vl
    inputs = 6.0 * p.in_channels * p.size[0] * p.size[1] * p.strides[0] * p.strides[1]
    weights = 2.0 * p.in_channels * outs * p.kernel[0] * p.kernel[1]
    stream = weights / p.images / (NEAR_STREAM if weights <= NEAR_BYTES else WEIGHT_STREAM)
    arithmetic = outs / p.out_channels * p.operations / (BFLOAT16 * ARITHMETIC[p.vl])
    return max(arithmetic, stream) + inputs / TRANSFORM


def _direct_seconds(p: Problem) -> float:
    """The time of full vectors, even if they hold fewer channels; a block counts once for each group in it."""
    outs = p.out_channels // p.groups
    period = p.vl // gcd(outs, p.vl)  # after this many groups, blocks and groups begin at one channel again
    starts, count = [group * outs for group in range(min(period, p.groups))], [0] * period
    for group, first in enumerate(starts):
        count[group] = -(-(first + outs) // p.vl) - first // p.vl
    vectors = p.groups // period * sum(count) + sum(count[: p.groups % period])
    return vectors * p.vl / p.out_channels * p.operations / ARITHMETIC[p.vl]


def _im2col_seconds(p: Problem) -> float:
    columns = 4.0 * p.in_channels * p.kernel[0] * p.kernel[1] * p.size[0] * p.size[1]
    return _direct_seconds(p) + 2 * columns / TRANSFORM


def _winograd_seconds(m: int, lean: bool = False) -> Callable[[Problem], float]:
    def seconds(p: Problem) -> float:
        _, side, sums = line_sizes(m, p.strides[0])
        last = sum(to == sums - 1 for _, _, to in line_products(m, p.strides[0]))
        counts = [patch_counts(size, m) for size in p.size]  # fused maxima, which need full patches, come later
        patches = prod(full + slim for full, slim in counts)
        products = prod(full * side + slim * (side - last) for full, slim in counts)
        outs = -(-p.out_channels // p.vl) * p.vl
        arithmetic = 2.0 * products * p.in_channels * outs / ARITHMETIC[p.vl]
        if p.strides[0] == 2:
            arithmetic /= STRIDED_ARITHMETIC
        if lean:
            far = 4 * side**2 * min(LEAN_PATCHES, patches * p.images) * p.in_channels > LEAN_BYTES
            arithmetic /= LEAN_ARITHMETIC[p.vl] * (LEAN_FAR if far else 1.0)
        size = 4.0 * filter_numbers(m, p.strides[0], lean) * p.in_channels * outs
        weights = size / p.images / (NEAR_STREAM if size <= NEAR_BYTES else WEIGHT_STREAM)
        moved = 2 * 4.0 * patches * (side**2 * p.in_channels + sums**2 * outs)
        packing = 0.0 if p.packed_ahead else 1.0  # transforming filters in each call takes longer than the layer
        return max(arithmetic, weights) + moved / TRANSFORM + packing

    return seconds


ALGORITHMS: tuple[Algorithm, ...] = (
    Algorithm("depthwise", "blocked", _why_not_depthwise, lambda p: p.operations / ARITHMETIC[p.vl]),
    Algorithm("direct", "blocked", lambda p: "", _direct_seconds),
    Algorithm("winograd", "blocked", _why_not_winograd(1), _winograd_seconds(4), error=5e-7),
    Algorithm("winograd2", "blocked", _why_not_winograd(1, 2), _winograd_seconds(2), error=2e-7),
    Algorithm("winograd_lean", "blocked", _why_not_winograd(1), _winograd_seconds(4, lean=True), error=5e-7),
    Algorithm(
        "winograd6",
        "blocked",
        _why_not_winograd(1),
        _winograd_seconds(6),
        error=5e-6,
        on_request="larger rounding errors than the others'",
    ),
    Algorithm(
        "bfloat16",
        "blocked",
        _why_not_bfloat16,
        _bfloat16_seconds,
        error=3e-3,
    ),
    Algorithm(
        "im2col",
        "plain",
        lambda p: "",
        _im2col_seconds,
        on_request="copies every input once for each tap, to multiply as direct convolution does",
    ),
)


def algorithm_names() -> tuple[str, ...]:
    """What `conv2d(algorithm=)` takes. bfloat16 is chosen by the number type of a model alone.

    Examples
    --------
    >>> algorithm_names()
    ('auto', 'depthwise', 'direct', 'winograd', 'winograd2', 'winograd_lean', 'winograd6', 'im2col')
    """
    return ("auto", *(entry.name for entry in ALGORITHMS if entry.name != "bfloat16"))


def choose(
    problem: Problem, wanted: str = "auto", tuning: Mapping[str, str] | None = None
) -> tuple[Algorithm, dict[str, str]]:
    """The algorithm for a convolution, and why not the others.

    Parameters
    ----------
    problem : Problem
    wanted : str
        "auto", or the name of the algorithm to use.
    tuning : dict, optional
        Names of the algorithms that tuning has found fastest, by `Problem.key`. One that cannot compute the layer is
        ignored.

    Returns
    -------
    (Algorithm, dict of str to str)

    Raises
    ------
    ValueError
        If the wanted algorithm cannot compute this layer; the reason is told.

    Examples
    --------
    >>> layer = Problem(64, 64, 1, (3, 3), (1, 1), (1, 1), vl=8, size=(56, 56))
    >>> choose(layer)[0].name
    'winograd'
    >>> choose(layer, "im2col")[0].name
    'im2col'
    """
    if wanted != "auto":
        return _forced(problem, wanted, ALGORITHMS)
    entries = [entry for entry in ALGORITHMS if problem.bfloat16 or entry.name != "bfloat16"]
    reasons = {entry.name: entry.why_not(problem) for entry in entries}
    for entry in entries:
        if entry.on_request and not reasons[entry.name]:
            reasons[entry.name] = f"{entry.on_request}: only where it is asked for"
    able = [entry for entry in entries if not reasons[entry.name]]  # direct computes every layer
    tuned = tuning.get(problem.key) if tuning else None
    for entry in able:
        if entry.name == tuned:
            found = {other.name: f"tuning has found {tuned} faster" for other in able if other is not entry}
            return entry, {name: found.get(name, reason) for name, reason in reasons.items() if name != tuned}
    seconds = {entry.name: entry.seconds(problem) for entry in able}
    best = min(able, key=lambda entry: seconds[entry.name])
    for name, time in seconds.items():
        reasons[name] = f"estimated at {1e3 * time:.3f} ms, {best.name} at {1e3 * seconds[best.name]:.3f} ms"
    del reasons[best.name]
    return best, reasons


def _forced(problem: Problem, wanted: str, entries: Sequence[Algorithm]) -> tuple[Algorithm, dict[str, str]]:
    for entry in entries:
        if entry.name == wanted:
            reason = entry.why_not(problem)
            if reason:
                raise ValueError(f"algorithm={wanted!r} cannot compute this layer: {reason}")
            return entry, {other.name: f"algorithm={wanted!r} was asked for" for other in entries if other != entry}
    raise ValueError(f"algorithm={wanted!r}, expected one of {', '.join(algorithm_names())}")


def choose_algorithms(state: State) -> State:
    """Give every convolution its algorithm, layout and actual padding, and the reasons (`ConvChoice`)."""
    shapes, tuning = state.shapes, state.options.tuning
    found: dict[tuple[Problem, str], tuple[Algorithm, dict[str, str], str]] = {}  # networks repeat their layers
    nodes = []
    for node in state.graph.nodes:
        if node.op == "Conv":
            problem, wanted = _problem(node, state), node.attrs["algorithm"]
            try:
                if (problem, wanted) not in found:
                    found[problem, wanted] = *choose(problem, wanted, tuning), problem.key
            except ValueError as error:
                where = f"node {node.name!r} (Conv): " if node.name else ""  # eager calls name no node
                raise ValueError(f"{where}{error}") from None
            entry, reasons, key = found[problem, wanted]
            pads = resolve_pads(node.attrs, shapes[node.inputs[0]][2:], problem.kernel)
            choice = ConvChoice(entry.name, entry.layout, problem.kernel, pads, key, reasons)
            node = node.deciding(choice=choice)
        nodes.append(node)
    return state.with_nodes(nodes)


def _problem(node: Node, state: State) -> Problem:
    options, weight, size = state.options, state.shapes[node.inputs[1]], state.shapes[node.output]
    return Problem(
        state.shapes[node.inputs[0]][1],
        weight[0],
        node.attrs["group"],
        (weight[2], weight[3]),
        node.attrs["strides"],
        node.attrs["dilations"],
        options.vl,
        (size[2], size[3]),
        options.packed_ahead,
        options.together,
        options.bfloat16,
    )
