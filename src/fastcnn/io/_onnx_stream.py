"""ONNX files as a stream. The `onnx` package makes a model without weights, and this module inserts their numbers.

The weights are therefore never copied. Protobuf, which crashes where there is no memory for a copy, never sees them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from fastcnn.io._numbers import in_order
from fastcnn.io._wire import read_field, record_header
from fastcnn.ops.general.elementwise import DTYPES

__all__ = ["ELEMENT_TYPES", "FILE_LIMIT", "check_model", "stream_model"]

# Protobuf's limit to the bytes of a file.
FILE_LIMIT = 2**31 - 1
ELEMENT_TYPES = {name: number for number, name in DTYPES.items()}
# Field numbers in ModelProto, GraphProto and TensorProto (onnx.proto).
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9


def check_model(model: Any, constants: Mapping[str, np.ndarray]) -> None:
    """Let the package check a model that lacks the initializers `constants`. Empty ones replace them.

    Parameters
    ----------
    model : onnx.ModelProto
    constants : dict of str to ndarray

    Raises
    ------
    onnx.checker.ValidationError
    """
    from onnx import checker

    initializers = model.graph.initializer
    count = len(initializers)
    for name, array in constants.items():
        initializers.add(name=name, data_type=ELEMENT_TYPES[array.dtype.name], dims=[0])
    checker.check_model(model)
    del initializers[count:]


def stream_model(model: Any, constants: Mapping[str, np.ndarray]) -> Iterator[bytes | memoryview]:
    """Return the content of a file, in parts: a model, and the initializers that it lacks.

    Parameters
    ----------
    model : onnx.ModelProto
        It has lost its graph when this returns.
    constants : dict of str to ndarray
        The initializers, of types that ONNX has. They may be arrays that lie in a file.

    Yields
    ------
    bytes-like
        A part, which is valid until the next one is taken.

    Raises
    ------
    ValueError
        If the file would exceed 2 GB. It is raised before the first part.

    Examples
    --------
    >>> from onnx import ModelProto, numpy_helper
    >>> content = b"".join(map(bytes, stream_model(ModelProto(), {"w": np.arange(2)})))
    >>> numpy_helper.to_array(ModelProto.FromString(content).graph.initializer[0])
    array([0, 1])
    """
    before, behind = _cut(model.graph.SerializeToString(), _INITIALIZER)
    model.ClearField("graph")
    first, last = _cut(model.SerializeToString(), _GRAPH)
    tensors = [(_tensor_start(name, array), array) for name, array in constants.items()]
    size = len(before) + len(behind) + sum(len(start) + _nbytes(array) for start, array in tensors)
    start = first + record_header(_GRAPH, size) + before
    total = len(start) + size - len(before) + len(last)
    if total > FILE_LIMIT:
        raise ValueError(f"export_onnx: the file would have {total} bytes, ONNX files at most 2^31")

    def parts() -> Iterator[bytes | memoryview]:
        yield start
        for header, array in tensors:
            yield header
            yield from in_order(array)
        yield behind + last

    return parts()


def _tensor_start(name: str, array: np.ndarray) -> bytes:
    """Return an initializer up to its numbers."""
    from onnx import TensorProto

    tensor = TensorProto(name=name, data_type=ELEMENT_TYPES[array.dtype.name], dims=array.shape)
    content: bytes = tensor.SerializeToString() + record_header(_RAW_DATA, _nbytes(array))
    return record_header(_INITIALIZER, len(content) + _nbytes(array)) + content


def _nbytes(array: np.ndarray) -> int:
    return prod(array.shape) * array.dtype.itemsize


def _cut(content: bytes, number: int) -> tuple[bytes, bytes]:
    """Cut a message in two: its fields with numbers below `number`, and the others. Fields are sorted by number."""
    position = 0
    while position < len(content):
        tag, _, end = read_field(content, position)
        if tag >> 3 >= number:
            break
        position = end
    return content[:position], content[position:]
