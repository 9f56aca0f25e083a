"""ONNX's operators in plain NumPy; base.py tells how they are defined."""

from __future__ import annotations

from fastcnn.ops.general import (
    columns,
    elementwise,
    matrix,
    quantize,
    rearrange,
    recurrent,
    reduce,
    resize,
    scatter,
    windows,
)
from fastcnn.ops.general.base import DOMAIN, General

__all__ = ["DOMAIN", "TABLE", "General"]

_MODULES = (columns, elementwise, matrix, quantize, rearrange, recurrent, reduce, resize, scatter, windows)
TABLE: dict[str, General] = {op.name: op for module in _MODULES for op in module.OPS}
