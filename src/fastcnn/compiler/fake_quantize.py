"""Quantised graphs that learn: float weights in place of integers, and fake quantisation in place of both conversions.

    int8 ▸ DequantizeLinear  →  float weight ▸ QuantizeLinear ▸ DequantizeLinear, while a network learns

    QuantizeLinear ▸ DequantizeLinear  →  FakeQuantize, within the training step

Scales and zero points stay what they are. A bias is not rounded within the step: its integers are finer than float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fastcnn import ops
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.budget import Budget
from fastcnn.ops.fake_quantize import MAGIC
from fastcnn.ops.general import General

__all__ = ["at_rest", "for_training", "with_float_weights"]

QUANTIZE, DEQUANTIZE = f"{ops.GENERAL}QuantizeLinear", f"{ops.GENERAL}DequantizeLinear"
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_MAGIC = "fake_quantize:magic"


def with_float_weights(graph: Graph) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph, in which integer weights are float32 numbers that QuantizeLinear rounds; and these.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    Graph, dict of str to ndarray
        The float32 arrays have the names of the integers, and are not among the graph's constants.
    """
    weights = {name for node in graph.nodes if _kind(node) in _WEIGHTED for name in node.inputs[1:]}
    nodes, constants, floats = [], dict(graph.constants), {}
    for node in graph.nodes:
        whole = constants.get(node.inputs[0]) if node.op == DEQUANTIZE and node.output in weights else None
        if whole is None or whole.dtype.kind not in "iu" or node.attrs.get("block_size"):
            nodes.append(node)
            continue
        name, rounded, zero = node.inputs[0], f"{node.inputs[0]}/quantized", [*node.inputs[2:], ""][0]
        floats[name] = np.asarray(_evaluate(node, constants), np.float32)
        if not zero:
            zero = f"{name}/zero_point"
            constants[zero] = np.zeros(np.shape(constants[node.inputs[1]]), whole.dtype)
        numbers = node.inputs[1], zero
        nodes.append(Node(QUANTIZE, f"{name}/QuantizeLinear", (name, *numbers), rounded, {**node.attrs}))
        nodes.append(node.reading((rounded, *numbers)))
    kept = {name: array for name, array in constants.items() if name not in floats}
    return replace(graph, nodes=nodes, constants=kept), floats


def at_rest(graph: Graph) -> Graph:
    """The graph, in which constants that QuantizeLinear reads are the integers that it makes."""
    nodes, constants, names = [], dict(graph.constants), {}
    for node in graph.nodes:
        if node.op == QUANTIZE and all(name in graph.constants for name in node.inputs):
            constants[node.inputs[0]] = _evaluate(node, graph.constants)
            names[node.output] = node.inputs[0]
        elif node.inputs and node.inputs[0] in names:
            nodes.append(node.reading((names[node.inputs[0]], *node.inputs[1:])))
        else:
            nodes.append(node)
    return replace(graph, nodes=nodes, constants=constants) if names else graph


def for_training(graph: Graph) -> Graph:
    """The graph, in which FakeQuantize stands for QuantizeLinear and the DequantizeLinear behind it."""
    makers = {node.output: node for node in graph.nodes}
    constants, nodes = dict(graph.constants), []
    names: dict[str, str] = {}
    for node in graph.nodes:
        before = makers.get(node.inputs[0]) if node.op == DEQUANTIZE else None
        if before is None or before.op != QUANTIZE or before.inputs[1:] != node.inputs[1:]:
            nodes.append(node.reading(names.get(name, name) for name in node.inputs))
            continue
        x = names.get(before.inputs[0], before.inputs[0])
        zero = constants[before.inputs[2]] if len(before.inputs) > 2 else np.zeros((), np.uint8)
        if zero.dtype.itemsize > 1:
            names[node.output] = x
        else:
            nodes.append(_fake(node, x, before.inputs[1], zero, constants))
    used = {name for node in nodes for name in node.inputs}
    nodes = [node for node in nodes if node.op != QUANTIZE or node.output in used]
    used = {name for node in nodes for name in node.inputs}
    constants = {name: array for name, array in constants.items() if name in used}
    return replace(graph, nodes=nodes, constants=constants)


def _fake(node: Node, x: str, scale: str, zero: np.ndarray, constants: dict[str, np.ndarray]) -> Node:
    """The node that rounds x in float32; zero points of several numbers are 0."""
    steps, offset = np.asarray(constants[scale], np.float32), int(zero.ravel()[0]) if zero.size else 0
    if steps.size > 1:
        source = constants.get(x)
        rank = source.ndim if source is not None else 1
        axis = node.attrs.get("axis", 1) % rank
        steps = steps.reshape([-1 if i == axis else 1 for i in range(rank)])
    else:
        steps = steps.reshape(())
    steps = np.where(steps > 0, steps, np.float32(1))
    name = f"{node.output}:scale"
    constants |= {name: np.asarray(steps, np.float32), _MAGIC: np.asarray(MAGIC)}
    info = np.iinfo(zero.dtype)
    attrs = {"low": int(info.min) - offset, "high": int(info.max) - offset}
    return Node("FakeQuantize", node.name, (x, name, _MAGIC), node.output, attrs)


def _kind(node: Node) -> str:
    return node.op.rpartition(":")[2]


def _evaluate(node: Node, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    kind = node.kind
    assert isinstance(kind, General)
    return kind.evaluate(node.attrs, [np.asarray(constants[name]) if name else None for name in node.inputs], Budget())
