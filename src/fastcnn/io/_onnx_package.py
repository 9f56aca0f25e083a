"""The `onnx` package, which is loaded when first needed, and only where there is memory for it: without, it crashes.

What is done with it is left to onnx_import.py and onnx_export.py.
"""

from __future__ import annotations

import sys
from types import ModuleType

from fastcnn.io._memory import ask_memory

__all__ = ["import_onnx"]

# What its libraries, schemas and first allocations take, with room to spare.
_PACKAGE_BYTES = 48 << 20


def import_onnx(purpose: str) -> ModuleType:
    """The package; `purpose` opens the error where it is not installed.

    Raises
    ------
    ImportError
        Naming the extra to install.
    MemoryError
        If there is too little to load it.

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
