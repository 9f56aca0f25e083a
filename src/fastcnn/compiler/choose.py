"""Choosing: which algorithm computes a convolution.

An ordered list, best first; the first that has no reason against it wins. Each entry tells in words why it cannot do
a layer, for `Model.summary()` and for errors where an algorithm is forced. The choice depends on the layer and the
instruction set, never on measured times, the number of threads or the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A convolution, as far as the choice depends on it.

    Attributes
    ----------
    in_channels, out_channels, groups : int
    kernel, strides, dilations : tuple of int
        Height, width.
    vl : int
        Channels in a block.
    """

    in_channels: int
    out_channels: int
    groups: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    vl: int


@dataclass(frozen=True)
class Algorithm:
    """An entry of the list.

    Attributes
    ----------
    name : str
    layout : {"blocked", "plain"}
        What it reads and writes; blocked inputs carry their padding as halo.
    why_not : callable
        From a Problem to the reason against it, or "".
    """

    name: str
    layout: str
    why_not: Callable[[Problem], str]


def _why_not_depthwise(p: Problem) -> str:
    if p.groups == p.in_channels == p.out_channels and p.groups > 1:
        return ""
    return f"not depthwise: {p.in_channels} channels to {p.out_channels} in {p.groups} groups"


def _why_not_direct(p: Problem) -> str:
    ins, outs = p.in_channels // p.groups, p.out_channels // p.groups
    if p.groups > 1 and (ins % p.vl or outs % p.vl):
        return f"groups of {ins} to {outs} channels cut through blocks of {p.vl}"
    return ""


ALGORITHMS: tuple[Algorithm, ...] = (
    Algorithm("depthwise", "blocked", _why_not_depthwise),
    Algorithm("direct", "blocked", _why_not_direct),
    Algorithm("im2col", "plain", lambda p: ""),
)


def algorithm_names() -> tuple[str, ...]:
    """What `conv2d(algorithm=)` takes.

    Examples
    --------
    >>> algorithm_names()
    ('auto', 'depthwise', 'direct', 'im2col')
    """
    return ("auto", *(entry.name for entry in ALGORITHMS))


def choose(problem: Problem, wanted: str = "auto") -> tuple[Algorithm, dict[str, str]]:
    """The algorithm for a convolution, and why not the ones before it.

    Parameters
    ----------
    problem : Problem
    wanted : str
        "auto", or a name that has to be used.

    Returns
    -------
    (Algorithm, dict of str to str)

    Raises
    ------
    ValueError
        Where the wanted algorithm cannot compute this layer, with the reason.

    Examples
    --------
    >>> layer = Problem(64, 64, 64, (3, 3), (1, 1), (1, 1), vl=8)
    >>> choose(layer)[0].name
    'depthwise'
    >>> choose(layer, "im2col")[0].name
    'im2col'
    """
    if wanted != "auto":
        return _forced(problem, wanted, ALGORITHMS)
    reasons: dict[str, str] = {}
    for entry in ALGORITHMS:
        reason = entry.why_not(problem)
        if not reason:
            return entry, reasons
        reasons[entry.name] = reason
    raise ValueError(f"algorithm='auto': none computes {problem}: {reasons}")  # im2col never refuses


def _forced(problem: Problem, wanted: str, entries: Sequence[Algorithm]) -> tuple[Algorithm, dict[str, str]]:
    for entry in entries:
        if entry.name == wanted:
            reason = entry.why_not(problem)
            if reason:
                raise ValueError(f"algorithm={wanted!r} cannot compute this layer: {reason}")
            return entry, {other.name: f"algorithm={wanted!r} was asked for" for other in entries if other != entry}
    raise ValueError(f"algorithm={wanted!r}, expected one of {', '.join(algorithm_names())}")
