"""Resolving ahead: what a graph of general operations becomes for batches of any size, and for images of any size.

Two sizes stand for all. What becomes the same for both does so for all; other operations stay general, and are resolved
for each shape of inputs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastcnn import ops
from fastcnn.compiler.batch import is_separable
from fastcnn.compiler.islands import with_islands
from fastcnn.compiler.resolve import Resolved, resolve
from fastcnn.graph.ir import Graph, Node, live
from fastcnn.ops.budget import MAX_BYTES, Budget

__all__ = ["BATCHES", "PROBES", "resolve_ahead", "resolve_for_any_batch"]

# Two sizes that stand for all sizes if a graph leaves one free.
PROBES = (224, 256)
# Two batch sizes that stand for all.
BATCHES = (1, 3)


def resolve_ahead(graph: Graph, max_bytes: int = MAX_BYTES) -> tuple[Graph, bool]:
    """A graph, resolved as far as all shapes of its inputs have in common; and whether one plan then holds all of it.

    Parameters
    ----------
    graph : Graph
        It has one input.
    max_bytes : int
        As for `resolve_for_any_batch`, which raises the same errors.
    """
    if any(node.op.endswith("::QuantizeLinear") for node in graph.nodes):
        return graph, False  # predictions read the bytes of its weights, and training their numbers
    found = _at_probes(graph, max_bytes)
    if not found:
        return graph, False
    whole = _for_any_batch(graph, found, max_bytes)
    if whole is not None:
        return whole, True
    part = _in_part(graph, found)
    return (part if _others(part) else graph), False  # what one plan cannot hold is resolved for each shape


def resolve_for_any_batch(graph: Graph, max_bytes: int = MAX_BYTES) -> Graph | None:
    """The network in operations with kernels as far as there are, for batches of any size.

    None if one plan cannot hold it, or if it depends on the batch's size or on sizes that the graph leaves free.

    Parameters
    ----------
    graph : Graph
        It has one input.
    max_bytes : int
        The most bytes that resolving and a prediction for one input may take.

    Raises
    ------
    ValueError
        Naming the node that does not fit.
    """
    found = _at_probes(graph, max_bytes)
    return _for_any_batch(graph, found, max_bytes) if found else None


def _others(graph: Graph) -> bool:
    return any(ops.is_general(node.op) for node in graph.nodes)


def _sizes(graph: Graph) -> list[list[int]]:
    """Sizes of the axes behind the batch, for which a graph is resolved."""
    (shape,) = graph.inputs.values()
    return [[size or probe for size in shape[1:]] for probe in (PROBES if None in shape[1:] else (0,))]


def _at_probes(graph: Graph, max_bytes: int) -> list[Resolved]:
    """The graph, resolved for several shapes; none if it does not take all of them."""
    ((name, shape),) = graph.inputs.items()
    batches = (shape[0],) if shape[0] is not None else BATCHES
    found: list[Resolved] = []
    for concrete in [(batch, *rest) for rest in _sizes(graph) for batch in batches]:
        try:
            found.append(resolve(graph, {name: concrete}, Budget(max_bytes)))
        except ValueError:
            if None in shape[1:]:
                return []  # the graph may be made for other sizes
            raise
    return found


def _for_any_batch(graph: Graph, found: list[Resolved], max_bytes: int) -> Graph | None:
    ((name, shape),) = graph.inputs.items()
    resolved = [other.graph if shape[0] is None else _keeping_batch(other, shape[0]) for other in found]
    first = resolved[0]
    if not first.nodes or any(not _equal(first, other) for other in resolved[1:]):
        return None
    result = Graph(first.nodes, {name: (None, *shape[1:])}, first.outputs, first.constants, graph.types)
    whole = with_islands(result, found[0].known, max_bytes)
    if whole is None or shape[0] is not None and not is_separable(whole, {name: (2 * shape[0], *_sizes(graph)[0])}):
        return None  # made for this batch only
    return result


def _in_part(graph: Graph, found: list[Resolved]) -> Graph:
    """The graph, in which what becomes the same for all shapes takes the place of its operations."""
    nodes: list[Node] = []
    for node in graph.nodes:
        became = found[0].became.get(node.output, [])
        names = [node.output, *(name for made in became for name in made.inputs)]
        is_same = all(
            other.became.get(node.output, []) == became and all(_is_same(found[0], other, name) for name in names)
            for other in found[1:]
        )
        nodes += became if is_same else [node]
    nodes = live(nodes, graph.outputs)
    made = {*graph.inputs, *(node.output for node in nodes), ""}
    used = dict.fromkeys([*(name for node in nodes for name in node.inputs), *graph.outputs])
    constants = {name: found[0].known[name].array for name in used if name not in made}
    arrays = {name: array for name, array in constants.items() if array is not None}
    return Graph(nodes, graph.inputs, graph.outputs, arrays, graph.types)


def _is_same(first: Resolved, other: Resolved, name: str) -> bool:
    """Whether a value is the same constant for two shapes, or for none of them."""
    arrays = [resolved.known[name].array if name in resolved.known else None for resolved in (first, other)]
    if arrays[0] is None or arrays[1] is None:
        return arrays[0] is arrays[1]
    return arrays[0] is arrays[1] or (
        arrays[0].dtype == arrays[1].dtype
        and np.array_equal(arrays[0], arrays[1], equal_nan=arrays[0].dtype.kind == "f")
    )


def _keeping_batch(resolved: Resolved, batch: int) -> Graph:
    """The graph, whose reshapes keep the first size where the file names the batch that it was made for."""
    nodes = []
    for node in resolved.graph.nodes:
        wanted = node.attrs.get("shape", ())
        if node.op == "Reshape" and wanted[:1] == (batch,):
            before = resolved.known[node.inputs[0]].shape
            if before and before[0] == batch:
                node = replace(node, attrs={**node.attrs, "shape": (0, *wanted[1:])})
        nodes.append(node)
    return replace(resolved.graph, nodes=nodes)


def _equal(a: Graph, b: Graph) -> bool:
    return (
        a.nodes == b.nodes
        and a.constants.keys() == b.constants.keys()
        and all(
            array is b.constants[name] or np.array_equal(array, b.constants[name], equal_nan=True)
            for name, array in a.constants.items()
        )
    )
