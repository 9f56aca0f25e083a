"""Expanding: an operation that consists of simpler ones, such as a convolution's gradient, becomes those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node, Shape
from fastcnn.ops.node import Op


def expand(state: State) -> State:
    """Replace operations that have no kernels of their own."""
    nodes = expanded(state.graph.nodes, state.shapes)
    return state if nodes == state.graph.nodes else state.with_nodes(nodes)


def expanded(nodes: Iterable[Node], shapes: Mapping[str, Shape]) -> list[Node]:
    """The nodes, with simpler ones in place of those without kernels of their own.

    Parameters
    ----------
    nodes : iterable of Node
    shapes : dict
        Shape of every value.
    """
    result: list[Node] = []
    for node in nodes:
        if type(node.kind).expand is Op.expand:
            result.append(node)
        else:
            result += node.kind.expand(node, shapes)
    return result
