"""Reads ONNX files, which may be hostile, into graphs.

All of a file is checked before anything large is allocated, and nothing in it is run. _onnx_parts.py parses messages,
_onnx_tensor.py reads tensors, and _onnx_dialect.py converts older opsets. ops/general defines the operators.
compiler/resolve.py replaces them by operations with kernels.
"""

from __future__ import annotations

import inspect
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn._arguments import as_path
from fastcnn.errors import ModelLoadError
from fastcnn.graph.ir import Graph, Node, live
from fastcnn.io._onnx_dialect import RawNode, normalise
from fastcnn.io._onnx_parts import OnnxParts
from fastcnn.io._onnx_tensor import TensorReader
from fastcnn.io._regular import open_regular
from fastcnn.ops.budget import MAX_BYTES, NODE_BYTES, Budget, Cost
from fastcnn.ops.general import DOMAIN, TABLE
from fastcnn.ops.general.elementwise import DTYPES

__all__ = ["OLDEST_OPSET", "OnnxFile", "is_onnx", "read_onnx", "supported_operators"]

OLDEST_OPSET = 6
MAX_NODES = 100_000
_MOST_TOLD = 15
_DOMAINS = ("", "ai.onnx")
_TRANSLATED = ("Constant", "Upsample")  # operators that the import replaces
_ITEM_BYTES = 64  # the most bytes of a number or text in an attribute's tuple, without the text itself
_ATTRIBUTE_KINDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings"}  # onnx.proto


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


def supported_operators() -> tuple[str, ...]:
    """Return the names of the ONNX operators that can be imported.

    Examples
    --------
    >>> "Conv" in supported_operators()
    True
    """
    return tuple(sorted({name.removeprefix(DOMAIN) for name in TABLE} | set(_TRANSLATED)))


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


class _Names:
    """Names that are taken. Finding a free name takes the same time however often a name is repeated."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._asked: Counter[str] = Counter()

    def fresh(self, name: str) -> str:
        """Return the name, or the first free name with a number appended."""
        found = name
        while found in self._taken:
            self._asked[name] += 1
            found = f"{name}_{self._asked[name] + 1}"
        self._taken.add(found)
        return found


class _Importer:
    def __init__(self, parts: OnnxParts, folder: Path | None, budget: Budget) -> None:
        self.parts, self.model, self.proto, self.budget = parts, parts.model, parts.graph, budget
        self.tensors = TensorReader(folder, budget)
        self.constants: dict[str, np.ndarray] = {}
        self.names: dict[str, str] = {}  # from names of the file to names of the graph
        self.values, self.node_names = _Names(), _Names()
        self.problems: list[str] = []

    def run(self) -> OnnxFile:
        opset = self.opset()
        if not len(self.proto.node) or len(self.proto.node) > MAX_NODES:
            raise ModelLoadError(f"{len(self.proto.node)} nodes, expected 1 to {MAX_NODES}")
        count = len(self.proto.node)
        self.budget.keep(NODE_BYTES * count, f"its {count} nodes")
        if len(self.model.functions):
            raise ModelLoadError("has functions of its own, which are not supported: inline them (onnx.inliner)")
        if len(self.proto.sparse_initializer):
            raise ModelLoadError("has sparse initializers, which are not supported")
        self.refuse_unknown(opset)
        for tensor, raw in self.parts.tensors():
            self.constants[self.define(tensor.name, "initializer")] = self.tensors.read(tensor, "initializer", raw)
        trainable = frozenset(name for name, array in self.constants.items() if array.dtype.kind == "f")
        inputs, types = self.inputs()
        nodes = self.nodes(opset)
        outputs = [self.use(value.name, "the graph's outputs") for value in self.proto.output]
        graph = Graph(live(nodes, outputs), inputs, outputs, self.constants, types)
        self.drop_unused(graph)
        graph.validate()
        metadata = {entry.key: entry.value for entry in self.model.metadata_props}
        return OnnxFile(graph, trainable & set(graph.constants), metadata, opset, self.model.producer_name)

    def opset(self) -> int:
        from onnx.defs import onnx_opset_version

        versions = [entry.version for entry in self.model.opset_import if entry.domain in _DOMAINS]
        newest = onnx_opset_version()
        if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
            raise ModelLoadError(f"opset {versions}, expected one from {OLDEST_OPSET} to {newest}")
        return int(versions[0])

    def refuse_unknown(self, opset: int) -> None:
        """Raise one error that names all operators that are not supported."""
        known = set(supported_operators())
        unknown: dict[tuple[str, str], list[str]] = {}
        for node in self.proto.node:
            if node.domain not in _DOMAINS or node.op_type not in known:
                domain = "" if node.domain in _DOMAINS else node.domain
                unknown.setdefault((domain, node.op_type), []).append(node.name or (list(node.output) or ["?"])[0])
        if unknown:
            lines = [
                f"{(domain + '::' if domain else '') + op} (opset {opset}): nodes "
                f"{', '.join(repr(name[:60]) for name in names[:5])}{', …' if len(names) > 5 else ''}"
                for (domain, op), names in list(unknown.items())[:_MOST_TOLD]
            ]
            rest = len(unknown) - len(lines)
            lines += [f"… and {rest} more"] if rest > 0 else []
            raise ModelLoadError(
                f"{len(unknown)} operators are not supported\n  "
                + "\n  ".join(lines)
                + f"\n{len(known)} operators are supported; docs/onnx.md lists them"
            )

    # -- names ----------------------------------------------------------------------------------------

    def define(self, name: str, what: str) -> str:
        """Return a value's name in our graph, without colons and asterisks: passes of the compiler use these."""
        if not name or name in self.names:
            raise ModelLoadError(f"{what} {name[:80]!r}: {'it has no name' if not name else 'defined twice'}")
        self.names[name] = self.values.fresh(name.replace(":", ".").replace("*", "."))
        return self.names[name]

    def use(self, name: str, where: str) -> str:
        if name not in self.names:
            raise ModelLoadError(f"{where}: {name[:80]!r} is not computed before, or by a cycle")
        return self.names[name]

    def constant(self, array: np.ndarray) -> str:
        name = self.values.fresh(f"constant_{len(self.constants)}")
        self.constants[name] = array
        return name

    # -- parts ----------------------------------------------------------------------------------------

    def inputs(self) -> tuple[dict[str, tuple[int | None, ...]], dict[str, str]]:
        shapes: dict[str, tuple[int | None, ...]] = {}
        types: dict[str, str] = {}
        for value in self.proto.input:
            if value.name in self.names:
                continue  # IR versions before 4 list initializers among the inputs
            where = f"input {value.name[:80]!r}"
            kind = value.type.tensor_type
            if not value.type.HasField("tensor_type") or kind.elem_type not in DTYPES:
                raise ModelLoadError(f"{where}: expected a tensor of {', '.join(DTYPES.values())}")
            if not kind.HasField("shape") or len(kind.shape.dim) > 32:
                raise ModelLoadError(f"{where}: it has no shape, expected one of at most 32 dimensions")
            sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
            if any(size >= 2**31 for size in sizes):
                raise ModelLoadError(f"{where}: shape {sizes}, expected sizes below 2^31")
            name = self.define(value.name, "input")
            shapes[name] = tuple(size if size > 0 else None for size in sizes)
            if DTYPES[kind.elem_type] != "float32":
                types[name] = DTYPES[kind.elem_type]
        return shapes, types

    def nodes(self, opset: int) -> list[Node]:
        nodes: list[Node] = []
        for proto in self.proto.node:
            where = f"node {(proto.name or (list(proto.output) or ['?'])[0])[:80]!r} ({proto.op_type}, opset {opset})"
            try:
                nodes += self.node(proto, opset, where)
            except ModelLoadError as error:
                raise ModelLoadError(f"{where}: {error}") from None
            except (ValueError, TypeError) as error:
                raise ModelLoadError(f"{where}: {error}") from None
        return nodes

    def node(self, proto: Any, opset: int, where: str) -> Iterator[Node]:
        """Yield a node of our graph for each output of a node. A Constant becomes a constant of the graph."""
        if not any(proto.output):
            raise ModelLoadError("it has no outputs")
        attrs = dict(self.attribute(attribute) for attribute in proto.attribute)
        if len(attrs) < len(proto.attribute):
            raise ModelLoadError("it has an attribute twice")
        inputs = [self.use(name, "its inputs") if name else "" for name in proto.input]
        raw = RawNode(proto.op_type, proto.name, inputs, list(proto.output), attrs, opset, self.constant)
        if raw.op == "Constant":
            self.constants[self.define(raw.outputs[0], "output")] = _constant_value(attrs)
            return iter(())
        normalise(raw)
        while raw.inputs and not raw.inputs[-1]:
            raw.inputs.pop()
        if raw.attrs.get("output") is not None:
            raise ModelLoadError("unknown attribute 'output'")
        full = {**{k: v for k, v in TABLE[DOMAIN + raw.op].defaults.items() if v is not _EMPTY}, **raw.attrs}
        result = []
        for i, output in enumerate(raw.outputs):
            if output:
                base = raw.name.replace(":", ".") or output.replace(":", ".")
                name = self.node_names.fresh(base if i == 0 else f"{base}/{i}")
                extra = {"output": i} if i else {}
                result.append(
                    Node(DOMAIN + raw.op, name, tuple(raw.inputs), self.define(output, "output"), {**full, **extra})
                )
        return iter(result)

    def attribute(self, proto: Any) -> tuple[str, Any]:
        kind = _ATTRIBUTE_KINDS.get(proto.type)
        if kind is None or not proto.name or proto.ref_attr_name:
            raise ModelLoadError(f"attribute {proto.name[:80]!r}: expected numbers, text or a tensor")
        value = getattr(proto, kind)
        if kind.endswith("s") and kind != "s":
            self.budget.require(Cost(_ITEM_BYTES * len(value), 0), f"attribute {proto.name[:80]!r}")
        if kind == "s":
            return proto.name, value.decode("utf-8", "replace")
        if kind == "t":
            return proto.name, self.tensors.read(value, f"attribute {proto.name[:80]!r}")
        if kind == "strings":
            return proto.name, tuple(item.decode("utf-8", "replace") for item in value)
        return proto.name, value if kind in ("f", "i") else tuple(value)

    # -- what is not needed ---------------------------------------------------------------------------

    @staticmethod
    def drop_unused(graph: Graph) -> None:
        used = {name for node in graph.nodes for name in node.inputs} | set(graph.outputs)
        graph.constants = {name: array for name, array in graph.constants.items() if name in used}


_EMPTY = inspect.Parameter.empty


def _constant_value(attrs: dict[str, Any]) -> np.ndarray:
    kinds = {
        "value": None,
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    if len(attrs) != 1 or not set(attrs) <= set(kinds):
        raise ModelLoadError(f"attributes {', '.join(attrs) or 'none'}, expected one of {', '.join(kinds)}")
    ((key, value),) = attrs.items()
    return np.asarray(value, kinds[key])
