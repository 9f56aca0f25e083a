"""Layers that leave values unchanged at inference: flatten, dropout, stochastic depth."""

from __future__ import annotations

from typing import Any

from fastcnn import functional
from fastcnn.layers.base import Layer

__all__ = ["DropPath", "Dropout", "Flatten"]


class Dropout(Layer):
    """Zero a random share `p` of the values in training. Return the input at inference.

    Parameters
    ----------
    p : float
        The share, from 0 to below 1.

    Examples
    --------
    >>> import numpy as np
    >>> Dropout(0.5)(np.array([1.0, 2.0]))
    array([1., 2.])
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = p

    def forward(self, x: Any) -> Any:
        return functional.dropout(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class DropPath(Layer):
    """Zero the branch of a random share `p` of the inputs in training. Return the input at inference.

    Stochastic depth (Huang et al., "Deep Networks with Stochastic Depth", 2016), by input as in timm's DropPath and
    torchvision's StochasticDepth in mode "row". What stays is divided by 1 - p.

    Parameters
    ----------
    p : float
        The share, from 0 to below 1.

    Examples
    --------
    A branch of a residual block goes through it before the sum: ``x + drop_path(branch(x))``.

    >>> import numpy as np
    >>> DropPath(0.1)(np.array([[1.0, 2.0]]))
    array([[1., 2.]])
    """

    def __init__(self, p: float = 0.0) -> None:
        self.p = p

    def forward(self, x: Any) -> Any:
        return functional.drop_path(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Layer):
    """Join the axes from `start_dim` on into one: (N, C, H, W) to (N, C*H*W).

    Parameters
    ----------
    start_dim : int
        The first of the axes that are joined.

    Examples
    --------
    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4, 4))).shape
    (2, 48)
    """

    def __init__(self, start_dim: int = 1) -> None:
        self.start_dim = start_dim

    def forward(self, x: Any) -> Any:
        return functional.flatten(x, self.start_dim)
