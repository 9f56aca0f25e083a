"""Networks as files: a safetensors file of weights with the graph as metadata, or an ONNX file.

The metadata are strings: ``format``, ``format_version``, ``graph`` (JSON, graph/ir.py), ``buffers``,
``input_shape``, ``classes``, ``preprocess``, ``tuning`` and ``estimator`` (JSON), ``task``, and ``dtype``. Scaling of
inputs is part of the graph. loading.py reads the metadata, io/weights.py writes the container, and io/onnx_export.py
writes ONNX.
"""

from __future__ import annotations

import json
import os
from copy import deepcopy
from importlib.util import find_spec
from typing import TypeVar

import numpy as np

from fastcnn._arguments import as_choice, as_path
from fastcnn.compiler.network import least_batch
from fastcnn.computing import DTYPES
from fastcnn.errors import ModelLoadError
from fastcnn.io._memory import memory_errors
from fastcnn.io._numbers import NUMBER_TYPES, rounded
from fastcnn.network import Network

__all__ = ["as_type", "export_onnx", "is_weight", "load_weights", "save", "suffix_of"]

N = TypeVar("N", bound=Network)

FORMAT = "fastcnn"
FORMAT_VERSION = 1


def suffix_of(path: str | os.PathLike[str], name: str) -> str:
    """Return the suffix of a model's file, in lower case; "" for ".safetensors" and for none.

    Raises
    ------
    ValueError
        If the format is not known.
    ImportError
        If it needs a package that is not installed.

    Examples
    --------
    >>> suffix_of("net.ONNX", "save"), suffix_of("net.safetensors", "save")
    ('.onnx', '')
    """
    suffix = os.path.splitext(as_path(path, f"{name}: path"))[1].lower()
    if suffix not in ("", ".onnx", ".safetensors"):
        raise ValueError(
            f"{name}: {os.fspath(path)}: unknown format, expected a name that ends in .safetensors or .onnx"
        )
    if suffix != ".onnx":
        return ""
    if find_spec("onnx") is None:
        raise ImportError('writing ONNX files needs the package onnx: pip install "fastcnn[onnx]"')
    return suffix


def is_weight(array: np.ndarray) -> bool:
    """Whether an array may be of another type than float32: biases and numbers of normalisations are not.

    Examples
    --------
    >>> is_weight(np.zeros((8, 3, 3, 3), np.float32)), is_weight(np.zeros(8, np.float32))
    (True, False)
    """
    return len(array.shape) > 1 and array.dtype == np.float32


@memory_errors()
def save(network: Network, path: str | os.PathLike[str], estimator: str | None = None) -> None:
    """Write a network to one file; see `Model.save`. `estimator` tells what is known of it beside."""
    if suffix_of(path, "save") == ".onnx":
        export_onnx(network, path)
        return
    from fastcnn.io.weights import write_safetensors

    path = as_path(path, "save: path")
    if network.input_shape is None:
        raise ValueError(f"save: set {type(network).__name__}.input_shape first: the network is traced for it")
    graph = network._stored_graph()
    parameters = {name for name, _, _ in network._named_arrays(True, False)}
    buffers = [name for name in graph.constants if name not in parameters]  # numbers of forward methods, too
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "graph": graph.to_json(),
        "buffers": json.dumps(buffers),
        "input_shape": json.dumps(network.input_shape),
    }
    if network.classes is not None:
        metadata["classes"] = json.dumps(network.classes, ensure_ascii=False)
    if network.preprocess is not None:
        metadata["preprocess"] = json.dumps(network.preprocess.to_dict())
    if network.tuning:
        metadata["tuning"] = json.dumps(network.tuning)
    if network.task is not None:
        metadata["task"] = network.task
    if estimator is not None:
        metadata["estimator"] = estimator
    halves: set[str] = set()
    if network.dtype == "bfloat16":
        metadata["dtype"] = network.dtype
        halves = {name for name in parameters & graph.constants.keys() if is_weight(graph.constants[name])}
    write_safetensors(path, graph.constants, metadata, halves)


@memory_errors()
def as_type(network: N, dtype: str) -> N:
    """Copy a network with weights of another type; see `Model.astype`."""
    dtype = as_choice(dtype, "astype: dtype", DTYPES)
    if network._is_quantized():
        raise ValueError(
            f"astype: dtype={dtype!r}, but the network is in 8 bits: quantize makes it of a float32 network"
        )
    result = deepcopy(network)
    if dtype == "bfloat16":
        bits = NUMBER_TYPES["bfloat16"]
        weights = {name: array for name, array in result.named_parameters() if is_weight(array)}
        result.load_state_dict({name: bits.to_native(rounded(array)) for name, array in weights.items()}, strict=False)
    result._set_dtype(dtype)
    return result


@memory_errors()
def load_weights(network: Network, path: str | os.PathLike[str], max_bytes: int) -> None:
    """Take weights from a file; see `Model.load_weights`."""
    from fastcnn.io.weights import read_weights

    arrays = read_weights(path, max_bytes=max_bytes)
    if arrays and all(name.startswith("module.") for name in arrays):
        arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    try:
        network.load_state_dict(arrays)
    except (ValueError, TypeError) as error:
        raise ModelLoadError(f"{path}: {error}") from error


@memory_errors()
def export_onnx(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to an ONNX file; see `Model.export_onnx`."""
    from fastcnn._replace import replacing
    from fastcnn.io.onnx_export import to_onnx

    name = type(network).__name__
    if network.input_shape is None:
        raise ValueError(f"export_onnx: set {name}.input_shape first: the network is traced for it")
    metadata = {}
    if network.classes is not None:
        metadata["fastcnn.classes"] = json.dumps(network.classes, ensure_ascii=False)
    if network.preprocess is not None:
        metadata["fastcnn.preprocess"] = json.dumps(network.preprocess.to_dict())
    if network.task is not None:
        metadata["fastcnn.task"] = network.task
    graph = network._stored_graph()
    parts = to_onnx(graph, least_batch(graph, network.input_shape), metadata)
    with replacing(path) as file:
        file.writelines(parts)
