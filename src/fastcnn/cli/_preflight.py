"""Checks before a training that would otherwise fail after hours: files to write, their format, the disk, matplotlib.

training/screen.py checks the photos.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fastcnn._replace import check_writable
from fastcnn.model import Model

__all__ = ["check_format", "check_plot", "check_space"]

# A checkpoint holds the weights, the best weights, and up to two running means of each.
CHECKPOINT_COPIES = 4


def check_format(model: Model, path: str) -> None:
    """Export the untrained network where `path` asks for ONNX: not every network, nor every installation, can."""
    if Path(path).suffix.lower() == ".onnx":
        with tempfile.TemporaryDirectory() as folder:
            model.export_onnx(Path(folder, "trial.onnx"))


def check_space(model: Model, output: str, checkpoint: str | None) -> None:
    """Compare what will be written with what is free.

    Raises
    ------
    OSError
        If a disk has less room than the files need. Old files count as taken, as they stay until new ones are complete.
    """
    weights = sum(array.nbytes for array in model.state_dict().values())
    needed = {output: weights, **({checkpoint: CHECKPOINT_COPIES * weights} if checkpoint else {})}
    for device, (folder, size) in _by_device(needed).items():
        free = shutil.disk_usage(folder).free
        if free < size:
            raise OSError(
                f"{folder}: {free / 1e6:.1f} MB are free on this disk, expected {size / 1e6:.1f} MB "
                f"for {' and '.join(name for name in needed if _device(name) == device)}"
            )


def _by_device(sizes: Mapping[str, int]) -> dict[int, tuple[Path, int]]:
    found: dict[int, tuple[Path, int]] = {}
    for name, size in sizes.items():
        folder, so_far = found.get(_device(name), (Path(name).parent, 0))
        found[_device(name)] = folder, so_far + size
    return found


def _device(path: str) -> int:
    return os.stat(Path(os.path.realpath(path)).parent).st_dev


def check_plot(path: str, option: str = "--plot") -> None:
    """Look for matplotlib, and whether it writes the format that the suffix asks for.

    Raises
    ------
    ImportError, ValueError, OSError
        If it cannot draw to `path`.
    """
    from fastcnn._figure import drawn

    figure = drawn(option, (1, 1), lambda _: None, None)
    known = sorted(figure.canvas.get_supported_filetypes())
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in known:
        raise ValueError(f"{option} {path}: unknown format, expected a name that ends in .{', .'.join(known)}")
    check_writable(path, option)
