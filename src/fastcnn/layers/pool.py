"""Pooling layers, over windows and over feature maps."""

from __future__ import annotations

from typing import Any

from fastcnn import functional
from fastcnn.layers.base import Layer
from fastcnn.layers.settings import Padding, Pair

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d"]


class AvgPool2d(Layer):
    """Mean of each window, channel by channel.

    Parameters
    ----------
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As in `fastcnn.functional.avg_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Any) -> Any:
        return functional.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)


class GlobalAvgPool2d(Layer):
    """Mean of each feature map: (N, C, H, W) to (N, C, 1, 1).

    Examples
    --------
    >>> import numpy as np
    >>> GlobalAvgPool2d()(np.arange(16.0).reshape(1, 1, 4, 4)).item()
    7.5
    """

    def forward(self, x: Any) -> Any:
        return functional.global_avg_pool2d(x)


class MaxPool2d(Layer):
    """Largest value of each window, channel by channel. A NaN in the window gives NaN.

    Parameters
    ----------
    kernel_size, stride, padding, dilation, ceil_mode
        As in `fastcnn.functional.max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4))[0, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Padding = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Any) -> Any:
        return functional.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
