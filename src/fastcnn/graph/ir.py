"""The intermediate representation: nodes of ONNX operations between named values.

Holds the structure, its checks and its JSON form. What an operation means, and which shapes it takes, is left to
`fastcnn.ops`; how it is computed to `fastcnn.compiler`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn import ops
from fastcnn._names import meant
from fastcnn.ops.node import Node

__all__ = [
    "FORMAT_VERSION",
    "Graph",
    "Node",
    "Shape",
    "add_shapes",
    "check_shape",
    "last_function",
    "live",
    "with_outputs",
]

FORMAT_VERSION = 1
INPUT_TYPES = (
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
Shape = tuple[int, ...]


@dataclass
class Graph:
    """A network.

    Attributes
    ----------
    nodes : list of Node
        In an order in which they can be computed.
    inputs : dict of str to tuple
        Name and shape of each input; None is a size that is free.
    outputs : list of str
    constants : dict of str to ndarray
        Parameters, under their state-dict names, and other constants.
    types : dict of str to str
        Types of the inputs that are not float32.

    Examples
    --------
    >>> graph = Graph([Node("Relu", "relu", ("x",), "y", {})], {"x": (None, 3, 8, 8)}, ["y"], {})
    >>> graph.validate()
    >>> graph.infer({"x": (2, 3, 8, 8)})["y"]
    (2, 3, 8, 8)
    """

    nodes: list[Node]
    inputs: dict[str, tuple[int | None, ...]]
    outputs: list[str]
    constants: dict[str, np.ndarray]
    types: dict[str, str] = field(default_factory=dict)

    def infer(self, known: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of all values.

        Parameters
        ----------
        known : dict of str to tuple of int
            Of the inputs. What else it tells of is not inferred again.

        Raises
        ------
        ValueError
            Where a node cannot take its inputs; names the node.
        """
        shapes: dict[str, Shape] = {**known, **{name: array.shape for name, array in self.constants.items()}}
        for name, expected in self.inputs.items():
            shapes[name] = tuple(known[name])
            check_shape(name, shapes[name], expected)
        add_shapes(self.nodes, shapes)
        return shapes

    def validate(self) -> None:
        """Check the structure: names, order, operations and attributes.

        Raises
        ------
        ValueError
            Naming the first node that is wrong, and why.
        """
        known = {*self.inputs, *self.constants}
        for name, kind in self.types.items():
            if name not in self.inputs or kind not in INPUT_TYPES:
                raise ValueError(f"graph: types: {name!r} is {kind!r}, expected an input and a type of numbers")
        if len(known) != len(self.inputs) + len(self.constants) or "" in known:
            raise ValueError("graph: an input and a constant have the same name, or one has none")
        names: set[str] = set()
        for node in self.nodes:
            where = f"node {node.name!r} ({node.op})"
            if node.name in names:
                raise ValueError(f"{where}: another node has this name")
            names.add(node.name)
            if not ops.is_known(node.op):
                raise ValueError(f"{where}: unknown operation{meant(node.op, ops.names())}")
            for name in node.inputs:
                if name and name not in known:
                    raise ValueError(f"{where}: input {name!r} is not computed before")
            if node.output in known or not node.output:
                raise ValueError(f"{where}: output {node.output!r} exists already")
            try:
                node.kind.check(node.attrs, node.inputs)
            except (ValueError, TypeError) as error:
                raise ValueError(f"{where}: {error}") from None
            known.add(node.output)
        if not self.outputs:
            raise ValueError("graph: no outputs")
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"graph: output {name!r} is not computed")

    def to_json(self) -> str:
        """The structure as JSON text; the constants' arrays are stored elsewhere."""
        nodes = [[node.op, node.name, list(node.inputs), node.output, dict(node.attrs)] for node in self.nodes]
        inputs = {name: list(shape) for name, shape in self.inputs.items()}
        data = {"version": FORMAT_VERSION, "inputs": inputs, "outputs": self.outputs, "nodes": nodes}
        return json.dumps({**data, "types": self.types} if self.types else data)

    @staticmethod
    def from_json(text: str, constants: Mapping[str, np.ndarray]) -> Graph:
        """A graph from what `to_json` wrote, checked.

        Parameters
        ----------
        text : str
        constants : dict of str to ndarray

        Raises
        ------
        ValueError
            Where the text is no graph of this form.

        Examples
        --------
        >>> graph = Graph([Node("Relu", "relu", ("x",), "y", {})], {"x": (None, 4)}, ["y"], {})
        >>> Graph.from_json(graph.to_json(), {}) == graph
        True
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"graph: not JSON: {error}") from None
        if not isinstance(data, dict) or {*data, "types"} != {"version", "inputs", "outputs", "nodes", "types"}:
            raise ValueError("graph: expected an object with version, inputs, outputs and nodes")
        if data["version"] != FORMAT_VERSION:
            raise ValueError(f"graph: version={data['version']!r}, expected {FORMAT_VERSION}")
        inputs = _typed(data["inputs"], dict, "inputs")
        nodes = [_node(entry) for entry in _typed(data["nodes"], list, "nodes")]
        outputs = [_typed(name, str, "outputs") for name in _typed(data["outputs"], list, "outputs")]
        kinds = _typed(data.get("types", {}), dict, "types")
        types = {name: _typed(kind, str, "types") for name, kind in kinds.items()}
        graph = Graph(nodes, {name: _shape(shape) for name, shape in inputs.items()}, outputs, dict(constants), types)
        graph.validate()
        return graph


def _called(node: Node) -> str:
    """What messages call a node: one that only training has, by the layer that it belongs to."""
    if node.op == ops.ISLAND:
        island = node.attrs["island"]
        return f"node {node.name!r} ({island.nodes[-1].op})"
    if node.kind.is_internal:
        return f"training layer {node.name.partition(':')[0]!r}"
    return f"node {node.name!r} ({node.op})"


def check_shape(name: str, got: Shape, expected: tuple[int | None, ...], told: Shape | None = None) -> None:
    """Refuse a shape that an input does not take.

    Parameters
    ----------
    name : str
        Of the input.
    got : tuple of int
    expected : tuple
        None is a size that is free.
    told : tuple of int, optional
        What the caller gave, of which `got` is a part.

    Raises
    ------
    ValueError
    """
    if len(got) != len(expected) or any(e not in (None, g) for e, g in zip(expected, got, strict=True)):
        raise ValueError(f"input {name!r}: shape={tuple(got if told is None else told)}, expected {expected}")


def add_shapes(nodes: Iterable[Node], shapes: dict[str, Shape]) -> None:
    """Infer the shapes of values that are not known yet.

    Parameters
    ----------
    nodes : iterable of Node
        In an order in which they can be computed.
    shapes : dict of str to tuple of int
        Of what they read; gets those of what they compute.

    Raises
    ------
    ValueError
        Where a node cannot take its inputs; names the node.

    Examples
    --------
    >>> shapes = {"x": (2, 3), "z": (5,)}
    >>> add_shapes([Node("Relu", "a", ("x",), "y", {}), Node("Relu", "b", ("y",), "z", {})], shapes)
    >>> shapes
    {'x': (2, 3), 'z': (5,), 'y': (2, 3)}
    """
    for node in nodes:
        if node.output in shapes:
            continue
        try:
            operands = [shapes[name] if name else None for name in node.inputs]
            shapes[node.output] = node.kind.infer(node.attrs, operands)
        except ValueError as error:
            raise ValueError(f"{_called(node)}: {error}") from None


_SHAPE_ONLY = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "DropPath")


def last_function(graph: Graph) -> Node | None:
    """Return the node that computes the output, but for those that only change its shape; None where there is none.

    Examples
    --------
    >>> nodes = [Node("Softmax", "a", ("x",), "y", {}), Node("Identity", "b", ("y",), "z", {})]
    >>> last_function(Graph(nodes, {"x": (None, 4)}, ["z"], {})).name
    'a'
    """
    makers = {node.output: node for node in graph.nodes}
    node = makers.get(graph.outputs[0])
    while node is not None and node.op.rpartition(":")[2] in _SHAPE_ONLY:
        node = makers.get(node.inputs[0])
    return node


def live(nodes: list[Node], outputs: Iterable[str]) -> list[Node]:
    """The nodes that outputs depend on, of nodes in the order in which they run.

    Examples
    --------
    >>> nodes = [Node("Relu", "a", ("x",), "y", {}), Node("Relu", "b", ("x",), "z", {})]
    >>> [node.name for node in live(nodes, ["z"])]
    ['b']
    """
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if node.output in needed:
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1]


def with_outputs(graph: Graph, outputs: Sequence[str]) -> Graph:
    """Return the part of a graph that computes other outputs. Arrays are not copied.

    Examples
    --------
    >>> nodes = [Node("Relu", "a", ("x",), "y", {}), Node("Relu", "b", ("y",), "z", {})]
    >>> [node.name for node in with_outputs(Graph(nodes, {"x": (None, 4)}, ["z"], {}), ["y"]).nodes]
    ['a']
    """
    nodes = live(graph.nodes, outputs)
    used = {name for node in nodes for name in node.inputs} | set(outputs)
    constants = {name: array for name, array in graph.constants.items() if name in used}
    return Graph(nodes, graph.inputs, list(outputs), constants, graph.types)


def _typed(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"graph: {what}: got {type(value).__name__}, expected {kind.__name__}")
    return value


def _shape(value: Any) -> tuple[int | None, ...]:
    sizes = _typed(value, list, "inputs")
    if not all(size is None or (type(size) is int and size > 0) for size in sizes):
        raise ValueError(f"graph: inputs: shape {sizes!r}, expected positive integers or null")
    return tuple(sizes)


def _node(entry: Any) -> Node:
    if not isinstance(entry, list) or len(entry) != 5:
        raise ValueError("graph: nodes: expected [op, name, inputs, output, attributes]")
    op, name, inputs, output, attrs = entry
    names = tuple(_typed(value, str, "nodes: inputs") for value in _typed(inputs, list, "nodes: inputs"))
    attributes = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in _typed(attrs, dict, "nodes: attributes").items()
    }
    return Node(
        _typed(op, str, "nodes: op"),
        _typed(name, str, "nodes: name"),
        names,
        _typed(output, str, "nodes: output"),
        attributes,
    )
