"""Normalisation by statistics that are computed from the values themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import functional
from fastcnn._arguments import as_flag, as_sizes
from fastcnn.layers.base import Layer, Parameter
from fastcnn.layers.settings import check_positive

__all__ = ["GroupNorm", "InstanceNorm2d", "LayerNorm", "RMSNorm"]


class GroupNorm(Layer):
    """Normalise groups of channels of each image by their own mean and variance.

    ``(x - mean) / sqrt(var + eps) * weight + bias``: Wu and He, "Group Normalization", 2018.

    Parameters
    ----------
    num_groups, num_channels : int
        Number of groups, a divisor of the number of channels.
    eps : float
        Number that is added to the variance.

    Attributes
    ----------
    weight, bias : ndarray (num_channels,), float32
        Begin as ones and zeros.

    Examples
    --------
    >>> GroupNorm(1, 2, eps=0.0)(np.array([[[[1.0]], [[3.0]]]])).ravel()
    array([-1.,  1.])
    """

    weight: np.ndarray
    bias: np.ndarray

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5) -> None:
        check_positive("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups={num_groups}, expected a divisor of num_channels={num_channels}")
        self.num_groups, self.eps = int(num_groups), eps
        self.weight = Parameter(np.ones(num_channels))
        self.bias = Parameter(np.zeros(num_channels))

    def forward(self, x: Any) -> Any:
        return functional.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {len(self.weight)}, eps={self.eps}"


class InstanceNorm2d(Layer):
    """Normalise each plane of each image by its own mean and variance.

    ``(x - mean) / sqrt(var + eps)``: Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float
        Number that is added to the variance.
    affine : bool
        Whether a learned weight and bias follow, as ``* weight + bias``.

    Attributes
    ----------
    weight, bias : ndarray (num_features,), float32, or None
        Begin as ones and zeros.

    Examples
    --------
    >>> InstanceNorm2d(1, eps=0.0)(np.array([[[[1.0, 3.0]]]])).ravel()
    array([-1.,  1.])
    """

    weight: np.ndarray | None
    bias: np.ndarray | None

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = False) -> None:
        check_positive("InstanceNorm2d", num_features=num_features)
        self.num_features, self.eps = int(num_features), eps
        has_parameters = as_flag(affine, "InstanceNorm2d: affine")
        self.weight = Parameter(np.ones(num_features)) if has_parameters else None
        self.bias = Parameter(np.zeros(num_features)) if has_parameters else None

    def forward(self, x: Any) -> Any:
        return functional.instance_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}"


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
        self.normalized_shape, self.eps = as_sizes(normalized_shape, "LayerNorm: normalized_shape"), eps
        self.weight = Parameter(np.ones(self.normalized_shape))
        self.bias = Parameter(np.zeros(self.normalized_shape))

    def forward(self, x: Any) -> Any:
        return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Layer):
    """Divide the last axes of each row by the root of their mean square.

    ``x / sqrt(mean of x^2 + eps) * weight``: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

    Parameters
    ----------
    normalized_shape : int or sequence of int
        The sizes of the axes.
    eps : float
        Number that is added to the mean.

    Attributes
    ----------
    weight : ndarray of normalized_shape, float32
        Begins as ones.

    Examples
    --------
    >>> RMSNorm(2, eps=12.5)(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]])
    """

    weight: np.ndarray

    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5) -> None:
        self.normalized_shape, self.eps = as_sizes(normalized_shape, "RMSNorm: normalized_shape"), eps
        self.weight = Parameter(np.ones(self.normalized_shape))

    def forward(self, x: Any) -> Any:
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"
