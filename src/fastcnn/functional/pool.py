"""Pooling: maximum and mean over windows and over images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply


def max_pool2d(
    x: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    out: np.ndarray | None = None,
) -> Any:
    """Largest value of every window; NaN wins, padding never does.

    Parameters
    ----------
    x : (N, C, H, W) array
    kernel_size : int or pair
        Height and width of the window.
    stride : int or pair, optional
        The window's size by default.
    padding : int, pair, four numbers, "same" or "valid"
        As in `conv2d`; at most half of the window.
    dilation : int or pair
    ceil_mode : bool
        Whether a window that runs over the edge counts.
    out : (N, C, OH, OW) array, optional

    Returns
    -------
    (N, C, OH, OW) array

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 4], [112, 100, 25, 12]])
    >>> max_pool2d(x[None, None], 2)[0, 0]
    array([[ 20.,  30.],
           [112.,  37.]])
    """

    def attrs() -> dict[str, Any]:
        window = pool_window(kernel_size, stride, padding, ceil_mode)
        return {**window, "dilations": arguments.as_pair(dilation, "dilation")}

    return apply("max_pool2d", "MaxPool", {"x": x}, attrs, out)


def avg_pool2d(
    x: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | str | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    out: np.ndarray | None = None,
) -> Any:
    """Mean of every window.

    Parameters
    ----------
    x : (N, C, H, W) array
    kernel_size, stride, padding, ceil_mode
        As in `max_pool2d`.
    count_include_pad : bool
        Whether zeros of the padding count.
    out : (N, C, OH, OW) array, optional

    Returns
    -------
    (N, C, OH, OW) array

    Examples
    --------
    >>> avg_pool2d([[[[1.0, 3.0], [5.0, 7.0]]]], 2)
    array([[[[4.]]]])
    """

    def attrs() -> dict[str, Any]:
        window = pool_window(kernel_size, stride, padding, ceil_mode)
        return {**window, "count_include_pad": arguments.as_flag(count_include_pad, "count_include_pad")}

    return apply("avg_pool2d", "AveragePool", {"x": x}, attrs, out)


def pool_window(kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any) -> dict[str, Any]:
    kernel = arguments.as_pair(kernel_size, "kernel_size")
    return {
        "kernel_shape": kernel,
        "strides": kernel if stride is None else arguments.as_pair(stride, "stride"),
        **arguments.as_padding(padding),
        "ceil_mode": arguments.as_flag(ceil_mode, "ceil_mode"),
    }


def global_avg_pool2d(x: Array, out: np.ndarray | None = None) -> Any:
    """Mean of every plane.

    Parameters
    ----------
    x : (N, C, H, W) array
    out : (N, C, 1, 1) array, optional

    Returns
    -------
    (N, C, 1, 1) array

    Examples
    --------
    >>> global_avg_pool2d([[[[1.0, 3.0], [5.0, 7.0]]]])
    array([[[[4.]]]])
    """
    return apply("global_avg_pool2d", "GlobalAveragePool", {"x": x}, dict, out)
