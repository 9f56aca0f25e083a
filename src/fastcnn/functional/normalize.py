"""Normalisation by statistics that are computed from the values themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply, prefixed


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
    x : (..., normalized_shape) array
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
    inputs = {"x": x, "weight": weight, "bias": bias}
    return _of_rows("layer_norm", "LayerNormalization", inputs, normalized_shape, eps, out)


def _of_rows(
    function: str, op: str, inputs: dict[str, Array], normalized_shape: Any, eps: Any, out: np.ndarray | None
) -> Any:
    with prefixed(function):
        sizes = arguments.as_sizes(normalized_shape, "normalized_shape")
    weight = inputs["weight"] = np.ones(sizes, np.float32) if inputs["weight"] is None else inputs["weight"]

    def attrs() -> dict[str, Any]:
        shape = arguments.shape_of(weight, "weight")
        if shape != sizes:
            raise ValueError(f"weight.shape={shape}, expected normalized_shape={sizes}")
        return {"axis": -len(sizes), "epsilon": arguments.as_float(eps, "eps")}

    return apply(function, op, inputs, attrs, out)


def rms_norm(
    x: Array,
    normalized_shape: int | Sequence[int],
    weight: Array | None = None,
    eps: float = 1e-5,
    out: np.ndarray | None = None,
) -> Any:
    """x / sqrt(mean of x^2 + eps) * weight, over the last axes (Zhang and Sennrich, 2019).

    Parameters
    ----------
    x : (..., normalized_shape) array
    normalized_shape : int or sequence of int
        The sizes of the axes.
    weight : array of normalized_shape, optional
        One by default.
    eps : float
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> rms_norm([[3.0, 4.0]], 2, [5.0, 10.0], eps=12.5)
    array([[3., 8.]])
    """
    return _of_rows("rms_norm", "RMSNormalization", {"x": x, "weight": weight}, normalized_shape, eps, out)


def group_norm(
    x: Array,
    num_groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    out: np.ndarray | None = None,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, over groups of channels and all pixels (Wu and He, 2018).

    Parameters
    ----------
    x : (N, C, ...) array
    num_groups : int
        A divisor of C.
    weight, bias : (C,) arrays, optional
        One and zero by default.
    eps : float
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> group_norm([[[1.0, 3.0], [5.0, 7.0]]], 2, eps=0.0)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """

    def attrs() -> dict[str, Any]:
        return {"num_groups": arguments.as_int(num_groups, "num_groups", 1), "epsilon": arguments.as_float(eps, "eps")}

    inputs = {"x": x, **_of_channels("group_norm", x, weight, bias)}
    return apply("group_norm", "GroupNormalization", inputs, attrs, out)


def instance_norm(
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    out: np.ndarray | None = None,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, for each plane (Ulyanov, Vedaldi and Lempitsky, 2016).

    Parameters
    ----------
    x : (N, C, ...) array
    weight, bias : (C,) arrays, optional
        One and zero by default.
    eps : float
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> instance_norm([[[1.0, 3.0], [5.0, 7.0]]], eps=0.0)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    inputs = {"x": x, **_of_channels("instance_norm", x, weight, bias)}
    return apply(
        "instance_norm", "InstanceNormalization", inputs, lambda: {"epsilon": arguments.as_float(eps, "eps")}, out
    )


def _of_channels(function: str, x: Array, weight: Array | None, bias: Array | None) -> dict[str, Array]:
    """Weight and bias, one and zero for each channel of x where they are absent."""
    with prefixed(function):
        shape = arguments.shape_of(x, "x")
        if len(shape) < 3:
            raise ValueError(f"x.shape={shape}, expected at least 3 dimensions (N, C, ...)")
    weight = np.ones(shape[1], np.float32) if weight is None else weight
    return {"weight": weight, "bias": np.zeros(shape[1], np.float32) if bias is None else bias}
