"""The float32 network as it is quantised: batch norms folded into weights, and each layer with weights of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastcnn.compiler.fold import fold, fold_constants
from fastcnn.compiler.network import is_resolved
from fastcnn.compiler.recognise import recognise
from fastcnn.compiler.state import Options, State
from fastcnn.graph.ir import Graph, Node, Shape
from fastcnn.network import Network
from fastcnn.ops.budget import MAX_BYTES

__all__ = ["float_graph", "is_weighted"]

WEIGHTED = ("Conv", "Gemm")


def float_graph(model: Network, shape: Shape) -> Graph:
    """The network for inputs of one shape, without batch norms where a convolution comes before.

    Each convolution and linear layer has weights of its own, named after the node.
    """
    graph = model.graph(shape)
    if any(node.op.endswith("::QuantizeLinear") for node in graph.nodes):
        raise ValueError("quantize: the network is quantised already, expected a network of float32")
    if not is_resolved(graph):
        from fastcnn.compiler.general import resolve_for_kernels, taking_float32

        graph = resolve_for_kernels(taking_float32(graph), shape, model._max_bytes or MAX_BYTES)
    if is_resolved(graph):
        state = State(graph, graph.infer(dict.fromkeys(graph.inputs, (1, *shape))), Options(1))
        graph = fold(recognise(fold_constants(state))).graph
    return _with_own_weights(graph)


def _with_own_weights(graph: Graph) -> Graph:
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        if is_weighted(node, graph):
            names = [node.inputs[0]]
            for part, name in zip(("weight", "bias"), node.inputs[1:], strict=False):
                names.append(name and _free(f"{node.name}.{part}", name, graph))
                if name:
                    constants[names[-1]] = np.asarray(graph.constants[name], np.float32)
            if node.decided.scale is not None:
                factors = node.decided.scale.factors.reshape(-1, *[1] * (constants[names[1]].ndim - 1))
                constants[names[1]] = constants[names[1]] * factors
            node = Node(node.op, node.name, tuple(names), node.output, node.attrs)
        nodes.append(node)
    used = {name for node in nodes for name in node.inputs}
    return replace(
        graph, nodes=nodes, constants={name: np.asarray(constants[name]) for name in constants if name in used}
    )


def _free(wanted: str, own: str, graph: Graph) -> str:
    """A name for a constant that no other value has."""
    taken = {*graph.inputs, *graph.constants, *(node.output for node in graph.nodes)} - {own}
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def is_weighted(node: Node, graph: Graph) -> bool:
    """Whether a node multiplies by constant weights."""
    return node.op in WEIGHTED and all(name in graph.constants for name in node.inputs[1:] if name)
