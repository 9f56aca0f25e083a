"""Converts ONNX operators of older opsets to the form of opset 21, in which ops/general defines them.

Later opsets have turned attributes (axes, pads, bounds) into inputs, and changed defaults. Each rule changes one node.
It adds new inputs as constants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT32, BFLOAT16 = 1, 16  # onnx.proto; NumPy has no bfloat16, and float32 holds all of its numbers
_TYPES = ("to", "dtype", "output_dtype")


@dataclass
class RawNode:
    """A node of a file, while it is converted.

    Attributes
    ----------
    op, name : str
    inputs, outputs : list of str
        Names of our graph; "" for an input that is absent, and for an output that nobody reads.
    attrs : dict
        Numbers, text, tuples of them, and arrays.
    opset : int
    constant : callable
        Adds a constant to the graph and returns its name.
    """

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any]
    opset: int
    constant: Callable[[np.ndarray], str]

    def set_input(self, place: int, array: Any, dtype: Any = np.int64) -> None:
        """Set an absent input to a constant."""
        self.inputs += [""] * (place + 1 - len(self.inputs))
        self.inputs[place] = self.constant(np.asarray(array, dtype))

    def move(self, key: str, place: int, dtype: Any = np.int64) -> None:
        """Turn an attribute into an input."""
        if key in self.attrs:
            self.set_input(place, self.attrs.pop(key), dtype)


def normalise(node: RawNode) -> None:
    """Convert a node to the form of opset 21, in place.

    Examples
    --------
    >>> made = []
    >>> node = RawNode("Squeeze", "", ["x"], ["y"], {"axes": (0,)}, 11, lambda array: made.append(array) or "axes")
    >>> normalise(node)
    >>> node.inputs, node.attrs, made
    (['x', 'axes'], {}, [array([0])])
    """
    node.attrs.pop("consumed_inputs", None)
    for key in _TYPES:
        if node.attrs.get(key) == BFLOAT16:
            node.attrs[key] = FLOAT32
    for last, rule in _RULES.get(node.op, ()):
        if node.opset <= last:
            rule(node)
    if node.op.startswith("Reduce") and node.opset < 18:
        node.move("axes", 1)


def _squeeze(node: RawNode) -> None:
    node.move("axes", 1)


def _split(node: RawNode) -> None:
    node.move("split", 1)


def _split_count(node: RawNode) -> None:
    if len(node.inputs) < 2 or not node.inputs[1]:
        node.attrs.setdefault("num_outputs", len(node.outputs))


def _slice(node: RawNode) -> None:
    for place, key in enumerate(("starts", "ends", "axes"), 1):
        node.move(key, place)


def _pad(node: RawNode) -> None:
    node.move("pads", 1)
    node.move("value", 2, np.float32)


def _clip(node: RawNode) -> None:
    node.move("min", 1, np.float32)
    node.move("max", 2, np.float32)


def _dropout(node: RawNode) -> None:
    node.attrs.pop("is_test", None)
    node.attrs.pop("ratio", None)


def _batch_norm(node: RawNode) -> None:
    if node.attrs.pop("spatial", 1) != 1:
        raise ValueError("spatial=0, expected 1: statistics of every pixel are of no use in classifiers")
    if node.attrs.pop("is_test", 1) != 1:
        raise ValueError("is_test=0, expected 1: only inference is computed")


def _upsample(node: RawNode) -> None:
    """Convert Upsample, and Resize of opset 10: they have scales, and coordinates without an offset."""
    scales = node.attrs.pop("scales", None)
    x, *rest = node.inputs
    node.op, node.inputs = "Resize", [x, "", *rest]
    if scales is not None:
        node.set_input(2, scales, np.float32)
    mode = node.attrs.get("mode", "nearest")
    node.attrs = {
        "mode": "linear" if mode == "bilinear" else mode,
        "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    }


def _top_k(node: RawNode) -> None:
    if "k" in node.attrs:
        node.set_input(1, (node.attrs.pop("k"),))


def _softmax(node: RawNode) -> None:
    node.attrs = {"axis": node.attrs.get("axis", 1), "flatten": 1}


def _old_broadcast(node: RawNode) -> None:
    if not node.attrs.pop("broadcast", 0):
        node.attrs.pop("axis", None)


def _gemm(node: RawNode) -> None:
    node.attrs.pop("broadcast", None)


def _prelu(node: RawNode) -> None:
    node.attrs["axis"] = 1


def _group_norm(node: RawNode) -> None:
    node.attrs["by_group"] = 1


def _constant_of_shape(node: RawNode) -> None:
    if "value" in node.attrs:
        value = node.attrs.pop("value")
        node.set_input(1, value, value.dtype if isinstance(value, np.ndarray) else None)


def _quantize(node: RawNode) -> None:
    node.attrs.pop("saturate", None)


_ALWAYS = 10**6
_BROADCASTING = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
# The rules of each operator, each with the last opset that it applies to.
_RULES: dict[str, tuple[tuple[int, Callable[[RawNode], None]], ...]] = {
    "Squeeze": ((12, _squeeze),),
    "Unsqueeze": ((12, _squeeze),),
    "Split": ((12, _split), (_ALWAYS, _split_count)),
    "Slice": ((9, _slice),),
    "Pad": ((10, _pad),),
    "Clip": ((10, _clip),),
    "Dropout": ((11, _dropout),),
    "BatchNormalization": ((13, _batch_norm),),
    "Upsample": ((_ALWAYS, _upsample),),
    "Resize": ((10, _upsample),),
    "TopK": ((9, _top_k),),
    "Softmax": ((12, _softmax),),
    "LogSoftmax": ((12, _softmax),),
    "Hardmax": ((12, _softmax),),
    "Gemm": ((6, _gemm),),
    "PRelu": ((6, _prelu),),
    "GroupNormalization": ((20, _group_norm),),
    "ConstantOfShape": ((_ALWAYS, _constant_of_shape),),
    "QuantizeLinear": ((_ALWAYS, _quantize),),
    **dict.fromkeys(_BROADCASTING, ((6, _old_broadcast),)),
}
