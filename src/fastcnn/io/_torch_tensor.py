"""Storages and tensors: what a PyTorch checkpoint's pickle may refer to besides plain data.

A storage is a flat array of numbers. A tensor is a view of one: an offset, sizes and strides, all in elements. Several
tensors may share a storage. All are checked here, when the pickle is read and before anything is allocated.
_torch_container.py knows where storages lie in the file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from fastcnn.errors import ModelLoadError
from fastcnn.io._numbers import NUMBER_TYPES, NumberType

__all__ = ["ALLOWED", "Storage", "StorageTable", "Tensor"]

# NumPy's limit.
_MAX_DIMENSIONS = 64
# Comparing keys takes time in proportion to their length. PyTorch's keys are short numbers.
_MAX_KEY = 256


@dataclass(frozen=True, slots=True)
class Storage:
    """An array of `count` numbers, with the name `key` in the file."""

    key: str
    type: NumberType
    count: int

    @property
    def nbytes(self) -> int:
        return self.count * self.type.item_size


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, which lies inside it. Offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the array that ``to_array`` returns."""
        return math.prod(self.shape) * self.storage.type.result.itemsize

    def to_array(self, raw: np.ndarray, byte_order: str) -> np.ndarray:
        """Return the tensor as a new C-contiguous array of a native dtype.

        Parameters
        ----------
        raw : ndarray of uint8
            The bytes of the storage.
        byte_order : {"<", ">"}
            Whether they are little- or big-endian.
        """
        kind = self.storage.type
        if not math.prod(self.shape):  # an empty tensor's offset may lie outside the storage
            return np.empty(self.shape, kind.result)
        strides = tuple(stride * kind.item_size for stride in self.strides)
        dtype = np.dtype(byte_order + kind.code)
        return kind.to_native(np.ndarray(self.shape, dtype, raw, self.offset * kind.item_size, strides))


class StorageTable(dict[str, Storage]):
    """The storages that a pickle has mentioned, by key."""

    def persistent_load(self, key: object) -> Storage:
        """Return the storage that a persistent id stands for.

        Parameters
        ----------
        key : tuple
            ("storage", type, key, location, count), in the flat format with None at the end. The location, such as
            "cuda:0", does not matter.

        Raises
        ------
        ModelLoadError
            If `key` is anything else, or contradicts an earlier persistent id of the same storage.
        """
        if type(key) is not tuple or len(key) not in (5, 6) or key[0] != "storage":
            raise ModelLoadError("pickle has a persistent id that is not a storage's")
        kind, name, count = key[1], key[2], key[4]
        if type(kind) is not NumberType or not _is_count(count):
            raise ModelLoadError("pickle has a storage without a known type or number of elements")
        if type(name) is not str or len(name) > _MAX_KEY:
            raise ModelLoadError("pickle has a storage whose key is overlong or not a string")
        if key[5:] not in ((), (None,)):
            raise ModelLoadError(f"storage {name!r} is part of another one, which is not supported")
        storage = Storage(name, kind, count)
        if self.setdefault(name, storage) != storage:
            raise ModelLoadError(f"storage {name!r} has two types or sizes")
        return storage


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < 1 << 63


def _is_counts(value: object) -> TypeGuard[tuple[int, ...]]:
    return type(value) is tuple and len(value) <= _MAX_DIMENSIONS and all(map(_is_count, value))


def _rebuild_tensor(arguments: tuple[object, ...]) -> Tensor:
    """Return the tensor of (storage, offset, sizes, strides)."""
    if len(arguments) != 4:
        raise ModelLoadError(f"pickle has a tensor of {len(arguments)} arguments, expected 4")
    storage, offset, shape, strides = arguments
    if type(storage) is not Storage:
        raise ModelLoadError("pickle has a tensor without a storage")
    if not _is_count(offset) or not _is_counts(shape) or not _is_counts(strides):
        raise ModelLoadError("pickle has a tensor whose offset, sizes or strides are not natural numbers")
    if len(shape) != len(strides):
        raise ModelLoadError(f"pickle has a tensor of {len(shape)} sizes but {len(strides)} strides")
    # NumPy refuses sizes that overflow even where another one is 0.
    if math.prod(max(size, 1) for size in shape) >= 1 << 59:
        raise ModelLoadError(f"pickle has a tensor of shape {shape}, too large for any memory")
    # The stride of a dimension of size 1 is never used and may be anything.
    strides = tuple(stride if size > 1 else 0 for size, stride in zip(shape, strides, strict=True))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise ModelLoadError(f"pickle has a tensor of shape {shape} that reaches element {last} of {storage.count}")
    return Tensor(storage, offset, shape, strides)


def _rebuild_tensor_v2(arguments: tuple[object, ...]) -> Tensor:
    """Return the tensor of (storage, offset, sizes, strides, requires_grad, hooks[, metadata])."""
    if len(arguments) not in (6, 7):
        raise ModelLoadError(f"pickle has a tensor of {len(arguments)} arguments, expected 6 or 7")
    return _rebuild_tensor(arguments[:4])


def _rebuild_parameter(arguments: tuple[object, ...]) -> Tensor:
    """Return the tensor of (tensor, requires_grad, hooks)."""
    if len(arguments) != 3 or type(arguments[0]) is not Tensor:
        raise ModelLoadError("pickle has a parameter without a tensor")
    return arguments[0]


def _size(arguments: tuple[object, ...]) -> tuple[int, ...]:
    """Return a torch.Size of ((size, size, ...),) as a plain tuple."""
    if len(arguments) != 1 or not _is_counts(arguments[0]):
        raise ModelLoadError("pickle has a torch.Size that is not a tuple of natural numbers")
    return arguments[0]


_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}

ALLOWED: dict[str, object] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch.Size": _size,
    **{f"torch.{name}": NUMBER_TYPES[numbers] for name, numbers in _STORAGES.items()},
}
