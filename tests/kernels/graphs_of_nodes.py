"""Graphs of one operation, runs of them, and gradients that automatic differentiation finds."""

from __future__ import annotations

import numpy as np
from memory_guard import guarded

from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node


def single(op, *arrays, **attrs):
    """A graph of one node that reads the inputs v0, v1, ..."""
    names = tuple(f"v{i}" for i in range(len(arrays)))
    full = {**ops.get(op).defaults, **attrs}
    shapes = {name: array.shape for name, array in zip(names, arrays, strict=True)}
    return Graph([Node(op, "node", names, "y", full)], shapes, ["y"], {})


def run(graph, arrays):
    """The outputs of a graph for its inputs, by name."""
    given = {name: arrays[name].shape for name in graph.inputs}
    plan, shapes = compile_graph(graph, given), graph.infer(given)
    outputs = [guarded(shapes[name]) for name in graph.outputs]
    plan.run([np.ascontiguousarray(arrays[name]) for name in graph.inputs], outputs)
    return outputs


def gradients(op, arrays, g, **attrs):
    """Gradients of the sum of g * y by each operand of an operation."""
    graph = single(op, *arrays, **attrs)
    flat = [("Mul", ("y", "g"), "m", {}), ("Reshape", ("m",), "r", {"shape": (1, -1)})]
    nodes = [*graph.nodes, *(Node(kind, out, ins, out, how) for kind, ins, out, how in flat)]
    nodes.append(Node("LinearLoss", "l", ("r", "t"), "l", {}))
    given = {f"v{i}": array for i, array in enumerate(arrays)}
    inputs = {**given, "g": g, "t": np.ones((1, g.size), np.float32)}
    shapes = {name: array.shape for name, array in inputs.items()}
    full, grads, _ = differentiate(Graph(nodes, shapes, ["l"], {}), shapes, "l", list(given))
    return run(Graph(full.nodes, shapes, [grads[name] for name in given], {}), inputs)
