"""Small edits of graphs that several passes share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcnn.graph.ir import Graph, Node


def replaced(graph: Graph, nodes: list[Node], constants: dict[str, np.ndarray] | None = None) -> Graph:
    """The graph with other nodes, and constants if given; unused constants are dropped."""
    constants = graph.constants if constants is None else constants
    used = {name for node in nodes for name in node.inputs} | set(graph.outputs)
    kept = {name: array for name, array in constants.items() if name in used}
    return Graph(nodes, graph.inputs, graph.outputs, kept, graph.types)


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node reading other values."""
    return Node(node.op, node.name, tuple(names.get(name, name) for name in node.inputs), node.output, node.attrs)


def consumers(graph: Graph) -> dict[str, list[Node]]:
    """For each value the nodes that read it."""
    users: dict[str, list[Node]] = {name: [] for name in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        users.setdefault(node.output, [])
        for name in node.inputs:
            if name:
                users.setdefault(name, []).append(node)
    return users
