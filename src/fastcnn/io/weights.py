"""Weights in files: reads and writes safetensors, and reads whatever kind of weights a file holds.

Writing is safe against being killed: until the new file is complete and on the disk, the old one stays.
PyTorch checkpoints are torch_checkpoint.py's; which layer an array belongs to is the model's business.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import ArrayLike
from safetensors.numpy import save

from fastcnn.errors import ModelLoadError
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
    path: str | os.PathLike[str], *, max_bytes: int = 4 << 30, writeable: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read the arrays and the metadata of a safetensors file.

    Parameters
    ----------
    path : str or path-like
        The file.
    max_bytes : int
        The most that the file and the arrays may take, each.
    writeable : bool
        Whether the arrays have to be writeable; others need one copy less.

    Returns
    -------
    tensors : dict of str to ndarray
        In the order of their names. C-contiguous and aligned, of the dtypes in the file (float32 for
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
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ModelLoadError(f"{path}: file has {size} bytes, more than max_bytes={max_bytes}")
        content = np.empty(size, np.uint8)  # NumPy takes large pages for it, bytes would not
        content = content[: file.readinto(content.data)]
    length = int.from_bytes(content[:_LENGTH_BYTES].tobytes(), "little")
    if length > _MAX_HEADER_BYTES:
        raise ModelLoadError(f"{path}: header has {length} bytes, expected at most {_MAX_HEADER_BYTES}")
    try:
        with safetensors.safe_open(path, "numpy"):
            pass  # it checks the header; what is in it is taken from the content, should the file be another by now
        data = _LENGTH_BYTES + length
        entries = json.loads(content[_LENGTH_BYTES:data].tobytes(), object_pairs_hook=_unique)
        metadata = entries.pop(_METADATA, None) or {}
        types = {name: _number_type(name, entry["dtype"]) for name, entry in entries.items()}
        total = sum(prod(entry["shape"]) * types[name].result.itemsize for name, entry in entries.items())
        if total > max_bytes:
            raise ModelLoadError(f"its arrays take {total} bytes, more than max_bytes={max_bytes}")
        tensors = {}
        for name in sorted(entries):
            entry, kind = entries[name], types[name]
            # NumPy refuses what reaches beyond the content.
            bits = np.ndarray(entry["shape"], "<" + kind.code, content, data + entry["data_offsets"][0])
            as_it_is = not writeable and bits.dtype == kind.result and bits.flags.aligned
            tensors[name] = bits if as_it_is else kind.to_native(bits)
    except (safetensors.SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    return tensors, metadata


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
