"""Slices of channels: a convolution and the depthwise one or the pooling that reads it, where what lies between is too
large for the second-level cache, are computed some channels at a time.

    Conv ▸ depthwise Conv  →  Conv(channels 0 .. a) ▸ depthwise Conv(0 .. a), Conv(a .. b) ▸ depthwise Conv(a .. b), ...

The slices take each other's memory; their outputs are concatenated in place.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from fastcnn.compiler._edit import consumers, has_free_filters, is_private, replaced, with_filters
from fastcnn.graph.ir import Graph, Node

# Bytes between the two from which on it pays, and that slices have at most, unless they would be narrower than a tile
# (Sapphire Rapids, 2026-11).
LARGE_BYTES = 1 << 20
SLICE_BYTES = 1 << 19


def cut_channels(graph: Graph, shapes: dict[str, tuple[int, ...]], vl: int) -> Graph:
    """The graph with slices; `shapes` gets those of the new outputs.

    Parameters
    ----------
    graph : Graph
        After choosing; not changed.
    shapes : dict
        Of every value.
    vl : int
        Floats in a vector.
    """
    users, constants = consumers(graph), dict(graph.constants)
    makers = {node.output: node for node in graph.nodes}
    instead: dict[str, list[Node]] = {}
    for reader in graph.nodes:
        conv = makers.get(reader.inputs[0]) if reader.inputs else None
        if conv is None or not _are_such(conv, reader, graph, users):
            continue
        cuts = _cuts(shapes[conv.output], vl)
        if len(cuts) < 3:
            continue
        slices: list[Node] = []
        for low, high in zip(cuts, cuts[1:], strict=False):
            part = _slice(conv, conv.inputs[0], low, high, constants, shapes)
            slices += [part, _slice(reader, part.output, low, high, constants, shapes)]
        whole = Node("Concat", f"{reader.name}[:]", tuple(node.output for node in slices[1::2]), reader.output,
                     {"axis": 1})
        instead[conv.output] = []
        instead[reader.output] = [*slices, whole]
    nodes = [node for old in graph.nodes for node in instead.get(old.output, [old])]
    return replaced(graph, nodes, constants)


def _are_such(conv: Node, reader: Node, graph: Graph, users: dict[str, list[Node]]) -> bool:
    by_channel = reader.op == "MaxPool" or has_free_filters(reader, graph, "depthwise")
    if not (by_channel and has_free_filters(conv, graph, "direct")):
        return False
    joined = any(user.op == "Concat" for user in users[reader.output])  # writes into that concatenation as a whole
    between = is_private(graph, users, conv.output) and reader.output not in graph.outputs and not joined
    return between and conv.attrs["group"] == 1 and "pool" not in conv.attrs


def _cuts(shape: tuple[int, ...], vl: int) -> list[int]:
    """Where slices begin and end: at whole pairs of blocks. Single blocks would stay in the second-level cache where
    pairs do not, but load an input for every multiply-add: Zen 5 computes pairs a quarter faster (2026-11).

    Examples
    --------
    >>> _cuts((1, 96, 56, 56), 16), _cuts((1, 32, 112, 112), 16), _cuts((1, 96, 28, 28), 16)
    ([0, 32, 64, 96], [0, 32], [0, 96])
    """
    bytes_between, channels = 4 * prod(shape), shape[1]
    if bytes_between <= LARGE_BYTES or channels % vl:
        return [0, channels]
    pairs = -(-channels // (2 * vl))
    count = min(pairs, -(-bytes_between // SLICE_BYTES))
    return [min(channels, pairs * i // count * 2 * vl) for i in range(count + 1)]


def _slice(
    node: Node, x: str, low: int, high: int, constants: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]
) -> Node:
    """Channels low .. high of the node's output, from x; the first slice keeps the name."""
    part = f"[{low}:{high}]"
    name, output = node.name if low == 0 else f"{node.name}{part}", f"{node.output}{part}"
    batch, _, *size = shapes[node.output]
    shapes[output] = (batch, high - low, *size)
    if node.op == "MaxPool":
        return replace(node, name=name, inputs=(x,), output=output)
    conv = with_filters(node, x, slice(low, high), part, constants)
    group = high - low if node.attrs["group"] > 1 else 1
    return replace(conv, name=name, output=output, attrs={**conv.attrs, "group": group})
