"""Folding: what does not depend on the inputs is computed once, when a network is compiled.

Constant subexpressions become constants. Dropout and identity vanish. Scales and shifts by channel become one batch
normalisation, which is folded into the weights of the convolution before it.

    scale (W x + b - mean) + beta  =  (scale W) x + (scale (b - mean) + beta),   scale = gamma / sqrt(var + eps)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from fastcnn.compiler._edit import renamed
from fastcnn.compiler.cost import definition_cost
from fastcnn.compiler.merge import merge_convolutions
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Graph, Node, Shape
from fastcnn.ops.decisions import Scale

_TRANSPARENT = {"Dropout", "DropPath", "Identity"}


def fold(state: State) -> State:
    """Remove the nodes whose work can be done once.

    A convolution keeps the factors of a batch normalisation that is folded into it as `Scale`.
    """
    with np.errstate(all="ignore"):  # a negative variance gives NaN without a warning
        for step in (_drop_transparent, _drop_repeated_relu, _folded, _join_affine):
            state = step(state)
        state = _fold_into_norms(_fold_batch_norm(state))
        merged = merge_convolutions(state)
        while merged is not state:  # the sum may be normalised, and may be a branch of another one
            state = _fold_batch_norm(merged)
            merged = merge_convolutions(state)
        return state


def _drop_transparent(state: State) -> State:
    source: dict[str, str] = {}
    nodes = []
    for node in state.graph.nodes:
        if node.op in _TRANSPARENT and node.output not in state.outputs:
            source[node.output] = source.get(node.inputs[0], node.inputs[0])
        else:
            nodes.append(renamed(node, source))
    return state.with_nodes(nodes) if source else state


def _drop_repeated_relu(state: State) -> State:
    graph = drop_repeated_relu(state.graph)
    return state if graph is state.graph else state.with_nodes(graph.nodes)


def drop_repeated_relu(graph: Graph) -> Graph:
    """Remove each ReLU of values that come out of a ReLU, or of maxima behind one: it changes nothing."""
    source: dict[str, str] = {}
    rectified: set[str] = set()
    nodes = []
    for node in graph.nodes:
        node = renamed(node, source)
        if node.op == "Relu":
            if node.inputs[0] in rectified and node.output not in graph.outputs:
                source[node.output] = node.inputs[0]
                continue
            rectified.add(node.output)
        elif node.op == "MaxPool" and node.inputs[0] in rectified:
            rectified.add(node.output)
        nodes.append(node)
    return replace(graph, nodes=nodes) if source else graph


def fold_constants(state: State) -> State:
    """Compute what depends on constants alone."""
    with np.errstate(all="ignore"):
        return _folded(state)


def _folded(state: State) -> State:
    constants, budget = dict(state.graph.constants), state.options.budget
    known = {*constants, ""}
    nodes = []
    for node in state.graph.nodes:
        read = [name for i, name in enumerate(node.inputs) if i not in node.kind.shape_alone]
        if node.output in state.outputs or not known.issuperset(read):
            nodes.append(node)
            continue
        known.add(node.output)
        if budget is not None:
            try:
                budget.require(definition_cost(node, state.shapes))
            except ValueError as error:
                raise ValueError(f"node {node.name!r} ({node.op}), of constants: {error}") from None
        inputs = [_array(name, constants, state.shapes) if name else None for name in node.inputs]
        constants[node.output] = node.kind.reference(node.attrs, inputs).astype(np.float32)
    return state.with_nodes(nodes, constants) if len(nodes) < len(state.graph.nodes) else state


def _array(name: str, constants: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]) -> np.ndarray:
    """A constant, or what stands for a value of which the shape alone matters."""
    return np.asarray(constants[name]) if name in constants else np.broadcast_to(np.float32(0), shapes[name])


def _join_affine(state: State) -> State:
    """Replace products and sums with one number, or one for each channel, by batch normalisations; a chain by one."""
    constants = dict(state.graph.constants)
    nodes: list[Node] = []
    place: dict[str, int] = {}  # the index of each affine node, by its output
    changed = False
    for node in state.graph.nodes:
        operands = _affine_operands(node, constants, state.shapes)
        if operands is None:
            nodes.append(node)
            continue
        x, at = operands[0], len(nodes)
        joins = x in place and state.is_private(x)
        if joins or node.op != "BatchNormalization":
            channels = state.shapes[node.output][1]
            scale, shift = _affine(node, operands[1], constants, channels)
            name = node.name
            if joins:
                at = place.pop(x)
                inner, offset = _affine(nodes[at], "", constants, channels)
                x, name = nodes[at].inputs[0], nodes[at].name
                scale, shift = inner * scale, offset * scale + shift
            values = {"weight": scale, "bias": shift, "mean": 0 * scale, "var": 0 * scale + 1}
            names = [f"{node.output}*{part}" for part in values]
            constants |= zip(names, (array.astype(np.float32) for array in values.values()), strict=True)
            node = Node("BatchNormalization", name, (x, *names), node.output, {"epsilon": 0.0})
            changed = True
        nodes[at : at + 1] = [node]
        place[node.output] = at
    return state.with_nodes(nodes, constants) if changed else state


def _affine_operands(
    node: Node, constants: Mapping[str, np.ndarray], shapes: Mapping[str, Shape]
) -> tuple[str, str] | None:
    """The images x and the constant of a node that computes x * scale + shift by channel; None for other nodes.

    A batch normalisation has "" in place of the constant.
    """
    if node.op not in ("BatchNormalization", "Mul", "Add"):
        return None
    shape = shapes[node.output]
    if len(shape) != 4:
        return None
    if node.op == "BatchNormalization":
        return (node.inputs[0], "") if all(name in constants for name in node.inputs[1:]) else None
    for x, name in (node.inputs, node.inputs[::-1]):
        known = constants[name].shape if name in constants else None
        by_channel = known in ((shape[1], 1, 1), (1, shape[1], 1, 1)) or (known is not None and prod(known) == 1)
        if by_channel and shapes[x] == shape:
            return x, name
    return None


def _affine(node: Node, name: str, constants: Mapping[str, np.ndarray], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale and shift of each channel, in float64; `_affine_operands` gives the node and the name of its constant."""
    if node.op == "BatchNormalization":
        gamma, beta, mean, var = (np.asarray(constants[name], np.float64) for name in node.inputs[1:])
        scale = gamma / np.sqrt(var + node.attrs["epsilon"])
        return scale, beta - mean * scale
    values = np.broadcast_to(np.asarray(constants[name], np.float64).ravel(), (channels,))
    return (values, 0 * values) if node.op == "Mul" else (0 * values + 1, values)


def _fold_batch_norm(state: State) -> State:
    constants = dict(state.graph.constants)
    norms = {node.inputs[0]: node for node in state.graph.nodes if node.op == "BatchNormalization"}
    nodes: list[Node] = []
    folded: set[str] = set()
    for node in state.graph.nodes:
        norm = norms.get(node.output)
        if norm is not None and node.op == "Conv" and _foldable(node, norm, state, (1, 2)):
            nodes.append(_with_folded_weights(node, norm, constants))
            folded.add(norm.output)
        elif node.output not in folded:
            nodes.append(node)
    return state.with_nodes(nodes, constants) if folded else state


_NORMS = {"ChannelNormalization": (1, 2), "GroupNorm": (2, 3)}  # where their weight and bias stand


def _fold_into_norms(state: State) -> State:
    """Let a normalisation over channels or groups multiply and add what a batch normalisation behind it does."""
    constants = dict(state.graph.constants)
    affine = {node.inputs[0]: node for node in state.graph.nodes if node.op == "BatchNormalization"}
    nodes: list[Node] = []
    folded: set[str] = set()
    for node in state.graph.nodes:
        follower = affine.get(node.output) if node.op in _NORMS else None
        if follower is not None and _foldable(node, follower, state, _NORMS[node.op]):
            channels = state.shapes[node.output][1]
            scale, shift = _affine(follower, "", constants, channels)
            inputs = [*node.inputs, ""][: _NORMS[node.op][1] + 1]
            for place, part in zip(_NORMS[node.op], ("weight", "bias"), strict=True):
                own = np.asarray(constants[inputs[place]], np.float64) if inputs[place] else 0.0
                inputs[place] = f"{follower.output}*{part}"
                constants[inputs[place]] = np.asarray(own * scale + (shift if part == "bias" else 0.0), np.float32)
            node = replace(node.reading(inputs), output=follower.output)
            folded.add(follower.output)
        elif node.output in folded:
            continue
        nodes.append(node)
    return state.with_nodes(nodes, constants) if folded else state


def _foldable(node: Node, norm: Node, state: State, weights: Sequence[int]) -> bool:
    """Whether the weights of a node are constants, and a batch normalisation alone reads its output."""
    own = [node.inputs[i] for i in weights if i < len(node.inputs)]
    known = all(name in state.graph.constants for name in (*own, *norm.inputs[1:]) if name)
    return known and state.is_private(node.output)


def _with_folded_weights(conv: Node, norm: Node, constants: dict[str, np.ndarray]) -> Node:
    gamma, beta, mean, var = (np.asarray(constants[name], np.float64) for name in norm.inputs[1:])
    bias = np.asarray(constants[conv.inputs[2]]) if len(conv.inputs) > 2 and conv.inputs[2] else 0.0
    scale = gamma / np.sqrt(var + norm.attrs["epsilon"])
    name = f"{norm.inputs[2]}*{norm.name}"
    constants[name] = (scale * (bias - mean) + beta).astype(np.float32)
    # Packing multiplies the weights: multiplied copies would take as much memory again as the network.
    folded = replace(conv, inputs=(conv.inputs[0], conv.inputs[1], name), output=norm.output)
    return folded.deciding(scale=Scale(norm.name, scale.astype(np.float32)))
