"""Operations of layers in plain float64 NumPy; what is common to all is told in the package's docstring."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from fastcnn.reference.base import Array, Ints, as_real, ieee


def _windows(x: Array, kernel: Ints, stride: Ints, pads: Ints, dilation: Ints, border: float) -> Array:
    """All windows that fit into x surrounded by `border`, as a view (N, C, H', W', kh, kw)."""
    top, left, bottom, right = pads
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padded = pad(x, (0, 0, top, left, 0, 0, bottom, right), border)
    every = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(2, 3))
    return every[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


@ieee
def conv2d(
    x: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
) -> Array:
    """Convolution, without mirroring the kernel (Dumoulin and Visin, https://arxiv.org/abs/1603.07285).

    With x surrounded by zeros, and channel c counted within the group that output o belongs to::

        y[n, o, i, j] = bias[o] + sum over c, u, v of
                        weight[o, c, u, v] * x[n, c, i*sh + u*dh - top, j*sw + v*dw - left]

        H' = floor((H + top + bottom - dh * (kh - 1) - 1) / sh) + 1, and W' likewise

    Parameters
    ----------
    x : (N, C, H, W) array
    weight : (O, C / groups, kh, kw) array
    bias : (O,) array, optional
    stride : pair of int >= 1
        Pixels (sh, sw) from one window to the next.
    pads : four int >= 0
        Zeros at top, left, bottom, right. They take part: zero times an infinite weight is NaN.
    dilation : pair of int >= 1
        Pixels (dh, dw) from one tap of a window to the next.
    groups : int >= 1
        The number of equal parts of channels and outputs; an output sees the channels of its part.

    Returns
    -------
    (N, O, H', W') float64 array
        Before the bias is added, one BLAS product for each image and group: an image's bits do not depend on
        its neighbours in the batch.

    Raises
    ------
    ValueError
        Where weight and channels do not match, `groups` does not divide them, or the kernel does not fit.

    Examples
    --------
    >>> conv2d(np.arange(9).reshape(1, 1, 3, 3), [[[[1, 0], [0, -1]]]], bias=[10])
    array([[[[6., 6.],
             [6., 6.]]]])
    """
    weight = as_real(weight)
    windows = _windows(as_real(x), weight.shape[2:], stride, pads, dilation, border=0.0)
    y = np.empty((windows.shape[0], weight.shape[0], *windows.shape[2:4]))
    weights = np.split(weight, groups)
    for image, outputs in zip(windows, y, strict=True):
        parts = zip(weights, np.split(image, groups), np.split(outputs, groups), strict=True)
        for w, channels, output in parts:
            output[:] = np.tensordot(w, channels, axes=([1, 2, 3], [0, 3, 4]))
    return y if bias is None else y + as_real(bias).reshape(-1, 1, 1)


def _pool_windows(
    x: Array, kernel: Ints, stride: Ints, pads: Ints, dilation: Ints, ceil_mode: bool, border: float
) -> Array:
    """The windows (N, C, H', W', kh, kw) of a pool over x surrounded by `border`.

    A window covers E = d * (k - 1) + 1 pixels of an axis; in the padded image fit::

        H' = floor((H + top + bottom - E) / s) + 1

    With `ceil_mode` a next, incomplete window counts where its first pixel lies in the image or the padding
    before it (PyTorch's rule).
    """
    top, left, bottom, right = pads
    beyond = [0, 0]
    for axis, (before, after) in enumerate(((top, bottom), (left, right))):
        end = before + x.shape[2 + axis]
        room = end + after - (dilation[axis] * (kernel[axis] - 1) + 1)
        start = -(-room // stride[axis]) * stride[axis]  # the first from `room` on
        if ceil_mode and start < end:
            beyond[axis] = start - room
    pads = (top, left, bottom + beyond[0], right + beyond[1])
    return _windows(x, kernel, stride, pads, dilation, border)


@ieee
def max_pool2d(
    x: npt.ArrayLike, kernel: Ints, stride: Ints, pads: Ints, dilation: Ints = (1, 1), ceil_mode: bool = False
) -> Array:
    """Largest value of each window; NaN where the window holds one.

    With x surrounded by -inf::

        y[n, c, i, j] = max over u, v of x[n, c, i*sh + u*dh - top, j*sw + v*dw - left]

    Parameters
    ----------
    x : (N, C, H, W) array
    kernel, stride : pair of int >= 1
        Size (kh, kw) of a window, and pixels from one window to the next.
    pads : four int >= 0
        Padding at top, left, bottom, right; it never wins over a pixel.
    dilation : pair of int >= 1
        Pixels from one tap of a window to the next.
    ceil_mode : bool
        Whether a last, incomplete window counts, if it starts inside the image or its top or left padding.

    Returns
    -------
    (N, C, H', W') float64 array

    Raises
    ------
    ValueError
        Where the image is too small for a window.

    Examples
    --------
    >>> image = [[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 4], [112, 100, 25, 12]]
    >>> max_pool2d([[image]], kernel=(2, 2), stride=(2, 2), pads=(0, 0, 0, 0))
    array([[[[ 20.,  30.],
             [112.,  37.]]]])
    """
    windows = _pool_windows(as_real(x), kernel, stride, pads, dilation, ceil_mode, -np.inf)
    y = np.full(windows.shape[:4], -np.inf)
    for u, v in np.ndindex(*windows.shape[4:]):
        np.maximum(y, windows[..., u, v], out=y)
    return y


@ieee
def avg_pool2d(
    x: npt.ArrayLike,
    kernel: Ints,
    stride: Ints,
    pads: Ints,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Mean of each window; NaN where a window has nothing to count.

    x is surrounded by zeros. `count` is the number of the window's pixels that lie in the padded image if
    `count_include_pad`, else in the image; those that `ceil_mode` adds beyond the padding never count::

        y[n, c, i, j] = (sum over u, v of x[n, c, i*sh + u - top, j*sw + v - left]) / count[i, j]

    Parameters
    ----------
    x, kernel, stride, pads, ceil_mode
        As in `max_pool2d`, whose errors this shares.
    count_include_pad : bool
        Whether padding counts as pixels. (ONNX AveragePool's default is that it does not.)

    Returns
    -------
    (N, C, H', W') float64 array

    Examples
    --------
    >>> x = np.arange(4).reshape(1, 1, 2, 2)
    >>> avg_pool2d(x, kernel=(2, 2), stride=(2, 2), pads=(1, 1, 1, 1))
    array([[[[0.  , 0.25],
             [0.5 , 0.75]]]])
    >>> avg_pool2d(x, kernel=(2, 2), stride=(2, 2), pads=(1, 1, 1, 1), count_include_pad=False)
    array([[[[0., 1.],
             [2., 3.]]]])
    """
    x = as_real(x)
    windows = _pool_windows(x, kernel, stride, pads, (1, 1), ceil_mode, 0.0)
    total = np.zeros(windows.shape[:4])
    for u, v in np.ndindex(*windows.shape[4:]):
        total += windows[..., u, v]
    counts = []
    for axis in range(2):
        before, after = (pads[axis], pads[2 + axis]) if count_include_pad else (0, 0)
        start = np.arange(total.shape[2 + axis]) * stride[axis] - pads[axis]
        end = np.minimum(start + kernel[axis], x.shape[2 + axis] + after)
        counts.append(np.maximum(end - np.maximum(start, -before), 0))
    return np.asarray(total / np.outer(*counts))


@ieee
def global_avg_pool2d(x: npt.ArrayLike) -> Array:
    """Mean of each plane, (N, C, H, W) to (N, C, 1, 1) (Lin et al., https://arxiv.org/abs/1312.4400).

    Parameters
    ----------
    x : (N, C, H, W) array

    Returns
    -------
    (N, C, 1, 1) float64 array

    Examples
    --------
    >>> global_avg_pool2d(np.arange(6).reshape(1, 1, 2, 3))
    array([[[[2.5]]]])
    """
    x = as_real(x)
    total: Array = x.sum(axis=(2, 3), keepdims=True)
    return total / prod(x.shape[2:])


@ieee
def linear(x: npt.ArrayLike, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None) -> Array:
    """y = x @ weight.T + bias: ONNX Gemm with transB=1.

    Parameters
    ----------
    x : (..., I) array
    weight : (O, I) array
    bias : (O,) array, optional

    Returns
    -------
    (..., O) float64 array

    Raises
    ------
    ValueError
        Where x and weight differ in I.

    Examples
    --------
    >>> linear([[1, 2]], [[3, 4], [5, 6]], bias=[0.5, 0])
    array([[11.5, 17. ]])
    """
    y: Array = as_real(x) @ as_real(weight).T
    return y if bias is None else y + as_real(bias)


@ieee
def batch_norm(
    x: npt.ArrayLike,
    mean: npt.ArrayLike,
    var: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalize each channel by known statistics (Ioffe and Szegedy, https://arxiv.org/abs/1502.03167).

    For x of shape (N, C, ...), all others of shape (C,), an absent weight of 1 and an absent bias of 0::

        y[n, c, ...] = (x[n, c, ...] - mean[c]) / sqrt(var[c] + eps) * weight[c] + bias[c]

    y is NaN where var + eps < 0.

    Parameters
    ----------
    x : (N, C, ...) array
    mean, var : (C,) arrays
    weight, bias : (C,) arrays, optional
    eps : float

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> batch_norm([[3.0, 8.0]], mean=[1, 2], var=[4, 9], weight=[1, 5], bias=[0, 7], eps=0)
    array([[ 1., 17.]])
    """
    x = as_real(x)
    mean, var, weight, bias = (
        as_real(values).reshape(-1, *[1] * (x.ndim - 2))
        for values in (mean, var, 1.0 if weight is None else weight, 0.0 if bias is None else bias)
    )
    return (x - mean) / np.sqrt(var + eps) * weight + bias


@ieee
def add(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """y = a + b, with NumPy's broadcasting.

    Parameters
    ----------
    a, b : array_like

    Returns
    -------
    float64 array of the common shape

    Raises
    ------
    ValueError
        Where shapes do not allow it.

    Examples
    --------
    >>> add([1, 2], [[10]])
    array([[11., 12.]])
    """
    return as_real(a) + as_real(b)


@ieee
def multiply(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """y = a * b, with NumPy's broadcasting.

    Parameters
    ----------
    a, b : array_like

    Returns
    -------
    float64 array of the common shape

    Raises
    ------
    ValueError
        Where shapes do not allow it.

    Examples
    --------
    >>> multiply([1, 2], [[10]])
    array([[10., 20.]])
    """
    return as_real(a) * as_real(b)


@ieee
def concat(arrays: Sequence[npt.ArrayLike], axis: int = 1) -> Array:
    """The arrays one after the other along an axis.

    Parameters
    ----------
    arrays : sequence of array_like
    axis : int

    Returns
    -------
    float64 array

    Raises
    ------
    ValueError
        Where other axes differ.

    Examples
    --------
    >>> concat([[[1, 2]], [[3]]])
    array([[1., 2., 3.]])
    """
    return np.concatenate([as_real(array) for array in arrays], axis=axis)


@ieee
def pad(x: npt.ArrayLike, pads: Ints, value: float = 0.0) -> Array:
    """A border of one value (ONNX Pad).

    Parameters
    ----------
    x : array_like
        Of n axes.
    pads : 2 * n int >= 0
        Elements before each axis, then after each.
    value : float

    Returns
    -------
    float64 array

    Raises
    ------
    ValueError
        Where an element of `pads` is below 0.

    Examples
    --------
    >>> pad([[1, 2]], pads=(0, 1, 1, 0), value=9)
    array([[9., 1., 2.],
           [9., 9., 9.]])
    """
    x = as_real(x)
    return np.pad(x, np.reshape(pads, (2, x.ndim)).T, constant_values=value)


@ieee
def flatten(x: npt.ArrayLike, axis: int = 1) -> Array:
    """A matrix of the same elements: axes before `axis` make its rows, the others its columns (ONNX Flatten).

    Parameters
    ----------
    x : array_like
    axis : int

    Returns
    -------
    float64 array of two axes

    Examples
    --------
    >>> flatten(np.zeros((2, 3, 4, 5))).shape
    (2, 60)
    """
    x = as_real(x)
    rows, columns = prod(x.shape[:axis]), prod(x.shape[axis:])
    return np.array(x.reshape(rows, columns))
