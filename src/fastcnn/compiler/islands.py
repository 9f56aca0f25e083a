"""Islands: what a resolved graph leaves to NumPy becomes operations of kernels' graphs, so that one plan computes all.

A general operation with a float32 output becomes an `Island`. Operations before it whose outputs have other types are
part of it: kernels read float32 alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from fastcnn import ops
from fastcnn.compiler.rewriter import FLOAT, Known
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels._evaluate import MOST_INPUTS

__all__ = ["can_be_outside", "with_islands"]

# Operations that several islands read are computed in each. A graph may have this many times its nodes in islands.
MOST_COPIES = 4


def can_be_outside(value: Known) -> bool:
    """Whether kernels can read a value: float32, of a known shape, with elements."""
    return value.shape is not None and value.dtype == FLOAT and prod(value.shape) > 0


def with_islands(graph: Graph, known: Mapping[str, Known], max_bytes: int) -> Graph | None:
    """The graph with islands in place of general operations; None where a plan cannot hold it.

    Parameters
    ----------
    graph : Graph
        Resolved: see resolve.py.
    known : dict of str to Known
        What is known of its values.
    max_bytes : int
        The most bytes that a run of an island may take for each image.

    Returns
    -------
    Graph or None
        None where a shape depends on values, or where an input or output of the graph is not float32.
    """
    makers = {node.output: node for node in graph.nodes}
    if graph.types or not all(name in makers and can_be_outside(known[name]) for name in graph.outputs):
        return None
    places = {name: place for place, name in enumerate(makers)}
    inside = {name for name, node in makers.items() if ops.is_general(node.op) and not can_be_outside(known[name])}
    nodes, copies = [], 0
    for node in graph.nodes:
        if not ops.is_general(node.op):
            if not inside.isdisjoint(node.inputs):
                return None
            nodes.append(node)
        elif node.output not in inside:
            parts = sorted(_parts(node, makers, inside), key=lambda part: places[part.output])
            copies += len(parts)
            if copies > MOST_COPIES * len(graph.nodes) or any(known[part.output].shape is None for part in parts):
                return None
            nodes.append(_island(parts, graph.constants, known, max_bytes))
            if len(nodes[-1].inputs) > MOST_INPUTS:
                return None
    used = {name for node in nodes for name in node.inputs}
    constants = {name: array for name, array in graph.constants.items() if name in used}
    return replace(graph, nodes=nodes, constants=constants)


def _parts(node: Node, makers: Mapping[str, Node], inside: set[str]) -> list[Node]:
    """A node, and those before it whose values no kernel can read."""
    parts: dict[str, Node] = {}
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if part.output not in parts:
            parts[part.output] = part
            waiting += [makers[name] for name in part.inputs if name in inside]
    return list(parts.values())


def _island(parts: list[Node], constants: Mapping[str, np.ndarray], known: Mapping[str, Known], max_bytes: int) -> Node:
    from fastcnn.ops.island import Island

    made, last = {part.output for part in parts}, parts[-1]
    read = dict.fromkeys(name for part in parts for name in part.inputs if name and name not in made)
    own = {name: constants[name] for name in read if name in constants and not can_be_outside(known[name])}
    inputs = tuple(name for name in read if name not in own)
    island = Island(tuple(parts), inputs, own, max_bytes)
    island.note({name: value.shape for name, value in known.items() if name in made or name in read})
    return Node(ops.ISLAND, last.name, inputs, last.output, {"island": island})
