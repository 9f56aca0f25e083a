"""Another last layer: networks that know some classes learn others.

The last layer is found in the graph, so that networks in Python and networks given as graphs are treated alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fastcnn._arguments import as_int
from fastcnn.graph.ir import Graph, Node
from fastcnn.graph_network import GraphNetwork
from fastcnn.layers.base import Layer
from fastcnn.layers.initial import RandomSource
from fastcnn.layers.weighted import Conv2d, Linear
from fastcnn.network import Network

__all__ = ["last_layer", "replace_head"]

# What may stand behind the last layer: it takes any number of channels.
_BEHIND = (
    *("Softmax", "LogSoftmax", "Sigmoid", "Relu", "Clip", "Flatten", "Reshape", "Squeeze", "Identity"),
    *("Dropout", "DropPath"),
    *("GlobalAveragePool", "AveragePool", "ReduceMean"),
)


class _Head(NamedTuple):
    node: Node
    weight: str
    bias: str
    outputs_last: bool  # of the weight's axes: (inputs, outputs), as MatMul takes it
    behind: list[Node]


def replace_head(network: Network, num_classes: int, rng: RandomSource = None) -> None:
    """Give a network a new last layer; see `Model.replace_head`."""
    count = as_int(num_classes, "replace_head: num_classes", 1)
    given = isinstance(network, GraphNetwork)
    graph = network._graph_as_given() if isinstance(network, GraphNetwork) else network._stored_graph()
    head = _found(graph, type(network).__name__)
    layer = _new_layer(graph.constants[head.weight], count, bool(head.bias), head, rng)
    if given:
        assert isinstance(network, GraphNetwork)
        _replace_arrays(network, graph, head, layer)
    else:
        _replace_layer(network, head, layer)
    network.classes = None
    network.task = None


def last_layer(graph: Graph, where: str) -> _Head:
    """Return the last layer with weights, going back from the output; `where` is for the error where there is none."""
    makers = {node.output: node for node in graph.nodes}
    behind: list[Node] = []
    node = makers.get(graph.outputs[0])
    while node is not None and _kind(node) in _BEHIND:
        behind.append(node)
        node = makers.get(node.inputs[0])
    head = None if node is None else _as_head(node, makers, graph)
    if head is None:
        last = "nothing" if node is None else f"{_kind(node)} ({node.name[:60]})"
        raise ValueError(f"{where} ends in {last}, expected a linear layer or a convolution with weights")
    return head._replace(behind=behind)


def _found(graph: Graph, name: str) -> _Head:
    """Find a last layer that can be replaced."""
    head = last_layer(graph, f"replace_head: {name}")
    if [name for other in graph.nodes for name in other.inputs].count(head.weight) > 1:
        raise ValueError(f"replace_head: the weights {head.weight[:60]!r} of the last layer are another layer's, too")
    return head


def _as_head(node: Node, makers: dict[str, Node], graph: Graph) -> _Head | None:
    kind, bias = _kind(node), ""
    if kind == "Add":  # of a bias to a product
        product, bias = sorted(node.inputs, key=lambda name: name in graph.constants)
        if product not in makers or bias not in graph.constants:
            return None
        node, kind = makers[product], _kind(makers[product])
        if any(node.inputs[2:]):
            return None
    if kind not in ("Gemm", "Conv", "MatMul") or node.inputs[1] not in graph.constants:
        return None
    bias = bias or (node.inputs[2] if len(node.inputs) > 2 else "")
    if (bias and bias not in graph.constants) or (kind == "Conv" and node.attrs.get("group", 1) != 1):
        return None
    last = kind == "MatMul" or (kind == "Gemm" and not node.attrs.get("transB", node.op == "Gemm"))
    weight = graph.constants[node.inputs[1]]
    if weight.ndim not in (2, 4) or (bias and graph.constants[bias].size != weight.shape[1 if last else 0]):
        return None
    return _Head(node, node.inputs[1], bias, last, [])


def _kind(node: Node) -> str:
    return node.op.rpartition(":")[2]


def _new_layer(weight: np.ndarray, count: int, bias: bool, head: _Head, rng: RandomSource) -> Layer:
    shape = tuple(int(size) for size in weight.shape)
    if len(shape) == 2:
        return Linear(shape[0 if head.outputs_last else 1], count, bias, rng=rng)
    return Conv2d(shape[1], count, (shape[2], shape[3]), bias=bias, rng=rng)


def _replace_layer(network: Network, head: _Head, layer: Layer) -> None:
    """Put a new layer in the place of the one that has the weights."""
    path, _, _ = head.weight.rpartition(".")
    layers = dict(network.named_layers())
    old = layers[path]
    if type(old) not in (Linear, Conv2d) or old is network:
        raise ValueError(
            f"replace_head: the last layer, {path or type(network).__name__!r}, is a {type(old).__name__}, expected a "
            "Linear or a Conv2d"
        )
    if isinstance(layer, Conv2d):
        for name in ("stride", "padding", "dilation", "algorithm"):
            setattr(layer, name, getattr(old, name))
    parent, _, name = path.rpartition(".")
    setattr(layers[parent], name, layer)


def _replace_arrays(network: GraphNetwork, graph: Graph, head: _Head, layer: Layer) -> None:
    """Put new weights under the names of the old ones."""
    new = layer.state_dict()
    weight = np.ascontiguousarray(new["weight"].T) if head.outputs_last else new["weight"]
    arrays, old = {head.weight: weight}, int(graph.constants[head.weight].shape[1 if head.outputs_last else 0])
    if head.bias:
        shape = list(graph.constants[head.bias].shape)
        shape[len(shape) - 1 - shape[::-1].index(old)] = -1
        arrays[head.bias] = new["bias"].reshape(shape)
    nodes = _with_classes(graph, head.behind, old, len(new["weight"]))
    network._replace_head(Graph(nodes, graph.inputs, graph.outputs, {**graph.constants, **arrays}, graph.types), arrays)


def _with_classes(graph: Graph, behind: list[Node], old: int, new: int) -> list[Node]:
    """Return the nodes, of which those that reshape to the old number of classes do so to the new one."""

    def changed() -> Iterator[Node]:
        for node in graph.nodes:
            sizes = node.attrs.get("shape", ())
            if node in behind and node.op == "Reshape" and sizes.count(old) == 1:
                sizes = tuple(new if size == old else size for size in sizes)
                yield replace(node, attrs={**node.attrs, "shape": sizes})
            else:
                yield node

    return list(changed())
