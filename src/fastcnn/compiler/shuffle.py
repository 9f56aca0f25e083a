"""Shuffles of channels between grouped convolutions vanish: the second convolution looks up where its inputs lie.

    Reshape (N, G, C / G, ...) ▸ Transpose 1, 2 ▸ Reshape (N, C, H, W) ▸ depthwise Conv ▸ Conv of groups
    →  depthwise Conv with reordered filters ▸ Conv of groups(places=)

The depthwise convolution in between may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from fastcnn.compiler._edit import has_free_filters, with_filters
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node


def fold_shuffles(state: State) -> State:
    """Remove the shuffles whose readers can look channels up, as only direct convolution can."""
    graph, shapes, constants = state.graph, state.shapes, dict(state.graph.constants)
    instead: dict[str, Node | None] = {}  # by the output of a node: what stands in its place

    def reader(name: str) -> Node | None:
        """The only reader of a value, or None."""
        return state.reader[name] if state.is_private(name) else None

    for first in graph.nodes:
        transpose = reader(first.output) if first.op == "Reshape" else None
        last = reader(transpose.output) if transpose is not None else None
        sources = _sources(first, transpose, last, shapes)
        conv = reader(last.output) if last is not None and sources is not None else None
        if conv is None or transpose is None or last is None or sources is None:
            continue
        shuffle, x = (first, transpose, last), first.inputs[0]
        if has_free_filters(conv, graph, "depthwise"):
            after = reader(conv.output)
            if after is None or not _looks_up(after, conv.output):
                continue
            instead[conv.output] = with_filters(conv, x, np.argsort(sources), ":shuffled", constants)
            conv, x = after, conv.output
        elif not _looks_up(conv, last.output):
            continue
        fused = (*(node.name for node in shuffle), *conv.decided.fused)
        looking = conv.reading((x, *conv.inputs[1:]))
        instead[conv.output] = looking.deciding(places=tuple(sources.tolist()), fused=fused)
        instead |= dict.fromkeys((node.output for node in shuffle), None)
    if not instead:
        return state
    nodes = [instead.get(node.output, node) for node in graph.nodes]
    return state.with_nodes((node for node in nodes if node is not None), constants)


def _sources(
    first: Node, transpose: Node | None, last: Node | None, shapes: Mapping[str, tuple[int, ...]]
) -> np.ndarray | None:
    """The number before a shuffle of each channel behind it; None if the nodes are no shuffle."""
    if transpose is None or last is None or transpose.op != "Transpose" or last.op != "Reshape":
        return None
    before, parts, after = (shapes[name] for name in (first.inputs[0], first.output, last.output))
    if len(before) != 4 or after != before or parts[0] != before[0] or prod(parts[1:3]) != before[1]:
        return None
    if transpose.attrs["perm"] != (0, 2, 1, *range(3, len(parts))):
        return None
    sources: np.ndarray = np.arange(before[1]).reshape(parts[1:3]).T.ravel()
    return sources


def _looks_up(node: Node, x: str) -> bool:
    """Whether it is a convolution that can be told where the channels of x lie."""
    direct = node.op == "Conv" and node.choice.algorithm == "direct" and node.attrs["group"] > 1
    return direct and node.inputs[0] == x and not node.decided.places
