"""Converts the tensors of ONNX files to arrays. Every size is checked first. External data are read only from files
below the folder of the model.

onnx_import.py interprets the tensors.
"""

from __future__ import annotations

import os
import stat
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from fastcnn._system import BINARY, NO_LINK, NO_WAIT
from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_dialect import BFLOAT16
from fastcnn.ops.budget import Budget
from fastcnn.ops.general.elementwise import DTYPES

MAX_RANK = 32
_PART = 1 << 16  # values that are converted at a time
# The fields that hold values outside raw_data, by element type (onnx.proto). Other types use int32_data.
_FIELDS = {
    "float32": "float_data",
    "float64": "double_data",
    "int64": "int64_data",
    "uint64": "uint64_data",
    "uint32": "uint64_data",
}


class TensorReader:
    """Reads the tensors of one file.

    Parameters
    ----------
    folder : Path or None
        Folder of the model; None refuses external data.
    budget : Budget
        Limit to all arrays.
    """

    def __init__(self, folder: Path | None, budget: Budget) -> None:
        self._folder, self._budget = folder, budget

    def read(self, tensor: Any, where: str, raw: memoryview | None = None) -> np.ndarray:
        """Convert a TensorProto to an array.

        Parameters
        ----------
        tensor : onnx.TensorProto
        where : str
            What the tensor is, for messages.
        raw : memoryview, optional
            Its raw data, where the message does not hold them.

        Raises
        ------
        ModelLoadError, ValueError
            If sizes are negative or exceed the budget, NumPy lacks the type, or data have another length. If the path
            of external data is refused. The message names the tensor.
        """
        where = f"{where} {tensor.name[:80]!r}"
        narrow = tensor.data_type == BFLOAT16
        if tensor.data_type not in DTYPES and not narrow:
            known = ", ".join((*DTYPES.values(), "bfloat16"))
            raise ModelLoadError(f"{where}: element type {tensor.data_type}, expected one of {known}")
        dtype = np.dtype(DTYPES.get(tensor.data_type, "uint16"))
        shape = tuple(tensor.dims)
        if len(shape) > MAX_RANK or any(size < 0 for size in shape):
            raise ModelLoadError(f"{where}: dimensions {shape[:8]}, expected at most {MAX_RANK}, none of them negative")
        count = prod(shape)
        if count >= 2**62:
            raise ModelLoadError(f"{where}: dimensions {shape[:8]} are more elements than there are addresses")
        self._budget.keep(count * (4 if narrow else dtype.itemsize), where)
        if tensor.HasField("segment"):
            raise ModelLoadError(f"{where}: in segments, which no tool writes")
        array = self._numbers(tensor, dtype, count, where, raw).reshape(shape)
        return _widened(array) if narrow else array

    def _numbers(self, tensor: Any, dtype: np.dtype, count: int, where: str, raw: memoryview | None) -> np.ndarray:
        data: bytes | memoryview
        if tensor.data_location == 1:
            data = self._external(tensor, where, count * dtype.itemsize)
        elif raw is not None:
            data = raw
        elif tensor.HasField("raw_data"):
            data = tensor.raw_data
        else:
            return _from_field(tensor, dtype, count, where)
        if len(data) != count * dtype.itemsize:
            wanted = f"{count * dtype.itemsize} for {tuple(tensor.dims)}"
            raise ModelLoadError(f"{where}: {len(data)} bytes of data, expected {wanted}")
        array = np.frombuffer(data, dtype.newbyteorder("<"))
        return array != 0 if dtype.kind == "b" else array.astype(dtype)

    def _external(self, tensor: Any, where: str, size: int) -> bytes:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = self._external_path(entries.get("location", ""), where)
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", str(size)))
        except ValueError:
            raise ModelLoadError(f"{where}: offset and length of external data, expected integers") from None
        if offset < 0 or length != size:
            raise ModelLoadError(f"{where}: offset={offset}, length={length} of external data, expected {size} bytes")
        try:
            descriptor = os.open(path, os.O_RDONLY | BINARY | NO_LINK | NO_WAIT)
        except OSError as error:
            raise ModelLoadError(f"{where}: external data: {error.strerror}: {path.name!r}") from error
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(descriptor)
            raise ModelLoadError(f"{where}: external data in {path.name!r}, expected a regular file with one name")
        with os.fdopen(descriptor, "rb") as file:
            if offset + length > status.st_size:
                raise ModelLoadError(f"{where}: external data ends at {offset + length}, its file at {status.st_size}")
            file.seek(offset)
            return file.read(length)

    def _external_path(self, location: str, where: str) -> Path:
        if self._folder is None:
            raise ModelLoadError(f"{where}: external data, but the model was not read from a file")
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        parts = posix.parts
        bad = posix.is_absolute() or windows.drive or windows.root or ".." in parts or ".." in windows.parts
        if not parts or bad or "\0" in location or "\\" in location:
            raise ModelLoadError(
                f"{where}: external data at {location[:80]!r}, expected a path below the model's folder"
            )
        path = self._folder
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise ModelLoadError(f"{where}: external data at {location[:80]!r} goes through a symbolic link")
        return path


def _widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16, given by its bits, as float32: the other bits of that are zeros."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _from_field(tensor: Any, dtype: np.dtype, count: int, where: str) -> np.ndarray:
    values = getattr(tensor, _FIELDS.get(dtype.name, "int32_data"))
    if len(values) != count:
        raise ModelLoadError(f"{where}: {len(values)} values, expected {count} for {tuple(tensor.dims)}")
    array, left = np.empty(count, dtype), iter(values)
    for start in range(0, count, _PART):
        part = array[start : start + _PART]
        _convert(np.fromiter(left, _wide(dtype), part.size), part, where)
    return array


def _wide(dtype: np.dtype) -> str:
    """Return a type that holds every value of the field for values of `dtype`."""
    if dtype in (np.float32, np.float64):
        return "float64"
    return "uint64" if dtype.name in ("uint32", "uint64") else "int64"


def _convert(values: np.ndarray, out: np.ndarray, where: str) -> None:
    if out.dtype == np.float16:  # the field holds its bits
        out.view(np.uint16)[:] = values & 0xFFFF
        return
    out[:] = values
    if out.dtype.kind in "iu" and (out != values).any():
        raise ModelLoadError(f"{where}: values from {values.min()} to {values.max()}, expected those of {out.dtype}")
