"""Gradients of the functional API's functions, by each of their inputs.

`grad` is the gradient of some number, a loss, by a function's output; each function gives it by one of the inputs.
Arguments that a function shares with the forward one mean the same. `fastcnn.Trainer` does without: they are for
checking, and for training loops of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn import ops
from fastcnn.functional._apply import Array, apply, prefixed
from fastcnn.functional.pool import pool_window
from fastcnn.functional.weighted import response_window
from fastcnn.graph.trace import Symbol


def _window(stride: Any, padding: Any, dilation: Any, groups: Any, size: Any, kernel: Any) -> dict[str, Any]:
    """Attributes of a convolution, padding in pixels."""
    attrs = {
        "strides": arguments.as_pair(stride, "stride"),
        **arguments.as_padding(padding),
        "dilations": arguments.as_pair(dilation, "dilation"),
    }
    attrs["pads"] = ops.base.resolve_pads(attrs, size, kernel)
    del attrs["auto_pad"]
    return {**attrs, "group": arguments.as_int(groups, "groups", 1)}


def _shape(array: Array, name: str, rank: int) -> tuple[int, ...]:
    shape = array.shape if isinstance(array, Symbol) else arguments.as_real_array(array, name).shape
    if len(shape) != rank:
        raise ValueError(f"{name}.shape={shape}, expected {rank} dimensions")
    return shape


def conv2d_grad_input(
    grad: Array,
    weight: Array,
    size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    out: np.ndarray | None = None,
) -> Any:
    """Gradient of `conv2d` by x: the transposed convolution.

    Parameters
    ----------
    grad : (N, O, OH, OW) array
    weight : (O, C / groups, kh, kw) array
    size : int or pair
        Height and width of x.
    stride, padding, dilation, groups
        As in `conv2d`.
    out : (N, C, H, W) array, optional

    Returns
    -------
    (N, C, H, W) array

    Raises
    ------
    ValueError
        Where grad does not have the shape of the output for an x of this size.

    References
    ----------
    Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d_grad_input(np.ones((1, 1, 1, 1)), [[[[1, 2], [3, 4]]]], size=2)
    array([[[[1., 2.],
             [3., 4.]]]])
    """

    def attrs() -> dict[str, Any]:
        pixels = arguments.as_pair(size, "size")
        return {"size": pixels, **_window(stride, padding, dilation, groups, pixels, _shape(weight, "weight", 4)[2:])}

    return apply("conv2d_grad_input", "ConvGradInput", {"grad": grad, "weight": weight}, attrs, out)


def conv2d_grad_weight(
    x: Array,
    grad: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    out: np.ndarray | None = None,
) -> Any:
    """Gradient of `conv2d` by the weight.

    Parameters
    ----------
    x : (N, C, H, W) array
    grad : (N, O, OH, OW) array
    kernel_size : int or pair
        Height and width of the filters.
    stride, padding, dilation, groups
        As in `conv2d`.
    out : (O, C / groups, kh, kw) array, optional

    Returns
    -------
    (O, C / groups, kh, kw) array

    Notes
    -----
    Winograd's algorithm computes gradients of 3 x 3 filters of stride 1, one group and at least 16 channels. Sums over
    P pixels of grad then differ from the exact ones: for random signs by at most 5e-7 times sqrt(P + 8) of their
    Euclidean norm.

    Examples
    --------
    >>> import numpy as np
    >>> conv2d_grad_weight(np.arange(4.0).reshape(1, 1, 2, 2), np.ones((1, 1, 2, 2)), 1)
    array([[[[6.]]]])
    """

    def attrs() -> dict[str, Any]:
        kernel = arguments.as_pair(kernel_size, "kernel_size")
        window = _window(stride, padding, dilation, groups, _shape(x, "x", 4)[2:], kernel)
        return {"kernel_shape": kernel, **window}

    return apply("conv2d_grad_weight", "ConvGradWeight", {"x": x, "grad": grad}, attrs, out)


def conv2d_grad_bias(grad: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `conv2d` by the bias: the sum over all but the channels.

    Parameters
    ----------
    grad : (N, O, OH, OW) array
    out : (O,) array, optional

    Returns
    -------
    (O,) array

    Examples
    --------
    >>> conv2d_grad_bias([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    array([3., 7.])
    """
    return apply("conv2d_grad_bias", "ChannelSum", {"grad": grad}, dict, out)


def linear_grad_input(grad: Array, weight: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `linear` by x: grad @ weight.

    Parameters
    ----------
    grad : (N, O) array
    weight : (O, I) array
    out : (N, I) array, optional

    Returns
    -------
    (N, I) array

    Examples
    --------
    >>> linear_grad_input([[1.0, 1.0]], [[3.0, 4.0], [5.0, 6.0]])
    array([[ 8., 10.]])
    """
    return apply("linear_grad_input", "GemmGradInput", {"grad": grad, "weight": weight}, dict, out)


def linear_grad_weight(x: Array, grad: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `linear` by the weight: grad.T @ x.

    Parameters
    ----------
    x : (N, I) array
    grad : (N, O) array
    out : (O, I) array, optional

    Returns
    -------
    (O, I) array

    Examples
    --------
    >>> linear_grad_weight([[1.0, 2.0]], [[10.0]])
    array([[10., 20.]])
    """
    return apply("linear_grad_weight", "GemmGradWeight", {"x": x, "grad": grad}, dict, out)


def linear_grad_bias(grad: Array, out: np.ndarray | None = None) -> Any:
    """Gradient of `linear` by the bias: the sum of the rows.

    Parameters
    ----------
    grad : (N, O) array
    out : (O,) array, optional

    Returns
    -------
    (O,) array

    Examples
    --------
    >>> linear_grad_bias([[1.0, 2.0], [3.0, 4.0]])
    array([4., 6.])
    """
    return apply("linear_grad_bias", "ChannelSum", {"grad": grad}, dict, out)


def max_pool2d_grad(
    grad: Array,
    x: Array,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    out: np.ndarray | None = None,
) -> Any:
    """Gradient of `max_pool2d` by x.

    Each window's goes to the first of its largest values, row by row; to its last NaN where it holds one. PyTorch has
    the same rule.

    Parameters
    ----------
    grad : (N, C, OH, OW) array
    x : (N, C, H, W) array
    kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool2d`.
    out : (N, C, H, W) array, optional

    Returns
    -------
    (N, C, H, W) array

    Examples
    --------
    >>> max_pool2d_grad([[[[5.0]]]], [[[[1.0, 7.0], [7.0, 0.0]]]], 2)
    array([[[[0., 5.],
             [0., 0.]]]])
    """

    def attrs() -> dict[str, Any]:
        window = pool_window(kernel_size, stride, padding, ceil_mode)
        return {**window, "dilations": arguments.as_pair(dilation, "dilation")}

    return apply("max_pool2d_grad", "MaxPoolGrad", {"grad": grad, "x": x}, attrs, out)


def avg_pool2d_grad(
    grad: Array,
    size: int | Sequence[int],
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | str | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    out: np.ndarray | None = None,
) -> Any:
    """Gradient of `avg_pool2d` by x of `size` (H, W): each window's in equal parts to what its mean counts.

    Parameters
    ----------
    grad : (N, C, OH, OW) array
    size : int or pair
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As in `avg_pool2d`.
    out : (N, C, H, W) array, optional

    Returns
    -------
    (N, C, H, W) array

    Examples
    --------
    >>> avg_pool2d_grad([[[[4.0]]]], 2, 2)
    array([[[[1., 1.],
             [1., 1.]]]])
    """

    def attrs() -> dict[str, Any]:
        window = pool_window(kernel_size, stride, padding, ceil_mode)
        counted = arguments.as_flag(count_include_pad, "count_include_pad")
        return {**window, "size": arguments.as_pair(size, "size"), "count_include_pad": counted}

    return apply("avg_pool2d_grad", "AveragePoolGrad", {"grad": grad}, attrs, out)


def global_avg_pool2d_grad(grad: Array, size: int | Sequence[int], out: np.ndarray | None = None) -> Any:
    """Gradient of `global_avg_pool2d` by x: grad / (H * W) at every pixel.

    Parameters
    ----------
    grad : (N, C, 1, 1) array
    size : int or pair
        Height and width of x.
    out : (N, C, H, W) array, optional

    Returns
    -------
    (N, C, H, W) array

    Examples
    --------
    >>> global_avg_pool2d_grad([[[[6.0]]]], (1, 2))
    array([[[[3., 3.]]]])
    """
    return apply(
        "global_avg_pool2d_grad",
        "GlobalAveragePoolGrad",
        {"grad": grad},
        lambda: {"size": arguments.as_pair(size, "size")},
        out,
    )


def batch_norm_grad(
    grad: Array, x: Array, weight: Array | None = None, *, eps: float = 1e-5, out: np.ndarray | None = None
) -> Any:
    """Gradient by x of batch normalisation in training, with the statistics of the batch x itself.

    With h = (x - mean) / sqrt(var + eps), means over all but the channel::

        weight / sqrt(var + eps) * (grad - mean(grad) - h * mean(grad * h))

    The gradients by weight and bias are the sums of grad * h and of grad.

    Parameters
    ----------
    grad, x : (N, C, H, W) arrays
    weight : (C,) array, optional
        Ones by default.
    eps : float
    out : (N, C, H, W) array, optional

    Returns
    -------
    (N, C, H, W) array

    References
    ----------
    Ioffe and Szegedy, Batch Normalization, 2015, section 3.

    Examples
    --------
    >>> batch_norm_grad([[[[1.0, 0.0, 0.0]]]], [[[[0.0, 3.0, 0.0]]]], eps=0.0).round(4) + 0.0
    array([[[[ 0.3536,  0.    , -0.3536]]]])
    """
    with prefixed("batch_norm_grad"):
        channels = _shape(x, "x", 4)[1]
    weight = np.ones(channels, np.float32) if weight is None else weight
    return apply(
        "batch_norm_grad",
        "BatchNormGrad",
        {"grad": grad, "x": x, "weight": weight},
        lambda: {"epsilon": arguments.as_float(eps, "eps")},
        out,
    )


def local_response_norm_grad(
    grad: Array,
    x: Array,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    out: np.ndarray | None = None,
) -> Any:
    """Gradient of `local_response_norm` by x.

    With s_j = k + alpha / size * (sum of x_i^2 over the window of channel j)::

        grad_j s_j^-beta - 2 alpha beta / size x_j * (sum of grad_i x_i s_i^(-beta - 1) over the same window)

    Parameters
    ----------
    grad, x : (N, C, H, W) arrays
    size, alpha, beta, k
        As in `local_response_norm`.
    out : (N, C, H, W) array, optional

    Returns
    -------
    (N, C, H, W) array

    Examples
    --------
    >>> x = [[[[3.0]], [[4.0]]]]
    >>> local_response_norm_grad([[[[1.0]], [[0.0]]]], x, 3, alpha=3.0, beta=0.5, k=0.0).ravel().round(3)
    array([ 0.128, -0.096])
    """
    return apply(
        "local_response_norm_grad",
        "LRNGrad",
        {"grad": grad, "x": x},
        lambda: response_window(size, alpha, beta, k),
        out,
    )
