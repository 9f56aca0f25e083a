"""Weights in files: reads and writes safetensors, and reads whatever kind of weights a file holds.

Writing is safe against being killed: until the new file is complete and on the disk, the old one stays.
PyTorch checkpoints are torch_checkpoint.py's; which layer an array belongs to is the model's business.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import safetensors
from numpy.typing import ArrayLike
from safetensors.numpy import save

from fastcnn.errors import ModelLoadError
from fastcnn.graph.stored import StoredArray
from fastcnn.io._numbers import NUMBER_TYPES, NumberType
from fastcnn.io._replace import replace_file

__all__ = ["read_safetensors", "read_weights", "write_safetensors"]

# The format's names.
_NUMBER_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
# A file starts with the length of its header in bytes, as a 64-bit number; then comes JSON.
_LENGTH_BYTES = 8
_METADATA = "__metadata__"
# Some 100 000 tensors, and a few hundred megabytes of Python objects.
_MAX_HEADER_BYTES = 16 << 20
# Times as many bytes JSON takes once it is read; and what is allowed however few `max_bytes` are.
_HEADER_GROWTH, _LEAST_HEADER_BYTES = 32, 1 << 16
# Arrays of so many bytes have memory of their own, which goes back to the system with them, and can stay in the file.
_LARGE = 1 << 17


def read_weights(path: str | os.PathLike[str], *, max_bytes: int = 4 << 30) -> dict[str, np.ndarray]:
    """Read all arrays of a safetensors file or of a PyTorch checkpoint, whichever it is by its content.

    Parameters
    ----------
    path : str or path-like
        The file.
    max_bytes : int
        The most that the arrays may take together.

    Returns
    -------
    dict of str to ndarray
        C-contiguous and writeable, of the dtypes in the file (float32 for bfloat16).

    Raises
    ------
    ModelLoadError
        If the file is of another kind, damaged, hostile or needs more than `max_bytes`.
    OSError
        If the file cannot be read, as FileNotFoundError.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/net.safetensors", {"bias": np.ones(3, np.float32)})
    ...     read_weights(folder + "/net.safetensors")
    {'bias': array([1., 1., 1.], dtype=float32)}
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(_LENGTH_BYTES + 1)
    # This first: the length of a header may look like the start of a pickle, but none has a brace here.
    if start[_LENGTH_BYTES:] == b"{":
        return read_safetensors(path, max_bytes=max_bytes)[0]
    from fastcnn.io.torch_checkpoint import is_torch_checkpoint, load_torch_checkpoint

    if is_torch_checkpoint(start):
        return load_torch_checkpoint(path, max_bytes=max_bytes)
    raise ModelLoadError(
        f"{path}: format of weights not recognised, expected a safetensors file or a PyTorch checkpoint"
    )


def read_safetensors(
    path: str | os.PathLike[str], *, max_bytes: int = 4 << 30, stored: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Parameters
    ----------
    path : str or path-like
        The file.
    max_bytes : int
        The most that the file and the arrays may take, each.
    stored : bool
        Whether large arrays of float32 stay in the file, as `fastcnn.graph.stored.StoredArray`. The file is kept open
        for them; should it be changed by then, reading them raises ModelLoadError.

    Returns
    -------
    tensors : dict of str to ndarray
        In the order of their names. C-contiguous and writeable, of the dtypes in the file (float32 for
        bfloat16).
    metadata : dict of str to str
        Empty if the file has none.

    Raises
    ------
    ModelLoadError
        If the file is damaged, needs more than `max_bytes`, or holds numbers that are not real or of
        less than 8 bits. The message names the file and the cause.
    OSError
        If the file cannot be read, as FileNotFoundError.

    Notes
    -----
    The format is specified at https://github.com/huggingface/safetensors#format.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/net", {"scale": np.arange(2)}, {"classes": "cat,dog"})
    ...     read_safetensors(folder + "/net")
    ({'scale': array([0, 1])}, {'classes': 'cat,dog'})
    """
    file = _File(Path(path))
    if file.size > max_bytes:
        raise ModelLoadError(f"{path}: file has {file.size} bytes, more than max_bytes={max_bytes}")
    length = int.from_bytes(file.read(0, min(file.size, _LENGTH_BYTES)).tobytes(), "little")
    most = min(_MAX_HEADER_BYTES, max(_LEAST_HEADER_BYTES, max_bytes // _HEADER_GROWTH))
    if length > most:
        raise ModelLoadError(f"{path}: header has {length} bytes, expected at most {most} (max_bytes={max_bytes})")
    try:
        with safetensors.safe_open(path, "numpy"):
            pass  # it checks the header; what is in it is taken from `file`, should the path be another's by now
        data = _LENGTH_BYTES + length
        entries = json.loads(file.read(_LENGTH_BYTES, length).tobytes(), object_pairs_hook=_unique)
        metadata = entries.pop(_METADATA, None) or {}
        types = {name: _number_type(name, entry["dtype"]) for name, entry in entries.items()}
        total = sum(prod(entry["shape"]) * types[name].result.itemsize for name, entry in entries.items())
        if total > max_bytes:
            raise ModelLoadError(f"its arrays take {total} bytes, more than max_bytes={max_bytes}")
        tensors = {}
        for name in sorted(entries):
            source = _Source(file, data + entries[name]["data_offsets"][0], entries[name]["shape"], types[name])
            later = StoredArray(source.shape, source.read_later)
            stays = stored and source.kind.result == later.dtype and later.nbytes >= _LARGE
            tensors[name] = cast(np.ndarray, later) if stays else source.read()  # layers and compiler take either
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    return tensors, metadata


class _File:
    """A file that is read by places, from any thread, and open as long as anybody holds this."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._descriptor = os.dup(file.fileno())
        self.size, self._changed = self._state()

    def _state(self) -> tuple[int, int]:
        state = os.fstat(self._descriptor)
        return state.st_size, state.st_mtime_ns

    def read(self, offset: int, size: int) -> np.ndarray:
        """Bytes, in memory that nobody else has."""
        if not 0 <= offset <= offset + size <= self.size:
            raise ModelLoadError(f"bytes {offset} to {offset + size} of a file of {self.size}")
        content = _allocate(size)
        done = 0
        while done < size:
            count = os.preadv(self._descriptor, [content[done:].data], offset + done)
            if count == 0:
                break
            done += count
        if self._state() != (self.size, self._changed):
            raise ModelLoadError("the file has changed since it was opened")
        return content

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


class _Source:
    """Where an array lies in a file."""

    def __init__(self, file: _File, offset: int, shape: Sequence[int], kind: NumberType) -> None:
        self.file, self.offset, self.shape, self.kind = file, offset, tuple(shape), kind

    def read(self) -> np.ndarray:
        content = self.file.read(self.offset, prod(self.shape) * self.kind.item_size)
        bits = content.view("<" + self.kind.code).reshape(self.shape)
        return bits if bits.dtype == self.kind.result else self.kind.to_native(bits)

    def read_later(self) -> np.ndarray:
        """`read`, when nobody else can name the file."""
        try:
            return self.read()
        except ModelLoadError as error:
            raise ModelLoadError(f"{self.file.path}: {error}") from error


def _allocate(size: int) -> np.ndarray:
    """Bytes of any content. NumPy's memory might stay with the process once it is freed, which doubles that of a
    network whose weights are read one by one and packed."""
    if size < _LARGE:
        return np.empty(size, np.uint8)
    try:
        return np.frombuffer(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    except OSError as error:  # what mmap calls it when there is no memory
        raise MemoryError(f"{size} bytes") from error


def _number_type(name: str, dtype: str) -> NumberType:
    if dtype not in _NUMBER_TYPES:
        raise ModelLoadError(f"tensor {name[:80]!r} is of type {dtype}, expected {', '.join(_NUMBER_TYPES)}")
    return NUMBER_TYPES[_NUMBER_TYPES[dtype]]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ModelLoadError("header has a name twice")
    return result


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, ArrayLike],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write arrays to a safetensors file; if there is one already, it stays until the new one is complete.

    Parameters
    ----------
    path : str or path-like
        The file. Its folder must exist.
    tensors : mapping of str to array_like
        Of float64, float32, float16, bool, or integers of 8 to 64 bits; of any layout and byte order.
    metadata : mapping of str to str, optional
        Notes to keep in the file.

    Raises
    ------
    TypeError
        If a name or a note is not a string, or an array is of another dtype.
    ValueError
        If a name is the one that the format reserves.
    OSError
        If the file cannot be written: the old one is untouched, and no temporary file remains.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/net", {"weight": np.eye(2)})
    ...     sorted(os.listdir(folder)), read_safetensors(folder + "/net")[0]["weight"].tolist()
    (['net'], [[1.0, 0.0], [0.0, 1.0]])
    """
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"write_safetensors: metadata[{key!r}]={value!r}, expected strings")
    arrays = {name: _to_little_endian(name, value) for name, value in tensors.items()}
    replace_file(path, save(arrays, dict(metadata or {})))


def _to_little_endian(name: object, value: ArrayLike) -> np.ndarray:
    if not isinstance(name, str):
        raise TypeError(f"write_safetensors: tensors has the name {name!r}, expected strings")
    if name == _METADATA:
        raise ValueError(f"write_safetensors: tensors has the name {name!r}, which the format reserves")
    array = np.asarray(value)
    if array.dtype.name not in _NUMBER_TYPES.values():
        raise TypeError(
            f"write_safetensors: tensors[{name!r}].dtype={array.dtype}, expected float64, float32, float16, "
            f"bool or an integer type"
        )
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
