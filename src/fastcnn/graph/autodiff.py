"""Automatic differentiation: backward nodes appended to a graph, each by its operation's own rule (`Op.gradient`).

Reverse mode: from the loss back, a value's gradient is the sum of what its readers give it (Baydin et al., Automatic
differentiation in machine learning: a survey, 2018). What is done with the gradients is training/step.py's business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from fastcnn import ops
from fastcnn.graph.ir import Graph, Node, Shape


def differentiate(
    graph: Graph, shapes: Mapping[str, Shape], loss: str, wanted: Collection[str]
) -> tuple[Graph, dict[str, str], dict[str, Shape]]:
    """The graph with the nodes that compute the gradients of a loss.

    Parameters
    ----------
    graph : Graph
        Not changed.
    shapes : dict
        Of each graph input; those of other values need not be inferred again.
    loss : str
        The value to differentiate, computed by a loss operation.
    wanted : collection of str
        Values whose gradients are asked for: inputs, or what nodes compute. For a value that none of them reaches,
        nothing is computed.

    Returns
    -------
    (Graph, dict, dict)
        The names of the wanted values' gradients, absent where the loss does not depend on the value; and the shapes of
        all values.

    Examples
    --------
    >>> node = Node("Gemm", "fc", ("x", "w"), "y", {})
    >>> loss = Node("MeanSquaredError", "loss", ("y", "t"), "l", {})
    >>> shapes = {"x": (8, 3), "w": (2, 3), "t": (8, 2)}
    >>> graph, grads, shapes = differentiate(Graph([node, loss], shapes, ["l"], {}), shapes, "l", {"w"})
    >>> [node.op for node in graph.nodes], list(grads), shapes[grads["w"]]
    (['Gemm', 'MeanSquaredError', 'MeanSquaredErrorGrad', 'GemmGradWeight'], ['w'], (2, 3))
    """
    return _Differentiator(graph, shapes, wanted).run(loss, wanted)


class _Differentiator:
    """What `Op.gradient` sees as `back`."""

    def __init__(self, graph: Graph, shapes: Mapping[str, Shape], wanted: Collection[str]) -> None:
        self.graph, self.shapes = graph, graph.infer(shapes)
        self.nodes = list(graph.nodes)
        self.reached = set(wanted)
        for node in graph.nodes:
            if not self.reached.isdisjoint(node.inputs):
                self.reached.add(node.output)
        self.source = ""  # the forward node at hand: what is added is named after it

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        kind = ops.get(op)
        full = {**kind.defaults, **{key: value for key, value in attrs.items() if key in kind.defaults}}
        name = f"{self.source}:{op.lower()}{len(self.nodes)}"
        self.nodes.append(Node(op, name, inputs, name, full))
        self.shapes[name] = kind.infer(full, [self.shapes[value] if value else None for value in inputs])
        return name

    def needs(self, name: str) -> bool:
        return name in self.reached

    def shape(self, name: str) -> Shape:
        return self.shapes[name]

    def run(self, loss: str, wanted: Collection[str]) -> tuple[Graph, dict[str, str], dict[str, Shape]]:
        parts: dict[str, list[str]] = {loss: [loss]}
        for node in reversed(self.graph.nodes):
            if node.output in parts and self.needs(node.output):
                self.source = node.name
                total = self.total(parts.pop(node.output))
                if node.output in wanted:
                    parts[node.output] = [total]
                if self.reached.isdisjoint(node.inputs):
                    continue
                grads = node.kind.gradient(node, total, self)
                for name, grad in zip(node.inputs, grads, strict=True):
                    if grad is not None and self.needs(name):
                        parts.setdefault(name, []).append(grad)
        grads_of = {name: self.total(parts[name]) for name in wanted if name in parts}
        return replace(self.graph, nodes=self.nodes), grads_of, self.shapes

    def joined(self, parts: list[str]) -> str:
        """The sum of gradients of slices that make up a value, as their concatenation; "" for others."""
        pads = [node for node in self.nodes[::-1] if node.output in parts]
        if any(node.op != "Pad" or node.attrs["value"] for node in pads):
            return ""
        rank = len(self.shapes[parts[0]])
        axes = {i % rank for node in pads for i, border in enumerate(node.attrs["pads"]) if border}
        if len(axes) != 1:
            return ""
        (axis,) = axes
        pads.sort(key=lambda node: node.attrs["pads"][axis])
        end = 0
        for node in pads:
            if node.attrs["pads"][axis] != end:
                return ""
            end += self.shapes[node.inputs[0]][axis]
        whole = end == self.shapes[parts[0]][axis]
        return self.add("Concat", *[node.inputs[0] for node in pads], axis=axis) if whole else ""

    def total(self, parts: list[str]) -> str:
        joined = self.joined(parts) if len(parts) > 1 else ""
        if joined:
            return joined
        while len(parts) > 1:
            parts[:2] = [self.add("Add", parts[0], parts[1])]
        return parts[0]
