"""The messages of an ONNX file. Their memory is checked before protobuf makes them. The numbers of initializers stay in
the bytes of the file.

onnx_import.py interprets the messages, _wire.py finds their fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from fastcnn.errors import ModelLoadError
from fastcnn.io._memory import ask_memory
from fastcnn.io._onnx_package import import_onnx
from fastcnn.io._wire import BYTES, FIXED32, FIXED64, VARINT, WireError, read_field, tag_of
from fastcnn.ops.budget import Budget, Cost

__all__ = ["OnnxParts"]

# The most bytes that objects of protobuf and Python take. A message takes bytes of its own, and some for each field of
# its type. A text and a number of a list take these beside their bytes in the file. The last is an unknown field's.
_MESSAGE_BYTES, _SLOT_BYTES, _TEXT_BYTES, _NUMBER_BYTES, _UNKNOWN_BYTES = 128, 24, 96, 24, 192
# Elementary operations that take as long as the search for a field.
_FIELD_WORK = 1000
# Protobuf refuses messages that are nested deeper.
_DEPTH = 100
_COUNTED = 1 << 20  # bytes in which numbers are counted at a time
# Tags of fields in ModelProto, GraphProto and TensorProto (onnx.proto).
_GRAPH, _INITIALIZER, _RAW_DATA = (tag_of(number, BYTES) for number in (7, 5, 9))
Span = tuple[int, int]


class _Kind(NamedTuple):
    """Memory of a field, memory of each number in a list of them, and for a message the kinds of its fields by tag."""

    cost: int
    each: int = 0
    fields: dict[int, Any] | None = None


class OnnxParts:
    """The messages of a file, made once their memory is known and available.

    Parameters
    ----------
    content : bytes
    budget : Budget

    Attributes
    ----------
    model : onnx.ModelProto
        Without its graph.
    graph : onnx.GraphProto
        Without its initializers.

    Raises
    ------
    ModelLoadError
        If the file is not ONNX, is damaged, or needs more than the budget.
    ImportError
        If the `onnx` package is not installed.
    MemoryError
        If there is too little memory.
    """

    def __init__(self, content: bytes, budget: Budget) -> None:
        proto = import_onnx("reading ONNX files")
        needed = _message_bytes(content, budget)
        self._content = content
        model, graphs = _apart(content, [(0, len(content))], _GRAPH)
        graph, self._tensors = _apart(content, graphs, _INITIALIZER)
        ask_memory(needed + 2 * (len(model) + len(graph)))
        self.model = _parse(proto.ModelProto(), model)
        self.graph = _parse(proto.GraphProto(), graph)
        self._make_tensor = proto.TensorProto

    def tensors(self) -> Iterator[tuple[Any, memoryview | None]]:
        """Yield each initializer without its raw data, and its raw data as bytes of the file, or None."""
        for span in self._tensors:
            content, data = _apart(self._content, [span], _RAW_DATA)
            raw = memoryview(self._content)[slice(*data[-1])] if data else None
            yield _parse(self._make_tensor(), content), raw


def _parse(message: Any, content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        message.ParseFromString(content)
    except (DecodeError, RuntimeError, UnicodeDecodeError) as error:
        if "alloc failed" in str(error):
            raise MemoryError(f"{len(content)} bytes of messages") from None
        raise _damaged(error) from None
    return message


def _damaged(error: object) -> ModelLoadError:
    return ModelLoadError(f"not an ONNX file, or a damaged one: {error}")


def _apart(content: bytes, spans: list[Span], wanted: int) -> tuple[bytes, list[Span]]:
    """Return a message without the fields of one tag, and the spans of their values.

    The message lies in `spans` of the file, which the format merges.
    """
    rest, found = [], []
    for begin, end in spans:
        position = kept = begin
        while position < end:
            tag, start, after = read_field(content, position)
            if tag == wanted:
                rest.append(content[kept:position])
                found.append((start, after))
                kept = after
            position = after
        rest.append(content[kept:end])
    return b"".join(rest), found


def _message_bytes(content: bytes, budget: Budget) -> int:
    """Check the memory of all messages against the budget, and return it, without the bytes of the file."""
    most, most_fields = budget.bytes, budget.work // _FIELD_WORK
    outer: list[tuple[int, dict[int, _Kind]]] = []
    fields: dict[int, _Kind] = _kinds()
    kind: _Kind
    position, end = 0, len(content)
    needed = count = 0
    try:
        while position < end or outer:
            if position == end:
                end, fields = outer.pop()
                continue
            tag = content[position]
            if tag < 0x80 and tag & 7 == BYTES and content[position + 1] < 0x80:  # a short path for nearly all fields
                start = position + 2
                after = start + content[position + 1]
            else:
                tag, start, after = read_field(content, position)
            if after > end:
                raise WireError(f"a field at byte {position} ends beyond its message")
            kind = fields.get(tag, _UNKNOWN)
            cost, each, inner = kind
            count += 1
            needed += cost
            position = after
            if needed > most or count > most_fields:
                break
            if start == after:
                continue
            if inner is not None and len(outer) < _DEPTH:
                outer.append((end, fields))
                position, end, fields = start, after, inner
            elif each:
                needed += each * _count_numbers(content, start, after)
    except (WireError, IndexError) as error:
        raise _damaged(error) from None
    try:
        budget.require(Cost(needed, count * _FIELD_WORK), f"its first {count} messages, texts and numbers")
    except ValueError as error:
        raise ModelLoadError(str(error)) from None
    return needed


def _count_numbers(content: bytes, start: int, end: int) -> int:
    """Count numbers of variable length: only the last byte of each is below 128."""
    return sum(
        int(np.count_nonzero(np.frombuffer(content, np.int8, min(_COUNTED, end - at), at) >= 0))
        for at in range(start, end, _COUNTED)
    )


_UNKNOWN = _Kind(_UNKNOWN_BYTES)


@cache
def _kinds() -> dict[int, _Kind]:
    """Return the fields of ModelProto by tag. They contain those of all other messages."""
    known: dict[str, dict[int, _Kind]] = {}

    def describe(descriptor: Any) -> dict[int, _Kind]:
        name = descriptor.full_name
        if name not in known:
            known[name] = {}
            for field in descriptor.fields:
                known[name].update(_kinds_of(field, describe))
        return known[name]

    proto: Any = import_onnx("reading ONNX files").ModelProto
    return describe(proto.DESCRIPTOR)


def _kinds_of(field: Any, describe: Any) -> Iterator[tuple[int, _Kind]]:
    """Yield the tags that a field may have. Numbers may be fields of their own, or one field holds a list of them."""
    packed = tag_of(field.number, BYTES)
    if field.type == field.TYPE_MESSAGE:
        slots = len(field.message_type.fields)
        yield packed, _Kind(_MESSAGE_BYTES + _SLOT_BYTES * slots, 0, describe(field.message_type))
    elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
        yield packed, _Kind(_TEXT_BYTES)
    elif field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        wire_type = FIXED32 if field.type == field.TYPE_FLOAT else FIXED64
        yield tag_of(field.number, wire_type), _Kind(_NUMBER_BYTES)
        yield packed, _Kind(_TEXT_BYTES)
    else:
        yield tag_of(field.number, VARINT), _Kind(_NUMBER_BYTES)
        yield packed, _Kind(_TEXT_BYTES, _NUMBER_BYTES)
