"""Models from files: files of `Model.save`, ONNX files, and folders of other libraries.

Everything in a file is checked before it is used, and nothing in it is run. model_format.py describes the format of
`Model.save`, onnx_model.py reads ONNX, model_folder.py folders, and io/weights.py reads the container.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fastcnn._arguments import as_path
from fastcnn.compiler.network import check_cost, least_batch, read_constants
from fastcnn.errors import ModelLoadError
from fastcnn.graph.ir import Graph
from fastcnn.io._memory import memory_errors
from fastcnn.model import GraphModel
from fastcnn.model_format import FORMAT, FORMAT_VERSION
from fastcnn.ops.budget import MAX_BYTES

__all__ = ["GraphModel", "load"]

T = TypeVar("T")


@memory_errors()
def load(
    path: str | os.PathLike[str], *, output: str | None = None, max_bytes: int = MAX_BYTES, strict: bool = False
) -> GraphModel:
    """Read a model from a file of `Model.save`, from an ONNX file, or from a folder of timm or Hugging Face.

    Parameters
    ----------
    path : path-like
        The file. It can come from anyone: it is checked, and nothing in it is run. A folder has config.json, for
        transformers preprocessor_config.json, and model.safetensors of a ResNet-18, -34 or -50. Or it has an .onnx file
        of any network. Its labels and preprocessing become `classes` and `preprocess`.
    output : str, optional
        Name of the output that the model gives, of an ONNX file with several.
    max_bytes : int
        Limit of the file, its arrays and all values of a prediction for one input. It bounds the work as well. Loading
        may take 8 elementary operations for each byte of the limit. A prediction for one input may take 256 of NumPy's,
        or 4096 of the kernels'. A file that asks for more is refused in advance. A batch may take as much for each
        input.
    strict : bool
        Refuse networks with steps that only NumPy computes, now and at each call (`Model.strict`).

    Returns
    -------
    GraphModel
        Predicts like the saved model, at the input size it was saved for. Parameters keep their names. Large
        parameters stay in the open file until their values are read, so that a model which only predicts does not hold
        them twice. The file may be deleted or replaced meanwhile. If it is overwritten in place, reading the remaining
        parameters raises ModelLoadError.

    Raises
    ------
    ModelLoadError
        If the file is not a model, is damaged, or needs more than `max_bytes` allows. The message names the cause. With
        `strict`, it names what NumPy would compute, and why.
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
    path = Path(as_path(path, "load: path"))
    model = _read(path, output, max_bytes)
    model.strict = strict
    if model.strict and model.input_shape is not None:
        try:
            (shape,) = least_batch(model._graph, model.input_shape).values()
            model._cache.get(model, shape)
        except ValueError as error:
            raise ModelLoadError(f"{path}: {error}") from error
    return model


def _read(path: Path, output: str | None, max_bytes: int) -> GraphModel:
    from fastcnn.io._kinds import START, kind_of
    from fastcnn.io._regular import open_regular
    from fastcnn.io.weights import read_safetensors

    if (path / "config.json").is_file():
        from fastcnn.model_folder import load_folder

        return load_folder(path, max_bytes, output)
    with open_regular(path) as file:
        start = file.read(START)
    if start[8:9] != b"{":
        from fastcnn.io.onnx_import import is_onnx

        if is_onnx(path, start[:9]):
            from fastcnn.onnx_model import load_onnx

            return load_onnx(path, output=output, max_bytes=max_bytes)
        if kind := kind_of(start):
            hint = "; fastcnn convert --architecture reads PyTorch's weights" if "PyTorch" in kind else ""
            raise ModelLoadError(f"{path}: {kind}, expected a saved model or an ONNX file{hint}")
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
    if output is not None and [output] != graph.outputs:
        raise ModelLoadError(f"{path}: output={output!r}, expected {graph.outputs[0]!r}, its only output")
    read_constants(graph)
    model = _entry(path, metadata, "graph", lambda _: GraphModel(graph, buffers, max_bytes))
    _entry(path, metadata, "input_shape", lambda text: _set(model, "input_shape", json.loads(text)))
    shapes = least_batch(graph, model.input_shape or ())
    _entry(path, metadata, "graph", lambda _: check_cost(graph, shapes, max_bytes))
    if "classes" in metadata:
        _entry(path, metadata, "classes", lambda text: _set(model, "classes", json.loads(text)))
    if "preprocess" in metadata:
        from fastcnn.io.image import Preprocess

        preprocess = _entry(path, metadata, "preprocess", lambda text: Preprocess.from_dict(json.loads(text)))
        model.preprocess = preprocess
    if "task" in metadata:
        _entry(path, metadata, "task", lambda text: setattr(model, "task", text))
    if "dtype" in metadata:
        _entry(path, metadata, "dtype", lambda text: model._set_dtype(text))
    model._estimator = metadata.get("estimator")
    if "tuning" in metadata:
        _entry(path, metadata, "tuning", lambda text: setattr(model, "tuning", json.loads(text)))
    return model


def _entry(path: Any, metadata: Mapping[str, str], key: str, read: Callable[[str], T]) -> T:
    """Apply `read` to a metadata entry; its errors become a ModelLoadError that names the entry."""
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


def _set(model: GraphModel, attribute: str, value: Any) -> None:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, got {type(value).__name__}")
    setattr(model, attribute, value)
