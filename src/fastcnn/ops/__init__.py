"""Operations: for each its attributes, shape rule, meaning, and lowering to kernel steps; one family a file."""

from __future__ import annotations

from fastcnn.ops import (
    activation,
    conv,
    conv_grad,
    elementwise,
    linear,
    loss,
    norm,
    norm_grad,
    pool,
    reshape,
    update,
)
from fastcnn.ops.base import Op

__all__ = ["Op", "get", "names"]

_MODULES = (conv, linear, activation, pool, norm, elementwise, reshape, conv_grad, norm_grad, loss, update)
_OPS: dict[str, Op] = {op.name: op for module in _MODULES for op in module.OPS}
_PUBLIC = tuple(sorted(name for name, op in _OPS.items() if not op.is_internal))


def get(name: str) -> Op:
    """The operation of an ONNX name.

    Parameters
    ----------
    name : str

    Raises
    ------
    ValueError
        Where there is none.

    Examples
    --------
    >>> get("MaxPool").name
    'MaxPool'
    """
    try:
        return _OPS[name]
    except KeyError:
        raise ValueError(f"op={name!r}, expected one of {', '.join(_PUBLIC)}") from None


def names() -> tuple[str, ...]:
    """Names of all operations that a graph may contain.

    Examples
    --------
    >>> "Conv" in names()
    True
    """
    return _PUBLIC
