"""Slices: a convolution and its reader become one step, which computes some channels and some rows at a time.

The reader is a depthwise convolution or a pool. The feature map between the two is large, and is never stored in full.

    Conv ▸ depthwise Conv  →  InBands(channels 0 .. a), InBands(a .. b), ...

The outputs of the slices are concatenated in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from fastcnn.compiler._edit import has_free_filters, with_filters
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node, Shape
from fastcnn.kernels._bands import WINDOW_VECTORS
from fastcnn.ops.bands import Bands, reader_rows
from fastcnn.ops.decisions import Decisions

# Slices pay if the feature map between the two nodes has more bytes: docs/tuning.md, "Slices".
LARGE_BYTES = 1 << 20
# Rows that the window of a slice has room for (same entry).
BAND_ROWS = 14


def cut_channels(state: State) -> State:
    """Cut channels into slices, unless every node is to be a step of its own."""
    if state.options.whole:
        return state
    vl, constants, shapes = state.options.vl, dict(state.graph.constants), dict(state.shapes)
    instead: dict[str, list[Node]] = {}
    for reader in state.graph.nodes:
        conv = state.makers.get(reader.inputs[0]) if reader.inputs else None
        if conv is None or not _are_such(conv, reader, state):
            continue
        shape = shapes[conv.output]
        if 4 * prod(shape) <= LARGE_BYTES or shape[1] % vl:
            continue
        cuts = _cuts(shape, vl)
        instead[conv.output] = []
        if len(cuts) == 2:
            instead[reader.output] = [_in_bands(conv, reader, shapes)]
            continue
        parts: list[Node] = []
        for low, high in zip(cuts, cuts[1:], strict=False):
            part = _slice(conv, conv.inputs[0], low, high, constants, shapes)
            parts.append(_in_bands(part, _slice(reader, part.output, low, high, constants, shapes), shapes))
        whole = Node("Concat", f"{reader.name}[:]", tuple(node.output for node in parts), reader.output, {"axis": 1})
        instead[reader.output] = [*parts, whole]
    if not instead:
        return state
    nodes = [node for old in state.graph.nodes for node in instead.get(old.output, [old])]
    return state.with_nodes(nodes, constants, shapes)


def _are_such(conv: Node, reader: Node, state: State) -> bool:
    by_channel = reader.op == "MaxPool" or has_free_filters(reader, state.graph, "depthwise")
    if not (by_channel and has_free_filters(conv, state.graph, "direct")):
        return False
    # An output that is computed inside a concatenation must not be one itself.
    joined = any(user.op == "Concat" for user in state.users[reader.output])
    between = state.is_private(conv.output) and reader.output not in state.outputs and not joined
    if not between or conv.attrs["group"] != 1 or conv.decided.finish.pool:
        return False
    return _may_read_zeros(conv, reader, state.shapes)


def _may_read_zeros(conv: Node, reader: Node, shapes: Mapping[str, Shape]) -> bool:
    """Whether zeros above and below an image can stand for padding.

    Padding must be shorter than a window. For maxima, nothing in the image may be negative. Dilation must be 1, because
    all taps of a dilated window may lie outside the image.
    """
    between, read = shapes[conv.output], shapes[reader.output]
    reach, stride, (top, *_) = reader_rows(reader, between[1:])
    if top >= reach:
        return False
    outside = top > 0 or (read[2] - 1) * stride + reach - top > between[2]
    return reader.op == "Conv" or not outside or (_is_positive(conv) and reader.attrs["dilations"][0] == 1)


def _is_positive(conv: Node) -> bool:
    """Whether its activation leaves nothing negative."""
    name, attrs = conv.decided.finish.activation or ("Identity", {"min": -1.0})
    return bool(name == "Relu" or (name == "Clip" and attrs["min"] >= 0.0))


def _cuts(shape: Shape, vl: int) -> list[int]:
    """The channels at which slices begin and end: multiples of two blocks.

    A single block would load an input for every multiply-add: docs/tuning.md, "Slices".

    Examples
    --------
    >>> _cuts((1, 96, 56, 56), 16), _cuts((1, 32, 112, 112), 16), _cuts((1, 96, 28, 28), 16)
    ([0, 32, 96], [0, 32], [0, 96])
    """
    pairs = -(-shape[1] // (2 * vl))
    most = max(1, WINDOW_VECTORS // (2 * BAND_ROWS * shape[3]))  # pairs in a slice
    count = -(-pairs // most)
    return [min(shape[1], pairs * i // count * 2 * vl) for i in range(count + 1)]


def _in_bands(conv: Node, reader: Node, shapes: Mapping[str, Shape]) -> Node:
    """The two nodes as one."""
    x, *filters = conv.inputs
    inputs = (x, *filters, *[""] * (2 - len(filters)), *reader.inputs[1:])
    decided = Decisions(fused=(*conv.decided.fused, reader.name, *reader.decided.fused), choice=conv.choice)
    bands = Bands(conv, reader, shapes[conv.output])
    return Node("InBands", conv.name, inputs, reader.output, {"bands": bands}, decided)


def _slice(node: Node, x: str, low: int, high: int, constants: dict[str, np.ndarray], shapes: dict[str, Shape]) -> Node:
    """The node that computes channels low .. high of the output, from x; the first slice keeps the name."""
    part = f"[{low}:{high}]"
    name, output = node.name if low == 0 else f"{node.name}{part}", f"{node.output}{part}"
    batch, _, *size = shapes[node.output]
    shapes[output] = (batch, high - low, *size)
    if node.op == "MaxPool":
        return replace(node, name=name, inputs=(x,), output=output)
    conv = with_filters(node, x, slice(low, high), part, constants)
    group = high - low if node.attrs["group"] > 1 else 1
    return replace(conv, name=name, output=output, attrs={**conv.attrs, "group": group})
