"""Compiled networks: one way to compile every graph.

A graph whose operations have kernels becomes a plan. A graph of ONNX's general operations is first resolved for the
shapes of its inputs. general.py does that; few networks need it, and it is imported for them alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastcnn import ops
from fastcnn._names import listed
from fastcnn.compiler.compile import arena_bytes, compile_batch
from fastcnn.compiler.cost import arena_bound, take_network
from fastcnn.compiler.lower import Packed
from fastcnn.compiler.runnable import CompiledNetwork, Runnable, ending
from fastcnn.graph.ir import Graph, Shape
from fastcnn.graph.stored import StoredArray, read_and_keep
from fastcnn.ops.budget import MAX_BYTES, Budget

__all__ = [
    "CompiledNetwork",
    "Runnable",
    "check_cost",
    "compile_network",
    "fixed_constants",
    "infer_values",
    "is_resolved",
    "planned_graph",
    "least_batch",
    "read_constants",
]

Shapes = Mapping[str, tuple[int, ...]]


def is_resolved(graph: Graph) -> bool:
    """Whether all operations have kernels, for inputs of every shape that the graph takes.

    Examples
    --------
    >>> from fastcnn.graph.ir import Node
    >>> is_resolved(Graph([Node("ai.onnx::Relu", "a", ("x",), "y", {})], {"x": (None, 4)}, ["y"], {}))
    False
    """
    return not any(ops.is_general(node.op) for node in graph.nodes)


def planned_graph(graph: Graph, input_shape: Shape, max_bytes: int) -> Graph:
    """The graph in operations that one plan computes, those in NumPy included, for batches of inputs of a shape."""
    if is_resolved(graph):
        return graph
    from fastcnn.compiler.general import kernel_graph

    return kernel_graph(graph, input_shape, max_bytes)


def compile_network(
    graph: Graph,
    input_shapes: Shapes,
    *,
    packed: Packed | None = None,
    tuning: Mapping[str, str] | None = None,
    pixels: Mapping[str, np.ndarray] | None = None,
    reproducible: bool = True,
    max_bytes: int | None = None,
    strict: bool = False,
    bfloat16: bool = False,
) -> CompiledNetwork:
    """Compile a network whose inputs are batches.

    Parameters
    ----------
    graph : Graph
        It may have any operations.
    input_shapes : dict
        Shape of each graph input, the batch first.
    packed, tuning, pixels : dict, optional
        As for `compile_graph`.
    reproducible : bool
        Whether every image has the same bits in a batch as alone. If not, a batch may take other algorithms.
    max_bytes : int, optional
        The most bytes that constants and a prediction may take, for each input of the batch. The default is `MAX_BYTES`
        for general operations, and no limit for others.
    strict : bool
        Whether steps that only NumPy computes are refused.
    bfloat16 : bool
        Whether convolutions may multiply numbers that are rounded to bfloat16.

    Raises
    ------
    ValueError
        Naming the node or the input that does not fit, or what NumPy would compute.

    Examples
    --------
    >>> from fastcnn import Linear, Sequential
    >>> compiled = compile_network(Sequential(Linear(2, 3)).graph((2,)), {"x": (5, 2)})
    >>> compiled.output_shape, compiled.ending, compiled.plan.steps[0].kernel
    ((5, 3), 'Gemm', 'gemm')
    """
    if not is_resolved(graph):
        from fastcnn.compiler.general import compile_general

        compiled = compile_general(graph, input_shapes, tuning, max_bytes or MAX_BYTES, pixels, bfloat16)
        slow = [step for step in compiled.plan.steps if step.kernel == "numpy"] if strict else []
        if slow:
            reasons = dict.fromkeys(reason for step in slow for reason in step.reasons.values())
            raise ValueError(f"strict: only NumPy computes {listed([s.name for s in slow], 4)}: {'; '.join(reasons)}")
        return compiled
    shapes = graph.infer(input_shapes)
    budget = None if max_bytes is None else _budget(graph, shapes, max_bytes)
    packed = {} if packed is None else packed
    plan = compile_batch(graph, shapes, packed, tuning or {}, pixels, reproducible, budget, bfloat16)
    return CompiledNetwork(plan, graph, shapes, shapes[graph.outputs[0]], ending(graph))


def _budget(graph: Graph, shapes: Shapes, max_bytes: int) -> Budget:
    """What is left for compiling after the network's constants, inputs, outputs and work. All shapes are known."""
    budget = Budget(max_bytes, next((shapes[name][0] for name in graph.inputs), 1))
    budget.keep(sum(array.nbytes for array in graph.constants.values() if not isinstance(array, StoredArray)))
    take_network(graph, shapes, budget)
    return budget


def check_cost(graph: Graph, input_shapes: Shapes, max_bytes: int) -> None:
    """Refuse a graph that does not fit the shapes of its inputs, or whose prediction takes too much.

    Parameters
    ----------
    graph : Graph
    input_shapes : dict
        Shape of each graph input.
    max_bytes : int
        The most bytes that constants and a prediction may take, for each input of the batch.

    Raises
    ------
    ValueError
        Naming the node or the input that does not fit, or what takes too much.
    """
    if not is_resolved(graph):
        compile_network(graph, input_shapes, max_bytes=max_bytes)  # only a resolved graph tells what it takes
        return
    shapes = graph.infer(input_shapes)
    budget = _budget(graph, shapes, max_bytes)
    if arena_bound(graph, shapes) > budget.bytes:
        size = arena_bytes(graph, shapes, budget)
        try:
            budget.keep(size)
        except ValueError as error:
            raise ValueError(f"its values with padding, in vectors: {error}") from None


def least_batch(graph: Graph, input_shape: Sequence[int]) -> dict[str, Shape]:
    """Shapes of the smallest batch that a graph takes, of inputs of one shape.

    Examples
    --------
    >>> least_batch(Graph([], {"x": (4, None)}, ["x"], {}), (3,))
    {'x': (4, 3)}
    """
    return {name: (sizes[0] if sizes and sizes[0] else 1, *input_shape) for name, sizes in graph.inputs.items()}


def infer_values(graph: Graph, input_shapes: Shapes) -> tuple[Mapping[str, Shape | None], Mapping[str, str]]:
    """Shapes of all values, None if one depends on values, and the types of those that are not float32.

    Raises
    ------
    ValueError
        Naming the node that cannot take its inputs.
    """
    if is_resolved(graph):
        return graph.infer(input_shapes), {}
    from fastcnn.compiler.resolve import resolve

    known = resolve(graph, input_shapes).known
    types = {name: value.dtype.name for name, value in known.items() if value.dtype is not None}
    return {name: value.shape for name, value in known.items()}, types


def fixed_constants(graph: Graph) -> dict[str, np.ndarray]:
    """The constants that belong to a graph's structure, such as indices and shapes; parameters are float32."""
    if is_resolved(graph):
        return {}
    return {name: array for name, array in graph.constants.items() if array.dtype != np.float32}


def read_constants(graph: Graph) -> None:
    """Read the constants whose values compiling needs from their file, and keep them."""
    if not is_resolved(graph):  # any of them may decide what the graph is resolved to
        for name in graph.constants:
            read_and_keep(graph.constants, name)
