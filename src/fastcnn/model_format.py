"""Networks as files: a safetensors file of weights with the graph as metadata, or an ONNX file.

The metadata are strings: ``format``, ``format_version``, ``graph`` (JSON, graph/ir.py), ``buffers``,
``input_shape``, ``classes``, ``preprocess`` and ``tuning`` (JSON). loading.py reads them, io/weights.py writes the
container, and io/onnx_export.py writes ONNX.
"""

from __future__ import annotations

import json
import os

from fastcnn._arguments import as_path
from fastcnn.network import Network

__all__ = ["export_onnx", "save"]

FORMAT = "fastcnn"
FORMAT_VERSION = 1


def save(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to one file; see `Model.save`."""
    from fastcnn.io.weights import write_safetensors

    path = as_path(path, "save: path")
    if network.input_shape is None:
        raise ValueError(f"save: set {type(network).__name__}.input_shape first: the network is traced for it")
    graph = network._stored_graph()
    buffers = [name for name, _, _ in network._named_arrays(False, True) if name in graph.constants]
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
    write_safetensors(path, graph.constants, metadata)


def export_onnx(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network to an ONNX file; see `Model.export_onnx`."""
    from fastcnn.io._replace import replacing
    from fastcnn.io.onnx_export import to_onnx

    name = type(network).__name__
    if network.input_shape is None:
        raise ValueError(f"export_onnx: set {name}.input_shape first: the network is traced for it")
    metadata = {}
    if network.classes is not None:
        metadata["fastcnn.classes"] = json.dumps(network.classes, ensure_ascii=False)
    if network.preprocess is not None:
        metadata["fastcnn.preprocess"] = json.dumps(network.preprocess.to_dict())
    graph = network._stored_graph()
    shapes = {value: (sizes[0] or 1, *network.input_shape) for value, sizes in graph.inputs.items()}
    parts = to_onnx(graph, shapes, metadata)
    with replacing(path) as file:
        file.writelines(parts)
