"""Protobuf's wire format, in which ONNX files are: where the fields of a message lie, and what stands before one.

The format is specified at https://protobuf.dev/programming-guides/encoding. Which fields a message has is left to
onnx_export.py and _onnx_parts.py.
"""

from __future__ import annotations

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "WireError", "read_field", "record_header", "tag_of"]

# Wire types: how the end of a field is found. Groups (3 and 4) are of old, and in no version of ONNX.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10


class WireError(ValueError):
    """Bytes that are no protobuf message."""


def tag_of(number: int, wire_type: int) -> int:
    """The number that opens a field.

    Examples
    --------
    >>> tag_of(1, BYTES)
    10
    """
    return number << 3 | wire_type


def record_header(number: int, size: int) -> bytes:
    """What stands before `size` bytes of a message, of text or of data, that are a field of this number.

    Examples
    --------
    >>> record_header(9, 300)
    b'J\\xac\\x02'
    """
    return _varint(tag_of(number, BYTES)) + _varint(size)


def _varint(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def read_field(content: bytes, position: int) -> tuple[int, int, int]:
    """Find a field's parts.

    Parameters
    ----------
    content : bytes
    position : int
        Where the field begins.

    Returns
    -------
    tag, start, end : int
        `tag_of` it, and where its value lies. The end may be beyond that of the message.

    Raises
    ------
    WireError
        If there is none that ONNX can have.
    IndexError
        If the content ends within.

    Examples
    --------
    >>> read_field(b"\\x0a\\x03abc", 0)
    (10, 2, 5)
    """
    tag = content[position]
    position += 1
    if tag > 0x7F:
        tag, position = _read_varint(content, position - 1)
    wire_type = tag & 7
    if wire_type == BYTES:
        size = content[position]
        position += 1
        if size > 0x7F:
            size, position = _read_varint(content, position - 1)
        return tag, position, position + size
    if wire_type == VARINT:
        end = position + 1
        if content[position] > 0x7F:
            _, end = _read_varint(content, position)
        return tag, position, end
    if wire_type in (FIXED32, FIXED64):
        return tag, position, position + (4 if wire_type == FIXED32 else 8)
    raise WireError(f"wire type {wire_type} at byte {position}, which ONNX does not use")


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for i in range(_VARINT_BYTES):
        byte = content[position + i]
        value |= (byte & 0x7F) << 7 * i
        if byte <= 0x7F:
            return value, position + i + 1
    raise WireError(f"a number of more than {_VARINT_BYTES} bytes at byte {position}")
