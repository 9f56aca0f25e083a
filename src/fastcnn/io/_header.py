"""The header of a safetensors file: which arrays it has, of which types and shapes, and where they lie.

The format is specified at https://github.com/huggingface/safetensors#format. A header is checked completely before any
array is made. weights.py reads the numbers themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from fastcnn.errors import ModelLoadError
from fastcnn.io._numbers import NUMBER_TYPES, NumberType

__all__ = ["LENGTH_BYTES", "MAX_HEADER_BYTES", "METADATA", "Entry", "make_header", "parse_header"]

# A file starts with the length of its header in bytes, as a 64-bit number. Then comes JSON.
LENGTH_BYTES = 8
# Enough for some 100 000 tensors, which become a few hundred megabytes of Python objects.
MAX_HEADER_BYTES = 16 << 20
METADATA = "__metadata__"
# The format's names of types, in the order in which arrays are written. Larger numbers come first, so that all are
# aligned.
_NUMBER_TYPES = {
    "U64": "uint64", "I64": "int64", "F64": "float64", "F32": "float32", "U32": "uint32", "I32": "int32",
    "BF16": "bfloat16", "F16": "float16", "U16": "uint16", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
_NAMES = {number_type: name for name, number_type in _NUMBER_TYPES.items()}
_ORDER = {number_type: i for i, number_type in enumerate(_NUMBER_TYPES.values())}
_MAX_DIMENSIONS = 64  # NumPy's


class Entry(NamedTuple):
    """One array of a file: its type and shape, and its first byte after the header."""

    kind: NumberType
    shape: tuple[int, ...]
    start: int


def make_header(
    arrays: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]
) -> tuple[bytes, list[str]]:
    """Make the beginning of a file for arrays, given by the names of their types and their shapes.

    Returns
    -------
    bytes, list of str
        The beginning, and the names of the arrays in the order in which their numbers follow.

    Raises
    ------
    TypeError
        If the format has no name for a type.
    ValueError
        If the header is larger than a reader accepts, or a name is not Unicode.

    Examples
    --------
    >>> header, order = make_header({"a": ("float16", (3,)), "b": ("float64", ())}, {})
    >>> order, len(header) % 8, int.from_bytes(header[:8], "little") + 8 == len(header)
    (['b', 'a'], 0, True)
    """
    for name, (dtype, _) in arrays.items():
        if dtype not in _ORDER:
            raise TypeError(
                f"tensors[{name!r}].dtype={dtype}, expected float64, float32, float16, bool or an integer type"
            )
    order = sorted(arrays, key=lambda name: (_ORDER[arrays[name][0]], name))
    header: dict[str, Any] = {METADATA: dict(metadata)}
    end = 0
    for name in order:
        dtype, shape = arrays[name]
        start, end = end, end + NUMBER_TYPES[dtype].item_size * prod(shape)
        header[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": (start, end)}
    try:
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:  # of a lone surrogate
        raise ValueError(f"names and metadata: {error}") from None
    text += b" " * (-len(text) % LENGTH_BYTES)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"header has {len(text)} bytes, expected at most {MAX_HEADER_BYTES}")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, order


def parse_header(text: bytes, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """Parse the header of a file, which `size` bytes of numbers follow.

    Returns
    -------
    dict of str to Entry, dict of str to str
        The arrays by name, and the metadata.

    Raises
    ------
    ModelLoadError
        If the header is damaged, the arrays do not fill these bytes exactly, or NumPy lacks one of their types.

    Examples
    --------
    >>> text = b'{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"__metadata__":{"by":"me"}}'
    >>> entries, metadata = parse_header(text, 4)
    >>> entries["a"].shape, metadata
    ((2,), {'by': 'me'})
    """
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"header: {error}") from error
    if not isinstance(header, dict) or not text.startswith(b"{"):
        raise ModelLoadError("header: expected a JSON object")
    metadata = header.pop(METADATA, None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelLoadError(f"header: {METADATA}, expected an object of strings")
    entries = {name: _entry(name, value) for name, value in header.items()}
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, _end(item[1]))):
        if entry.start != end:
            raise ModelLoadError(
                f"header: tensor {name[:80]!r} starts at {entry.start}, expected {end}, where the one before ends"
            )
        end = _end(entry)
    if end != size:
        raise ModelLoadError(f"header: tensors of {end} bytes, but {size} follow")
    return entries, metadata


def _entry(name: str, value: Any) -> Entry:
    where = f"header: tensor {name[:80]!r}"
    if not isinstance(value, dict) or not value.keys() >= {"dtype", "shape", "data_offsets"}:
        raise ModelLoadError(f"{where}, expected an object with dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _NUMBER_TYPES:
        raise ModelLoadError(f"{where} is of type {str(dtype)[:80]}, expected {', '.join(_NUMBER_TYPES)}")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ModelLoadError(f"{where}: shape, expected at most {_MAX_DIMENSIONS} sizes from 0 to 2**63 - 1")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ModelLoadError(f"{where}: data_offsets, expected a beginning and an end")
    entry = Entry(NUMBER_TYPES[_NUMBER_TYPES[dtype]], tuple(shape), offsets[0])
    if _end(entry) != offsets[1]:
        raise ModelLoadError(f"{where}: data_offsets={offsets}, but {dtype} of shape {shape} ends at {_end(entry)}")
    return entry


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _end(entry: Entry) -> int:
    return entry.start + entry.kind.item_size * prod(entry.shape)


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ModelLoadError("a name twice")
    return result
