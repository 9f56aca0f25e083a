"""What translation rules work with: the operands of a node, as far as they are known before they are computed, and ways
to make nodes and constants.

native.py has the rules, which translate general operations into those with kernels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from fastcnn import ops
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.budget import Budget

FLOAT = np.dtype(np.float32)
Link = tuple[str, tuple[str, ...], dict[str, Any]]  # op, inputs after the first, attributes


@dataclass(frozen=True)
class Quantised:
    """Weights as signed bytes q, which stand for scale * q.

    Attributes
    ----------
    q : int8 array
    scale : float32 array
        A number for each place along an axis.
    axis : int
    """

    q: np.ndarray
    scale: np.ndarray
    axis: int

    def numbers(self) -> np.ndarray:
        """What they stand for, as float32."""
        shape = [-1 if axis == self.axis else 1 for axis in range(self.q.ndim)]
        return self.q * self.scale.astype(np.float32).reshape(shape)


@dataclass(frozen=True)
class Known:
    """What is known of a value before it is computed.

    Attributes
    ----------
    shape : tuple of int, or None
        None if it depends on the values of inputs.
    dtype : dtype or None
    given : ndarray or None
        The value itself, if it depends on no more than the shapes of inputs.
    quantised : Quantised or None
        The bytes that it is made of, in place of the value.
    """

    shape: tuple[int, ...] | None
    dtype: np.dtype | None
    given: np.ndarray | None = None
    quantised: Quantised | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the value is known."""
        return self.given is not None or self.quantised is not None

    @property
    def array(self) -> np.ndarray | None:
        """The value, or None; made anew of bytes each time, as float32 takes four times their memory."""
        return self.given if self.quantised is None else self.quantised.numbers()

    def stand_in(self) -> np.ndarray:
        """The value, or zeros of its shape that take no memory."""
        if self.given is not None:
            return self.given
        assert self.shape is not None
        return np.broadcast_to(np.zeros((), self.dtype), self.shape)


class Copies:
    """Contiguous copies of parts of constants, such as transposed weights: one for all shapes that a graph is resolved
    for."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], tuple[np.ndarray, np.ndarray]] = {}

    def of(self, array: np.ndarray | np.float32) -> np.ndarray:
        """The copy of an array, which is made once for each view of other memory."""
        array = np.asarray(array)
        if array.base is None:
            return np.array(array, FLOAT, order="C")
        key = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str)
        if key not in self._found:
            self._found[key] = array, np.array(array, FLOAT, order="C")  # the view keeps its memory alive
        return self._found[key][1]


class Rewriter:
    """What a rule works with: the operands of a node, and ways to make nodes and constants.

    Attributes
    ----------
    keeps_bytes : bool
        Whether quantised values become bytes in kernels. If not, NumPy computes them.
    made : dict of str to Node
        The nodes with kernels that rules have made, by output.
    """

    def __init__(
        self, known: dict[str, Known], graph: Graph, budget: Budget, copies: Copies, keeps_bytes: bool = False
    ) -> None:
        self.known, self.budget, self.copies, self.keeps_bytes = known, budget, copies, keeps_bytes
        self.made: dict[str, Node] = {}
        self._numbers: Counter[str] = Counter()  # how often a name was asked for
        self._constants: dict[tuple[object, ...], str] = {}
        self.makers = {node.output: node for node in graph.nodes}
        self.taken = {*graph.inputs, *graph.constants, *(node.output for node in graph.nodes)}
        self.node: Node

    def add(self, node: Node) -> None:
        """Take a node that the graph did not have."""
        self.makers[node.output] = node
        self.taken.add(node.output)

    def shape(self, i: int = 0) -> tuple[int, ...]:
        """The shape of an operand."""
        shape = self.known[self.node.inputs[i]].shape
        assert shape is not None
        return shape

    def has(self, i: int) -> bool:
        """Whether operand i is present."""
        return i < len(self.node.inputs) and self.node.inputs[i] != ""

    def array(self, i: int) -> np.ndarray | None:
        """Operand i, if it is a constant."""
        return self.known[self.node.inputs[i]].array if self.has(i) else None

    def is_float(self, *places: int) -> bool:
        """Whether all operands, or those given, are float32."""
        names = [self.node.inputs[i] for i in places] if places else self.node.inputs
        return all(self.known[name].dtype == FLOAT for name in names if name)

    def attr(self, key: str) -> Any:
        """An attribute, or its default."""
        return self.node.attrs.get(key, self.node.kind.defaults[key])

    def name(self, hint: str) -> str:
        """A name for a new value."""
        name = hint
        while name in self.taken:
            self._numbers[hint] += 1
            name = f"{hint}_{self._numbers[hint] + 1}"
        self.taken.add(name)
        return name

    def constant(self, hint: str, array: np.ndarray | np.float32, *variant: object) -> str:
        """The name of a constant, which is made once for each hint and variant."""
        key = (hint, *variant)
        if key not in self._constants:
            self.budget.keep(array.size * FLOAT.itemsize)
            name = self._constants[key] = self.name(hint)
            array = self.copies.of(array)
            self.known[name] = Known(array.shape, FLOAT, array)
        return self._constants[key]

    def transposed(self, i: int) -> str:
        """The name of a constant matrix with its axes exchanged."""
        before = self.node.inputs[i]
        weights, matrix = self.known[before].quantised, self.array(i)
        assert matrix is not None
        if weights is None:
            return self.constant(f"{before}_transposed", matrix.T, 1.0)
        key = (f"{before}_transposed", 1.0)
        if key not in self._constants:
            name = self._constants[key] = self.name(key[0])
            turned = Quantised(np.ascontiguousarray(weights.q.T), weights.scale, 1 - weights.axis)
            self.known[name] = Known(turned.q.shape, FLOAT, None, turned)
        return self._constants[key]

    def make(self, op: str, inputs: tuple[str, ...], output: str | None = None, **attrs: Any) -> Node:
        """A node in place of the current one, whose output it makes unless another is named."""
        own = self.node.output if output is None else output
        name = self.node.name if output is None else f"{self.node.name}/{op.lower()}"
        return Node(op, self.name(name) if output is not None else name, inputs, own, {**ops.get(op).defaults, **attrs})

    def chain(self, *links: Link) -> list[Node]:
        """A chain of nodes (op, further inputs, attributes); the first reads the current node's first input."""
        nodes, value = [], self.node.inputs[0]
        for i, (op, others, attrs) in enumerate(links):
            output = None if i == len(links) - 1 else self.name(f"{self.node.output}/{i}")
            nodes.append(self.make(op, (value, *others), output, **attrs))
            value = nodes[-1].output
        return nodes


class Chain:
    """Nodes of which each reads the output of the one before.

    Attributes
    ----------
    nodes : list of Node
    value : str
        The last output.
    shape : tuple of int
        Its shape.
    """

    def __init__(self, r: Rewriter) -> None:
        self.r, self.value, self.shape = r, r.node.inputs[0], r.shape()
        self.nodes: list[Node] = []

    def add(self, op: str, *others: str, **attrs: Any) -> None:
        self.made(op, (self.value, *others), **attrs)
        self.value = self.nodes[-1].output

    def made(self, op: str, inputs: tuple[str, ...], **attrs: Any) -> str:
        """Append a node that may read anything."""
        output = self.r.name(f"{self.r.node.output}/{len(self.nodes)}")
        self.nodes.append(self.r.make(op, inputs, output, **attrs))
        return output

    def reshape(self, *sizes: int) -> None:
        """Give the value another shape; the batch takes what is left."""
        self.shape = (prod(self.shape) // prod(sizes), *sizes)
        self.add("Reshape", shape=(-1, *sizes))

    def ended(self) -> list[Node]:
        """The nodes; the last one makes the output of the current node."""
        return [*self.nodes[:-1], replace(self.nodes[-1], output=self.r.node.output)]

    def turn(self, perm: Sequence[int]) -> None:
        """Bring the axes into another order. Where axes of size 1 alone move, no element does."""
        moving = [axis for axis in perm if axis == 0 or self.shape[axis] > 1]
        turned = tuple(self.shape[axis] for axis in perm)
        if moving == sorted(moving):
            self.reshape(*turned[1:])
        else:
            self.add("Transpose", perm=tuple(perm))
            self.shape = turned


Rule = Callable[[Rewriter], list[Node] | None]
