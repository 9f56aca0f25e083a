"""Small edits of nodes that several passes share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcnn.graph.ir import Graph, Node


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """The node reading other values."""
    if not any(name in names for name in node.inputs):
        return node
    return Node(node.op, node.name, tuple(names.get(name, name) for name in node.inputs), node.output, node.attrs)


def has_free_filters(node: Node, graph: Graph, algorithm: str) -> bool:
    """Whether it is a convolution by that algorithm whose filters can be put into another order, or be divided up: they
    are constants, and no residual has their order."""
    if node.op != "Conv" or node.attrs["algorithm"] != algorithm or len(node.inputs) > 3:
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
    attrs, inputs = dict(conv.attrs), [x]
    for name in conv.inputs[1:]:
        inputs.append(name and f"{name}{mark}@{conv.name}")
        if name:
            constants[inputs[-1]] = np.asarray(constants[name])[which]
    if "scale" in attrs:
        name, scale = attrs["scale"]
        attrs["scale"] = name, scale[which]
    return Node(conv.op, conv.name, tuple(inputs), conv.output, attrs)
