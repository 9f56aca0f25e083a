"""The state that passes carry: the graph, the shapes of all its values, who reads them, and what has been decided.

A state never changes. A pass takes a state and gives another one, or the same if it finds nothing to do. Shapes are
inferred once, for the graph that comes in; every pass adds the shapes of the values that it makes. compile.py tells the
order of the passes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, replace
from itertools import chain

import numpy as np

from fastcnn._forks import computed_once
from fastcnn._record import record
from fastcnn.graph.ir import Graph, Node, Shape, add_shapes, live
from fastcnn.kernels.view import FLOAT32, Halo, View
from fastcnn.ops.access import Access
from fastcnn.ops.budget import Budget

Strides = tuple[int, int, int]
FLOATS = (FLOAT32, 0)  # type of the elements and byte of the padding of most values


@record
class Options:
    """What is asked of the compiler.

    Attributes
    ----------
    vl : int
        Floats in a vector.
    packed_ahead : bool
        Whether weights are packed once for many runs. Then the choice of algorithms does not count the time of packing.
    tuning : dict
        Names of the algorithms that tuning has found fastest, by `Problem.key`.
    parameters : set of str
        Graph inputs that are stored as parameters, in blocks of their first axis.
    pixels : dict
        Graph inputs (N, C, H, W) that are stored as pixels, uint8 (N, H, W, C). Each has a table of what the values of
        a channel stand for, float32 (C, 256).
    together : int
        Images for which weights are read once, as the choice of algorithms assumes.
    bfloat16 : bool
        Whether convolutions may multiply numbers that are rounded to bfloat16.
    whole : bool
        Whether every node is a step of its own.
    budget : Budget or None
        Asked before anything is computed.
    strides : tuple of (tuple of int or None)
        Floats from one image, channel and row to the next: of each graph input, then of each output. None stands for a
        contiguous array, and () for all of them.
    """

    vl: int
    packed_ahead: bool = True
    tuning: Mapping[str, str] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    pixels: Mapping[str, np.ndarray] = field(default_factory=dict)
    together: int = 1
    whole: bool = False
    budget: Budget | None = None
    strides: tuple[Strides | None, ...] = ()
    bfloat16: bool = False


@record
class Layouts:
    """How values are stored, as layout.py decides.

    Attributes
    ----------
    lanes : dict
        Channels stored side by side: 1 is plain.
    halos : dict
        Top, left, bottom, right zeros around each plane; absent without halo.
    joins : dict
        The concatenation that a value is written straight into, and the value's first channel there.
    parameters : set of str
        Values stored as parameters.
    accesses : dict
        By the output of a node, how it reads and writes.
    elements : dict
        Type of the elements, and the byte of the padding, of values that are not float32.
    """

    lanes: Mapping[str, int]
    halos: Mapping[str, Halo] = field(default_factory=dict)
    joins: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    accesses: Mapping[str, Access] = field(default_factory=dict)
    elements: Mapping[str, tuple[str, int]] = field(default_factory=dict)


@record
class Placement:
    """Where values lie, as memory.py decides.

    Attributes
    ----------
    views : dict of str to View
        View of each value. Slot 0 is the arena; the graph's inputs, `constants` and the graph's outputs follow.
    constants : list of str
        Constants that steps read as they are; the others are packed weights.
    arena_bytes : int
        Size of the arena.
    """

    views: Mapping[str, View]
    constants: Sequence[str]
    arena_bytes: int


class _Users(dict[str, list[Node]]):
    """The readers of values; a value that nobody reads takes no memory."""

    def __missing__(self, name: str) -> list[Node]:
        return []


@record
class State:
    """What a pass takes and gives.

    Attributes
    ----------
    graph : Graph
    shapes : dict
        Shape of every value of the graph.
    options : Options
    work : dict
        Floating point operations of each node after fusing, by operation and name.
    operations : int
        Of all of them.
    layouts : Layouts or None
    placement : Placement or None
    """

    graph: Graph
    shapes: Mapping[str, Shape]
    options: Options
    work: Mapping[tuple[str, str], int] = field(default_factory=dict)
    operations: int = 0
    layouts: Layouts | None = None
    placement: Placement | None = None

    @computed_once
    def users(self) -> Mapping[str, Sequence[Node]]:
        """The nodes that read each value."""
        users = _Users()
        for node in self.graph.nodes:
            for name in node.inputs:
                if name in users:
                    users[name].append(node)
                elif name:
                    users[name] = [node]
        return users

    @computed_once
    def reads(self) -> Mapping[str, int]:
        """How many inputs of nodes each value is: enough for most passes, and made faster than lists of all readers."""
        return Counter(chain.from_iterable([node.inputs for node in self.graph.nodes]))

    @computed_once
    def reader(self) -> Mapping[str, Node]:
        """For each value that is read the last node that does."""
        return {name: node for node in self.graph.nodes for name in node.inputs}

    @computed_once
    def makers(self) -> Mapping[str, Node]:
        """The node that computes each value."""
        return {node.output: node for node in self.graph.nodes}

    @computed_once
    def outputs(self) -> frozenset[str]:
        """Names of the graph's outputs."""
        return frozenset(self.graph.outputs)

    @property
    def arranged(self) -> Layouts:
        """The layouts, for passes behind layout.py."""
        assert self.layouts is not None
        return self.layouts

    @property
    def placed(self) -> Placement:
        """The placement, for stages behind memory.py."""
        assert self.placement is not None
        return self.placement

    def is_private(self, name: str) -> bool:
        """Whether one node alone reads the value, once, which is none of the graph's outputs."""
        return self.reads[name] == 1 and name not in self.outputs

    def wanted(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes that outputs depend on, and those that change what outlives a run, with what these depend on."""
        changes = [node.output for node in nodes if node.kind.updates]
        return live([*nodes], [*self.graph.outputs, *changes])

    def with_nodes(
        self,
        nodes: Iterable[Node],
        constants: dict[str, np.ndarray] | None = None,
        shapes: Mapping[str, Shape] | None = None,
    ) -> State:
        """The state with other nodes.

        Parameters
        ----------
        nodes : iterable of Node
        constants : dict, optional
            They replace the graph's constants; those that nobody reads are dropped.
        shapes : dict, optional
            Shapes of new values; missing ones are inferred.
        """
        nodes, graph = list(nodes), self.graph
        known = {**self.shapes, **(shapes or {})}
        if constants is None:
            constants = graph.constants
        else:
            used = {name for node in nodes for name in node.inputs} | self.outputs
            constants = {name: array for name, array in constants.items() if name in used}
            known |= {name: array.shape for name, array in constants.items()}
        add_shapes(nodes, known)
        return replace(self, graph=replace(graph, nodes=nodes, constants=constants), shapes=known)
