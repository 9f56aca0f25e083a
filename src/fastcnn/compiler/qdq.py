"""One form of quantised graphs: DequantizeLinear, the operation in float32, QuantizeLinear.

    QLinearConv, QLinearMatMul  →  Dequantize ▸ Conv or MatMul ▸ Quantize

    ConvInteger or MatMulInteger ▸ Cast ▸ times scales  →  Dequantize ▸ Conv or MatMul

    MaxPool, or what moves integers  →  Dequantize ▸ MaxPool ▸ Quantize

The operators of ONNX Runtime's own domain take this form when a file is read (io/_onnx_contrib.py). A node whose scales
are no constants, or come in other shapes, stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fastcnn import ops
from fastcnn.graph.ir import Graph, Node, live
from fastcnn.ops.budget import Budget
from fastcnn.ops.general import General

__all__ = ["qdq_form"]

_FLOAT = 1  # ONNX's number of the type
_SOURCES = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DequantizeLinear")
# What they give has the scale and the zero point of their first input.
_MOVES = (
    "MaxPool",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
    "Slice",
    "Identity",
    "Dropout",
    "Gather",
)


def qdq_form(graph: Graph) -> Graph:
    """The graph in the one form of quantised graphs; others as they are.

    Examples
    --------
    >>> c = {"s": np.float32(1), "z": np.uint8(0), "w": np.zeros((4, 2), np.uint8)}
    >>> nodes = [Node("ai.onnx::QuantizeLinear", "q", ("x", "s", "z"), "q", {}),
    ...          Node("ai.onnx::QLinearMatMul", "m", ("q", "s", "z", "w", "s", "z", "s", "z"), "y", {})]
    >>> found = qdq_form(Graph(nodes, {"x": (None, 4)}, ["y"], c))
    >>> [node.op.rpartition(":")[2] for node in found.nodes]
    ['QuantizeLinear', 'DequantizeLinear', 'DequantizeLinear', 'MatMul', 'QuantizeLinear']
    """
    if not any(_kind(node) in _SOURCES for node in graph.nodes):
        return graph
    return _Form(graph).run()


def _kind(node: Node) -> str:
    return node.op.rpartition(":")[2] if ops.is_general(node.op) else ""


class _Form:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.constants = graph, dict(graph.constants)
        self.makers = {node.output: node for node in graph.nodes}
        self.taken = {*graph.inputs, *graph.constants, *self.makers, *(node.name for node in graph.nodes)}
        self.nodes: list[Node] = []
        self.numbers: dict[str, tuple[str, ...]] = {}  # scale and zero point of quantised values

    def run(self) -> Graph:
        for node in self.graph.nodes:
            kind = _kind(node)
            if kind in ("Mul", "Transpose") and all(name in self.constants for name in node.inputs):
                self.fold(node)  # scales of products, and weights that are turned
                continue
            rule = _RULES.get(kind)
            start = len(self.nodes)
            if kind in _MOVES and node.inputs[0] in self.numbers and not node.attrs.get("output"):
                self.moved(node)
            elif rule is None or not rule(self, node):
                del self.nodes[start:]
                self.nodes.append(node)
            last = self.nodes[-1]
            if _kind(last) == "QuantizeLinear" and len(last.inputs) == 3 and self.size(last.inputs[1]) == 1:
                self.numbers[last.output] = last.inputs[1:]
        nodes = live(self.nodes, self.graph.outputs)
        used = {name for node in nodes for name in node.inputs} | set(self.graph.outputs)
        constants = {name: array for name, array in self.constants.items() if name in used}
        return replace(self.graph, nodes=nodes, constants=constants)

    def fold(self, node: Node) -> None:
        kind = node.kind
        assert isinstance(kind, General)
        inputs = [np.asarray(self.constants[name]) for name in node.inputs]
        self.constants[node.output] = kind.evaluate(node.attrs, inputs, Budget())

    def name(self, hint: str) -> str:
        name, number = hint, 1
        while name in self.taken:
            number += 1
            name = f"{hint}_{number}"
        self.taken.add(name)
        return name

    def add(self, op: str, source: Node, inputs: tuple[str, ...], output: str = "", **attrs: object) -> str:
        """A node in place of another one, whose output it makes, or before it."""
        name = source.name if output else self.name(f"{source.name}/{op}")
        value = output or self.name(f"{source.output}/{op}")
        self.nodes.append(Node(ops.GENERAL + op, name, inputs, value, attrs))
        return value

    def size(self, name: str) -> int:
        """How many numbers a constant has; 0 of what is none, and of what is absent."""
        return int(np.size(self.constants[name])) if name in self.constants else 0

    def weight(self, node: Node, w: str, scale: str, zero: str, axis: int) -> str:
        """Constant weights as float32, whose scales are one number, or one for each place along an axis."""
        shape = np.shape(self.constants[w]) if w in self.constants else ()
        fits = len(shape) >= 2 and self.size(scale) in (1, shape[axis]) and self.size(zero) in (0, 1, shape[axis])
        if not fits:
            return ""
        if zero and self.size(zero) != self.size(scale):
            shape_of_scale = np.shape(self.constants[scale])
            values = np.asarray(self.constants[zero]).ravel()
            if values.size > 1 and len(set(values.tolist())) > 1:
                return ""
            zero = self.constant(f"{node.name}/zero", np.full(shape_of_scale, values[0], values.dtype))
        return self.add("DequantizeLinear", node, tuple(filter(None, (w, scale, zero))), axis=axis)

    def constant(self, hint: str, array: np.ndarray) -> str:
        name = self.name(hint)
        self.constants[name] = array
        return name

    def moved(self, node: Node) -> None:
        x, *rest = node.inputs
        numbers = self.numbers[x]
        real = self.add("DequantizeLinear", node, (x, *numbers))
        moved = self.add(_kind(node), node, (real, *rest), **node.attrs)
        self.add("QuantizeLinear", node, (moved, *numbers), node.output)

    # Rules: whether the nodes in place of a node have been added.

    def qlinear_conv(self, node: Node) -> bool:
        x, xs, xz, w, ws, wz, ys, yz, *rest = node.inputs
        if any(self.size(name) != 1 for name in (xs, ys)) or self.size(ws) == 0:
            return False
        weight = self.weight(node, w, ws, wz, 0)
        if not weight:
            return False
        parts = [self.add("DequantizeLinear", node, (x, xs, xz)), weight]
        if rest and rest[0]:
            scale = np.asarray(self.constants[xs]).reshape(()) * np.asarray(self.constants[ws]).reshape(-1)
            outputs = np.shape(self.constants[w])[0]
            scale = np.broadcast_to(scale, (outputs,)).astype(np.float32)
            name = self.constant(f"{node.name}/bias_scale", np.ascontiguousarray(scale))
            parts.append(self.add("DequantizeLinear", node, (rest[0], name), axis=0))
        real = self.add("Conv", node, tuple(parts), **node.attrs)
        self.add("QuantizeLinear", node, (real, ys, yz), node.output)
        return True

    def qlinear_matmul(self, node: Node) -> bool:
        a, a_scale, a_zero, b, b_scale, b_zero, ys, yz = node.inputs
        if any(self.size(name) != 1 for name in (a_scale, a_zero, ys, yz)):
            return False
        if b in self.constants:
            right = self.weight(node, b, b_scale, b_zero, np.ndim(self.constants[b]) - 1)
        elif self.size(b_scale) == self.size(b_zero) == 1:
            right = self.add("DequantizeLinear", node, (b, b_scale, b_zero))
        else:
            right = ""
        if not right:
            return False
        left = self.add("DequantizeLinear", node, (a, a_scale, a_zero))
        real = self.add("MatMul", node, (left, right))
        self.add("QuantizeLinear", node, (real, ys, yz), node.output)
        return True

    def scaled_product(self, node: Node) -> bool:
        """Cast(integers) * (x_scale * w_scale), as dynamic quantisation writes it."""
        for whole, factor in (node.inputs, node.inputs[::-1]):
            cast, scales = self.makers.get(whole), self.makers.get(factor)
            if cast is None or scales is None or (_kind(cast), _kind(scales)) != ("Cast", "Mul"):
                continue
            product = self.makers.get(cast.inputs[0])
            if cast.attrs.get("to") != _FLOAT or product is None or not _kind(product).endswith("Integer"):
                continue
            x, w, *zeros = product.inputs
            x_zero, w_zero = (*zeros, "", "")[:2]
            for x_scale, w_scale in (scales.inputs, scales.inputs[::-1]):
                if self.is_scale_of(x, x_scale) and self.size(w_scale):
                    return self.dynamic(node, product, (x, x_scale, x_zero), (w, w_scale, w_zero))
        return False

    def is_scale_of(self, x: str, scale: str) -> bool:
        """Whether DynamicQuantizeLinear has made both of one value."""
        made = [self.makers.get(name) for name in (x, scale)]
        return all(node is not None and _kind(node) == "DynamicQuantizeLinear" for node in made) and (
            made[0].inputs == made[1].inputs  # type: ignore[union-attr]
        )

    def dynamic(self, node: Node, product: Node, x: tuple[str, str, str], w: tuple[str, str, str]) -> bool:
        is_conv = _kind(product) == "ConvInteger"
        if w[0] not in self.constants or (is_conv and self.size(w[1]) != 1):
            return False
        weight = self.weight(node, *w, 0 if is_conv else np.ndim(self.constants[w[0]]) - 1)
        if not weight:
            return False
        left = self.add("DequantizeLinear", node, tuple(filter(None, x)))
        self.add("Conv" if is_conv else "MatMul", node, (left, weight), node.output, **product.attrs)
        return True


_RULES: Mapping[str, Callable[[_Form, Node], bool]] = {
    "QLinearConv": _Form.qlinear_conv,
    "QLinearMatMul": _Form.qlinear_matmul,
    "Mul": _Form.scaled_product,
}
