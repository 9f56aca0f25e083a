"""Small edits of nodes that several passes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fastcnn.graph.ir import Graph, Node


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node reading other values."""
    if names.keys().isdisjoint(node.inputs):
        return node
    return node.reading(names.get(name, name) for name in node.inputs)


def has_free_filters(node: Node, graph: Graph, algorithm: str) -> bool:
    """Whether it is a convolution by that algorithm whose filters can be put into another order, or be divided up: they
    are constants, and no residual has their order."""
    if node.op != "Conv" or node.choice.algorithm != algorithm or len(node.inputs) > 3:
        return False
    return all(name in graph.constants for name in node.inputs[1:] if name)


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
    inputs, scale = [x], conv.decided.scale
    for name in conv.inputs[1:]:
        inputs.append(name and f"{name}{mark}@{conv.name}")
        if name:
            constants[inputs[-1]] = np.asarray(constants[name])[which]
    conv = conv.reading(inputs)
    return conv if scale is None else conv.deciding(scale=replace(scale, factors=scale.factors[which]))
