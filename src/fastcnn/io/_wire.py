"""Protobuf's wire format, which ONNX files have: finds the fields of a message, and makes the bytes before one.

The format is specified at https://protobuf.dev/programming-guides/encoding. _onnx_stream.py and _onnx_parts.py know
which fields a message has.
"""

from __future__ import annotations

__all__ = ["BYTES", "FIXED32", "FIXED64", "VARINT", "WireError", "read_field", "record_header", "tag_of"]

# Wire types, which say how to find the end of a field. Groups (3 and 4) are obsolete, and no version of ONNX has them.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10


class WireError(ValueError):
    """Bytes that are no protobuf message."""


def tag_of(number: int, wire_type: int) -> int:
    """Return the tag with which a field begins.

    Examples
    --------
    >>> tag_of(1, BYTES)
    10
    """
    return number << 3 | wire_type


def record_header(number: int, size: int) -> bytes:
    """Return the bytes before a field that holds `size` bytes of a message, of text or of data.

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
    """Find the parts of a field.

    Parameters
    ----------
    content : bytes
    position : int
        Where the field begins.

    Returns
    -------
    tag, start, end : int
        The tag, and where the value begins and ends. The end may lie beyond the end of the message.

    Raises
    ------
    WireError
        If ONNX has no field of this wire type, or the tag or size is too long.
    IndexError
        If the content ends within the field.

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
    """Return a number of variable length, and where it ends."""
    value = 0
    for i in range(_VARINT_BYTES):
        byte = content[position + i]
        value |= (byte & 0x7F) << 7 * i
        if byte <= 0x7F:
            return value, position + i + 1
    raise WireError(f"a number of more than {_VARINT_BYTES} bytes at byte {position}")
