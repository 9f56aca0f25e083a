"""Decisions: what the compiler's passes tell each other, and lowering, about a node.

Each pass fills in its own fields; a graph from outside the compiler has none of the decisions. The attributes of a node
are no decisions: its operation defines them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np

from fastcnn._record import record

__all__ = ["Activation", "ConvChoice", "Decisions", "Finish", "Scale"]

Activation = tuple[str, Mapping[str, Any]]  # its operation and attributes


@record
class ConvChoice:
    """How a convolution is computed, as compiler/choose.py decides.

    Attributes
    ----------
    algorithm : str
    layout : {"blocked", "plain"}
        The layout that the algorithm reads and writes.
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


@record
class Finish:
    """The epilogue of a kernel, which works on results before they are stored, as compiler/fuse.py decides.

    A residual, which is added first, is an input of the node.

    Attributes
    ----------
    activation : (str, dict) or None
    pool : bool
        Whether only the maxima of 2 x 2 pixels are stored.
    """

    activation: Activation | None = None
    pool: bool = False


@record
class Scale:
    """A batch normalisation that multiplies a convolution's filters, as compiler/fold.py decides.

    Attributes
    ----------
    norm : str
        Its name, which is part of the key of packed filters.
    factors : ndarray
        The factor of each filter.
    """

    norm: str
    factors: np.ndarray


@record
class Decisions:
    """What has been decided about a node.

    Attributes
    ----------
    fused : tuple of str
        Names of the nodes that became part of it.
    scale : Scale or None
        Made by fold: the factors of its filters.
    finish : Finish
        Made by fuse: its epilogue.
    gate : (str, dict) or None
        Made by fuse: the activation whose gradient it applies to `grad`.
    choice : ConvChoice or None
        Made by choose: how a convolution is computed.
    places : tuple of int
        Made by shuffle: where each input channel lies; () for channels in order.
    blocks : tuple of int
        Made by layout: channels, height and width of the blocked images that serve as its rows; () for rows.
    packed : dict
        Made by pack: for the index of a weight among the inputs, the index of its packed copy.

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
