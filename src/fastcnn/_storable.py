"""The files that a model can be written to. The formats themselves are model_file.py's and io/onnx_export.py's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from fastcnn.model import Model

__all__ = ["Storable"]


class Storable:
    """What `Model` has of files."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, graph, classes and preprocessing to one safetensors file.

        Parameters
        ----------
        path : path-like
            Replaced at once when the file is complete. `fastcnn.load` reads it.

        Raises
        ------
        ValueError
            If `input_shape` is not set.
        OSError
            If the file cannot be written.
        """
        from fastcnn.model_file import save

        save(cast("Model", self), path)

    def load_weights(self, path: str | os.PathLike[str], *, max_bytes: int = 4 << 30) -> None:
        """Take weights from a file, by name: safetensors, or a PyTorch checkpoint (.pth, .pt) of torchvision or timm.

        Parameters
        ----------
        path : path-like
            It can come from anyone: it is checked, and nothing in it is run. Names that start with "module.", as
            PyTorch's DataParallel writes them, are taken without it.
        max_bytes : int
            The most that the arrays may take together.

        Raises
        ------
        ModelLoadError
            If the file is damaged or hostile, or its names and shapes are not the model's: all that differ are listed.
        OSError
            If the file cannot be read.
        """
        from fastcnn.errors import ModelLoadError
        from fastcnn.io.weights import read_weights

        arrays = read_weights(path, max_bytes=max_bytes)
        if arrays and all(name.startswith("module.") for name in arrays):
            arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
        try:
            cast("Model", self).load_state_dict(arrays)
        except (ValueError, TypeError) as error:
            raise ModelLoadError(f"{path}: {error}") from error

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network to an ONNX file, for ONNX Runtime and others; `fastcnn.load` reads it too.

        Parameters
        ----------
        path : path-like
            Replaced at once when the file is complete. Opset 17 and IR version 8, unless the network has operations
            that are newer. The size of the batch is free; classes and preprocessing are kept as metadata.

        Raises
        ------
        ValueError
            If `input_shape` is not set, or the file would exceed the 2 GB that ONNX allows.
        ImportError
            Without the `onnx` package, which ``pip install "fastcnn[onnx]"`` brings.
        OSError
            If the file cannot be written.
        """
        from fastcnn.io.onnx_export import export_onnx

        export_onnx(cast("Model", self), path)
