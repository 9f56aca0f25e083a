"""Folding: what can be computed before any input is known. Constant subexpressions become constants, dropout and
identity vanish, scales and shifts by channel become one batch normalisation, and that disappears into the weights of
the convolution before it.

    scale (W x + b - mean) + beta  =  (scale W) x + (scale (b - mean) + beta),   scale = gamma / sqrt(var + eps)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from fastcnn.compiler._edit import consumers, renamed, replaced
from fastcnn.compiler.cost import definition_cost
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.budget import Budget

_TRANSPARENT = {"Dropout", "Identity"}


def fold(graph: Graph, shapes: Mapping[str, tuple[int, ...]], budget: Budget | None = None) -> Graph:
    """The graph without nodes whose work can be done once.

    Parameters
    ----------
    graph : Graph
        Not changed.
    shapes : dict
        Of every value.
    budget : Budget, optional
        Asked before a constant is computed.

    Returns
    -------
    Graph
        New nodes; convolutions with a batch normalisation folded in have the attribute ``scale``: its name, and what
        their weights are multiplied with.
    """
    with np.errstate(all="ignore"):  # a negative variance gives NaN, as everywhere
        graph = _fold_constants(drop_repeated_relu(_drop_transparent(graph)), shapes, budget)
        return _fold_batch_norm(_join_affine(_join_swish(graph), shapes))


def _drop_transparent(graph: Graph) -> Graph:
    source: dict[str, str] = {}
    outputs = set(graph.outputs)
    nodes = []
    for node in graph.nodes:
        node = renamed(node, source)
        if node.op in _TRANSPARENT and node.output not in outputs:
            source[node.output] = node.inputs[0]
        else:
            nodes.append(node)
    return replaced(graph, nodes)


def drop_repeated_relu(graph: Graph) -> Graph:
    """A ReLU changes nothing where the values come out of a ReLU, maxima of them included."""
    source: dict[str, str] = {}
    rectified: set[str] = set()
    outputs = set(graph.outputs)
    nodes = []
    for node in graph.nodes:
        node = renamed(node, source)
        if node.op == "Relu" and node.inputs[0] in rectified and node.output not in outputs:
            source[node.output] = node.inputs[0]
            continue
        if node.op == "Relu" or (node.op == "MaxPool" and node.inputs[0] in rectified):
            rectified.add(node.output)
        nodes.append(node)
    return replaced(graph, nodes)


def _fold_constants(graph: Graph, shapes: Mapping[str, tuple[int, ...]], budget: Budget | None) -> Graph:
    constants, outputs = dict(graph.constants), set(graph.outputs)
    nodes = []
    for node in graph.nodes:
        if node.output in outputs or not all(name in constants for name in node.inputs if name):
            nodes.append(node)
            continue
        if budget is not None:
            try:
                budget.require(definition_cost(node, shapes))
            except ValueError as error:
                raise ValueError(f"node {node.name!r} ({node.op}), of constants: {error}") from None
        inputs = [np.asarray(constants[name]) if name else None for name in node.inputs]
        constants[node.output] = node.kind.reference(node.attrs, inputs).astype(np.float32)
    return replaced(graph, nodes, constants)


def _join_swish(graph: Graph) -> Graph:
    """x * sigmoid(x), as files of older opsets write it."""
    gates = {node.output: node for node in graph.nodes if node.op == "Sigmoid"}
    users, outputs = consumers(graph), set(graph.outputs)
    nodes: list[Node] = []
    joined: set[str] = set()
    for node in graph.nodes:
        for name, x in (node.inputs[::-1], node.inputs) if node.op == "Mul" else ():
            if name in gates and gates[name].inputs[0] == x and len(users[name]) == 1 and name not in outputs:
                node = Node("Swish", node.name, (x,), node.output, {})
                joined.add(gates.pop(name).output)
        nodes.append(node)
    return replaced(graph, [node for node in nodes if node.output not in joined])


def _join_affine(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """Products and sums with one number for each channel as batch normalisations; of several of these in a row, one."""
    constants, users, outputs = dict(graph.constants), consumers(graph), set(graph.outputs)
    nodes: list[Node] = []
    place: dict[str, int] = {}  # of affine nodes, by their outputs
    for node in graph.nodes:
        affine = _affine(node, constants, shapes)
        if affine is None:
            nodes.append(node)
            continue
        x, scale, shift = affine
        at, name = len(nodes), node.name
        if x in place and len(users[x]) == 1 and x not in outputs:
            at = place.pop(x)
            before = _affine(nodes[at], constants, shapes)
            assert before is not None
            x, inner, offset = before
            name, scale, shift = nodes[at].name, inner * scale, offset * scale + shift
        if at < len(nodes) or node.op != "BatchNormalization":
            values = {"weight": scale, "bias": shift, "mean": 0 * scale, "var": 0 * scale + 1}
            names = [f"{node.output}*{part}" for part in values]
            constants |= zip(names, (array.astype(np.float32) for array in values.values()), strict=True)
            node = Node("BatchNormalization", name, (x, *names), node.output, {"epsilon": 0.0})
        nodes[at : at + 1] = [node]
        place[node.output] = at
    return replaced(graph, nodes, constants)


def _affine(
    node: Node, constants: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, np.ndarray, np.ndarray] | None:
    """(x, scale, shift) where the node is x * scale + shift by channels of images, in float64."""
    shape = shapes[node.output]
    if len(shape) != 4:
        return None
    if node.op == "BatchNormalization":
        if not all(name in constants for name in node.inputs[1:]):
            return None
        gamma, beta, mean, var = (np.asarray(constants[name], np.float64) for name in node.inputs[1:])
        scale = gamma / np.sqrt(var + node.attrs["epsilon"])
        return node.inputs[0], scale, beta - mean * scale
    if node.op in ("Mul", "Add"):
        for x, name in (node.inputs, node.inputs[::-1]):
            array = constants.get(name)
            by_channel = array is not None and array.shape in ((shape[1], 1, 1), (1, shape[1], 1, 1))
            if array is not None and by_channel and shapes[x] == shape:
                values = np.asarray(array, np.float64).ravel()
                return (x, values, 0 * values) if node.op == "Mul" else (x, 0 * values + 1, values)
    return None


def _fold_batch_norm(graph: Graph) -> Graph:
    constants, users, outputs = dict(graph.constants), consumers(graph), set(graph.outputs)
    norms = {node.inputs[0]: node for node in graph.nodes if node.op == "BatchNormalization"}
    nodes: list[Node] = []
    folded: set[str] = set()
    for node in graph.nodes:
        norm = norms.get(node.output)
        if node.op == "Conv" and norm is not None and _foldable(graph, node, norm, users, outputs):
            nodes.append(_with_folded_weights(node, norm, constants))
            folded.add(norm.output)
        elif node.output not in folded:
            nodes.append(node)
    return replaced(graph, nodes, constants)


def _foldable(graph: Graph, conv: Node, norm: Node, users: dict[str, list[Node]], outputs: Collection[str]) -> bool:
    known = all(name in graph.constants for name in (*conv.inputs[1:], *norm.inputs[1:]) if name)
    return known and len(users[conv.output]) == 1 and conv.output not in outputs


def _with_folded_weights(conv: Node, norm: Node, constants: dict[str, np.ndarray]) -> Node:
    gamma, beta, mean, var = (np.asarray(constants[name], np.float64) for name in norm.inputs[1:])
    bias = np.asarray(constants[conv.inputs[2]]) if len(conv.inputs) > 2 and conv.inputs[2] else 0.0
    scale = gamma / np.sqrt(var + norm.attrs["epsilon"])
    name = f"{norm.inputs[2]}*{norm.name}"
    constants[name] = (scale * (bias - mean) + beta).astype(np.float32)
    # The weights are multiplied where they are packed: copies of all of them would take as much memory as the network.
    attrs = {**conv.attrs, "scale": (norm.name, scale.astype(np.float32))}
    return Node(conv.op, conv.name, (conv.inputs[0], conv.inputs[1], name), norm.output, attrs)
