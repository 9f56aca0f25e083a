"""Checkpoints: one safetensors file with everything that a training run needs to continue with the same bits.

A kill at any moment leaves the old checkpoint or the new one (_replace.py). loop.py decides what a checkpoint holds
and when it is written.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn.errors import ModelLoadError

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]

FORMAT = "fastcnn checkpoint"
FORMAT_VERSION = "1"
_GROUPS = ("model", "trainer", "best")


@dataclass
class Checkpoint:
    """A training run between two steps.

    Attributes
    ----------
    model, trainer : dict of str to ndarray
        State dicts of the model and the trainer.
    best : dict of str to ndarray
        State dict of the model after its best epoch, or empty.
    run : dict
        Values for JSON: epoch and step, settings that must not change, sums of the current epoch, history.
    """

    model: dict[str, np.ndarray]
    trainer: dict[str, np.ndarray]
    best: dict[str, np.ndarray] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the old one stays until the new one is complete and on the disk.

    Raises
    ------
    OSError
        If the file cannot be written. The old one is untouched.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint(f"{folder}/run", Checkpoint({"weight": np.ones(2)}, {}, run={"epoch": 3}))
    ...     read_checkpoint(f"{folder}/run").run
    {'epoch': 3}
    """
    from fastcnn.io.weights import write_safetensors

    tensors = {f"{group}/{name}": array for group in _GROUPS for name, array in getattr(checkpoint, group).items()}
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "run": json.dumps(checkpoint.run)}
    write_safetensors(path, tensors, metadata)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read what `write_checkpoint` has written.

    Raises
    ------
    ModelLoadError
        If the file is damaged or is not a checkpoint.
    OSError
        If the file cannot be read, FileNotFoundError for instance.
    """
    from fastcnn.io.weights import read_safetensors

    tensors, metadata = read_safetensors(path)
    found = metadata.get("format"), metadata.get("format_version")
    if found != (FORMAT, FORMAT_VERSION):
        raise ModelLoadError(f"{path}: format and version are {found}, expected {(FORMAT, FORMAT_VERSION)}")
    groups: dict[str, dict[str, np.ndarray]] = {group: {} for group in _GROUPS}
    for full, array in tensors.items():
        group, _, name = full.partition("/")
        if group not in groups:
            raise ModelLoadError(f"{path}: unexpected tensor {full[:80]!r}")
        groups[group][name] = array
    try:
        run = json.loads(metadata["run"])
    except (KeyError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: metadata 'run': {error}") from error
    if not isinstance(run, dict):
        raise ModelLoadError(f"{path}: metadata 'run' is of type {type(run).__name__}, expected an object")
    return Checkpoint(**groups, run=run)
