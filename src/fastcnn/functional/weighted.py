"""Functions with weights: convolution, fully connected; and normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.compiler.choose import algorithm_names
from fastcnn.functional._apply import Array, apply, prefixed
from fastcnn.graph.trace import Symbol


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    algorithm: str = "auto",
    out: np.ndarray | None = None,
) -> Any:
    """Convolve images with filters.

    Parameters
    ----------
    x : (N, C, H, W) array
        Images.
    weight : (O, C / groups, kh, kw) array
        Filters; they are correlated, not flipped.
    bias : (O,) array, optional
    stride : int or pair
        Pixels from one window to the next; a pair is (height, width).
    padding : int, pair, four numbers, "same" or "valid"
        Zeros around the image: everywhere, (height, width), or (top, left, bottom, right). "same" gives
        ceil(size / stride) outputs and puts an odd pixel at the bottom and right, as TensorFlow does.
    dilation : int or pair
        Pixels from one tap of a window to the next.
    groups : int
        Groups of channels that do not see each other; C is depthwise.
    algorithm : {"auto", "direct", "depthwise", "winograd", "winograd2", "winograd_lean", "winograd6", "im2col"}
        How it is computed; ValueError where the one asked for cannot do this layer. "winograd2", "winograd" and
        "winograd6" are F(2x2, 3x3), F(4x4, 3x3) and F(6x6, 3x3). They take 9/4, 4 and 5 times fewer multiplications for
        a 3 x 3 convolution, and "winograd2" 36/25 times fewer for one with stride 2. Their results differ from the
        exact ones: for values of random signs, by at most 2e-7, 5e-7 and 5e-6 times sqrt(C + 8) of their Euclidean
        norm; products that all have one sign add 6e-8 times C. A NaN or infinity spreads over the pixels of its patch.
        "winograd_lean" is "winograd" with a quarter of its memory: filters are transformed while they are read. "auto"
        never takes them here, but does in models, whose filters are packed once; "winograd6" only if asked for.
    out : (N, O, OH, OW) array, optional

    Returns
    -------
    (N, O, OH, OW) array

    References
    ----------
    ONNX operator specification, Conv; Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016.

    Examples
    --------
    >>> import numpy as np
    >>> edge = np.array([[[[-1, 0, 1]] * 3]])  # a vertical line, left dark and right bright
    >>> image = np.array([[[[0, 0, 9, 9]] * 3]])
    >>> conv2d(image, edge)
    array([[[[27., 27.]]]])
    """

    def attrs() -> dict[str, Any]:
        if not isinstance(algorithm, str) or algorithm not in algorithm_names():
            raise ValueError(f"algorithm={algorithm!r}, expected one of {', '.join(algorithm_names())}")
        return {
            "strides": arguments.as_pair(stride, "stride"),
            **arguments.as_padding(padding),
            "dilations": arguments.as_pair(dilation, "dilation"),
            "group": arguments.as_int(groups, "groups", 1),
            "algorithm": algorithm,
        }

    return apply("conv2d", "Conv", {"x": x, "weight": weight, "bias": bias}, attrs, out)


def linear(x: Array, weight: Array, bias: Array | None = None, out: np.ndarray | None = None) -> Any:
    """x @ weight.T + bias: a fully connected layer.

    Parameters
    ----------
    x : (..., I) array
    weight : (O, I) array
    bias : (O,) array, optional
    out : (..., O) array, optional

    Returns
    -------
    (..., O) array

    Examples
    --------
    >>> linear([[1.0, 2.0]], [[3.0, 4.0]], [0.5])
    array([[11.5]])
    """
    with prefixed("linear"):
        x = x if x is None or isinstance(x, Symbol) else arguments.as_real_array(x, "x")
    if isinstance(x, np.ndarray) and x.ndim not in (0, 2):
        return _linear_of_rows(x, weight, bias, out)
    return apply("linear", "Gemm", {"x": x, "weight": weight, "bias": bias}, dict, out)


def _linear_of_rows(x: np.ndarray, weight: Array, bias: Array | None, out: np.ndarray | None) -> np.ndarray:
    """`linear` for x of other than two dimensions: all but the last are one."""
    rows: np.ndarray = linear(x.reshape(prod(x.shape[:-1]), x.shape[-1]), weight, bias)
    result = rows.reshape(*x.shape[:-1], rows.shape[1])
    if out is None:
        return result
    with prefixed("linear"):
        arguments.check_out(out, result.shape, result.dtype)
    out[...] = result
    return out


def batch_norm(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    eps: float = 1e-5,
    out: np.ndarray | None = None,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, by channel (Ioffe and Szegedy, 2015), with known statistics.

    Parameters
    ----------
    x : (N, C, ...) array
    running_mean, running_var : (C,) arrays
    weight, bias : (C,) arrays, optional
        One and zero by default.
    eps : float
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> batch_norm([[4.0]], [2.0], [1.0], eps=0.0)
    array([[2.]])
    """
    with prefixed("batch_norm"):
        mean = running_mean if running_mean is None else arguments.as_real_array(running_mean, "running_mean")
    if mean is not None:
        weight = np.ones(mean.shape, np.float32) if weight is None else weight
        bias = np.zeros(mean.shape, np.float32) if bias is None else bias
    inputs = {"x": x, "weight": weight, "bias": bias, "running_mean": mean, "running_var": running_var}
    return apply("batch_norm", "BatchNormalization", inputs, lambda: {"epsilon": arguments.as_float(eps, "eps")}, out)


def response_window(size: Any, alpha: Any, beta: Any, k: Any) -> dict[str, Any]:
    """ONNX's attributes of a local response normalisation."""
    channels = arguments.as_int(size, "size", 1)
    if channels % 2 == 0:
        raise ValueError(f"size={channels}, expected an odd number: of even windows libraries disagree on the middle")
    numbers = {"alpha": (alpha, "alpha"), "beta": (beta, "beta"), "bias": (k, "k")}
    return {"size": channels, **{key: arguments.as_float(*number) for key, number in numbers.items()}}


def local_response_norm(
    x: Array, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, out: np.ndarray | None = None
) -> Any:
    """x / (k + alpha / size * sum of x^2 over `size` neighbouring channels)^beta, as in AlexNet and GoogLeNet.

    Parameters
    ----------
    x : (N, C, H, W) array
    size : int
        Channels of a window, its own in the middle: an odd number, at most 2 * C + 1.
    alpha, beta, k : float
    out : (N, C, H, W) array, optional

    Returns
    -------
    (N, C, H, W) array

    References
    ----------
    Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, 2012, section
    3.3.

    Examples
    --------
    >>> local_response_norm([[[[3.0]], [[4.0]]]], 3, alpha=3.0, beta=0.5, k=0.0).ravel()
    array([0.6, 0.8])
    """
    return apply("local_response_norm", "LRN", {"x": x}, lambda: response_window(size, alpha, beta, k), out)
