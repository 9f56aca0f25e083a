"""The state that passes carry: the graph, the shapes of all its values, who reads them, and what has been decided.

Nothing in it is changed once it is made: a pass takes a state and gives another one, or the same where it finds nothing
to do. Shapes are inferred once, of the graph that comes in; from then on every pass adds those of the values that it
makes. Which pass follows which is told in compile.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from fastcnn._forks import computed_once
from fastcnn.graph.ir import Graph, Node, Shape, add_shapes
from fastcnn.kernels.view import Halo, View
from fastcnn.ops.access import Access
from fastcnn.ops.budget import Budget


@dataclass(frozen=True)
class Options:
    """What is asked of the compiler.

    Attributes
    ----------
    vl : int
        Floats in a vector.
    packed_ahead : bool
        Whether weights stay as they are for many runs, so that packing them costs nothing.
    tuning : dict
        Algorithms that measurements have found best, by `Problem.key`.
    parameters : set of str
        Graph inputs that are stored as parameters, in blocks of their first axis.
    pixels : dict
        Graph inputs (N, C, H, W) that are stored as pixels, uint8 (N, H, W, C): what each value of a channel stands
        for, float32 (C, 256).
    together : int
        Images for which weights are read at once, as far as the choice of algorithms is concerned.
    whole : bool
        Whether every node is a step of its own.
    budget : Budget or None
        Asked before anything is computed.
    """

    vl: int
    packed_ahead: bool = True
    tuning: Mapping[str, str] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    pixels: Mapping[str, np.ndarray] = field(default_factory=dict)
    together: int = 1
    whole: bool = False
    budget: Budget | None = None


@dataclass(frozen=True)
class Layouts:
    """How values are stored: what layout.py decides.

    Attributes
    ----------
    lanes : dict
        Channels stored side by side: 1 is plain.
    halos : dict
        Top, left, bottom, right zeros around each plane; absent without halo.
    joins : dict
        Values that are written straight into a concatenation: its output, and their first channel there.
    parameters : set of str
        Values stored as parameters.
    accesses : dict
        By the output of a node, how it reads and writes.
    """

    lanes: Mapping[str, int]
    halos: Mapping[str, Halo] = field(default_factory=dict)
    joins: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    parameters: frozenset[str] = frozenset()
    accesses: Mapping[str, Access] = field(default_factory=dict)


@dataclass(frozen=True)
class Placement:
    """Where values lie: what memory.py decides.

    Attributes
    ----------
    views : dict of str to View
        For each value. Slots: 0 is the arena, then come the graph's inputs, `constants`, and the graph's outputs.
    constants : list of str
        Constants that steps read as they are; the others are packed weights.
    arena_floats : int
        Size of the arena.
    """

    views: Mapping[str, View]
    constants: Sequence[str]
    arena_floats: int


class _Users(dict[str, list[Node]]):
    """The readers of values; a value that nobody reads takes no memory."""

    def __missing__(self, name: str) -> list[Node]:
        return []


@dataclass(frozen=True)
class State:
    """What a pass takes and gives.

    Attributes
    ----------
    graph : Graph
    shapes : dict
        Of every value of the graph.
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
        """For each value the nodes that read it."""
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
        """For each value that is computed the node that does it."""
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
        """The placement, for what follows memory.py."""
        assert self.placement is not None
        return self.placement

    def is_private(self, name: str) -> bool:
        """Whether one node alone reads the value, once, which is none of the graph's outputs."""
        return self.reads[name] == 1 and name not in self.outputs

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
            In place of the graph's; those that nobody reads are dropped.
        shapes : dict, optional
            Of new values. Those that are missing are inferred.
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
