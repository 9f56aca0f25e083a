"""Reads ONNX files, which may be hostile, into graphs.

All of a file is checked before anything large is allocated, and nothing in it is run. _onnx_parts.py parses messages,
_onnx_tensor.py reads tensors. _onnx_builder.py makes nodes: _onnx_control.py unrolls loops and inlines functions,
_onnx_dialect.py converts older opsets, and _onnx_contrib.py the operators of ONNX Runtime. ops/general defines the
operators. compiler/resolve.py replaces them by operations with kernels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fastcnn._arguments import as_path
from fastcnn.errors import ModelLoadError
from fastcnn.graph.ir import Graph, live
from fastcnn.io._onnx_builder import Builder, Scope
from fastcnn.io._onnx_control import CONTROL, call
from fastcnn.io._onnx_dialect import BFLOAT16
from fastcnn.io._onnx_known import MAX_NODES, OLDEST_OPSET, count_nodes, opset_of, refuse_unknown, supported_operators
from fastcnn.io._onnx_parts import OnnxParts
from fastcnn.io._onnx_tensor import TensorReader
from fastcnn.io._regular import open_regular
from fastcnn.ops.budget import MAX_BYTES, NODE_BYTES, Budget, Cost
from fastcnn.ops.general.elementwise import DTYPES

__all__ = ["OLDEST_OPSET", "OnnxFile", "is_onnx", "read_onnx", "supported_operators"]


@dataclass(frozen=True)
class OnnxFile:
    """The content of a file.

    Attributes
    ----------
    graph : Graph
        Its operations are general ones.
    trainable : frozenset of str
        Names of the constants that were floating-point initializers.
    metadata : dict of str to str
    opset : int
    producer : str
    """

    graph: Graph
    trainable: frozenset[str]
    metadata: dict[str, str]
    opset: int
    producer: str


def is_onnx(path: Path, start: bytes) -> bool:
    """Whether a file may be ONNX, by its name or its first byte, the tag of the field ir_version."""
    return path.suffix.lower() == ".onnx" or start[:1] == b"\x08"


def read_onnx(source: str | os.PathLike[str] | bytes, *, max_bytes: int = MAX_BYTES) -> OnnxFile:
    """Read an ONNX file.

    Parameters
    ----------
    source : path-like, or bytes
        The file, or its content.
    max_bytes : int
        The most bytes that the file may take. It also limits the messages in memory, and the nodes and arrays.

    Returns
    -------
    OnnxFile

    Raises
    ------
    ModelLoadError
        If the file is damaged or hostile, or has operators that are not supported. The message names all of them.
    ImportError
        If the `onnx` package is not installed: ``pip install "fastcnn[onnx]"``.
    OSError
        If the file cannot be read.
    """
    label = "<bytes>" if isinstance(source, bytes) else as_path(source, "source")
    try:
        content, folder = _content(source, Budget(max_bytes))
        parts = OnnxParts(content, Budget.of_objects(max_bytes))
        return _Importer(parts, folder, Budget(max_bytes)).run()
    except ModelLoadError as error:
        raise ModelLoadError(f"{label}: {error}") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ModelLoadError(f"{label}: {error}") from error


def _content(source: str | os.PathLike[str] | bytes, budget: Budget) -> tuple[bytes, Path | None]:
    if isinstance(source, bytes):
        budget.require(Cost(len(source), 0), "the file")
        return source, None
    path = Path(source)
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        budget.require(Cost(size, 0), "the file")
        content = file.read(size + 1)
    if len(content) != size:
        raise ModelLoadError(f"had {size} bytes when it was opened, and {len(content)} or more when it was read")
    return content, path.parent


class _Importer:
    def __init__(self, parts: OnnxParts, folder: Path | None, budget: Budget) -> None:
        self.parts, self.model, self.proto, self.budget = parts, parts.model, parts.graph, budget
        self.functions = {(f.domain, f.name, f.overload): f for f in self.model.functions}
        self.build = Builder(TensorReader(folder, budget), budget, CONTROL, self.functions, call)

    def run(self) -> OnnxFile:
        build, opset = self.build, opset_of(self.model.opset_import)
        if not len(self.proto.node) or len(self.proto.node) > MAX_NODES:
            raise ModelLoadError(f"{len(self.proto.node)} nodes, expected 1 to {MAX_NODES}")
        count = len(self.proto.node)
        self.budget.require(Cost(NODE_BYTES * count, 0), f"its {count} nodes")
        if len(self.functions) < len(self.model.functions):
            raise ModelLoadError("two of its functions have one domain, name and overload")
        if len(self.proto.sparse_initializer):
            raise ModelLoadError("has sparse initializers, which are not supported")
        count_nodes(self.proto.node, self.functions)
        refuse_unknown(self.proto.node, opset, self.functions)
        scope = Scope(opset)
        build.initializers(scope, self.parts.tensors())
        self.inputs(scope)
        build.run(self.proto.node, scope)
        outputs = [scope.use(value.name, "the graph's outputs") for value in self.proto.output]
        graph = Graph(live(build.nodes, outputs), build.inputs, outputs, build.constants, build.types)
        self.drop_unused(graph)
        graph.validate()
        metadata = {entry.key: entry.value for entry in self.model.metadata_props}
        trainable = frozenset(build.trainable & set(graph.constants))
        return OnnxFile(graph, trainable, metadata, opset, self.model.producer_name)

    def inputs(self, scope: Scope) -> None:
        for value in self.proto.input:
            if value.name in scope.values:
                continue  # IR versions before 4 list initializers among the inputs
            where = f"input {value.name[:80]!r}"
            kind = value.type.tensor_type
            dtype = "float32" if kind.elem_type == BFLOAT16 else DTYPES.get(kind.elem_type)
            if not value.type.HasField("tensor_type") or dtype is None:
                raise ModelLoadError(f"{where}: expected a tensor of {', '.join((*DTYPES.values(), 'bfloat16'))}")
            if not kind.HasField("shape") or len(kind.shape.dim) > 32:
                raise ModelLoadError(f"{where}: it has no shape, expected one of at most 32 dimensions")
            sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
            if any(size >= 2**31 for size in sizes):
                raise ModelLoadError(f"{where}: shape {sizes}, expected sizes below 2^31")
            name = self.build.define(scope, value.name, "input")
            self.build.inputs[name] = tuple(size if size > 0 else None for size in sizes)
            if dtype != "float32":
                self.build.types[name] = dtype

    @staticmethod
    def drop_unused(graph: Graph) -> None:
        used = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
        graph.constants = {name: array for name, array in graph.constants.items() if name in used}
