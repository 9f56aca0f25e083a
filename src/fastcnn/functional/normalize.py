"""Normalisation by statistics that are computed from the values themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply, prefixed


def _sizes(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    sizes = [normalized_shape] if np.ndim(normalized_shape) == 0 else list(normalized_shape)  # type: ignore[arg-type]
    if not sizes:
        raise ValueError("normalized_shape=(), expected at least one size")
    return tuple(arguments.as_int(size, "normalized_shape", 1) for size in sizes)


def layer_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    out: np.ndarray | None = None,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, over the last axes (Ba, Kiros and Hinton, 2016).

    Parameters
    ----------
    x : (..., *normalized_shape) array
    normalized_shape : int or sequence of int
        The sizes of the axes.
    weight, bias : arrays of normalized_shape, optional
        One and zero by default.
    eps : float
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> layer_norm([[1.0, 3.0]], 2, eps=0.0)
    array([[-1.,  1.]])
    """
    with prefixed("layer_norm"):
        sizes = _sizes(normalized_shape)
    weight = np.ones(sizes, np.float32) if weight is None else weight

    def attrs() -> dict[str, Any]:
        if np.shape(weight) != sizes:
            raise ValueError(f"weight.shape={np.shape(weight)}, expected normalized_shape={sizes}")
        return {"axis": -len(sizes), "epsilon": arguments.as_float(eps, "eps")}

    return apply("layer_norm", "LayerNormalization", {"x": x, "weight": weight, "bias": bias}, attrs, out)
