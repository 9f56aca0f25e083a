"""Operations: the attributes, shape rule, definition and lowering of each; one family a file."""

from __future__ import annotations

from collections.abc import Mapping

from fastcnn.ops import (
    activation,
    attention,
    axes,
    bands,
    conv,
    conv_grad,
    elementwise,
    group_norm,
    layer_norm,
    linear,
    linear_grad,
    loss,
    matrix,
    norm,
    norm_grad,
    pixels,
    pool,
    reduce,
    reshape,
    resize,
    update,
)
from fastcnn.ops.node import Op, get, public_names, register, register_later

__all__ = ["ISLAND", "Op", "get", "is_general", "is_known", "names"]

GENERAL = "ai.onnx::"  # prefix of the names of operations in plain NumPy
ISLAND = "InNumpy"  # several of those as one operation

_MODULES = (
    conv,
    bands,
    linear,
    matrix,
    attention,
    activation,
    pool,
    norm,
    layer_norm,
    group_norm,
    reduce,
    elementwise,
    reshape,
    resize,
    axes,
    pixels,
    conv_grad,
    linear_grad,
    norm_grad,
    loss,
    update,
)
for _module in _MODULES:
    register(_module.OPS)
_PUBLIC = public_names()


def _general() -> Mapping[str, Op]:
    """The general operations, imported when a graph first has one; most graphs have none."""
    from fastcnn.ops.general import TABLE

    return TABLE


def _islands() -> Mapping[str, Op]:
    from fastcnn.ops.island import OPS

    return {op.name: op for op in OPS}


def _fake_quantize() -> Mapping[str, Op]:
    from fastcnn.ops.fake_quantize import OPS

    return {op.name: op for op in OPS}


def _int8() -> Mapping[str, Op]:
    from fastcnn.ops.int8 import OPS

    return {op.name: op for op in OPS}


register_later(GENERAL, _general)
register_later("FakeQuantize", _fake_quantize)
register_later("Int8", _int8)
register_later(ISLAND, _islands)


def is_known(name: str) -> bool:
    """Whether a graph may contain an operation of this name.

    Examples
    --------
    >>> is_known("Conv"), is_known("ai.onnx::Einsum"), is_known("Reorder")
    (True, True, False)
    """
    return name in _PUBLIC or name == ISLAND or (is_general(name) and name in _general())


def is_general(name: str) -> bool:
    """Whether an operation is one in plain NumPy, without shape rule and kernel (see ops/general)."""
    return name.startswith(GENERAL)


def names() -> tuple[str, ...]:
    """Names of all operations with kernels.

    Examples
    --------
    >>> "Conv" in names()
    True
    """
    return _PUBLIC
