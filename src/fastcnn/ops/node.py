"""Nodes and operations, in one file as each names the other: a node is one use of an operation, and an operation tells
what a node of it takes, means and becomes.

What shape rules share is base.py's. The protocols stand for what lies above: automatic differentiation and lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np

from fastcnn._names import one_of
from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View
from fastcnn.ops.access import Access
from fastcnn.ops.decisions import ConvChoice, Decisions

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]
Attrs = Mapping[str, Any]
UNDECIDED = Decisions()


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes
    ----------
    op : str
        ONNX name, such as "Conv".
    name : str
        Where it comes from, such as "layer1.0.conv1"; unique in a graph.
    inputs : tuple of str
        Names of values; "" stands for an optional one that is absent.
    output : str
        Name of the value it computes.
    attrs : dict
        All of its attributes.
    decided : Decisions
        What the compiler has decided about it.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any]
    decided: Decisions = UNDECIDED

    @property
    def kind(self) -> Op:
        """Its operation; ValueError where there is none of this name."""
        return _KINDS.get(self.op) or get(self.op)

    @property
    def choice(self) -> ConvChoice:
        """How a convolution is computed, once that is chosen."""
        assert self.decided.choice is not None
        return self.decided.choice

    def deciding(self, **decisions: Any) -> Node:
        """The node with further decisions."""
        return replace(self, decided=replace(self.decided, **decisions))


class Backward(Protocol):
    """What `Op.gradient` sees: where backward nodes go (see graph/autodiff.py)."""

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Append a node, and give the name of its output."""

    def needs(self, name: str) -> bool:
        """Whether a value's gradient is wanted."""

    def shape(self, name: str) -> Shape:
        """The shape of a value."""


class Lowering(Protocol):
    """What `Op.lower` sees: the views and constants of a node, and where to put its steps (see compiler/lower.py)."""

    vl: int

    def view(self, name: str) -> View:
        """Where a value lies."""

    def shape(self, name: str) -> Shape:
        """The shape of a value."""

    def pack(self, kind: str, make: Callable[..., np.ndarray], *indices: int, variant: object = None) -> np.ndarray:
        """Weights in the kernel's order, made once for all plans of a model: make(*arrays) of the constants behind
        the inputs `indices` of the node, None for an input that is left out."""

    def weights(
        self, kind: str, make: Callable[..., np.ndarray], index: int, variant: object = None
    ) -> np.ndarray | View:
        """Weights in the kernel's order: packed ahead where they are constants, else by a step of the plan."""

    def emit(self, kernel: str, make: Callable[..., Step], *arguments: object, writes: int = 1) -> None:
        """Append a step; `make` is called once for each executor. Of the views among the arguments, the first `writes`
        are written, the others are read."""


class Op:
    """An operation; subclasses are registered by their `OPS` lists.

    Attributes
    ----------
    name : str
        ONNX's.
    defaults : dict
        Every attribute with its default value; the type of the default is the attribute's.
    arguments : tuple of str
        Names of the inputs, for messages.
    required : int
        How many of them must be present.
    variadic : bool
        Whether any number of inputs may come.
    layout : {"plain", "blocked", "follow", "parameter"}
        How values are stored that it reads and writes, where `access` does not tell otherwise: see `Access`.
    opset : int
        The version of ONNX whose form its attributes have.
    constants : tuple of int
        Inputs that are packed ahead, or in training stored as parameters: weights.
    """

    name: str
    defaults: Mapping[str, Any] = {}
    arguments: tuple[str, ...] = ("x",)
    required: int = 1
    variadic: bool = False
    opset: int = 17
    layout: str = "plain"
    constants: tuple[int, ...] = ()
    is_activation: bool = False  # may be fused into its producer
    takes_activation: bool = False  # may take in the activation after it
    is_elementwise: bool = False  # reads for each element of its output the same ones of its inputs
    is_alias: bool = False  # its output is its input's memory
    is_internal: bool = False  # made by the compiler, refused in graphs
    packs: bool = False  # its output is stored as a parameter
    updates: bool = False  # writes over its first input, wherever that is

    def check(self, attrs: Attrs, inputs: Sequence[str]) -> None:
        """Check names and types of attributes, and the number of inputs."""
        for key, value in attrs.items():
            if key not in self.defaults:
                raise ValueError(f"unknown attribute {key!r}; known are {', '.join(self.defaults) or 'none'}")
            _check_type(key, value, self.defaults[key])
        for key in self.defaults:
            if key not in attrs:
                raise ValueError(f"attribute {key!r} is missing")
        most = None if self.variadic else len(self.arguments)
        if len(inputs) < self.required or (most is not None and len(inputs) > most) or "" in inputs[: self.required]:
            expected = f"at least {self.required}" if most is None else f"{self.required} to {most}"
            raise ValueError(f"{len(inputs)} inputs, expected {expected}")

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        """The output's shape, or ValueError naming the argument, what came and what was expected."""
        raise AssertionError(f"{type(self).__name__} has no shape rule")

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        """The result in float64, by `fastcnn.reference`."""
        raise AssertionError(f"{type(self).__name__} has no definition")

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        """Floating point operations; a multiply-add counts two. By default one for each element."""
        return prod(output)

    def gradient(self, node: Node, grad: str, back: Backward) -> Sequence[str | None]:
        """Append the backward nodes for the gradient `grad` of the output; the gradients of the inputs, None for those
        that have none or whose gradient is not needed."""
        raise AssertionError(f"{type(self).__name__} has no gradient")

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        """The nodes that compute it, the last one its output: itself, or simpler ones."""
        return [node]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        """How the kernel of a node reads and writes; `shapes` are those of all values.

        Convolutions are asked once their algorithm is chosen. By default the access is that of `layout`; what follows
        its operands is plain unless all of them are images.
        """
        layout = self.layout
        if layout == "follow" and any(len(shapes[name]) != 4 for name in (*self.operands(node), node.output)):
            layout = "plain"
        return self.access_as(node, layout)

    def access_as(self, node: Node, layout: str) -> Access:
        """The access by elements, or of a kernel that reads and writes its values as they are, in a layout."""
        return Access(layout, overwrites=tuple(range(len(node.inputs))) if self.is_elementwise else ())

    def operands(self, node: Node) -> list[str]:
        """The inputs that are not weights."""
        return [name for i, name in enumerate(node.inputs) if name and i not in self.constants]

    def order(
        self, node: Node, index: int, shapes: Mapping[str, Shape], lanes: Mapping[str, int], vl: int
    ) -> dict[str, Any] | None:
        """Attributes of PackWeights for the parameter `index`; None where the kernel reads it as it is."""
        return None

    def lower(self, node: Node, ctx: Lowering) -> None:
        """Emit the kernel steps of a node."""
        raise AssertionError(f"{type(self).__name__} has no kernel")


def _check_type(key: str, value: Any, default: Any) -> None:
    if isinstance(default, tuple):
        if not isinstance(value, tuple) or not all(type(item) is int and abs(item) < 2**31 for item in value):
            raise ValueError(f"{key}={value!r}, expected a list of integers")
    elif isinstance(default, float):
        if type(value) not in (int, float):
            raise ValueError(f"{key}={value!r}, expected a number")
    elif isinstance(default, int):
        if type(value) is not int or abs(value) >= 2**31:
            raise ValueError(f"{key}={value!r}, expected an integer")
    elif type(value) is not type(default):
        raise ValueError(f"{key}={value!r}, expected a {type(default).__name__}")


_KINDS: dict[str, Op] = {}
_LATER: dict[str, Callable[[], Mapping[str, Op]]] = {}  # by how their names start: families that few graphs need


def register(operations: Iterable[Op]) -> None:
    """Make operations known by their names."""
    _KINDS.update({op.name: op for op in operations})


def register_later(start: str, load: Callable[[], Mapping[str, Op]]) -> None:
    """Make a family known that is loaded when the first name is asked for that starts so."""
    _LATER[start] = load


def public_names() -> tuple[str, ...]:
    """Names of the registered operations that graphs may contain, sorted."""
    return tuple(sorted(name for name, op in _KINDS.items() if not op.is_internal))


def get(name: str) -> Op:
    """The operation of an ONNX name.

    Parameters
    ----------
    name : str

    Raises
    ------
    ValueError
        Where there is none.

    Examples
    --------
    >>> get("MaxPool").name
    'MaxPool'
    """
    op = _KINDS.get(name) or next((load().get(name) for start, load in _LATER.items() if name.startswith(start)), None)
    if op is None:
        raise ValueError(f"op={name!r}, {one_of(name, public_names())}")
    return op
