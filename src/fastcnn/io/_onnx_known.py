"""Names of the ONNX operators that can be imported; files with others are refused by all of their names at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_contrib import EXPANSIONS
from fastcnn.ops.general import DOMAIN, TABLE

__all__ = [
    "DEFINED",
    "MAX_NODES",
    "OLDEST_OPSET",
    "STANDARD",
    "Functions",
    "count_nodes",
    "key_of",
    "opset_of",
    "refuse_unknown",
    "supported_operators",
]

OLDEST_OPSET = 6
MAX_NODES = 100_000
# Bodies within bodies and functions that call functions.
MAX_DEPTH = 40
STANDARD = ("", "ai.onnx")
CONTROL = ("If", "Loop", "Scan")
# Operators that ONNX itself defines by others.
DEFINED = ("AffineGrid", "Attention", "CenterCropPad", "RotaryEmbedding", "SwiGLU")
# The file's functions, by domain, name and overload.
Key = tuple[str, str, str]
Functions = Mapping[Key, Any]
_TRANSLATED = ("Constant", "Upsample", *CONTROL)  # operators that the import replaces
_MOST_TOLD = 15


def supported_operators() -> tuple[str, ...]:
    """Return the names of the ONNX operators that can be imported.

    Examples
    --------
    >>> "Conv" in supported_operators(), "com.microsoft::FusedConv" in supported_operators()
    (True, True)
    """
    from onnx import defs

    expanded = {name for name in DEFINED if defs.has(name)}
    expanded |= {f"{domain}::{op}" if domain else op for domain, op in EXPANSIONS}
    return tuple(sorted({name.removeprefix(DOMAIN) for name in TABLE} | set(_TRANSLATED) | expanded))


def opset_of(imports: Iterable[Any], default: int | None = None) -> int:
    """The version of the standard operators that a file or a function names."""
    from onnx.defs import onnx_opset_version

    versions = [entry.version for entry in imports if entry.domain in STANDARD]
    if not versions and default is not None:
        return default
    newest = onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise ModelLoadError(f"opset {versions}, expected one from {OLDEST_OPSET} to {newest}")
    return int(versions[0])


def refuse_unknown(nodes: Iterable[Any], opset: int, functions: Functions) -> None:
    """Raise one error that names all operators that are not supported.

    Bodies of loops and functions that are called count; of the branches of an If one is never needed.
    """
    known = set(supported_operators())
    unknown: dict[tuple[str, str], list[str]] = {}
    for node in _all_nodes(nodes, functions):
        domain = "" if node.domain in STANDARD else node.domain
        if (f"{domain}::{node.op_type}" if domain else node.op_type) not in known:
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


def key_of(node: Any) -> Key:
    """The domain, name and overload of a node's operator, or of a function."""
    return node.domain, node.op_type, node.overload


def count_nodes(nodes: Iterable[Any], functions: Functions) -> int:
    """Nodes of a graph once functions are inlined, each body counted once.

    Raises
    ------
    ModelLoadError
        For a function that calls itself, and for too many nodes or bodies and functions within each other.
    """
    return _count(nodes, functions, {}, 0)


def _count(nodes: Iterable[Any], functions: Functions, known: dict[Key, int | None], depth: int) -> int:
    if depth > MAX_DEPTH:
        raise ModelLoadError(f"more than {MAX_DEPTH} bodies and functions within each other")
    total = 0
    for node in nodes:
        key = key_of(node)
        total += 1
        if key in functions:
            if key not in known:
                known[key] = None  # while it is counted
                known[key] = _count(functions[key].node, functions, known, depth + 1)
            inner = known[key]
            if inner is None:
                raise ModelLoadError(f"function {node.op_type[:80]!r} calls itself")
            total += inner
        for attribute in node.attribute:
            if attribute.HasField("g"):
                total += _count(attribute.g.node, functions, known, depth + 1)
    if total > MAX_NODES:
        raise ModelLoadError(f"more than {MAX_NODES} nodes, with functions inlined")
    return total


def _all_nodes(nodes: Iterable[Any], functions: Functions) -> Iterator[Any]:
    """Yield nodes that are no calls of functions."""
    waiting, called = [nodes], set()
    while waiting:
        for node in waiting.pop():
            key = key_of(node)
            if key in functions:
                if key not in called:
                    called.add(key)
                    waiting.append(functions[key].node)
                continue
            yield node
            if node.op_type in ("Loop", "Scan"):
                waiting += [attribute.g.node for attribute in node.attribute if attribute.HasField("g")]
