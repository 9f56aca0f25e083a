"""The float32 network as it is quantised: batch norms are folded into weights, and ranges of channels equalised.

    relu(W x + b)  =  s relu((W x + b) / s)      for each channel, s > 0

What divides the channels of one convolution multiplies those of the next. Nagel et al., Data-free quantization through
weight equalization and bias correction, 2019. A depthwise convolution has a scale for each channel, so that its inputs
can all have the same range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fastcnn.compiler.fold import fold, fold_constants
from fastcnn.compiler.network import is_resolved
from fastcnn.compiler.recognise import recognise
from fastcnn.compiler.state import Options, State
from fastcnn.graph.ir import Graph, Node, Shape
from fastcnn.network import Network
from fastcnn.ops.budget import MAX_BYTES

__all__ = ["equalised", "float_graph", "is_weighted", "pairs_of_depthwise"]

WEIGHTED = ("Conv", "Gemm")
# How far the channels of a value may be pulled apart; those that hardly ever differ from zero stay what they are.
MOST = 64.0


def float_graph(model: Network, shape: Shape) -> Graph:
    """The network for inputs of one shape, without batch norms where a convolution comes before.

    Each convolution and linear layer has weights of its own, named after the node.
    """
    graph = model.graph(shape)
    if any(node.op.endswith("::QuantizeLinear") for node in graph.nodes):
        raise ValueError("quantize: the network is quantised already")
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


def pairs_of_depthwise(graph: Graph) -> list[tuple[Node, Node]]:
    """Convolutions and those behind them, with at most a ReLU between, one of which is depthwise."""
    makers = {node.output: node for node in graph.nodes}
    reads = Counter(name for node in graph.nodes for name in node.inputs)
    pairs = []
    for node in graph.nodes:
        before = makers.get(node.inputs[0]) if node.op == "Conv" else None
        private = before is not None and reads[before.output] == 1 and before.output not in graph.outputs
        if private and before is not None and before.op == "Relu":
            before = makers.get(before.inputs[0])
            private = before is not None and reads[before.output] == 1 and before.output not in graph.outputs
        if before is None or not private or before.op != "Conv":
            continue
        if not (is_weighted(before, graph) and is_weighted(node, graph)):
            continue
        if _is_depthwise(node, graph) or (_is_depthwise(before, graph) and node.attrs["group"] == 1):
            pairs.append((before, node))
    return pairs


def _is_depthwise(node: Node, graph: Graph) -> bool:
    weight = graph.constants[node.inputs[1]]
    return bool(weight.shape[1] == 1 and weight.shape[0] == node.attrs["group"] > 1)


def equalised(graph: Graph, peaks: Mapping[str, np.ndarray]) -> Graph:
    """The graph, in which channels between convolutions have more similar ranges; it computes the same.

    Parameters
    ----------
    graph : Graph
    peaks : dict of str to ndarray (channels,)
        The largest magnitude of each channel of the values that second convolutions of `pairs_of_depthwise` read.
    """
    constants = dict(graph.constants)
    for first, second in pairs_of_depthwise(graph):
        is_depthwise = _is_depthwise(second, graph)
        factors = _factors(peaks[second.inputs[0]], constants[second.inputs[1]], is_depthwise)
        _divide(constants, first, factors)
        weight = constants[second.inputs[1]] * factors.reshape((-1, 1, 1, 1) if is_depthwise else (1, -1, 1, 1))
        constants[second.inputs[1]] = weight.astype(np.float32)
    return replace(graph, constants=constants)


def _factors(peak: np.ndarray, weight: np.ndarray, is_depthwise: bool) -> np.ndarray:
    """What the channels are divided by: their peak, or its mean with what the weights need."""
    top = peak.max()
    if top <= 0:
        return np.ones_like(peak)
    share = np.clip(peak / top, 1 / MOST, 1.0)
    if not is_depthwise:
        reach = np.abs(weight).max((0, *range(2, weight.ndim)))
        reach = np.clip(reach / max(float(reach.max()), 1e-30), 1 / MOST, 1.0)
        share = np.sqrt(share / reach)
        share = share / share.max()
    return np.where(peak > 0, share, 1.0)


def _divide(constants: dict[str, np.ndarray], node: Node, factors: np.ndarray) -> None:
    for name in node.inputs[1:]:
        if name:
            array = constants[name]
            constants[name] = (array / factors.reshape(-1, *[1] * (array.ndim - 1))).astype(np.float32)


def is_weighted(node: Node, graph: Graph) -> bool:
    """Whether a node multiplies by constant weights."""
    return node.op in WEIGHTED and all(name in graph.constants for name in node.inputs[1:] if name)
