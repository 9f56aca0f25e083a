"""Which values of a network are 8-bit numbers, and which of them share a scale.

A node computes in 8 bits if it has a rule here. Every value that it reads is quantised. A convolution and the ReLU or
clip behind it are one: only the result is quantised, and so with sums. What moves values, or takes the largest of them,
leaves their scale. A concatenation has one scale for all parts. What only float32 nodes read stays float32, and so does
the network's output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fastcnn.graph.ir import Graph, Node
from fastcnn.quantization.floating import is_weighted

__all__ = ["Places", "find_places", "fused", "is_layer"]

# Their outputs have the scale of their inputs.
_SAME_SCALE = (
    *("MaxPool", "AveragePool", "Flatten", "Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Identity"),
    *("Concat", "Expand"),
)
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Swish", "Sigmoid", "Tanh", "Gelu")
_FUSED = ("Relu", "Clip")
_OTHERS = ("Add", "Mul", "GlobalAveragePool")


@dataclass(frozen=True)
class Places:
    """What is quantised.

    Attributes
    ----------
    scales : dict of str to str
        Of each quantised value, the name of the value whose scale it has.
    weighted : tuple of Node
        Convolutions and linear layers that compute in 8 bits.
    layers : tuple of Node
        All nodes that compute in 8 bits, but those that only move values.
    """

    scales: Mapping[str, str]
    weighted: tuple[Node, ...]
    layers: tuple[Node, ...]


def is_layer(node: Node, graph: Graph) -> bool:
    """Whether a node can compute in 8 bits, and does not only move values."""
    if node.op in ("Conv", "Gemm"):
        return is_weighted(node, graph)
    if node.op in ("Add", "Mul"):
        return not any(name in graph.constants for name in node.inputs)
    return node.op in _ACTIVATIONS or node.op in _OTHERS


def find_places(graph: Graph, skip: Collection[str] = (), fuse_sums: bool = False) -> Places:
    """Find what is quantised.

    Parameters
    ----------
    graph : Graph
        As `float_graph` gives it.
    skip : collection of str
        Names of nodes that stay float32, and with them what is fused into these.
    fuse_sums : bool
        Whether a convolution that only a sum reads is not rounded before.
    """
    makers = {node.output: node for node in graph.nodes}
    skip = {*skip, *(after.name for value, after in fused(graph).items() if makers[value].name in skip)}
    layers = [node for node in graph.nodes if is_layer(node, graph) and node.name not in skip]
    moved = {node.output: node for node in graph.nodes if node.op in _SAME_SCALE and node.name not in skip}
    wanted = {name for node in layers for name in node.inputs[: 1 if is_weighted(node, graph) else None] if name}
    wanted -= fused(graph, skip).keys()
    if fuse_sums:
        wanted -= _added(graph, layers)
    _follow_moves(graph, moved, wanted)
    wanted -= {*graph.constants, *graph.outputs}
    scales = _shared(graph, [moved[name] for name in moved if name in wanted], wanted)
    kept = tuple(node for node in layers if not is_weighted(node, graph) or node.inputs[0] in scales)
    return Places(scales, tuple(node for node in kept if is_weighted(node, graph)), kept)


def fused(graph: Graph, skip: Collection[str] = ()) -> dict[str, Node]:
    """The values within a step that computes two nodes, with the second node; nobody stores them."""
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    makers = {node.output: node for node in graph.nodes if node.op in ("Conv", "Gemm", "Add")}
    found = {}
    for node in graph.nodes:
        before = makers.get(node.inputs[0]) if node.op in _FUSED else None
        if before is None or {node.name, before.name} & {*skip} or not is_layer(before, graph):
            continue
        if reads[before.output] == 1 and before.output not in graph.outputs:
            found[before.output] = node
    return found


def _added(graph: Graph, layers: Sequence[Node]) -> set[str]:
    """Outputs of convolutions that only a sum reads; of a sum of two of them the first."""
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    convolutions = {node.output for node in layers if node.op == "Conv"}
    found = set()
    for node in layers:
        if node.op == "Add":
            own = [name for name in node.inputs if name in convolutions and reads[name] == 1]
            found.update(own[:1])
    return found


def _follow_moves(graph: Graph, moved: Mapping[str, Node], wanted: set[str]) -> None:
    """Let what is moved be quantised before, and behind, where 8-bit numbers come or go."""
    for node in reversed(graph.nodes):
        if node.output in moved and node.output in wanted:
            wanted.update(name for name in node.inputs if name)
    for node in graph.nodes:  # a move of quantised inputs alone needs no float32
        if node.output in moved and all(name in wanted for name in node.inputs if name):
            wanted.add(node.output)


def _shared(graph: Graph, moves: list[Node], wanted: set[str]) -> dict[str, str]:
    """Of each value the first of those that share its scale."""
    first = {name: name for name in [*graph.inputs, *(node.output for node in graph.nodes)] if name in wanted}

    def find(name: str) -> str:
        while first[name] != name:
            name = first[name]
        return name

    for node in moves:
        for name in node.inputs:
            if name in first and node.output in first:
                a, b = find(name), find(node.output)
                first[b] = a
    return {name: find(name) for name in first}
