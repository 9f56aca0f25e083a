"""Files of weights: reads and writes safetensors, and reads weights of any supported format.

A process may be killed while it writes: the old file stays until the new one is complete and on the disk.
torch_checkpoint.py reads PyTorch checkpoints. Models know which layer an array belongs to.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_array, as_path, as_size
from fastcnn._replace import replacing
from fastcnn._system import read_into
from fastcnn.errors import ModelLoadError
from fastcnn.graph.stored import StoredArray
from fastcnn.io._header import LENGTH_BYTES, MAX_HEADER_BYTES, METADATA, Entry, make_header, parse_header
from fastcnn.io._kinds import START, kind_of
from fastcnn.io._memory import LARGE, allocate, memory_errors
from fastcnn.io._numbers import in_order, rounded
from fastcnn.io._regular import open_regular
from fastcnn.ops.budget import MAX_BYTES, Budget, Cost, json_cost

__all__ = ["read_safetensors", "read_weights", "write_safetensors"]


@memory_errors()
def read_weights(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Read all arrays of a safetensors file or of a PyTorch checkpoint. The content decides which of them it is.

    Parameters
    ----------
    path : str or path-like
        The file.
    max_bytes : int
        The most bytes of all arrays.

    Returns
    -------
    dict of str to ndarray
        Arrays that are C-contiguous and writeable, of the dtypes in the file (float32 for bfloat16).

    Raises
    ------
    ModelLoadError
        If the file is of another format, damaged, hostile or needs more than `max_bytes`.
    OSError
        If the file cannot be read, such as FileNotFoundError.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/net.safetensors", {"bias": np.ones(3, np.float32)})
    ...     read_weights(folder + "/net.safetensors")
    {'bias': array([1., 1., 1.], dtype=float32)}
    """
    max_bytes = as_size(max_bytes, "max_bytes")
    with open_regular(path) as file:
        start = file.read(START)
    # This check comes first: the length of a header may look like the start of a pickle. No pickle has a brace here.
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{":
        return read_safetensors(path, max_bytes=max_bytes)[0]
    from fastcnn.io.torch_checkpoint import is_torch_checkpoint, load_torch_checkpoint

    if is_torch_checkpoint(start):
        return load_torch_checkpoint(path, max_bytes=max_bytes)
    kind = kind_of(start) or "format of weights not recognised"
    raise ModelLoadError(f"{path}: {kind}, expected a safetensors file or a PyTorch checkpoint")


def read_safetensors(
    path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES, stored: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Parameters
    ----------
    path : str or path-like
        The file.
    max_bytes : int
        The most bytes of the file, and of all arrays.
    stored : bool
        Whether large arrays of float32 stay in the file, as `fastcnn.graph.stored.StoredArray`. The file is kept open
        for them. If it changes before they are read, reading them raises ModelLoadError.

    Returns
    -------
    tensors : dict of str to ndarray
        Arrays in the order of their names. They are C-contiguous and writeable, of the dtypes in the file (float32 for
        bfloat16).
    metadata : dict of str to str
        Empty if the file has none.

    Raises
    ------
    ModelLoadError
        If the file is damaged, needs more than `max_bytes`, or holds numbers that are not real or of
        less than 8 bits. The message names the file and the cause.
    OSError
        If the file cannot be read, such as FileNotFoundError.

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
    max_bytes = as_size(max_bytes, "max_bytes")
    file = _File(path)
    budget = Budget(max_bytes)
    try:
        budget.require(Cost(file.size, 0), "the file")
        length = int.from_bytes(file.read(0, LENGTH_BYTES).tobytes(), "little")
        if LENGTH_BYTES + length > file.size:
            raise ModelLoadError("no safetensors file, or its end is missing: the header would be longer than the file")
        if length > MAX_HEADER_BYTES:
            raise ModelLoadError(f"header has {length} bytes, expected at most {MAX_HEADER_BYTES}")
        # The cost includes JSON within the metadata, which callers parse: it is a part of the header.
        Budget.of_objects(max_bytes).require(json_cost(length), "header")
        data = LENGTH_BYTES + length
        entries, metadata = parse_header(file.read(LENGTH_BYTES, length).tobytes(), file.size - data)
        total = sum(prod(entry.shape) * entry.kind.result.itemsize for entry in entries.values())
        budget.require(Cost(total, 0), "its arrays")
        tensors = {}
        for name in sorted(entries):
            source = _Source(file, data, entries[name])
            later = StoredArray(source.entry.shape, source.read_later)
            stays = stored and source.entry.kind.result == later.dtype and later.nbytes >= LARGE
            tensors[name] = cast(np.ndarray, later) if stays else source.read()  # layers and compiler take either
    except ValueError as error:
        raise ModelLoadError(f"{path}: {error}") from error
    return tensors, metadata


class _File:
    """A file that any thread can read at any offset. It is open as long as this object exists."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        with open_regular(path) as file:
            self._descriptor = os.dup(file.fileno())
        self.size, self._changed = self._state()

    def _state(self) -> tuple[int, int]:
        state = os.fstat(self._descriptor)
        return state.st_size, state.st_mtime_ns

    def read(self, offset: int, size: int) -> np.ndarray:
        """Read bytes into new memory."""
        if not 0 <= offset <= offset + size <= self.size:
            raise ModelLoadError(f"needs bytes {offset} to {offset + size} of a file of {self.size}")
        content = allocate(size)
        done = 0
        while done < size:
            count = read_into(self._descriptor, content[done:].data, offset + done)
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
    """An array in a file."""

    def __init__(self, file: _File, data: int, entry: Entry) -> None:
        self.file, self.offset, self.entry = file, data + entry.start, entry

    def read(self) -> np.ndarray:
        kind, shape = self.entry.kind, self.entry.shape
        bits = self.file.read(self.offset, prod(shape) * kind.item_size).view("<" + kind.code).reshape(shape)
        return bits if bits.dtype == kind.result else kind.to_native(bits)

    def read_later(self) -> np.ndarray:
        """Read as `read` does, with the file's name in errors: later callers do not know it."""
        try:
            return self.read()
        except ModelLoadError as error:
            raise ModelLoadError(f"{self.file.path}: {error}") from error


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, ArrayLike],
    metadata: Mapping[str, str] | None = None,
    bfloat16: Collection[str] = (),
) -> None:
    """Write arrays to a safetensors file. An old file stays until the new one is complete.

    Parameters
    ----------
    path : str or path-like
        The file. Its folder must exist.
    tensors : mapping of str to array_like
        Arrays of float64, float32, float16, bool, or integers of 8 to 64 bits, of any layout and byte order.
    metadata : mapping of str to str, optional
        Notes to keep in the file.
    bfloat16 : collection of str
        Names of arrays of float32 that are rounded to bfloat16, half to even.

    Raises
    ------
    TypeError
        If a name or a note is not a string, or an array is of another dtype.
    ValueError
        If a name is the one that the format reserves.
    OSError
        If the file cannot be written. The old file is then untouched, and no temporary file remains.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_safetensors(folder + "/net", {"weight": np.eye(2)})
    ...     sorted(os.listdir(folder)), read_safetensors(folder + "/net")[0]["weight"].tolist()
    (['net'], [[1.0, 0.0], [0.0, 1.0]])
    """
    path = as_path(path, "write_safetensors: path")
    notes = _checked_metadata(metadata)
    arrays = {name: _as_array(name, value) for name, value in _checked(tensors, "tensors").items()}
    try:
        kinds = {name: "bfloat16" if name in bfloat16 else array.dtype.name for name, array in arrays.items()}
        header, order = make_header({name: (kinds[name], array.shape) for name, array in arrays.items()}, notes)
    except (TypeError, ValueError) as error:
        raise type(error)(f"write_safetensors: {error}") from None
    with replacing(path) as file:
        file.write(header)
        for name in order:
            for part in in_order(rounded(arrays[name]) if name in bfloat16 else arrays[name]):
                file.write(part)


def _checked(mapping: Any, name: str) -> Mapping[Any, Any]:
    if not isinstance(mapping, Mapping):
        raise TypeError(f"write_safetensors: {name}: got {type(mapping).__name__}, expected a mapping by names")
    return mapping


def _checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    notes = dict(_checked({} if metadata is None else metadata, "metadata"))
    for key, value in notes.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"write_safetensors: metadata[{key!r}]={value!r}, expected strings")
    return notes


def _as_array(name: object, value: ArrayLike | StoredArray) -> np.ndarray | StoredArray:
    if not isinstance(name, str):
        raise TypeError(f"write_safetensors: tensors has the name {name!r}, expected strings")
    if name == METADATA:
        raise ValueError(f"write_safetensors: tensors has the name {name!r}, which the format reserves")
    return value if isinstance(value, StoredArray) else as_array(value, f"write_safetensors: tensors[{name!r}]")
