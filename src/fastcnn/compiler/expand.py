"""Expanding: operations that are made of simpler ones become those, such as the gradient of a convolution's input."""

from __future__ import annotations

from collections.abc import Mapping

from fastcnn import ops
from fastcnn.compiler._edit import replaced
from fastcnn.graph.ir import Graph, Node


def expand(graph: Graph, input_shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """The graph without operations that have no kernels of their own.

    Parameters
    ----------
    graph : Graph
        Not changed.
    input_shapes : dict
        Shape of each graph input.
    """
    shapes: dict[str, tuple[int, ...]] | None = None
    nodes: list[Node] = []
    for node in graph.nodes:
        if type(node.kind).expand is ops.Op.expand:
            nodes.append(node)
            continue
        if shapes is None:
            shapes = graph.infer(input_shapes)
        nodes += node.kind.expand(node, shapes)
    return replaced(graph, nodes)
