"""Small edits of graphs that several passes share."""

from __future__ import annotations

from collections.abc import Collection, Mapping

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


def is_private(outputs: Collection[str], users: Mapping[str, list[Node]], name: str) -> bool:
    """Whether one node alone reads the value, which is none of the graph's outputs."""
    return len(users[name]) == 1 and name not in outputs


def has_free_filters(node: Node, graph: Graph, algorithm: str) -> bool:
    """Whether it is a convolution by that algorithm whose filters can be put into another order, or be divided up: they
    are constants, and no residual has their order."""
    constant = all(name in graph.constants for name in node.inputs[1:] if name)
    return node.op == "Conv" and node.attrs["algorithm"] == algorithm and len(node.inputs) <= 3 and constant


def with_filters(conv: Node, x: str, which: np.ndarray | slice, mark: str, constants: dict[str, np.ndarray]) -> Node:
    """The convolution of x with some of its filters, or with all in another order.

    Parameters
    ----------
    conv : Node
        As `has_free_filters` says.
    x : str
    which : int array or slice
        Of the output channels.
    mark : str
        Tells the new constants from others of the same origin.
    constants : dict
        Gets them.
    """
    attrs, inputs = dict(conv.attrs), [x]
    for name in conv.inputs[1:]:
        inputs.append(name and f"{name}{mark}@{conv.name}")
        if name:
            constants[inputs[-1]] = np.asarray(constants[name])[which]
    if "scale" in attrs:
        name, scale = attrs["scale"]
        attrs["scale"] = name, scale[which]
    return Node(conv.op, conv.name, tuple(inputs), conv.output, attrs)
