"""Folding: what can be computed before any input is known. Constant subexpressions become constants, dropout and
identity vanish, and batch normalisation disappears into the weights of the convolution before it.

    scale (W x + b - mean) + beta  =  (scale W) x + (scale (b - mean) + beta),   scale = gamma / sqrt(var + eps)
"""

from __future__ import annotations

import numpy as np

from fastcnn import ops
from fastcnn.compiler._edit import consumers, renamed, replaced
from fastcnn.graph.ir import Graph, Node

_TRANSPARENT = {"Dropout", "Identity"}


def fold(graph: Graph) -> Graph:
    """The graph without nodes whose work can be done once.

    Parameters
    ----------
    graph : Graph
        Not changed.

    Returns
    -------
    Graph
        New nodes and, for folded weights, new constants named ``<weight>*<batch norm>``.
    """
    return _fold_batch_norm(_fold_constants(drop_repeated_relu(_drop_transparent(graph))))


def _drop_transparent(graph: Graph) -> Graph:
    source: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        node = renamed(node, source)
        if node.op in _TRANSPARENT and node.output not in graph.outputs:
            source[node.output] = node.inputs[0]
        else:
            nodes.append(node)
    return replaced(graph, nodes)


def drop_repeated_relu(graph: Graph) -> Graph:
    """A ReLU changes nothing where the values come out of a ReLU, maxima of them included."""
    source: dict[str, str] = {}
    rectified: set[str] = set()
    nodes = []
    for node in graph.nodes:
        node = renamed(node, source)
        if node.op == "Relu" and node.inputs[0] in rectified and node.output not in graph.outputs:
            source[node.output] = node.inputs[0]
            continue
        if node.op == "Relu" or (node.op == "MaxPool" and node.inputs[0] in rectified):
            rectified.add(node.output)
        nodes.append(node)
    return replaced(graph, nodes)


def _fold_constants(graph: Graph) -> Graph:
    constants = dict(graph.constants)
    nodes = []
    for node in graph.nodes:
        if node.output in graph.outputs or not all(name in constants for name in node.inputs if name):
            nodes.append(node)
            continue
        inputs = [constants[name] if name else None for name in node.inputs]
        constants[node.output] = ops.get(node.op).reference(node.attrs, inputs).astype(np.float32)
    return replaced(graph, nodes, constants)


def _fold_batch_norm(graph: Graph) -> Graph:
    constants = dict(graph.constants)
    users = consumers(graph)
    norms = {node.inputs[0]: node for node in graph.nodes if node.op == "BatchNormalization"}
    nodes: list[Node] = []
    folded: set[str] = set()
    for node in graph.nodes:
        norm = norms.get(node.output)
        if node.op == "Conv" and norm is not None and _foldable(graph, node, norm, users):
            nodes.append(_with_folded_weights(node, norm, constants))
            folded.add(norm.output)
        elif node.output not in folded:
            nodes.append(node)
    return replaced(graph, nodes, constants)


def _foldable(graph: Graph, conv: Node, norm: Node, users: dict[str, list[Node]]) -> bool:
    known = all(name in graph.constants for name in (*conv.inputs[1:], *norm.inputs[1:]) if name)
    return known and len(users[conv.output]) == 1 and conv.output not in graph.outputs


def _with_folded_weights(conv: Node, norm: Node, constants: dict[str, np.ndarray]) -> Node:
    gamma, beta, mean, var = (constants[name].astype(np.float64) for name in norm.inputs[1:])
    weight = constants[conv.inputs[1]]
    bias = constants[conv.inputs[2]] if len(conv.inputs) > 2 and conv.inputs[2] else 0.0
    scale = gamma / np.sqrt(var + norm.attrs["epsilon"])
    names = (f"{conv.inputs[1]}*{norm.name}", f"{norm.inputs[2]}*{norm.name}")
    constants[names[0]] = weight * scale.astype(np.float32)[:, None, None, None]
    constants[names[1]] = (scale * (bias - mean) + beta).astype(np.float32)
    return Node(conv.op, conv.name, (conv.inputs[0], *names), norm.output, conv.attrs)
