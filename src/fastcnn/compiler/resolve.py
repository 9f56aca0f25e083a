"""Resolving: a graph of ONNX's general operations becomes one of operations with kernels, as far as there are kernels.

The shapes of the inputs are known, and the shapes and types of all values follow from them. A value that depends on no
more than the shapes of inputs is computed, so that shape arithmetic and constant subgraphs vanish. A node that
compiler/native.py has a rule for becomes operations with kernels. The shape and type of any other node come from a
rule, or from computing it once on zeros. A node whose shape depends on the values of inputs stays as it is, and so do
the nodes behind it. A budget is asked before anything is computed or kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from fastcnn import ops
from fastcnn.compiler.native import translate
from fastcnn.compiler.native_quantize import quantised_weight
from fastcnn.compiler.rewriter import Copies, Known, Rewriter
from fastcnn.graph.ir import Graph, Node, live
from fastcnn.ops.budget import KERNEL, NODE_BYTES, Budget, Cost
from fastcnn.ops.general import General


@dataclass
class Resolved:
    """What `resolve` found.

    Attributes
    ----------
    graph : Graph
    known : dict of str to Known
        What is known of every value of the graph.
    became : dict of str to list of Node
        What an operation of the given graph became, by its output; nothing if that is a constant.
    """

    graph: Graph
    known: dict[str, Known]
    became: dict[str, list[Node]]


def resolve(
    graph: Graph,
    input_shapes: Mapping[str, tuple[int, ...]],
    budget: Budget | None = None,
    copies: Copies | None = None,
    keeps_bytes: bool = False,
) -> Resolved:
    """Replace general operations by those with kernels.

    Parameters
    ----------
    graph : Graph
        Not changed.
    input_shapes : dict
        Shape of each graph input.
    budget : Budget, optional
        Limits the bytes of the constants and all values of the graph, the work of resolving, and that of a prediction.
        The default is the budget of `MAX_BYTES`.
    copies : Copies, optional
        Those that resolving the graph for another shape has made.
    keeps_bytes : bool
        Whether quantised values become operations on bytes (ops/int8.py).

    Raises
    ------
    ValueError
        Naming the node that cannot take its inputs, or needs too much memory.

    Examples
    --------
    >>> nodes = [Node("ai.onnx::Relu", "a", ("x",), "y", {}), Node("ai.onnx::Shape", "s", ("x",), "shape", {}),
    ...          Node("ai.onnx::Reshape", "r", ("y", "shape"), "z", {})]
    >>> graph = Graph(nodes, {"x": (None, 4)}, ["z"], {})
    >>> [node.op for node in resolve(graph, {"x": (2, 4)}).graph.nodes]
    ['Relu', 'Flatten']
    """
    return _Resolver(graph, input_shapes, budget or Budget(), copies or Copies(), keeps_bytes).run()


class _Resolver:
    def __init__(
        self,
        graph: Graph,
        input_shapes: Mapping[str, tuple[int, ...]],
        budget: Budget,
        copies: Copies,
        keeps_bytes: bool = False,
    ) -> None:
        self.graph, self.budget = graph, budget
        budget.keep(NODE_BYTES * len(graph.nodes) + sum(array.nbytes for array in graph.constants.values()))
        self.known: dict[str, Known] = {
            name: Known(array.shape, array.dtype, array) for name, array in graph.constants.items()
        }
        for name, shape in input_shapes.items():
            self.known[name] = Known(tuple(shape), np.dtype(graph.types.get(name, "float32")))
            self.spend(self.known[name], f"input {name!r}")
        self.rewriter = Rewriter(self.known, graph, budget, copies, keeps_bytes)

    def run(self) -> Resolved:
        became = {node.output: self.told_step(node) for node in self.graph.nodes}
        # A rule may replace several nodes.
        nodes = live([node for made in became.values() for node in made], self.graph.outputs)
        used = {name for node in nodes for name in node.inputs} | set(self.graph.outputs)
        constants = {
            name: value.given for name, value in self.known.items() if value.given is not None and name in used
        }
        for name in [name for name in self.known if name in used]:
            weight = self.known[name].quantised
            if weight is not None:
                parts = self.rewriter.name(f"{name}:bytes"), self.rewriter.name(f"{name}:scale")
                constants |= zip(parts, (weight.q, weight.scale), strict=True)
                own = self.rewriter.name(f"{name}:weight")
                nodes.insert(0, Node("Int8Weight", own, parts, name, {"axis": weight.axis}))
        result = Graph(nodes, self.graph.inputs, self.graph.outputs, constants, self.graph.types)
        return Resolved(result, self.known, became)

    def grow(self, node: Node, constants: Mapping[str, np.ndarray]) -> None:
        """Take a node that the graph did not have, and the constants that it reads."""
        for name in node.inputs:
            if name and name not in self.known:
                array = constants[name]
                self.budget.keep(array.nbytes)
                self.known[name] = Known(array.shape, array.dtype, array)
        self.budget.keep(NODE_BYTES)
        self.rewriter.add(node)
        self.told_step(node)

    def told_step(self, node: Node) -> list[Node]:
        """The same as `step`; errors name the node."""
        try:
            return self.step(node)
        except ValueError as error:
            raise ValueError(f"node {node.name!r} ({node.op}): {error}") from None

    def step(self, node: Node) -> list[Node]:
        """The nodes that replace a node; none if its output is a constant."""
        operands = [self.known[name] if name else None for name in node.inputs]
        if not ops.is_general(node.op):
            return self.native([node])
        op = node.kind
        assert isinstance(op, General)
        self.rewriter.node = node
        weight = quantised_weight(self.rewriter) if op.name == "ai.onnx::DequantizeLinear" else None
        if weight is not None:
            self.known[node.output] = Known(weight.q.shape, np.dtype(np.float32), None, weight)
            return []
        constant = self.constant(op, node, operands)
        if constant is not None:
            self.known[node.output] = Known(constant.shape, constant.dtype, constant)
            return []
        op.check_values([v.shape if v else None for v in operands])
        values = {i for i in op.value_inputs if i < len(operands) and operands[i] is not None}
        if any(v is not None and v.shape is None for v in operands) or any(self.unknown(operands[i]) for i in values):
            self.known[node.output] = Known(None, None)
            return [node]
        replaced = translate(node, self.rewriter)
        if replaced is not None:
            try:
                return self.native(replaced)
            except ValueError:  # no kernel takes it; if the node itself is wrong, `result` tells why
                pass
        shape, dtype = op.result(node.attrs, [v.stand_in() if v else None for v in operands], self.budget)
        self.known[node.output] = Known(shape, dtype)
        self.spend(self.known[node.output])
        return [node]

    @staticmethod
    def unknown(value: Known | None) -> bool:
        return value is not None and not value.is_constant

    def constant(self, op: General, node: Node, operands: list[Known | None]) -> np.ndarray | None:
        """The output, if it does not depend on the inputs' values."""
        if op.name in ("ai.onnx::Shape", "ai.onnx::Size") and operands[0] is not None and operands[0].shape is not None:
            return op.evaluate(node.attrs, [operands[0].stand_in()], self.budget)
        if op.name == "ai.onnx::CastLike" and len(operands) == 2 and operands[1] and operands[1].dtype is not None:
            like = np.zeros((), operands[1].dtype)  # its type alone matters
            operands = [operands[0], Known((), like.dtype, like)]
        if all(v is None or v.is_constant for v in operands):
            result = op.evaluate(node.attrs, [v.array if v else None for v in operands], self.budget)
            self.budget.keep(result.nbytes)
            return result
        return None

    def native(self, nodes: list[Node]) -> list[Node]:
        """The nodes, which have kernels, after their shapes are inferred by their rules."""
        added: dict[str, Known] = {}
        for node in nodes:
            shapes = [(added.get(name) or self.known[name]).shape if name else None for name in node.inputs]
            if any(name and shape is None for name, shape in zip(node.inputs, shapes, strict=True)):
                raise ValueError("it follows a node whose shape is not known")
            if any(shape is not None and prod(shape) == 0 for shape in shapes):
                raise ValueError("it has no elements: no kernel takes that")
            node.kind.check(node.attrs, node.inputs)
            shape = node.kind.infer(node.attrs, shapes)
            if prod(shape) == 0:
                raise ValueError("its output has no elements: no kernel takes that")
            added[node.output] = Known(shape, np.dtype(node.kind.result_type))
            self.budget.require_step(Cost(0, node.kind.flops(node.attrs, shapes, shape) // KERNEL))
        for value in added.values():
            self.spend(value)
        self.known |= added
        self.rewriter.made |= {node.output: node for node in nodes}
        return nodes

    def spend(self, value: Known, what: str = "its output") -> None:
        assert value.shape is not None and value.dtype is not None
        try:
            self.budget.keep(prod(value.shape) * value.dtype.itemsize)
        except ValueError as error:
            raise ValueError(f"{what} {value.shape} exceeds max_bytes: {error}") from None


class Growing:
    """What is known of the values of a graph whose nodes are added one after the other.

    Parameters
    ----------
    inputs, types : dict
        As of `Graph`.
    shapes : dict
        Shape of each input.
    budget : Budget
        As for `resolve`.

    Attributes
    ----------
    known : dict of str to Known

    Examples
    --------
    >>> growing = Growing({"x": (None, 4)}, {}, {"x": (2, 4)}, Budget())
    >>> growing.add([Node("ai.onnx::Shape", "s", ("x",), "shape", {})], {})
    >>> growing.known["shape"].array
    array([2, 4])
    """

    def __init__(
        self,
        inputs: Mapping[str, tuple[int | None, ...]],
        types: Mapping[str, str],
        shapes: Mapping[str, tuple[int, ...]],
        budget: Budget,
    ) -> None:
        self._resolver = _Resolver(Graph([], dict(inputs), [], {}, dict(types)), shapes, budget, Copies())
        self._count = 0

    @property
    def known(self) -> Mapping[str, Known]:
        return self._resolver.known

    def add(self, nodes: Sequence[Node], constants: Mapping[str, np.ndarray]) -> None:
        """Take the nodes behind those that were given before.

        Parameters
        ----------
        nodes : sequence of Node
            All of the graph.
        constants : dict of str to ndarray
            Those that the nodes read, at least.

        Raises
        ------
        ValueError
            Naming the node that cannot take its inputs, or needs too much memory.
        """
        for node in nodes[self._count :]:
            self._resolver.grow(node, constants)
            self._count += 1
