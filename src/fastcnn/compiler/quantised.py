"""Quantised operations: what is computed between DequantizeLinear and QuantizeLinear becomes one operation on bytes.

    Int8Dequantize ▸ Conv ▸ Relu ▸ Int8Quantize  →  Int8Conv

    x = Int8Dequantize ▸ x * sigmoid(x) ▸ Int8Quantize  →  Int8Table, of the 256 values of a byte

A fully connected layer is a convolution whose window is the image. An operation whose output stays float32 ends a chain
of bytes. What has no form in bytes is computed in float32 between kernels that convert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from fastcnn import ops
from fastcnn._record import record
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node, Shape
from fastcnn.ops.base import resolve_pads

# Sums of more products, or with larger biases, could leave 32 bits.
MOST_PRODUCTS = (1 << 30) // (255 * 128)
MOST_BIAS = 1 << 29
_CLIPS = ("Relu", "Clip")
_MOVES = ("Flatten", "Reshape", "Identity", "Dropout", "DropPath")


def in_bytes(state: State) -> State:
    """Compute quantised values as bytes, as far as there are kernels."""
    return _Bytes(state).run()


@record
class Quantised:
    """A value in bytes: its name, scale and zero point."""

    name: str
    scale: float
    zero: int


class _Bytes:
    def __init__(self, state: State) -> None:
        self.state, self.shapes, self.makers = state, dict(state.shapes), dict(state.makers)
        self.constants = dict(state.graph.constants)
        self.nodes: list[Node] = []

    def run(self) -> State:
        for node in self.state.graph.nodes:
            made = self.quantised(node) if node.op == "Int8Quantize" else self.ending(node)
            for new in made or [node]:
                self.nodes.append(new)
                self.makers[new.output] = new
        nodes = self.fused(self.state.wanted(self.nodes))
        return self.state.with_nodes(self.state.wanted(nodes), self.constants, self.shapes)

    def quantised(self, node: Node) -> list[Node] | None:
        """The nodes that compute what is quantised in bytes."""
        chain = [maker] if (maker := self.makers.get(node.inputs[0])) is not None else []
        while chain and chain[-1].op in _CLIPS and self.state.is_private(chain[-1].inputs[0]):
            before = self.makers.get(chain[-1].inputs[0])
            if before is None:
                break
            chain.append(before)
        if not chain:
            return None
        result = Quantised(node.output, node.attrs["scale"], node.attrs["y_zero"])
        low, high = 0, 255
        for clip in chain[:-1]:
            low, high = _bounds(clip, result, low, high)
        found = self.of_byte(node.inputs[0])
        if found is not None:
            return [self.by_table(node.name, found[0], result.name, found[1], result)]
        rule = _RULES.get(chain[-1].op)
        return rule(self, chain[-1], result, low, high) if rule is not None else None

    def ending(self, node: Node) -> list[Node] | None:
        """The nodes that compute a float32 output from bytes."""
        if node.op not in ("Conv", "Gemm") or self.is_quantised(node.output):
            return None
        users = self.state.users[node.output]
        added = node.op == "Conv" and len(users) == 1 and users[0].op == "Add"
        if added and self.is_quantised(users[0].output) and any(map(self.bytes_of, users[0].inputs)):
            return None  # `residual` makes it
        return self.weighted(node, Quantised(node.output, 1.0, 0), 0, 255, floats=1)

    def is_quantised(self, name: str) -> bool:
        """Whether a float32 value is only quantised, perhaps within bounds."""
        users = self.state.users[name]
        if len(users) == 1 and users[0].op in _CLIPS and self.state.is_private(name):
            return self.is_quantised(users[0].output)
        return bool(users) and all(user.op == "Int8Quantize" for user in users)

    # Which bytes stand for a float32 value.

    def bytes_of(self, name: str) -> Quantised | None:
        """The bytes that a float32 value is made of, also through what only changes its shape."""
        maker = self.makers.get(name)
        if maker is None:
            return None
        if maker.op == "Int8Dequantize":
            return Quantised(maker.inputs[0], maker.attrs["scale"], maker.attrs["x_zero"])
        if maker.op not in _MOVES:
            return None
        before = self.bytes_of(maker.inputs[0])
        if before is None:
            return None
        moved = self.moved(before.name, maker.op, maker.attrs, self.shapes[name])
        return Quantised(moved, before.scale, before.zero)

    def of_byte(self, name: str) -> tuple[str, np.ndarray] | None:
        """The byte that a float32 value is a function of, element by element, and its 256 values."""
        maker = self.makers.get(name)
        if maker is None or len(maker.inputs) > 3:
            return None
        if maker.op == "Int8Dequantize":
            values = _numbers(Quantised(maker.inputs[0], maker.attrs["scale"], maker.attrs["x_zero"]))
            source = self.makers.get(maker.inputs[0])
            if source is None or source.op != "Int8Table":
                return maker.inputs[0], values
            return source.inputs[0], values[self.constants[source.inputs[1]]]
        if not (maker.kind.is_activation or maker.kind.is_elementwise):
            return None
        operands: list[np.ndarray] = []
        roots: set[str] = set()
        for operand in maker.inputs:
            number = self.constants.get(operand)
            found = self.of_byte(operand) if number is None else None
            if found is not None:
                operands.append(found[1])
                roots.add(found[0])
            elif number is not None and number.size == 1:
                operands.append(number.reshape(()))
            else:
                return None
        if len(roots) != 1:
            return None
        return roots.pop(), np.asarray(maker.kind.reference(maker.attrs, operands), np.float32)

    def moved(self, name: str, op: str, attrs: Any, shape: Shape, output: str = "") -> str:
        """The name of bytes in another shape."""
        if op in ("Identity", "Dropout", "DropPath") and not output:
            return name
        output = output or f"{name}:{'x'.join(map(str, shape))}"
        if output not in self.makers:
            if op not in ("Flatten", "Reshape"):
                op, attrs = "Reshape", {"shape": shape}
            self.add(Node(op, output, (name,), output, attrs), shape)
        return output

    def add(self, node: Node, shape: Shape) -> None:
        self.nodes.append(node)
        self.makers[node.output], self.shapes[node.output] = node, shape

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants[name], self.shapes[name] = array, array.shape
        return name

    # Rules: the nodes that compute `result` from the bytes that a node's operands are made of, or None.

    def weighted(
        self,
        node: Node,
        result: Quantised,
        low: int,
        high: int,
        floats: int = 0,
        residual: Quantised | None = None,
    ) -> list[Node] | None:
        """A convolution, to which a residual may be added; or a fully connected layer as a convolution whose window is
        the image."""
        x, origin = self.bytes_of(node.inputs[0]), self.makers.get(node.inputs[1])
        if x is None or origin is None or origin.op != "Int8Weight" or origin.attrs["axis"] != 0:
            return None
        if len(node.inputs) > 3 or len(node.inputs) > 2 and node.inputs[2] and node.inputs[2] not in self.constants:
            return None
        weight, scale = self.constants[origin.inputs[0]], np.asarray(self.constants[origin.inputs[1]], np.float64)
        if prod(weight.shape[1:]) > MOST_PRODUCTS:
            return None
        source = x.name
        if node.op == "Gemm":
            source = self.image_of(x.name)
            weight = weight.reshape(weight.shape[0], *self.shapes[source][1:])
            window: dict[str, Any] = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1), "group": 1}
        else:
            window = {key: node.attrs[key] for key in ("strides", "dilations", "group")}
            window["pads"] = resolve_pads(node.attrs, self.shapes[source][2:], weight.shape[2:])
        unit = x.scale * scale
        bias = np.zeros(len(unit)) if len(node.inputs) < 3 or not node.inputs[2] else self.constants[node.inputs[2]]
        steps = np.rint(np.asarray(bias, np.float64) / unit)
        if not np.all(np.abs(steps) < MOST_BIAS):
            return None
        sums = steps.astype(np.int64) - x.zero * weight.reshape(len(unit), -1).sum(1, dtype=np.int64)
        key = f"{result.name}:int8"
        inputs: tuple[str, ...] = (
            source,
            origin.inputs[0] if node.op == "Conv" else self.constant(f"{key}:weight", weight),
            self.constant(f"{key}:bias", sums.astype(np.int32)),
            self.constant(f"{key}:scale", (unit / result.scale).astype(np.float32)),
        )
        attrs = {**ops.get("Int8Conv").defaults, **window, "floats": floats, "y_zero": result.zero}
        attrs |= {"low": low, "high": high, "fill": result.zero}
        if residual is not None:
            inputs = (*inputs, "", residual.name)
            attrs |= {"residual_scale": residual.scale / result.scale, "residual_zero": residual.zero}
        if node.op == "Conv":
            return [Node("Int8Conv", node.name, inputs, result.name, attrs)]
        image = f"{key}:image"
        self.shapes[image] = (*self.shapes[result.name], 1, 1)
        rows = Node("Flatten", f"{node.name}:rows", (image,), result.name, {"axis": 1})
        return [Node("Int8Conv", node.name, inputs, image, attrs), rows]

    def image_of(self, name: str) -> str:
        """The image that rows of bytes are, or the rows as images of one pixel."""
        maker = self.makers.get(name)
        flat = maker is not None and maker.op == "Flatten" and maker.attrs["axis"] == 1
        if maker is not None and flat and len(self.shapes[maker.inputs[0]]) == 4:
            return maker.inputs[0]
        n, channels = self.shapes[name]
        return self.moved(name, "Reshape", {"shape": (n, channels, 1, 1)}, (n, channels, 1, 1))

    def pool(self, node: Node, result: Quantised, low: int, high: int) -> list[Node] | None:
        x = self.bytes_of(node.inputs[0])
        if x is None or (low, high) != (0, 255):
            return None
        attrs = dict(ops.get("Int8Pool").defaults)
        size = self.shapes[x.name][2:]
        if node.op == "GlobalAveragePool":
            attrs |= {"kernel_shape": tuple(size)}
        else:
            attrs |= {key: node.attrs[key] for key in attrs.keys() & node.attrs.keys()}
            attrs["pads"] = resolve_pads(node.attrs, size, node.attrs["kernel_shape"])
        if node.op == "MaxPool":
            if (x.scale, x.zero) != (result.scale, result.zero):
                return None
            attrs |= {"x_zero": x.zero, "y_zero": x.zero}
        else:
            attrs |= {"kind": "average", "scale": x.scale / result.scale, "x_zero": x.zero, "y_zero": result.zero}
        return [Node("Int8Pool", node.name, (x.name,), result.name, attrs)]

    def pair(self, node: Node, result: Quantised, low: int, high: int) -> list[Node] | None:
        """A sum or a product of two values."""
        a, b = self.bytes_of(node.inputs[0]), self.bytes_of(node.inputs[1])
        if a is None or b is None:
            return self.residual(node, a or b, node.inputs[0 if a is None else 1], result, low, high)
        if self.shapes[a.name] != self.shapes[result.name]:
            a, b = b, a
        one_pixel = (*self.shapes[result.name][:2], 1, 1)
        fits = (self.shapes[result.name],) if node.op == "Add" else (self.shapes[result.name], one_pixel)
        if self.shapes[a.name] != self.shapes[result.name] or self.shapes[b.name] not in fits:
            return None
        attrs: dict[str, Any] = {"a_zero": a.zero, "b_zero": b.zero, "y_zero": result.zero, "low": low, "high": high}
        if node.op == "Add":
            attrs |= {"a_scale": a.scale / result.scale, "b_scale": b.scale / result.scale}
            return [Node("Int8Add", node.name, (a.name, b.name), result.name, attrs)]
        attrs["scale"] = a.scale * b.scale / result.scale
        return [Node("Int8Multiply", node.name, (a.name, b.name), result.name, attrs)]

    def residual(
        self, node: Node, x: Quantised | None, other: str, result: Quantised, low: int, high: int
    ) -> list[Node] | None:
        """The sum of bytes and of a convolution that is not rounded before."""
        conv = self.makers.get(other)
        if node.op != "Add" or x is None or conv is None or conv.op != "Conv" or not self.state.is_private(other):
            return None
        if self.shapes[x.name] != self.shapes[other]:
            return None
        return self.weighted(conv, result, low, high, residual=x)

    def concat(self, node: Node, result: Quantised, low: int, high: int) -> list[Node] | None:
        parts = [self.bytes_of(name) for name in node.inputs]
        if (low, high) != (0, 255):
            return None
        names = []
        for i, part in enumerate(parts):
            if part is None:
                return None
            names.append(self.requantised(part, result, f"{result.name}:part{i}"))
        return [Node("Concat", node.name, tuple(names), result.name, node.attrs)]

    def requantised(self, x: Quantised, result: Quantised, output: str) -> str:
        """The name of a value in the bytes of another scale and zero point."""
        if (x.scale, x.zero) == (result.scale, result.zero):
            return x.name
        self.add(self.by_table(output, x.name, output, _numbers(x), result), self.shapes[x.name])
        return output

    def move(self, node: Node, result: Quantised, low: int, high: int) -> list[Node] | None:
        x = self.bytes_of(node.inputs[0])
        if x is None or (low, high) != (0, 255) or (x.scale, x.zero) != (result.scale, result.zero):
            return None
        op, attrs = (node.op, node.attrs) if node.op in ("Flatten", "Reshape") else ("Reshape", None)
        attrs = {"shape": self.shapes[result.name]} if attrs is None else attrs
        return [Node(op, node.name, (x.name,), result.name, attrs)]

    def by_table(self, name: str, x: str, output: str, values: np.ndarray, result: Quantised) -> Node:
        """The node that looks up what each byte becomes."""
        steps = np.clip(np.rint(values / np.float32(result.scale)) + result.zero, 0, 255)
        table = self.constant(f"{output}:table", np.nan_to_num(steps).astype(np.uint8))
        return Node("Int8Table", name, (x, table), output, {"y_zero": result.zero})

    # Epilogues.

    def fused(self, nodes: Sequence[Node]) -> list[Node]:
        """The nodes, with tables and sums in the epilogues of the convolutions before them."""
        reads = Counter(name for node in nodes for name in node.inputs)
        kept: dict[str, Node] = {}

        def plain_conv(name: str) -> Node | None:
            """The convolution that makes a value for one reader alone, without an epilogue of that kind."""
            before = kept.get(name)
            alone = reads[name] == 1 and name not in self.state.outputs
            return (
                before if before is not None and before.op == "Int8Conv" and alone and len(before.inputs) == 4 else None
            )

        for node in nodes:
            joined = None
            if node.op == "Int8Table" and (conv := plain_conv(node.inputs[0])) is not None:
                attrs = {**conv.attrs, "fill": node.attrs["y_zero"]}
                joined = Node("Int8Conv", conv.name, (*conv.inputs, node.inputs[1]), node.output, attrs)
            elif node.op == "Int8Add":
                found = [(place, conv) for place in (0, 1) if (conv := plain_conv(node.inputs[place])) is not None]
                place, conv = found[-1] if found else (0, None)
                if conv is not None and (conv.attrs["low"], conv.attrs["high"], conv.attrs["group"]) == (0, 255, 1):
                    joined = _summed(conv, node, place)
            if joined is not None and conv is not None:
                del kept[conv.output]
                self.shapes[node.output] = self.shapes[conv.output]
            kept[node.output] = joined or node
        return [*kept.values()]


def _summed(conv: Node, add: Node, place: int) -> Node:
    """The convolution that becomes bytes, to which the other operand of a sum is added."""
    own, other = ("a", "b") if place == 0 else ("b", "a")
    attrs = {
        **conv.attrs,
        **{key: add.attrs[key] for key in ("y_zero", "low", "high")},
        "fill": add.attrs["y_zero"],
        "residual_scale": add.attrs[f"{other}_scale"],
        "residual_zero": add.attrs[f"{other}_zero"],
        "rounds": 1,
        "own_zero": add.attrs[f"{own}_zero"],
        "own_scale": add.attrs[f"{own}_scale"],
    }
    return Node("Int8Conv", conv.name, (*conv.inputs, "", add.inputs[1 - place]), add.output, attrs)


def _numbers(x: Quantised) -> np.ndarray:
    """What each byte stands for."""
    return np.asarray((np.arange(256) - x.zero).astype(np.float32) * np.float32(x.scale))


def _bounds(clip: Node, result: Quantised, low: int, high: int) -> tuple[int, int]:
    """The bounds of bytes that a clipped value has."""
    least = 0.0 if clip.op == "Relu" else clip.attrs["min"]
    most = np.inf if clip.op == "Relu" else clip.attrs["max"]
    if isfinite(least):
        low = max(low, int(np.clip(np.rint(least / result.scale) + result.zero, 0, 255)))
    if isfinite(most):
        high = min(high, int(np.clip(np.rint(most / result.scale) + result.zero, 0, 255)))
    return low, max(low, high)


_RULES = {
    "Conv": _Bytes.weighted,
    "Gemm": _Bytes.weighted,
    "MaxPool": _Bytes.pool,
    "AveragePool": _Bytes.pool,
    "GlobalAveragePool": _Bytes.pool,
    "Add": _Bytes.pair,
    "Mul": _Bytes.pair,
    "Concat": _Bytes.concat,
    **dict.fromkeys(_MOVES, _Bytes.move),
}
