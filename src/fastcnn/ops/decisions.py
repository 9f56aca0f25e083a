"""Decisions: what the compiler's passes tell each other, and the lowering of a node, beside its attributes.

Each pass fills in its own fields; none stands in a graph that comes from outside. What the attributes mean is told by
each operation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Activation", "ConvChoice", "Decisions", "Finish", "Scale"]

Activation = tuple[str, Mapping[str, Any]]  # its operation and attributes


@dataclass(frozen=True)
class ConvChoice:
    """How a convolution is computed: compiler/choose.py's.

    Attributes
    ----------
    algorithm : str
    layout : {"blocked", "plain"}
        What the algorithm reads and writes.
    kernel : tuple of int
        Height, width.
    pads : tuple of int
        The actual padding: top, left, bottom, right.
    problem : str
        `Problem.key`, by which tuning knows the layer.
    reasons : dict
        The algorithms that were not chosen, and why.
    """

    algorithm: str
    layout: str
    kernel: tuple[int, int]
    pads: tuple[int, int, int, int]
    problem: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finish:
    """What a kernel does to its results before it stores them, its epilogue: compiler/fuse.py's.

    A residual, which is added first, is an input of the node.

    Attributes
    ----------
    activation : (str, dict) or None
    pool : bool
        Whether the maxima of 2 x 2 pixels are stored alone.
    """

    activation: Activation | None = None
    pool: bool = False


@dataclass(frozen=True)
class Scale:
    """A batch normalisation that multiplies a convolution's filters: compiler/fold.py's.

    Attributes
    ----------
    norm : str
        Its name, by which packed filters are kept.
    factors : ndarray
        Of each filter.
    """

    norm: str
    factors: np.ndarray


@dataclass(frozen=True)
class Decisions:
    """What has been decided about a node.

    Attributes
    ----------
    fused : tuple of str
        Names of the nodes that became part of it.
    scale : Scale or None
        fold: what its filters are multiplied with.
    finish : Finish
        fuse: what it does to its results.
    gate : (str, dict) or None
        fuse: the activation that the gradient it reads has yet to pass.
    choice : ConvChoice or None
        choose: how a convolution is computed.
    places : tuple of int
        shuffle: where each input channel lies; () as they are numbered.
    blocks : tuple of int
        layout: channels, height and width of the images in blocks that its rows are; () where they are rows.
    packed : dict
        pack: by the place of a weight among its inputs, the place of the packed ones.

    Examples
    --------
    >>> Decisions(finish=Finish(("Relu", {}))).finish.pool
    False
    """

    fused: tuple[str, ...] = ()
    scale: Scale | None = None
    finish: Finish = Finish()
    gate: Activation | None = None
    choice: ConvChoice | None = None
    places: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    packed: Mapping[int, int] = field(default_factory=dict)

    def changed(self, **changes: Any) -> Decisions:
        """The decisions with other values: `dataclasses.replace` without its cost, as compiling makes many."""
        assert changes.keys() <= self.__dict__.keys()
        result = object.__new__(Decisions)
        result.__dict__.update(self.__dict__, **changes)
        return result
