"""Networks that are given as graphs: read from files, or cut out of other networks.

loading.py and onnx_model.py read the files, training/features.py cuts networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn.compiler.network import fixed_constants, infer_values, is_resolved, planned_graph
from fastcnn.graph.ir import Graph, Node, Shape
from fastcnn.graph.stored import StoredArray
from fastcnn.graph.trace import scope
from fastcnn.layers.arrays import Buffer, Parameter, frozen_float32
from fastcnn.layers.base import Layer
from fastcnn.network import Network
from fastcnn.ops.budget import MAX_BYTES
from fastcnn.scaling import MEAN, VARIANCE, scaled_graph

__all__ = ["GraphNetwork"]

_SCALING = (MEAN, VARIANCE)  # what a network may have beside its graph
# Images (N, C, H, W), such as photos become, are turned to (N, H, W, C) for networks that take these. Their channels:
CHANNELS_LAST, IMAGE_CHANNELS = (0, 2, 3, 1), (1, 3)
MAX_DEPTH = 100  # layers within layers, through which functions recurse


def _fits(shape: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(shape) == len(expected) and all(e in (None, s) for s, e in zip(shape, expected, strict=True))


def _made_of_weights(
    constants: Mapping[str, Any], weights: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield constants that resolving has made of weights, the weight, and the operation that makes them: so they learn.

    compiler/native.py and native_windows.py name them after their weights.
    """
    for name, array in constants.items():
        for suffix, op in (("_transposed", "Transpose"), ("_rows", "Reshape")):
            weight = name.removesuffix(suffix)
            if name in weights or weight == name or weight not in weights:
                continue
            own = np.asarray(weights[weight])
            if op == "Transpose" and own.ndim == 2 and np.array_equal(own.T, array, equal_nan=True):
                yield name, weight, op, {"perm": (1, 0)}
            elif op == "Reshape" and own.size == array.size:
                yield name, weight, op, {"shape": array.shape}


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
        A graph with one output and one input, whose first axis is the batch. Its constants become parameters under
        the same dotted names. They are not copied, and must not be changed afterwards. A graph for images (N, H, W, C)
        of one or three channels takes them as (N, C, H, W), too, as photos become.
    buffers : collection of str
        Names of the constants that training must not change.
    max_bytes : int, optional
        Limit of a prediction for one input, for graphs from files.

    Raises
    ------
    ValueError
        If the graph is not valid, or does not have one input and one output.

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
        fixed = fixed_constants(graph)
        self._graph = Graph(graph.nodes, graph.inputs, graph.outputs, fixed, graph.types)
        self._max_bytes = max_bytes
        self._input_type = np.dtype(graph.types.get(next(iter(graph.inputs)), "float32"))
        # In the order of use, as layers list them.
        used = [name for node in graph.nodes for name in node.inputs if name in graph.constants]
        for name in dict.fromkeys([*used, *graph.constants]):
            if name not in fixed:
                self._place(name, graph.constants[name], name in buffers)

    def _place(self, name: str, array: np.ndarray, is_buffer: bool) -> None:
        # Directly into the registries, as a file may use names such as "forward" or "0".
        *path, local = name.split(".")
        if len(path) > MAX_DEPTH:
            raise ValueError(f"constant {name[:80]!r}…: {len(path) + 1} parts, expected at most {MAX_DEPTH + 1}")
        layer: Layer = self
        for part in path:
            layer = layer._children.setdefault(part, _Group())
        if not isinstance(array, StoredArray):
            with np.errstate(over="ignore", invalid="ignore"):  # beyond float32's range a value becomes infinite
                array = np.array(array, np.float32, order="C", copy=None).view()
            array.flags.writeable = False
        (layer._buffers if is_buffer else layer._parameters)[local] = array

    def _assign(self, name: str, value: Any) -> None:
        given = _Given if name not in _SCALING or name in self._buffers else Layer
        given._assign(self, name, value)

    def _delete(self, name: str) -> None:
        given = _Given if name not in _SCALING or self._scales_within() else Layer
        given._delete(self, name)

    def _scales_within(self) -> bool:
        """Whether the graph, which may be from a file, scales inputs itself."""
        return any(MEAN in node.inputs for node in self._graph.nodes)

    def _scales(self) -> bool:
        """Whether inputs are scaled before the graph."""
        within = self._scales_within()
        if not within and self.scaling is not None and self._input_type != np.float32:
            raise ValueError(f"{type(self).__name__}.scaling: inputs are {self._input_type}, expected float32")
        return not within and super()._scales()

    def _stored_graph(self, input_shape: Sequence[int] | None = None) -> Graph:
        """See `Network._stored_graph`; general operations stay as they are."""
        if is_resolved(self._graph):
            return super()._stored_graph(input_shape)
        graph = self._rounded_graph(input_shape)
        return scaled_graph(self, graph) if self._scales() else graph

    def _rounded_graph(self, input_shape: Sequence[int] | None) -> Graph:
        """`_general_graph`, in which float weights of a quantised network are integers again."""
        graph = self._general_graph(input_shape)
        if not self._is_quantized():
            return graph
        from fastcnn.compiler.fake_quantize import at_rest

        return at_rest(graph)

    def _is_quantized(self) -> bool:
        """Whether the graph has integers that stand for float32 numbers."""
        return any(node.op.endswith("::DequantizeLinear") for node in self._graph.nodes)

    def _begin_training(self) -> None:
        """Let quantised weights be float32 parameters, which are rounded for predictions and files."""
        if not self._is_quantized():
            return
        from fastcnn.compiler.fake_quantize import with_float_weights

        graph, floats = with_float_weights(self._graph_as_given())
        if not floats:
            return

        def change() -> None:
            self._graph = replace(graph, constants=fixed_constants(graph))
            for name, array in floats.items():
                self._place(name, array, False)
            for _, layer in self.named_layers():
                layer._touch()

        self._settled(change)

    def _training_graph(self, input_shape: Sequence[int]) -> Graph:
        """`graph` as it learns: values are rounded in float32."""
        if not self._is_quantized():
            return super()._training_graph(input_shape)
        from fastcnn.compiler.fake_quantize import for_training
        from fastcnn.compiler.general import taking_float32

        def read() -> Graph:
            graph = for_training(taking_float32(self._general_graph(input_shape)))
            return scaled_graph(self, graph) if self._scales() else graph

        return planned_graph(self._read(read), tuple(input_shape), self._max_bytes or MAX_BYTES)

    def _general_graph(self, input_shape: Sequence[int] | None) -> Graph:
        graph = self._graph
        shape = self.input_shape if input_shape is None else tuple(input_shape)
        ((name, expected),) = graph.inputs.items()
        if shape is None:
            raise ValueError(f"{type(self).__name__}: input_shape is not set, expected a shape such as (3, 224, 224)")
        nodes, given = graph.nodes, name
        if self._takes_channels_last(shape):
            given = f"{name}:planes"
            nodes = [Node("Transpose", given, (given,), name, {"perm": CHANNELS_LAST}), *nodes]
        constants = {**graph.constants, **self._stored_state()}
        types = {given: graph.types[name]} if name in graph.types else {}
        return Graph(nodes, {given: (*expected[:1], *shape)}, graph.outputs, constants, types)

    def _takes_channels_last(self, shape: Sequence[int]) -> bool:
        """Whether images (channels, height, width) of this shape have to be turned to (height, width, channels)."""
        (expected,) = self._graph.inputs.values()
        return (
            len(expected) == 4
            and expected[3] in IMAGE_CHANNELS
            and expected[1] not in IMAGE_CHANNELS
            and not _fits(shape, expected[1:])
            and len(shape) == 3
            and _fits((*shape[1:], shape[0]), expected[1:])
        )

    def forward(self, x: Any) -> Any:
        """Apply the graph's nodes to a symbol, one after the other."""
        if self._takes_channels_last(x.shape[1:]):
            x = x.tracer.apply("Transpose", [x], {"perm": CHANNELS_LAST})
        graph = self._graph
        shapes: Mapping[str, Shape | None] = {}
        if not is_resolved(graph):
            from fastcnn.compiler.general import resolve_for_kernels, taking_float32

            size = x.shape[1:]
            given = self._read(lambda: self._rounded_graph(size))  # not scaled: the trace has scaled already
            given = taking_float32(given)
            graph = resolve_for_kernels(given, size, self._max_bytes or MAX_BYTES)
            shapes, _ = infer_values(graph, dict.fromkeys(graph.inputs, x.shape))
        ((input_name, shape),) = graph.inputs.items()
        expected = tuple(h if w is None else w for h, w in zip(x.shape[1:], shape[1:], strict=False))
        if len(shape) != len(x.shape) or x.shape[1:] != expected:
            raise ValueError(f"x.shape={x.shape}, expected {('N', *shape[1:])}: what the model was saved for")
        values: dict[str, Any] = {**graph.constants, **self._stored_state(), input_name: x, "": None}
        for name, weight, op, attrs in _made_of_weights(graph.constants, self._stored_state()):
            with scope(name):
                values[name] = x.tracer.apply(op, [values[weight]], attrs)
        for node in graph.nodes:
            with scope(node.name):
                operands = [values[n] for n in node.inputs]
                values[node.output] = x.tracer.apply(node.op, operands, node.attrs, shapes.get(node.output))
        return values[graph.outputs[0]]

    def _graph_as_given(self) -> Graph:
        """The graph without scaling, for inputs of any size that it takes, with all constants."""
        graph = self._graph
        return replace(graph, constants={**graph.constants, **self._stored_state()})

    def _replace_head(self, graph: Graph, arrays: Mapping[str, np.ndarray]) -> None:
        """Take over a graph with the same inputs and nodes, and other constants under the names of `arrays`."""
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
        """Return the number of nodes and the input's shape."""
        (shape,) = self._graph.inputs.values()
        return f"{len(self._graph.nodes)} nodes, input {('N', *shape[1:])}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
