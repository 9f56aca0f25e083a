"""Models as files: one safetensors file holds the weights, and as metadata the graph and what it is for.

The metadata are strings: ``format``, ``format_version``, ``graph`` (JSON, graph/ir.py), ``buffers``,
``input_shape``, ``classes``, ``preprocess`` and ``tuning`` (JSON). Whatever a file says is checked before it is used;
nothing in it is run. Reading and writing the container is io/weights.py's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fastcnn import ops
from fastcnn._arguments import as_path
from fastcnn.compiler.cost import arena_bound, take_network
from fastcnn.errors import ModelLoadError
from fastcnn.graph.ir import Graph
from fastcnn.graph.stored import StoredArray, read_and_keep
from fastcnn.graph.trace import scope
from fastcnn.layers.base import Layer
from fastcnn.model import Model
from fastcnn.ops.budget import MAX_BYTES, Budget

__all__ = ["GraphModel", "check_cost", "load", "save"]

FORMAT = "fastcnn"
FORMAT_VERSION = 1
MAX_DEPTH = 100  # of layers within layers; walks through them recurse

T = TypeVar("T")


class _Group(Layer):
    """The arrays and groups that share a prefix of their dotted names."""


class GraphModel(Model):
    """A network given as a graph instead of Python code, such as `fastcnn.load` returns.

    Parameters
    ----------
    graph : Graph
        One input whose first axis is the batch, one output. Its constants become the model's parameters,
        under the same dotted names; they are not copied, and must not be changed afterwards.
    buffers : collection of str
        Names of the constants that training must leave alone.
    max_bytes : int, optional
        The most that a prediction may take for one input, where the graph comes from a file.

    Raises
    ------
    ValueError
        If the graph is not valid or does not have one input and one output.
    """

    def __init__(self, graph: Graph, buffers: frozenset[str] = frozenset(), max_bytes: int | None = None) -> None:
        graph.validate()
        for what, names in (("inputs", list(graph.inputs)), ("outputs", graph.outputs)):
            if len(names) != 1:
                raise ValueError(f"the graph has {len(names)} {what} ({', '.join(names)}), expected 1")
        # Numbers of other types than float32 (indices, shapes) belong to the structure.
        fixed = {}
        if graph.is_general:
            fixed = {name: array for name, array in graph.constants.items() if array.dtype != np.float32}
        self.__dict__["_graph"] = Graph(graph.nodes, graph.inputs, graph.outputs, fixed, graph.types)
        self.__dict__["_max_bytes"] = max_bytes
        self.__dict__["_input_type"] = np.dtype(graph.types.get(next(iter(graph.inputs)), "float32"))
        # In the order of use, which is the order in which layers list them.
        used = [name for node in graph.nodes for name in node.inputs if name in graph.constants]
        for name in dict.fromkeys([*used, *graph.constants]):
            if name not in fixed:
                self._place(name, graph.constants[name], name in buffers)

    def _place(self, name: str, array: np.ndarray, is_buffer: bool) -> None:
        # Into the registries directly: in a file, names such as "forward" or "0" are only names.
        *path, local = name.split(".")
        if len(path) > MAX_DEPTH:
            raise ValueError(
                f"constant {name[:80]!r}…: {len(path) + 1} parts, expected at most {MAX_DEPTH + 1}"
            )
        layer: Layer = self
        for part in path:
            layer = layer._children.setdefault(part, _Group())
        if not isinstance(array, StoredArray):
            with np.errstate(over="ignore", invalid="ignore"):  # as in layers: what float32 cannot hold is infinite
                array = np.array(array, np.float32, order="C", copy=None).view()
            array.flags.writeable = False
        (layer._buffers if is_buffer else layer._parameters)[local] = array

    def _stored_graph(self, input_shape: Sequence[int] | None = None) -> Graph:
        """The network as a graph, see `Model._stored_graph`; general operations stay as they are."""
        graph: Graph = self._graph
        if not graph.is_general:
            return super()._stored_graph(input_shape)
        shape = self.input_shape if input_shape is None else tuple(input_shape)
        ((name, expected),) = graph.inputs.items()
        if shape is None:
            raise ValueError("GraphModel: input_shape is not set, expected a shape such as (3, 224, 224)")
        batch = expected[:1]
        return Graph(graph.nodes, {name: (*batch, *shape)}, graph.outputs, {**graph.constants, **self._stored_state()},
                     graph.types)

    def forward(self, x: Any) -> Any:
        """Apply the graph's nodes to a symbol, in their order."""
        graph: Graph = self._graph
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

        graph = self.graph(shape[1:])
        resolved = resolve(graph, dict.fromkeys(graph.inputs, shape), Budget(self._max_bytes or MAX_BYTES)).graph
        others = sorted({node.op for node in resolved.nodes if ops.is_general(node.op)})
        if others:
            raise ValueError(f"the network has operations without kernels ({', '.join(others)}): it predicts, but "
                             "cannot become part of another model or be trained")
        return resolved

    def _budget(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Budget | None:
        """What is left for compiling, where the graph comes from a file and its operations have kernels."""
        if self._max_bytes is None:
            return None
        budget = Budget(self._max_bytes, next(iter(shapes.values()), (1,))[0])
        budget.keep(sum(array.nbytes for array in graph.constants.values() if not isinstance(array, StoredArray)))
        take_network(graph, graph.infer(shapes), budget)
        return budget

    def extra_repr(self) -> str:
        """Return the number of nodes, and the input's shape."""
        (shape,) = self._graph.inputs.values()
        return f"{len(self._graph.nodes)} nodes, input {('N', *shape[1:])}"

    def __repr__(self) -> str:
        return f"GraphModel({self.extra_repr()})"


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model to one file; see `Model.save`."""
    from fastcnn.io.weights import write_safetensors

    path = as_path(path, "save: path")
    if model.input_shape is None:
        raise ValueError(f"save: set {type(model).__name__}.input_shape first: the network is traced for it")
    graph = model._stored_graph()
    buffers = [name for name, _, _ in model._named_arrays(False, True) if name in graph.constants]
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "graph": graph.to_json(),
        "buffers": json.dumps(buffers),
        "input_shape": json.dumps(model.input_shape),
    }
    if model.classes is not None:
        metadata["classes"] = json.dumps(model.classes, ensure_ascii=False)
    if model.preprocess is not None:
        metadata["preprocess"] = json.dumps(model.preprocess.to_dict())
    if model.tuning:
        metadata["tuning"] = json.dumps(model.tuning)
    write_safetensors(path, graph.constants, metadata)


def load(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> GraphModel:
    """Read a model that `Model.save` has written, or an ONNX file.

    Parameters
    ----------
    path : path-like
        The file. It can come from anyone: it is checked, and nothing in it is run.
    max_bytes : int
        The most that the file and its arrays may take, and with them all values of a prediction for one input, and
        what is computed on the way. It bounds the work, too: until it is loaded, a file may ask for 8 elementary
        operations for each of these bytes, and a prediction for one input for 256 of NumPy's, or 4096 of the
        kernels'. Whatever asks for more is refused before anything is spent. A batch may take as much for each input.

    Returns
    -------
    GraphModel
        Predicts as the saved model did, at the input size it was saved for. Its parameters have the
        names they had. Large ones stay in the file, which is kept open, until somebody asks for their values, so that
        a model which only predicts does not hold them twice. The file may be deleted or replaced meanwhile; if it is
        written over in place, what is still to be read raises ModelLoadError.

    Raises
    ------
    ModelLoadError
        If the file is not such a model, is damaged, or needs more than `max_bytes` allows; the message names what
        is wrong.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from fastcnn import zoo
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     zoo.lenet().save(f"{folder}/lenet.safetensors")
    ...     model = load(f"{folder}/lenet.safetensors")
    >>> model.input_shape, list(model.state_dict())[:2]
    ((1, 28, 28), ['conv1.weight', 'conv1.bias'])
    """
    from fastcnn.io._regular import open_regular
    from fastcnn.io.weights import read_safetensors

    path = Path(as_path(path, "load: path"))
    with open_regular(path) as file:
        start = file.read(9)
    if start[8:] != b"{":
        from fastcnn.io.onnx_import import is_onnx

        if is_onnx(path, start):
            from fastcnn.io.onnx_model import load_onnx

            return load_onnx(path, max_bytes=max_bytes)
    tensors, metadata = read_safetensors(path, max_bytes=max_bytes, stored=True)
    if metadata.get("format") != FORMAT:
        raise ModelLoadError(
            f"{path}: metadata 'format' is {metadata.get('format')!r}, expected {FORMAT!r}: the file has "
            "weights but no model; build the model and use load_state_dict"
        )
    version = metadata.get("format_version")
    if version != str(FORMAT_VERSION):
        raise ModelLoadError(f"{path}: metadata 'format_version' is {version!r}, expected '{FORMAT_VERSION}'")

    buffers = _entry(path, metadata, "buffers", lambda text: _buffer_names(text, tensors))
    graph = _entry(path, metadata, "graph", lambda text: Graph.from_json(text, tensors))
    if graph.is_general:  # which operations it comes to may depend on the values
        for name in graph.constants:
            read_and_keep(graph.constants, name)
    model = _entry(path, metadata, "graph", lambda _: GraphModel(graph, buffers, max_bytes))
    _entry(path, metadata, "input_shape", lambda text: _set(model, "input_shape", json.loads(text)))
    shapes = dict.fromkeys(graph.inputs, (1, *(model.input_shape or ())))
    _entry(path, metadata, "graph", lambda _: check_cost(model, graph, shapes, max_bytes))
    if "classes" in metadata:
        _entry(path, metadata, "classes", lambda text: _set(model, "classes", json.loads(text)))
    if "preprocess" in metadata:
        from fastcnn.io.image import Preprocess

        preprocess = _entry(path, metadata, "preprocess", lambda text: Preprocess.from_dict(json.loads(text)))
        model.preprocess = preprocess
    if "tuning" in metadata:
        _entry(path, metadata, "tuning", lambda text: setattr(model, "tuning", json.loads(text)))
    return model


def check_cost(model: GraphModel, graph: Graph, shapes: Mapping[str, tuple[int, ...]], max_bytes: int) -> None:
    """Whether the graph takes inputs of these shapes, and a prediction no more than it may."""
    if graph.is_general:
        from fastcnn.compiler.mixed import compile_general

        compile_general(graph, shapes, max_bytes=max_bytes)
        return
    budget = model._budget(graph, shapes)
    if budget is not None and arena_bound(graph, graph.infer(shapes)) > budget.bytes:
        from fastcnn.compiler.plan import arena_bytes

        size = arena_bytes(graph, shapes, budget)
        try:
            budget.keep(size)
        except ValueError as error:
            raise ValueError(f"its values with padding, in vectors: {error}") from None


def _entry(path: Any, metadata: Mapping[str, str], key: str, read: Callable[[str], T]) -> T:
    """Apply `read` to a metadata entry; whatever it finds wrong becomes a ModelLoadError naming the entry."""
    if key not in metadata:
        raise ModelLoadError(f"{path}: metadata {key!r} is missing")
    try:
        return read(metadata[key])
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError) as error:
        raise ModelLoadError(f"{path}: metadata {key!r}: {error}") from error


def _buffer_names(text: str, tensors: Mapping[str, np.ndarray]) -> frozenset[str]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("expected a list of names")
    if unknown := [name for name in names if name not in tensors]:
        raise ValueError(f"no tensor is named {unknown[0]!r}")
    return frozenset(names)


def _set(model: Model, attribute: str, value: Any) -> None:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {type(value).__name__}")
    setattr(model, attribute, value)
