"""Nodes: one operation each. Apart from ir.py, so that operations, which ir.py asks, can make some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes
    ----------
    op : str
        ONNX name, such as "Conv".
    name : str
        Where it comes from, such as "layer1.0.conv1"; unique in a graph.
    inputs : tuple of str
        Names of values; "" stands for an optional one that is absent.
    output : str
        Name of the value it computes.
    attrs : dict
        All of its attributes.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any]


def live(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    """The nodes that outputs depend on, of nodes in the order in which they run.

    Examples
    --------
    >>> nodes = [Node("Relu", "a", ("x",), "y", {}), Node("Relu", "b", ("x",), "z", {})]
    >>> [node.name for node in live(nodes, ["z"])]
    ['b']
    """
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if node.output in needed:
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1]
