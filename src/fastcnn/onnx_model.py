"""From an ONNX file to a model.

If all operations have kernels for every batch and free image size, the model is like one that was built here: it can be
trained, saved and nested. Otherwise it keeps ONNX's operations and is compiled for each shape of its inputs.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Iterable

import numpy as np

from fastcnn._arguments import as_size
from fastcnn._names import listed
from fastcnn.compiler.ahead import PROBES, resolve_ahead
from fastcnn.compiler.network import check_cost
from fastcnn.compiler.qdq import qdq_form
from fastcnn.errors import ModelLoadError
from fastcnn.graph.ir import Graph, Node, with_outputs
from fastcnn.io.image import Preprocess
from fastcnn.io.onnx_import import OnnxFile, read_onnx
from fastcnn.model import GraphModel
from fastcnn.ops.budget import MAX_BYTES, Budget, Cost, json_cost
from fastcnn.scaling import MEAN

__all__ = ["load_onnx"]

# What a byte of Python's literals becomes at most, with the syntax tree; and operations to read it.
_LITERAL_BYTES, _LITERAL_WORK = 640, 1000
_BUFFER_INPUTS = {"BatchNormalization": (3, 4)}
# Operations whose arrays training changes even where only NumPy computes them. Arrays of others, such as tables, are
# constants there: they have no gradient.
_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum", "PRelu", "GRU", "LSTM", "RNN")


def load_onnx(
    source: str | os.PathLike[str] | bytes, *, output: str | None = None, max_bytes: int = MAX_BYTES
) -> GraphModel:
    """Read a classifier, or another network of one input and one output, from an ONNX file.

    Parameters
    ----------
    source : path-like, or bytes
        The file, or its content. It can come from anyone: it is checked, and nothing in it is run.
    output : str, optional
        Name of the output to take, if there are several.
    max_bytes : int
        Limit of the file, its arrays, and a prediction for one input. It bounds the work as well: see `fastcnn.load`.

    Returns
    -------
    GraphModel
        Parameters have the file's names. `classes` and `preprocess` are set if the file's metadata have them.

    Raises
    ------
    ModelLoadError
        If the file is damaged or hostile, needs more than `max_bytes`, has several inputs, or has unsupported
        operators. The message names all of them.
    ImportError
        Without the `onnx` package, which ``pip install "fastcnn[onnx]"`` brings.
    """
    label = "<bytes>" if isinstance(source, bytes) else str(source)
    file = read_onnx(source, max_bytes=min(as_size(max_bytes, "max_bytes"), sys.maxsize - 1))
    try:
        return _to_model(file, output, max_bytes)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ModelLoadError(f"{label}: {error}") from error


def _to_model(file: OnnxFile, output: str | None, max_bytes: int) -> GraphModel:
    graph = _single_output(file.graph, output)
    if len(graph.inputs) != 1:
        names = [repr(name[:60]) for name in list(graph.inputs)[:10]]
        raise ValueError(
            f"the graph has {len(graph.inputs)} inputs ({', '.join(names)}{', …' if len(graph.inputs) > 10 else ''}), "
            "expected one, the batch to be classified: what else it needs must be constants (initializers)"
        )
    ((name, shape),) = graph.inputs.items()
    if not shape:
        raise ValueError(f"input {name!r} has no dimensions, expected a batch (N, ...)")
    graph, is_whole = resolve_ahead(qdq_form(graph), max_bytes)
    model = GraphModel(graph, frozenset(_buffers(graph, file.trainable)), max_bytes)
    if is_whole:
        check_cost(graph, {name: (1, *(size or PROBES[0] for size in shape[1:]))}, max_bytes)
    if None not in shape[1:] and len(shape) > 1:
        model.input_shape = [size for size in shape[1:] if size is not None]
    _describe(model, file.metadata, Budget.of_objects(max_bytes))
    return model


def _single_output(graph: Graph, output: str | None) -> Graph:
    if output is None and len(graph.outputs) == 1:
        return graph
    if output not in graph.outputs:
        names = listed([name[:60] for name in graph.outputs], 10)
        if output is None:
            raise ValueError(
                f"the graph has {len(graph.outputs)} outputs ({names}): choose one by output={graph.outputs[0][:60]!r} "
                "(on the command line --output)"
            )
        raise ValueError(f"output={output!r}, expected one of {names}")
    return with_outputs(graph, [output])


def _buffers(graph: Graph, trainable: frozenset[str]) -> Iterable[str]:
    """Yield statistics, scaling of inputs, and constants that are neither weights of the file nor made from them."""
    weights = {
        name
        for node in graph.nodes
        for i, name in enumerate(node.inputs)
        if i in node.kind.constants and i not in _BUFFER_INPUTS.get(node.op, ())
    }
    statistics = {name for node in graph.nodes if MEAN in node.inputs for name in node.inputs}
    statistics |= {
        node.inputs[i]
        for node in graph.nodes
        for i in _BUFFER_INPUTS.get(node.op.rpartition(":")[2], ())
        if i < len(node.inputs)
    }
    learned = {name for node in graph.nodes if _learns(node) for name in node.inputs} & trainable
    for name, array in graph.constants.items():
        if array.dtype == np.float32 and (name in statistics or name not in weights | learned):
            yield name


def _learns(node: Node) -> bool:
    kind = node.op.rpartition(":")[2]
    return kind == node.op or kind in _WEIGHTED or kind.endswith("Normalization")


def _describe(model: GraphModel, metadata: dict[str, str], budget: Budget) -> None:
    """Set classes and preprocessing from the metadata of `Model.export_onnx`, or class names from Ultralytics'."""
    readers = {
        "fastcnn.preprocess": lambda text: setattr(model, "preprocess", Preprocess.from_dict(json.loads(text))),
        "fastcnn.classes": lambda text: setattr(model, "classes", json.loads(text)),
        "fastcnn.task": lambda text: setattr(model, "task", text),
    }
    for key in readers.keys() & metadata.keys():
        try:
            budget.require(json_cost(len(metadata[key])))
            readers[key](metadata[key])
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"metadata {key!r}: {error}") from error
    if model.classes is None and "names" in metadata:
        size = len(metadata["names"])
        budget.require(Cost(_LITERAL_BYTES * size, _LITERAL_WORK * size), "metadata 'names'")
        try:
            names = ast.literal_eval(metadata["names"])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return
        if isinstance(names, dict) and list(names) == list(range(len(names))) and names:
            model.classes = [str(name) for name in names.values()]
