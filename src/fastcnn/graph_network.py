"""Networks that are given as graphs: read from files, or cut out of other networks.

Reading files is loading.py's and onnx_model.py's, cutting training/features.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn import ops
from fastcnn.compiler.cost import arena_bound, take_network
from fastcnn.graph.ir import Graph
from fastcnn.graph.stored import StoredArray
from fastcnn.graph.trace import scope
from fastcnn.layers.arrays import Buffer, Parameter, frozen_float32
from fastcnn.layers.base import Layer
from fastcnn.network import Network
from fastcnn.ops.budget import MAX_BYTES, Budget
from fastcnn.scaling import MEAN, scaled_graph

__all__ = ["GraphNetwork", "check_cost"]

MAX_DEPTH = 100  # of layers within layers; walks through them recurse


class _Given(Layer):
    """A layer that no forward method calls: its arrays may be replaced, but nothing can be added or taken away."""

    def _assign(self, name: str, value: Any) -> None:
        known = name in self._parameters or name in self._buffers
        if isinstance(value, Layer) or (isinstance(value, (Parameter, Buffer)) and not known):
            raise TypeError(
                f"{name} = {type(value).__name__}: the network is given as a graph, which has no use for it: arrays "
                "can be assigned under the names that they have, and replace_head(num_classes) gives another last layer"
            )
        super()._assign(name, value)

    def _delete(self, name: str) -> None:
        if name in self._parameters or name in self._buffers or name in self._children:
            raise TypeError(f"del {name}: the network is given as a graph, which needs it")
        super()._delete(name)


class _Group(_Given):
    """The arrays and groups that share a prefix of their dotted names."""


class GraphNetwork(_Given, Network):
    """A network given as a graph instead of Python code.

    Parameters
    ----------
    graph : Graph
        One input whose first axis is the batch, one output. Its constants become the network's parameters,
        under the same dotted names; they are not copied, and must not be changed afterwards.
    buffers : collection of str
        Names of the constants that training must leave alone.
    max_bytes : int, optional
        The most that a prediction may take for one input, where the graph comes from a file.

    Raises
    ------
    ValueError
        If the graph is not valid or does not have one input and one output.

    Examples
    --------
    >>> from fastcnn import Linear, Sequential
    >>> network = GraphNetwork(Sequential(Linear(2, 3)).graph((2,)))
    >>> network([[1.0, 2.0]]).shape
    (1, 3)
    """

    _graph: Graph

    def __init__(self, graph: Graph, buffers: frozenset[str] = frozenset(), max_bytes: int | None = None) -> None:
        graph.validate()
        for what, names in (("inputs", list(graph.inputs)), ("outputs", graph.outputs)):
            if len(names) != 1:
                raise ValueError(f"the graph has {len(names)} {what} ({', '.join(names)}), expected 1")
        # Numbers of other types than float32 (indices, shapes) belong to the structure.
        fixed = {}
        if graph.is_general:
            fixed = {name: array for name, array in graph.constants.items() if array.dtype != np.float32}
        self._graph = Graph(graph.nodes, graph.inputs, graph.outputs, fixed, graph.types)
        self._max_bytes = max_bytes
        self._input_type = np.dtype(graph.types.get(next(iter(graph.inputs)), "float32"))
        # In the order of use, which is the order in which layers list them.
        used = [name for node in graph.nodes for name in node.inputs if name in graph.constants]
        for name in dict.fromkeys([*used, *graph.constants]):
            if name not in fixed:
                self._place(name, graph.constants[name], name in buffers)

    def _place(self, name: str, array: np.ndarray, is_buffer: bool) -> None:
        # Into the registries directly: in a file, names such as "forward" or "0" are only names.
        *path, local = name.split(".")
        if len(path) > MAX_DEPTH:
            raise ValueError(f"constant {name[:80]!r}…: {len(path) + 1} parts, expected at most {MAX_DEPTH + 1}")
        layer: Layer = self
        for part in path:
            layer = layer._children.setdefault(part, _Group())
        if not isinstance(array, StoredArray):
            with np.errstate(over="ignore", invalid="ignore"):  # as in layers: what float32 cannot hold is infinite
                array = np.array(array, np.float32, order="C", copy=None).view()
            array.flags.writeable = False
        (layer._buffers if is_buffer else layer._parameters)[local] = array

    def _scales(self) -> bool:
        """Whether inputs are scaled before the graph; one from a file may do so itself."""
        within = any(MEAN in node.inputs for node in self._graph.nodes)
        if not within and self.scaling is not None and self._input_type != np.float32:
            raise ValueError(f"{type(self).__name__}.scaling: inputs are {self._input_type}, expected float32")
        return not within and super()._scales()

    def _stored_graph(self, input_shape: Sequence[int] | None = None) -> Graph:
        """The network as a graph, see `Network._stored_graph`; general operations stay as they are."""
        if not self._graph.is_general:
            return super()._stored_graph(input_shape)
        graph = self._general_graph(input_shape)
        return scaled_graph(self, graph) if self._scales() else graph

    def _general_graph(self, input_shape: Sequence[int] | None) -> Graph:
        graph = self._graph
        shape = self.input_shape if input_shape is None else tuple(input_shape)
        ((name, expected),) = graph.inputs.items()
        if shape is None:
            raise ValueError(f"{type(self).__name__}: input_shape is not set, expected a shape such as (3, 224, 224)")
        batch = expected[:1]
        return Graph(
            graph.nodes,
            {name: (*batch, *shape)},
            graph.outputs,
            {**graph.constants, **self._stored_state()},
            graph.types,
        )

    def forward(self, x: Any) -> Any:
        """Apply the graph's nodes to a symbol, in their order."""
        graph = self._graph
        if graph.is_general:
            graph = self._resolved(x.shape)
        ((input_name, shape),) = graph.inputs.items()
        expected = tuple(h if w is None else w for h, w in zip(x.shape[1:], shape[1:], strict=False))
        if len(shape) != len(x.shape) or x.shape[1:] != expected:
            raise ValueError(f"x.shape={x.shape}, expected {('N', *shape[1:])}: what the model was saved for")
        values: dict[str, Any] = {**graph.constants, **self._stored_state(), input_name: x, "": None}
        for node in graph.nodes:
            with scope(node.name):
                values[node.output] = x.tracer.apply(node.op, [values[n] for n in node.inputs], node.attrs)
        return values[graph.outputs[0]]

    def _resolved(self, shape: tuple[int, ...]) -> Graph:
        """The graph in operations with kernels, which is what can be traced."""
        from fastcnn.compiler.resolve import resolve

        self.state_dict()  # reads what lies in a file
        graph = self._general_graph(shape[1:])
        resolved = resolve(graph, dict.fromkeys(graph.inputs, shape), Budget(self._max_bytes or MAX_BYTES)).graph
        others = sorted({node.op for node in resolved.nodes if ops.is_general(node.op)})
        if others:
            raise ValueError(
                f"the network has operations without kernels ({', '.join(others)}): it predicts, but "
                "cannot become part of another model or be trained"
            )
        return resolved

    def _budget(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Budget | None:
        """What is left for compiling, where the graph comes from a file and its operations have kernels."""
        if self._max_bytes is None:
            return None
        budget = Budget(self._max_bytes, next(iter(shapes.values()), (1,))[0])
        budget.keep(sum(array.nbytes for array in graph.constants.values() if not isinstance(array, StoredArray)))
        take_network(graph, graph.infer(shapes), budget)
        return budget

    def _graph_as_given(self) -> Graph:
        """The graph without scaling, for inputs of any size that it takes, with all constants."""
        graph = self._graph
        return replace(graph, constants={**graph.constants, **self._stored_state()})

    def _replace_head(self, graph: Graph, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a graph, whose inputs and nodes are those of this one, with other constants of these names."""
        graph.validate()
        owners = {full: (layer, name) for full, layer, name in self._named_arrays(True, True)}

        def change() -> None:
            self._graph = replace(graph, constants=self._graph.constants)
            for full, array in arrays.items():
                layer, name = owners[full]
                layer._buffers.pop(name, None)
                layer._parameters[name] = frozen_float32(array, full)
                layer.__dict__["_frozen"] = False
                layer._touch()

        self._settled(change)

    def extra_repr(self) -> str:
        """Return the number of nodes, and the input's shape."""
        (shape,) = self._graph.inputs.values()
        return f"{len(self._graph.nodes)} nodes, input {('N', *shape[1:])}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def check_cost(network: GraphNetwork, graph: Graph, shapes: Mapping[str, tuple[int, ...]], max_bytes: int) -> None:
    """Whether the graph takes inputs of these shapes, and a prediction no more than it may."""
    if graph.is_general:
        from fastcnn.compiler.mixed import compile_general

        compile_general(graph, shapes, max_bytes=max_bytes)
        return
    budget = network._budget(graph, shapes)
    if budget is not None and arena_bound(graph, graph.infer(shapes)) > budget.bytes:
        from fastcnn.compiler.plan import arena_bytes

        size = arena_bytes(graph, shapes, budget)
        try:
            budget.keep(size)
        except ValueError as error:
            raise ValueError(f"its values with padding, in vectors: {error}") from None
