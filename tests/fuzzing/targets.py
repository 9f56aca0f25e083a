"""What is fuzzed: each reader of files, the memory it may take, and what it is tried with before it is measured.

What the inputs are is left to formats.py, running them to worker.py and coverage_guided.py.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
from fuzzing.formats import seeds

import fastcnn as fc
from fastcnn.errors import ImageError, ModelLoadError
from fastcnn.io.image import load_image
from fastcnn.io.torch_checkpoint import load_torch_checkpoint
from fastcnn.io.weights import read_safetensors, read_weights

MAX_BYTES = 1 << 20
MAX_PIXELS = 1 << 16
_LARGEST_INPUT = 1 << 16  # elements of an image that a fuzzed model is asked to classify


@dataclass(frozen=True)
class Target:
    """A reader of bytes and its limits.

    Attributes
    ----------
    read : callable
        Reads an input.
    refusal : type
        The one error, beside MemoryError, that it may raise.
    resident : int
        By how many bytes the process may grow over one input.
    address_space : int
        How many bytes it may ask for, used or not.
    may_run_out : bool
        Whether MemoryError keeps the promise, because the budget is the reader's caller's.
    """

    read: Callable[[bytes], object]
    refusal: type[Exception]
    resident: int
    address_space: int = 1 << 30
    may_run_out: bool = False


@cache
def _path() -> Path:
    """A file of this process's own."""
    folder = tempfile.mkdtemp(prefix="fuzzing-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    return Path(folder, "input")


def _in_a_file(read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def read_bytes(content: bytes) -> object:
        path = _path()
        path.write_bytes(content)
        return read(path)

    return read_bytes


def _model(path: Path) -> None:
    """Load a model, and let it classify one image of zeros, of a size that it may still refuse."""
    model = fc.load(path, max_bytes=MAX_BYTES)
    shape = model.input_shape
    if shape is not None and prod(shape) <= _LARGEST_INPUT:
        with suppress(ValueError):
            model(np.zeros((1, *shape), np.float32))


def _weights(path: Path) -> None:
    """Read weights in each of the ways there are."""
    tensors = read_weights(path, max_bytes=MAX_BYTES)
    if path.read_bytes()[8:9] == b"{":
        stored, _ = read_safetensors(path, max_bytes=MAX_BYTES, stored=True)
        for name in tensors:
            if np.asarray(stored[name]).tobytes() != tensors[name].tobytes():
                raise AssertionError(f"{name}: other values when they are read later")


TARGETS = {
    "model": Target(_in_a_file(_model), ModelLoadError, resident=64 << 20),
    "torch": Target(
        lambda content: load_torch_checkpoint(content, max_bytes=MAX_BYTES), ModelLoadError, resident=32 << 20
    ),
    "weights": Target(_in_a_file(_weights), ModelLoadError, resident=32 << 20),
    "image": Target(lambda content: load_image(content, max_pixels=MAX_PIXELS), ImageError, resident=64 << 20),
}


def prepared(name: str) -> Target:
    """A target, once all that it imports and keeps is there."""
    target = TARGETS[name]
    for seed in seeds(name):
        target.read(seed)
    return target
