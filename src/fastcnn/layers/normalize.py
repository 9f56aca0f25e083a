"""Normalisation by statistics that are computed from the values themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import functional
from fastcnn.layers.base import Layer, Parameter
from fastcnn.layers.settings import check_positive

__all__ = ["LayerNorm"]


class LayerNorm(Layer):
    """Normalise the last axes of each row by the row's own mean and variance.

    ``(x - mean) / sqrt(var + eps) * weight + bias``: Ba, Kiros and Hinton, "Layer Normalization", 2016.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the axes.
    eps : float
        Number that is added to the variance.

    Attributes
    ----------
    weight, bias : ndarray of normalized_shape, float32
        Begin as ones and zeros.

    Examples
    --------
    >>> LayerNorm(2, eps=0.0)(np.array([[1.0, 3.0]]))
    array([[-1.,  1.]])
    """

    weight: np.ndarray
    bias: np.ndarray

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5) -> None:
        sizes = (normalized_shape,) if isinstance(normalized_shape, (int, np.integer)) else tuple(normalized_shape)
        if not sizes:
            raise ValueError("LayerNorm: normalized_shape=(), expected at least one size")
        for size in sizes:
            check_positive("LayerNorm", normalized_shape=size)
        self.normalized_shape, self.eps = tuple(int(size) for size in sizes), eps
        self.weight = Parameter(np.ones(self.normalized_shape))
        self.bias = Parameter(np.zeros(self.normalized_shape))

    def forward(self, x: Any) -> Any:
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"
