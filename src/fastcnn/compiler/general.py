"""Networks of ONNX's general operations are resolved for the shapes of their inputs, and then compiled.

resolve.py decides what an operation becomes; mixed.py runs the steps in NumPy between kernels. A graph that is made for
batches of one size takes larger batches in parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from fastcnn import ops
from fastcnn.compiler.batch import is_separable
from fastcnn.compiler.compile import compile_batch, compile_graph
from fastcnn.compiler.islands import with_islands
from fastcnn.compiler.mixed import MixedPlan, compile_mixed
from fastcnn.compiler.plan import Plan
from fastcnn.compiler.resolve import Resolved, resolve
from fastcnn.compiler.runnable import CompiledNetwork, ending
from fastcnn.graph.ir import Graph, check_shape
from fastcnn.ops.budget import MAX_BYTES, Budget

__all__ = ["PROBES", "compile_general", "kernel_graph", "resolve_for_any_batch", "resolve_for_kernels"]

# Two sizes that stand for all sizes if a graph leaves one free.
PROBES = (224, 256)
# Two batch sizes that stand for all.
BATCHES = (1, 3)


def compile_general(
    graph: Graph,
    input_shapes: Mapping[str, tuple[int, ...]],
    tuning: Mapping[str, str] | None = None,
    max_bytes: int = MAX_BYTES,
    pixels: Mapping[str, np.ndarray] | None = None,
) -> CompiledNetwork:
    """Compile a graph of general operations.

    Parameters
    ----------
    graph : Graph
    input_shapes : dict
        Shape of each graph input, the batch first.
    tuning : dict, optional
        As for `compile_graph`.
    max_bytes : int
        The most bytes that its constants and a prediction may take, for each input of the batch.
    pixels : dict, optional
        As for `compile_graph`; the plan takes pixels only if kernels compute all of it.

    Raises
    ------
    ValueError
        Naming the node or the input that does not fit.
    """
    parts = _parts(graph, input_shapes)
    shapes = {
        name: (shape[0] // parts, *shape[1:]) if parts > 1 else tuple(shape) for name, shape in input_shapes.items()
    }
    for name, expected in graph.inputs.items():
        check_shape(name, shapes[name], expected, input_shapes[name])
    batches = [shapes[name][0] for name, expected in graph.inputs.items() if expected[:1] == (None,)]
    images = max(1, min(batches)) if len(batches) == len(graph.inputs) and batches else 1
    budget = Budget(max_bytes, images)
    resolved = resolve(graph, shapes, budget)
    whole = with_islands(resolved.graph, resolved.known, max_bytes)
    for node in (resolved.graph if whole is None else whole).nodes:
        if not ops.is_general(node.op):  # values between kernels share memory, which their plans ask for
            budget.release(4 * prod(resolved.known[node.output].shape or ()))
    plan: Plan | MixedPlan
    if whole is None:
        plan = compile_mixed(resolved, None, tuning, budget, (max_bytes, images))
        plan = replace(plan, parts=parts, operations=plan.operations * parts)
    elif parts == 1:
        plan = compile_batch(whole, shapes, {}, tuning or {}, pixels, budget=budget)
    else:
        plan = compile_graph(whole, shapes, tuning=tuning, pixels=pixels, budget=budget)
        plan = replace(plan, parts=parts, operations=plan.operations * parts)
    known = {name: value.shape for name, value in resolved.known.items()}
    shape = known[graph.outputs[0]] or ()
    output_shape = (shape[0] * parts, *shape[1:]) if shape else ()
    return CompiledNetwork(plan, resolved.graph, known, output_shape, ending(graph))


def _parts(graph: Graph, input_shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of batches of the graph's own size that the inputs hold."""
    pairs = zip(input_shapes.values(), graph.inputs.values(), strict=True)
    found = {shape[0] / expected[0] for shape, expected in pairs if shape and expected and expected[0] is not None}
    return int(found.pop()) if len(found) == 1 and min(found) >= 1 and min(found) % 1 == 0 else 1


def _others(graph: Graph) -> list[str]:
    """The operations without kernels."""
    return sorted({node.op for node in graph.nodes if ops.is_general(node.op)})


def resolve_for_kernels(graph: Graph, input_shape: tuple[int, ...], max_bytes: int = MAX_BYTES) -> Graph:
    """The network in operations with kernels as far as there are, for inputs of one shape in batches of any size.

    Parameters
    ----------
    graph : Graph
        It has one input.
    input_shape : tuple of int
        Shape of one input, without the batch.
    max_bytes : int
        The most bytes that resolving and a prediction for one input may take.

    Raises
    ------
    ValueError
        Naming what no plan can hold, or the node that does not fit.
    """
    ((name, shape),) = graph.inputs.items()
    fixed = replace(graph, inputs={name: (*shape[:1], *input_shape)})
    result = resolve_for_any_batch(fixed, max_bytes)
    if result is None:
        batch = shape[0] if shape and shape[0] is not None else 1
        resolved = resolve(graph, {name: (batch, *input_shape)}, Budget(max_bytes))
        reason = "depends on the batch's size"
        if with_islands(resolved.graph, resolved.known, max_bytes) is None:
            reason = f"has operations that no plan can hold ({', '.join(_others(resolved.graph)) or 'none'})"
        raise ValueError(
            f"the network {reason}: it predicts, but cannot become part of another model, be tuned or be trained"
        )
    return result


def kernel_graph(graph: Graph, input_shape: tuple[int, ...], max_bytes: int = MAX_BYTES) -> Graph:
    """As `resolve_for_kernels`, with islands (islands.py) in place of the operations without kernels."""
    graph = resolve_for_kernels(graph, input_shape, max_bytes)
    known = resolve(graph, dict.fromkeys(graph.inputs, (1, *input_shape)), Budget(max_bytes)).known
    result = with_islands(graph, known, max_bytes)
    assert result is not None
    return result


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
    ((name, shape),) = graph.inputs.items()
    batches = (shape[0],) if shape[0] is not None else BATCHES
    sizes = [[size or probe for size in shape[1:]] for probe in (PROBES if None in shape[1:] else (0,))]
    found: list[Resolved] = []
    for concrete in [(batch, *rest) for rest in sizes for batch in batches]:
        try:
            found.append(resolve(graph, {name: concrete}, Budget(max_bytes)))
        except ValueError:
            if None in shape[1:]:
                return None  # the graph may be made for other sizes
            raise
    resolved = [other.graph if shape[0] is None else _keeping_batch(other, shape[0]) for other in found]
    first = resolved[0]
    if not first.nodes or any(not _equal(first, other) for other in resolved[1:]):
        return None
    result = Graph(first.nodes, {name: (None, *shape[1:])}, first.outputs, first.constants, graph.types)
    whole = with_islands(result, found[0].known, max_bytes)
    if whole is None or shape[0] is not None and not is_separable(whole, {name: (2 * shape[0], *sizes[0])}):
        return None  # made for this batch only
    return result


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
