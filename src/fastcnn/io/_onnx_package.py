"""Loads the `onnx` package when it is first needed, and only where there is memory for it: it crashes without.

onnx_import.py and onnx_export.py use it.
"""

from __future__ import annotations

import sys
from types import ModuleType

from fastcnn.io._memory import ask_memory

__all__ = ["import_onnx"]

# More than its libraries, schemas and first allocations take.
_PACKAGE_BYTES = 48 << 20


def import_onnx(purpose: str) -> ModuleType:
    """Return the package. `purpose` begins the error message where it is not installed.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra to install.
    MemoryError
        If there is too little memory to load it.

    Examples
    --------
    >>> import_onnx("reading ONNX files").ModelProto().ir_version
    0
    """
    if "onnx" not in sys.modules:
        ask_memory(_PACKAGE_BYTES)
    try:
        import onnx
    except ImportError as error:
        message = f'{purpose} needs the package onnx: pip install "fastcnn[onnx]"'
        raise ImportError(message, name="onnx") from error
    return onnx
