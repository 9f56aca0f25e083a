"""Fusing: a node that only finishes its producer's output becomes part of it.

    Conv ▸ Add ▸ activation   →  Conv(residual=, activation=)
    Conv, Gemm, BatchNormalization, Add, Mul ▸ activation   →  the same with activation=

The fused node stands where the last of them stood, so that a residual is computed before it is read.
"""

from __future__ import annotations

from fastcnn import ops
from fastcnn.compiler._edit import consumers, replaced
from fastcnn.graph.ir import Graph, Node


def fuse(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> Graph:
    """The graph with residual sums and activations inside their producers.

    Parameters
    ----------
    graph : Graph
        After folding; not changed.
    shapes : dict
        Of every value: a sum is only fused where nothing is broadcast.
    """
    return _fuse_activations(_fuse_residuals(graph, shapes))


def _fuse_residuals(graph: Graph, shapes: dict[str, tuple[int, ...]]) -> Graph:
    users = consumers(graph)
    position = {node.output: i for i, node in enumerate(graph.nodes)}
    nodes: list[Node | None] = list(graph.nodes)
    for i, node in enumerate(graph.nodes):
        if node.op != "Add" or len({shapes[name] for name in (*node.inputs, node.output)}) != 1:
            continue
        # Of two convolutions the later one takes the sum in: its output is still in the cache.
        for name in sorted(node.inputs, key=lambda name: -position.get(name, -1)):
            conv = nodes[position[name]] if name in position else None
            if conv is None or conv.op != "Conv" or len(conv.inputs) > 3 or not _private(graph, users, name):
                continue
            other = node.inputs[1] if node.inputs[0] == name else node.inputs[0]
            inputs = (*conv.inputs, *[""] * (3 - len(conv.inputs)), other)
            nodes[position[name]] = None
            nodes[i] = Node("Conv", conv.name, inputs, node.output, {**conv.attrs, "fused": (node.name,)})
            position[node.output] = i
            break
    return replaced(graph, [node for node in nodes if node is not None])


def _fuse_activations(graph: Graph) -> Graph:
    users = consumers(graph)
    nodes: list[Node] = []
    absorbed: set[str] = set()
    for node in graph.nodes:
        if node.output in absorbed:
            continue
        if ops.get(node.op).takes_activation and _private(graph, users, node.output):
            act = users[node.output][0]
            if ops.get(act.op).is_activation:
                absorbed.add(act.output)
                fused = (*node.attrs.get("fused", ()), act.name)
                attrs = {**node.attrs, "activation": (act.op, act.attrs), "fused": fused}
                node = Node(node.op, node.name, node.inputs, act.output, attrs)
        nodes.append(node)
    return replaced(graph, nodes)


def _private(graph: Graph, users: dict[str, list[Node]], name: str) -> bool:
    """Whether one node alone reads the value."""
    return len(users[name]) == 1 and name not in graph.outputs
