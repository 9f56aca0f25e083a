"""Nodes and operations: a node is one use of an operation, which tells what its nodes take, compute and become.

They share a file, because each names the other. base.py has what shape rules share. The protocols stand for what lies
above: automatic differentiation and lowering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np

from fastcnn._names import one_of
from fastcnn._record import record
from fastcnn.kernels._step import Step
from fastcnn.kernels.view import FLOAT32, View
from fastcnn.ops.access import Access
from fastcnn.ops.decisions import ConvChoice, Decisions

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]
Attrs = Mapping[str, Any]
UNDECIDED = Decisions()


class _Kind:
    """A node's operation, looked up once: passes ask for it tens of times. ValueError where there is none."""

    def __get__(self, node: Node | None, owner: type[Node]) -> Op:
        if node is None:
            raise AttributeError("kind")
        node.__dict__["kind"] = found = _KINDS.get(node.op) or get(node.op)
        return found


@record
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

    kind = _Kind()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "kind"}  # it is looked up again

    @property
    def choice(self) -> ConvChoice:
        """How a convolution is computed, once that is chosen."""
        assert self.decided.choice is not None
        return self.decided.choice

    def deciding(self, **decisions: Any) -> Node:
        """The node with further decisions."""
        return Node(self.op, self.name, self.inputs, self.output, self.attrs, self.decided.changed(**decisions))

    def reading(self, inputs: Iterable[str]) -> Node:
        """The node with other inputs."""
        return Node(self.op, self.name, tuple(inputs), self.output, self.attrs, self.decided)


class Backward(Protocol):
    """What `Op.gradient` works with: the list of backward nodes (see graph/autodiff.py)."""

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Append a node, and give the name of its output."""

    def needs(self, name: str) -> bool:
        """Whether a value's gradient is wanted."""

    def shape(self, name: str) -> Shape:
        """The shape of a value."""


class Lowering(Protocol):
    """What `Op.lower` works with: the views and constants of a node, and the list of steps (see compiler/lower.py)."""

    vl: int
    bfloat16: bool  # whether products may be of numbers that are rounded to bfloat16

    def view(self, name: str) -> View:
        """Where a value lies."""

    def shape(self, name: str) -> Shape:
        """The shape of a value."""

    def pack(
        self,
        kind: str,
        make: Callable[..., np.ndarray],
        *indices: int,
        variant: object = None,
        as_stored: bool = False,
    ) -> np.ndarray:
        """Weights in the kernel's order, packed once for all plans of a model.

        `make` takes the constants at the inputs `indices` of the node, and None for an input that is absent. They come
        as float32, unless `as_stored` asks for their own types.
        """

    def weights(
        self, kind: str, make: Callable[..., np.ndarray], index: int, variant: object = None
    ) -> np.ndarray | View:
        """Weights in the kernel's order: packed ahead if they are constants, else by a step of the plan."""

    def emit(self, kernel: str, make: Callable[..., Step], *arguments: object, writes: int = 1) -> None:
        """Append a step; `make` is called once for each executor.

        The step writes the first `writes` views among the arguments, and reads the others.
        """


class Op:
    """An operation; subclasses are registered by their `OPS` lists.

    Attributes
    ----------
    name : str
        ONNX's.
    defaults : dict
        Every attribute with its default value; the type of the default is the attribute's.
    later : tuple of str
        Attributes that older files lack: they then have their defaults.
    arguments : tuple of str
        Names of the inputs, for messages.
    required : int
        How many of them must be present.
    variadic : bool
        Whether any number of inputs may come.
    layout : {"plain", "blocked", "follow", "parameter"}
        How the values that it reads and writes are stored, unless `access` tells otherwise: see `Access`.
    opset : int
        The version of ONNX whose form its attributes have.
    constants : tuple of int
        The inputs that are weights: packed ahead, or stored as parameters in training.
    shape_alone : tuple of int
        The inputs of which nothing but the shape matters.
    """

    name: str
    defaults: Mapping[str, Any] = {}
    later: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ("x",)
    required: int = 1
    variadic: bool = False
    opset: int = 17
    layout: str = "plain"
    constants: tuple[int, ...] = ()
    result_type: str = FLOAT32  # of what it computes from operands of the types that it takes
    shape_alone: tuple[int, ...] = ()
    is_activation: bool = False  # may be fused into its producer
    takes_activation: bool = False  # the activation after it may be fused into it
    is_elementwise: bool = False  # each output element depends on the same elements of its inputs
    is_alias: bool = False  # its output is its input's memory
    is_internal: bool = False  # made by the compiler, refused in graphs
    packs: bool = False  # its output is stored as a parameter
    moves: bool = False  # writes the values that it reads, of whatever type
    updates: bool = False  # writes over its first input, inside or outside the arena
    reasons: Mapping[str, str] = {}  # why its steps are what they are, as `StepInfo.reasons` tells

    def check(self, attrs: Attrs, inputs: Sequence[str]) -> None:
        """Check names and types of attributes, and the number of inputs."""
        for key, value in attrs.items():
            if key not in self.defaults:
                raise ValueError(f"unknown attribute {key!r}; known are {', '.join(self.defaults) or 'none'}")
            _check_type(key, value, self.defaults[key])
        for key in self.defaults:
            if key not in attrs and key not in self.later:
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
        """Append the backward nodes for the gradient `grad` of the output, and give the gradients of the inputs.

        An input without a gradient, or whose gradient is not needed, has None.
        """
        raise AssertionError(f"{type(self).__name__} has no gradient")

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        """The nodes that compute it: itself, or simpler ones, the last of which makes its output."""
        return [node]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        """How the kernel of a node reads and writes; `shapes` are those of all values.

        The algorithm of a convolution must be chosen before. By default the access is that of `layout`, but "follow"
        becomes "plain" unless the operands and the output are images.
        """
        layout = self.layout
        if layout == "follow" and any(len(shapes[name]) != 4 for name in (*self.operands(node), node.output)):
            layout = "plain"
        return self.access_as(node, layout)

    def access_as(self, node: Node, layout: str) -> Access:
        """The access in a layout of a kernel without special reads or writes, element by element or not."""
        return Access(layout, overwrites=tuple(range(len(node.inputs))) if self.is_elementwise else ())

    def operands(self, node: Node) -> list[str]:
        """The inputs that are not weights."""
        return [name for i, name in enumerate(node.inputs) if name and i not in self.constants]

    def keeps_images_apart(self, attrs: Attrs) -> bool:
        """Whether each image of a batch is computed without the others, where shapes do not tell otherwise."""
        return True

    def order(
        self, node: Node, index: int, shapes: Mapping[str, Shape], lanes: Mapping[str, int], vl: int
    ) -> dict[str, Any] | None:
        """Attributes of PackWeights for the parameter `index`; None if the kernel reads it as it is."""
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
_LATER: dict[str, Callable[[], Mapping[str, Op]]] = {}  # families that few graphs need, by the prefix of their names


def register(operations: Iterable[Op]) -> None:
    """Make operations known by their names."""
    _KINDS.update({op.name: op for op in operations})


def register_later(start: str, load: Callable[[], Mapping[str, Op]]) -> None:
    """Make a family known, which is loaded when a name with its prefix is first asked for."""
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
        If there is none.

    Examples
    --------
    >>> get("MaxPool").name
    'MaxPool'
    """
    op = _KINDS.get(name) or next((load().get(name) for start, load in _LATER.items() if name.startswith(start)), None)
    if op is None:
        raise ValueError(f"op={name!r}, {one_of(name, public_names())}")
    return op
