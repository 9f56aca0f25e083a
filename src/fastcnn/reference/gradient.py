"""Gradients of layers in plain float64 NumPy.

`grad` is the gradient of some number by an operation's output; each function gives the gradient by one of its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastcnn.reference.base import Array, Ints, as_real, ieee
from fastcnn.reference.forward import _pool_windows, _windows

Place = tuple[slice, slice]


def _taps(kernel: Ints, stride: Ints, dilation: Ints, size: Ints) -> Iterator[tuple[int, int, Place]]:
    """Every tap (u, v), and which pixels of the padded input the `size` windows see through it."""
    for u, v in np.ndindex(*kernel):
        rows = slice(u * dilation[0], u * dilation[0] + (size[0] - 1) * stride[0] + 1, stride[0])
        columns = slice(v * dilation[1], v * dilation[1] + (size[1] - 1) * stride[1] + 1, stride[1])
        yield u, v, (rows, columns)


@ieee
def conv2d_grad_input(
    grad: npt.ArrayLike,
    weight: npt.ArrayLike,
    size: Ints,
    stride: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d` by x, of `size` (H, W): the transposed convolution.

    In the notation of `conv2d`::

        dx[n, c, i*sh + u*dh - top, j*sw + v*dw - left] += weight[o, c, u, v] * grad[n, o, i, j]

    Parameters
    ----------
    grad : (N, O, H', W') array
    weight : (O, C / groups, kh, kw) array
    size : pair of int
        Height and width of x.
    stride, pads, dilation, groups
        As in `conv2d`.

    Returns
    -------
    (N, C, H, W) float64 array

    Examples
    --------
    >>> conv2d_grad_input([[[[1.0]]]], [[[[1, 2], [3, 4]]]], size=(2, 3))
    array([[[[1., 2., 0.],
             [3., 4., 0.]]]])
    """
    grad, weight = as_real(grad), as_real(weight)
    n, outs, ins = len(grad), weight.shape[0] // groups, weight.shape[1]
    top, left, bottom, right = pads
    padded = np.zeros((n, ins * groups, top + size[0] + bottom, left + size[1] + right))
    for g in range(groups):
        filters, part = weight[g * outs : (g + 1) * outs], grad[:, g * outs : (g + 1) * outs]
        for u, v, (rows, columns) in _taps(weight.shape[2:], stride, dilation, grad.shape[2:]):
            padded[:, g * ins : (g + 1) * ins, rows, columns] += np.einsum("nohw,oc->nchw", part, filters[:, :, u, v])
    return np.array(padded[:, :, top : top + size[0], left : left + size[1]])


@ieee
def conv2d_grad_weight(
    x: npt.ArrayLike,
    grad: npt.ArrayLike,
    kernel: Ints,
    stride: Ints = (1, 1),
    pads: Ints = (0, 0, 0, 0),
    dilation: Ints = (1, 1),
    groups: int = 1,
) -> Array:
    """Gradient of `conv2d` by the weight, whose filters are `kernel` (kh, kw) in size.

    In the notation of `conv2d`::

        dw[o, c, u, v] = sum over n, i, j of grad[n, o, i, j] * x[n, c, i*sh + u*dh - top, j*sw + v*dw - left]

    Parameters
    ----------
    x : (N, C, H, W) array
    grad : (N, O, H', W') array
    kernel : pair of int
        Height and width of the filters.
    stride, pads, dilation, groups
        As in `conv2d`.

    Returns
    -------
    (O, C / groups, kh, kw) float64 array

    Examples
    --------
    >>> conv2d_grad_weight([[[[1, 2, 3]]]], [[[[1, 10]]]], kernel=(1, 2))
    array([[[[21., 32.]]]])
    """
    x, grad = as_real(x), as_real(grad)
    windows = _windows(x, kernel, stride, pads, dilation, border=0.0)
    outs, ins = grad.shape[1] // groups, x.shape[1] // groups
    parts = [
        np.tensordot(grad[:, g * outs : (g + 1) * outs], windows[:, g * ins : (g + 1) * ins], ([0, 2, 3], [0, 2, 3]))
        for g in range(groups)
    ]
    return np.concatenate(parts)


@ieee
def conv2d_grad_bias(grad: npt.ArrayLike) -> Array:
    """Gradient of `conv2d` by the bias: the sum over all but the channels.

    Parameters
    ----------
    grad : (N, O, ...) array

    Returns
    -------
    (O,) float64 array

    Examples
    --------
    >>> conv2d_grad_bias([[[[1, 2]], [[3, 4]]]])
    array([3., 7.])
    """
    grad = as_real(grad)
    return np.asarray(grad.sum(axis=(0, *range(2, grad.ndim))))


@ieee
def linear_grad_input(grad: npt.ArrayLike, weight: npt.ArrayLike) -> Array:
    """Gradient of `linear` by x: grad @ weight.

    Parameters
    ----------
    grad : (..., O) array
    weight : (O, I) array

    Returns
    -------
    (..., I) float64 array

    Examples
    --------
    >>> linear_grad_input([[1, 1]], [[3, 4], [5, 6]])
    array([[ 8., 10.]])
    """
    return np.asarray(as_real(grad) @ as_real(weight))


@ieee
def linear_grad_weight(x: npt.ArrayLike, grad: npt.ArrayLike) -> Array:
    """Gradient of `linear` by the weight: grad.T @ x.

    Parameters
    ----------
    x : (N, I) array
    grad : (N, O) array

    Returns
    -------
    (O, I) float64 array

    Examples
    --------
    >>> linear_grad_weight([[1, 2]], [[10, 20]])
    array([[10., 20.],
           [20., 40.]])
    """
    return np.asarray(as_real(grad).T @ as_real(x))


@ieee
def linear_grad_bias(grad: npt.ArrayLike) -> Array:
    """Gradient of `linear` by the bias: the sum of the rows.

    Parameters
    ----------
    grad : (N, O) array

    Returns
    -------
    (O,) float64 array

    Examples
    --------
    >>> linear_grad_bias([[1, 2], [3, 4]])
    array([4., 6.])
    """
    return conv2d_grad_bias(grad)


@ieee
def max_pool2d_grad(
    grad: npt.ArrayLike,
    x: npt.ArrayLike,
    kernel: Ints,
    stride: Ints,
    pads: Ints,
    dilation: Ints = (1, 1),
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `max_pool2d` by x.

    Each window's goes to the first of its largest values, row by row; to the last NaN where it holds one. PyTorch has
    the same rule.

    Parameters
    ----------
    grad : (N, C, H', W') array
    x : (N, C, H, W) array
    kernel, stride, pads, dilation, ceil_mode
        As in `max_pool2d`.

    Returns
    -------
    (N, C, H, W) float64 array

    Examples
    --------
    >>> max_pool2d_grad([[[[5]]]], [[[[1, 7], [7, 0]]]], (2, 2), (2, 2), (0, 0, 0, 0))
    array([[[[0., 5.],
             [0., 0.]]]])
    """
    grad, x = as_real(grad), as_real(x)
    inside = _pool_windows(np.ones_like(x), kernel, stride, pads, dilation, ceil_mode, 0.0) > 0
    windows = _pool_windows(x, kernel, stride, pads, dilation, ceil_mode, -np.inf)
    flat = windows.reshape(*windows.shape[:4], -1)
    real = np.where(inside.reshape(flat.shape), flat, -np.inf)
    missing = np.isnan(real)
    # An image of -inf alone still has a first pixel: one that lies inside wins over one that does not.
    best = real.max(axis=-1, keepdims=True)
    candidates = np.where(inside.reshape(flat.shape), real == best, False)
    last_nan = real.shape[-1] - 1 - missing[..., ::-1].argmax(axis=-1)
    winner = np.where(missing.any(axis=-1), last_nan, candidates.argmax(axis=-1))
    top, left = pads[:2]
    size = [
        max(
            x.shape[2 + a] + pads[a] + pads[2 + a],
            (grad.shape[2 + a] - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + 1,
        )
        for a in range(2)
    ]
    padded = np.zeros((*x.shape[:2], *size))
    for u, v, (rows, columns) in _taps(kernel, stride, dilation, grad.shape[2:]):
        padded[:, :, rows, columns] += np.where(winner == u * kernel[1] + v, grad, 0.0)
    return np.array(padded[:, :, top : top + x.shape[2], left : left + x.shape[3]])


@ieee
def avg_pool2d_grad(
    grad: npt.ArrayLike,
    size: Ints,
    kernel: Ints,
    stride: Ints,
    pads: Ints,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of `avg_pool2d` by x, of `size` (H, W): each window's in equal parts to all that its mean counts.

    Parameters
    ----------
    grad : (N, C, H', W') array
    size : pair of int
        Height and width of x.
    kernel, stride, pads, ceil_mode, count_include_pad
        As in `avg_pool2d`.

    Returns
    -------
    (N, C, H, W) float64 array

    Examples
    --------
    >>> avg_pool2d_grad([[[[4]]]], (2, 2), (2, 2), (2, 2), (0, 0, 0, 0))
    array([[[[1., 1.],
             [1., 1.]]]])
    """
    grad = as_real(grad)
    counts = []
    for axis in range(2):
        before, after = (pads[axis], pads[2 + axis]) if count_include_pad else (0, 0)
        start = np.arange(grad.shape[2 + axis]) * stride[axis] - pads[axis]
        end = np.minimum(start + kernel[axis], size[axis] + after)
        counts.append(np.maximum(end - np.maximum(start, -before), 0))
    parts = grad / np.outer(*counts)
    room = [max(size[a] + pads[a] + pads[2 + a], (grad.shape[2 + a] - 1) * stride[a] + kernel[a]) for a in range(2)]
    padded = np.zeros((*grad.shape[:2], *room))
    for _, _, (rows, columns) in _taps(kernel, stride, (1, 1), grad.shape[2:]):
        padded[:, :, rows, columns] += parts
    return np.array(padded[:, :, pads[0] : pads[0] + size[0], pads[1] : pads[1] + size[1]])


@ieee
def global_avg_pool2d_grad(grad: npt.ArrayLike, size: Ints) -> Array:
    """Gradient of `global_avg_pool2d` by x, of `size` (H, W).

    Parameters
    ----------
    grad : (N, C, 1, 1) array
    size : pair of int
        Height and width of x.

    Returns
    -------
    (N, C, H, W) float64 array

    Examples
    --------
    >>> global_avg_pool2d_grad([[[[6]]]], (1, 2))
    array([[[[3., 3.]]]])
    """
    grad = as_real(grad)
    return np.array(np.broadcast_to(grad / (size[0] * size[1]), (*grad.shape[:2], *size)))


@ieee
def batch_stats(x: npt.ArrayLike) -> Array:
    """Mean and biased variance over the batch, of each channel, (N, C, ...) to (C, 2).

    Parameters
    ----------
    x : (N, C, ...) array

    Returns
    -------
    (C, 2) float64 array

    Examples
    --------
    >>> batch_stats([[1, 5], [3, 5]])
    array([[2., 1.],
           [5., 0.]])
    """
    x = as_real(x)
    axes = (0, *range(2, x.ndim))
    return np.stack([x.mean(axis=axes), x.var(axis=axes)], axis=1)


@ieee
def batch_norm_grad(
    grad: npt.ArrayLike, x: npt.ArrayLike, weight: npt.ArrayLike | None = None, eps: float = 1e-5
) -> Array:
    """Gradient by x of batch normalisation with the batch's own statistics (Ioffe and Szegedy, 2015, section 3).

    With h = (x - mean) / sqrt(var + eps), and means over all but the channel::

        dx = weight / sqrt(var + eps) * (grad - mean(grad) - h * mean(grad * h))

    Parameters
    ----------
    grad, x : (N, C, ...) arrays
        Gradient by the output, and the input.
    weight : (C,) array, optional
        Ones by default.
    eps : float

    Returns
    -------
    float64 array of x's shape

    Examples
    --------
    >>> batch_norm_grad([[1.0], [0.0]], [[3.0], [1.0]], eps=0).round(6)
    array([[0.],
           [0.]])
    """
    grad, x = as_real(grad), as_real(x)
    axes, shape = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    mean, var = (column.reshape(shape) for column in batch_stats(x).T)
    scale = 1.0 if weight is None else as_real(weight).reshape(shape)
    h = (x - mean) / np.sqrt(var + eps)
    first, second = (values.mean(axis=axes).reshape(shape) for values in (grad, grad * h))
    return np.asarray(scale / np.sqrt(var + eps) * (grad - first - h * second))


@ieee
def sum_to(grad: npt.ArrayLike, shape: Ints) -> Array:
    """Gradient of broadcasting from `shape`: the sum over everything that was repeated.

    Parameters
    ----------
    grad : array_like
        Gradient by the broadcast array.
    shape : sequence of int
        The shape before.

    Returns
    -------
    float64 array of `shape`

    Examples
    --------
    >>> sum_to([[1, 2], [3, 4]], (2, 1))
    array([[3.],
           [7.]])
    """
    grad = as_real(grad)
    extra = grad.ndim - len(shape)
    axes = (*range(extra), *(extra + i for i, size in enumerate(shape) if size == 1))
    return np.asarray(grad.sum(axis=axes)).reshape(tuple(shape))
