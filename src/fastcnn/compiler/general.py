"""Networks of ONNX's general operations are resolved for the shapes of their inputs, and then compiled.

resolve.py decides what an operation becomes. What NumPy computes is part of the plan (islands.py). Where a plan cannot
hold it, it runs between plans (mixed.py). A graph that is made for batches of one size takes larger batches in parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from fastcnn import ops
from fastcnn.compiler.ahead import resolve_for_any_batch
from fastcnn.compiler.compile import compile_batch, compile_graph
from fastcnn.compiler.islands import with_islands
from fastcnn.compiler.mixed import MixedPlan, compile_mixed
from fastcnn.compiler.plan import Plan
from fastcnn.compiler.resolve import Resolved, resolve
from fastcnn.compiler.runnable import CompiledNetwork, ending
from fastcnn.graph.ir import Graph, Node, check_shape
from fastcnn.ops.budget import MAX_BYTES, Budget
from fastcnn.ops.general.elementwise import DTYPES

__all__ = ["compile_general", "kernel_graph", "resolve_for_kernels", "taking_float32"]


def compile_general(
    graph: Graph,
    input_shapes: Mapping[str, tuple[int, ...]],
    tuning: Mapping[str, str] | None = None,
    max_bytes: int = MAX_BYTES,
    pixels: Mapping[str, np.ndarray] | None = None,
    bfloat16: bool = False,
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
    bfloat16 : bool
        As for `compile_graph`.

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
    resolved, whole = _in_bytes(graph, shapes, budget, max_bytes)
    if resolved is None or whole is None:
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
        plan = compile_batch(whole, shapes, {}, tuning or {}, pixels, budget=budget, bfloat16=bfloat16)
    else:
        plan = compile_graph(whole, shapes, tuning=tuning, pixels=pixels, budget=budget, bfloat16=bfloat16)
        plan = replace(plan, parts=parts, operations=plan.operations * parts)
    known = {name: value.shape for name, value in resolved.known.items()}
    shape = known[graph.outputs[0]] or ()
    output_shape = (shape[0] * parts, *shape[1:]) if shape else ()
    return CompiledNetwork(plan, resolved.graph, known, output_shape, ending(graph))


def _in_bytes(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], budget: Budget, max_bytes: int
) -> tuple[Resolved | None, Graph | None]:
    """The graph of one plan in which quantised values are bytes; None where there are none, or others read them."""
    if not any(node.op.endswith("::QuantizeLinear") for node in graph.nodes):
        return None, None
    resolved = resolve(graph, shapes, budget, keeps_bytes=True)
    made = {node.output for node in resolved.graph.nodes if node.op == "Int8Quantize"}
    general = {name for node in resolved.graph.nodes if ops.is_general(node.op) for name in node.inputs}
    if not made or not made.isdisjoint(general | set(resolved.graph.outputs)):
        return None, None
    return resolved, with_islands(resolved.graph, resolved.known, max_bytes)


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


def taking_float32(graph: Graph) -> Graph:
    """The graph, whose input of another type is converted from float32 within it."""
    if not graph.types:
        return graph
    ((name, shape),) = graph.inputs.items()
    given, kind = f"{name}:float32", next(number for number, kind in DTYPES.items() if kind == graph.types[name])
    cast = Node(f"{ops.GENERAL}Cast", given, (given,), name, {"to": kind})
    return Graph([cast, *graph.nodes], {given: shape}, graph.outputs, graph.constants)


def kernel_graph(graph: Graph, input_shape: tuple[int, ...], max_bytes: int = MAX_BYTES) -> Graph:
    """As `resolve_for_kernels`, with islands (islands.py) in place of the operations without kernels."""
    graph = resolve_for_kernels(graph, input_shape, max_bytes)
    known = resolve(graph, dict.fromkeys(graph.inputs, (1, *input_shape)), Budget(max_bytes)).known
    result = with_islands(graph, known, max_bytes)
    assert result is not None
    return result
