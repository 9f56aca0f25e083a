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
from fastcnn.compiler.rewriter import Copies, Known
from fastcnn.graph.ir import Graph, Node, Shape, live
from fastcnn.ops.budget import MAX_BYTES, Budget

__all__ = ["BATCHES", "PROBES", "resolve_ahead", "resolve_for_any_batch"]

# Two sizes that stand for all sizes if a graph leaves one free.
PROBES = (224, 256)
# Two batch sizes that stand for all. A batch of 1 would hide which axis is the batch.
BATCHES = (2, 3)


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
        ((name, shape),) = graph.inputs.items()
        if None not in shape[1:]:  # it must fit
            resolve(graph, {name: (shape[0] or BATCHES[0], *_sizes(graph)[0])}, Budget(max_bytes), keeps_bytes=True)
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
    copies = Copies()
    for concrete in [(batch, *rest) for rest in _sizes(graph) for batch in batches]:
        try:
            found.append(resolve(graph, {name: concrete}, Budget(max_bytes), copies))
        except ValueError:
            if None in shape[1:]:
                return []  # the graph may be made for other sizes
            raise
    return found


def _for_any_batch(graph: Graph, found: list[Resolved], max_bytes: int) -> Graph | None:
    ((name, shape),) = graph.inputs.items()
    resolved = [other.graph if shape[0] is None else _keeping_batch(other, shape[0]) for other in found]
    resolved, known = _repeating(graph, resolved, [other.known[name].shape or () for other in found]), found[0].known
    resolved = _leaving_a_size(resolved, found)
    first = resolved[0]
    rows = {row: Known(array.shape, array.dtype, array) for row, array in first.constants.items() if row not in known}
    if not first.nodes or any(not _equal(first, other) for other in resolved[1:]):
        return None
    result = Graph(first.nodes, {name: (None, *shape[1:])}, first.outputs, first.constants, graph.types)
    whole = with_islands(result, known | rows, max_bytes)
    if whole is None or shape[0] is not None and not is_separable(whole, {name: (2 * shape[0], *_sizes(graph)[0])}):
        return None  # made for this batch only
    return result


def _repeating(graph: Graph, resolved: list[Graph], shapes: list[Shape]) -> list[Graph]:
    """The resolved graphs, in which constants that repeat one row for each image are that row, repeated.

    `shapes` are those of the input. Where the file names the batch, only what is put beside images is taken for that.
    """
    batches, first = [shape[0] for shape in shapes], resolved[0]
    names = set(first.constants)
    if len(set(batches)) == 1:
        joined = [node for node in first.nodes if node.op == "Concat" and node.attrs["axis"] != 0]
        names &= {name for node in joined for name in node.inputs}
    makers = {node.output: node for node in graph.nodes}
    rows: dict[str, str] = {}
    for name in sorted(names):
        arrays = [other.constants.get(name) for other in resolved]
        if not all(map(_repeats, arrays, batches)) or not all(_row(array, arrays[0]) for array in arrays):
            continue
        maker = makers.get(name)
        source = maker.inputs[0] if maker is not None else ""
        same = source in graph.constants and _row(np.asarray(graph.constants[source]), arrays[0], 1)
        rows[name] = source if same else f"{name}:row"
    if not rows:
        return resolved
    ((given, _),) = graph.inputs.items()
    nodes = [Node("RepeatForBatch", f"{name}:repeated", (row, given), name, {}) for name, row in rows.items()]
    kept = {name: array for name, array in first.constants.items() if name not in rows}
    kept |= {row: np.ascontiguousarray(first.constants[name][:1]) for name, row in rows.items()}
    return [
        replace(
            other,
            nodes=[*nodes, *other.nodes],
            constants={name: kept[name] if name not in other.constants else other.constants[name] for name in kept},
        )
        for other in resolved
    ]


def _repeats(array: np.ndarray | None, batch: int) -> bool:
    """Whether a constant has a row for each image, and all are the same."""
    if array is None or array.shape[:1] != (batch,) or array.ndim < 2 or array.dtype != np.float32:
        return False
    return bool((np.asarray(array) == array[:1]).all())


def _row(array: np.ndarray | None, other: np.ndarray | None, rows: int | None = None) -> bool:
    """Whether the first rows are the same; with `rows`, whether the first array has that number of them."""
    assert array is not None and other is not None
    return (rows in (None, len(array))) and array.shape[1:] == other.shape[1:] and bool((array[0] == other[0]).all())


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
    """The graph, whose reshapes keep the first size where the file names the batch that it was made for.

    For a batch of 1 a size that is kept may be another one: the first takes what is left.
    """
    nodes = []
    for node in resolved.graph.nodes:
        wanted = node.attrs.get("shape", ())
        if node.op == "Reshape" and wanted[:1] == (batch,):
            before = resolved.known[node.inputs[0]].shape
            if before and before[0] == batch:
                wanted = (0, *wanted[1:])
        if node.op == "Reshape" and wanted[:1] == (0,) and batch == 1 and -1 not in wanted:
            wanted = (-1, *wanted[1:])
        if wanted != node.attrs.get("shape", ()):
            node = replace(node, attrs={**node.attrs, "shape": wanted})
        nodes.append(node)
    return replace(resolved.graph, nodes=nodes)


def _leaving_a_size(resolved: list[Graph], found: list[Resolved]) -> list[Graph]:
    """The resolved graphs, whose reshapes leave out the one size that differs between them: it is what is left.

    Attention whose tokens come before the images has the batch in the second axis.
    """
    if len({len(other.nodes) for other in resolved}) > 1:
        return resolved
    rows = []
    for nodes in zip(*(other.nodes for other in resolved), strict=True):
        first = nodes[0]
        shapes = {other.known[first.output].shape or () for other in found}
        alike = all(node.op == "Reshape" and replace(node, attrs=first.attrs) == first for node in nodes)
        if alike and len({node.attrs["shape"] for node in nodes}) > 1 and len({len(shape) for shape in shapes}) == 1:
            sizes = [set(column) for column in zip(*shapes, strict=True)]
            wanted = tuple(-1 if len(column) > 1 else min(column) for column in sizes)
            if wanted.count(-1) == 1 and 0 not in wanted:
                nodes = (replace(first, attrs={**first.attrs, "shape": wanted}),) * len(nodes)
        rows.append(nodes)
    return [replace(other, nodes=list(nodes)) for other, nodes in zip(resolved, zip(*rows, strict=True), strict=True)]


def _equal(a: Graph, b: Graph) -> bool:
    return (
        a.nodes == b.nodes
        and a.constants.keys() == b.constants.keys()
        and all(
            array is b.constants[name] or np.array_equal(array, b.constants[name], equal_nan=True)
            for name, array in a.constants.items()
        )
    )
