"""Small edits of nodes that several passes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fastcnn.graph.ir import Graph, Node


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node with some of its inputs renamed."""
    if names.keys().isdisjoint(node.inputs):
        return node
    return node.reading(names.get(name, name) for name in node.inputs)


def has_free_filters(node: Node, graph: Graph, algorithm: str) -> bool:
    """Whether the node is a convolution by that algorithm whose filters can be reordered or sliced.

    They can if they are constants, and if no residual has the order of their outputs.
    """
    if node.op != "Conv" or node.choice.algorithm != algorithm or len(node.inputs) > 3:
        return False
    return all(name in graph.constants for name in node.inputs[1:] if name)


def with_filters(conv: Node, x: str, which: np.ndarray | slice, mark: str, constants: dict[str, np.ndarray]) -> Node:
    """The convolution of x with some of its filters, or with all in another order.

    Parameters
    ----------
    conv : Node
        A node that `has_free_filters` accepts.
    x : str
        Name of the input.
    which : int array or slice
        The output channels to compute, in their new order.
    mark : str
        Keeps the names of the new constants apart from others of the same origin.
    constants : dict
        Receives the new constants.
    """
    inputs, scale = [x], conv.decided.scale
    for name in conv.inputs[1:]:
        inputs.append(name and f"{name}{mark}@{conv.name}")
        if name:
            constants[inputs[-1]] = np.asarray(constants[name])[which]
    conv = conv.reading(inputs)
    return conv if scale is None else conv.deciding(scale=replace(scale, factors=scale.factors[which]))
