"""Gradients of every operation, and losses, in plain float64 NumPy.

`grad` is the gradient of some number by an operation's output; each function gives the gradient by one of its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from fastcnn.reference.forward import Array, Ints, _ieee, _pool_windows, _real, _windows, sigmoid, softmax

Place = tuple[slice, slice]


def _taps(kernel: Ints, stride: Ints, dilation: Ints, size: Ints) -> Iterator[tuple[int, int, Place]]:
    """Every tap (u, v), and which pixels of the padded input the `size` windows see through it."""
    for u, v in np.ndindex(*kernel):
        rows = slice(u * dilation[0], u * dilation[0] + (size[0] - 1) * stride[0] + 1, stride[0])
        columns = slice(v * dilation[1], v * dilation[1] + (size[1] - 1) * stride[1] + 1, stride[1])
        yield u, v, (rows, columns)


@_ieee
def conv2d_grad_input(
    grad: npt.ArrayLike, weight: npt.ArrayLike, size: Ints,
    stride: Ints = (1, 1), pads: Ints = (0, 0, 0, 0), dilation: Ints = (1, 1), groups: int = 1,
) -> Array:
    """Gradient of `conv2d` by x, of `size` (H, W): the transposed convolution.

    dx[n, c, i*sh + u*dh - top, j*sw + v*dw - left] += weight[o, c, u, v] * grad[n, o, i, j]

    Examples
    --------
    >>> conv2d_grad_input([[[[1.0]]]], [[[[1, 2], [3, 4]]]], size=(2, 3))
    array([[[[1., 2., 0.],
             [3., 4., 0.]]]])
    """
    grad, weight = _real(grad), _real(weight)
    n, outs, ins = len(grad), weight.shape[0] // groups, weight.shape[1]
    top, left, bottom, right = pads
    padded = np.zeros((n, ins * groups, top + size[0] + bottom, left + size[1] + right))
    for g in range(groups):
        filters, part = weight[g * outs : (g + 1) * outs], grad[:, g * outs : (g + 1) * outs]
        for u, v, (rows, columns) in _taps(weight.shape[2:], stride, dilation, grad.shape[2:]):
            padded[:, g * ins : (g + 1) * ins, rows, columns] += np.einsum("nohw,oc->nchw", part, filters[:, :, u, v])
    return np.array(padded[:, :, top : top + size[0], left : left + size[1]])


@_ieee
def conv2d_grad_weight(
    x: npt.ArrayLike, grad: npt.ArrayLike, kernel: Ints,
    stride: Ints = (1, 1), pads: Ints = (0, 0, 0, 0), dilation: Ints = (1, 1), groups: int = 1,
) -> Array:
    """Gradient of `conv2d` by the weight, whose filters are `kernel` (kh, kw) in size.

    dw[o, c, u, v] = sum over n, i, j of grad[n, o, i, j] * x[n, c, i*sh + u*dh - top, j*sw + v*dw - left]

    Examples
    --------
    >>> conv2d_grad_weight([[[[1, 2, 3]]]], [[[[1, 10]]]], kernel=(1, 2))
    array([[[[21., 32.]]]])
    """
    x, grad = _real(x), _real(grad)
    windows = _windows(x, kernel, stride, pads, dilation, border=0.0)
    outs, ins = grad.shape[1] // groups, x.shape[1] // groups
    parts = [
        np.tensordot(grad[:, g * outs : (g + 1) * outs], windows[:, g * ins : (g + 1) * ins], ([0, 2, 3], [0, 2, 3]))
        for g in range(groups)
    ]
    return np.concatenate(parts)


@_ieee
def conv2d_grad_bias(grad: npt.ArrayLike) -> Array:
    """Gradient of `conv2d` by the bias: the sum over all but the channels.

    Examples
    --------
    >>> conv2d_grad_bias([[[[1, 2]], [[3, 4]]]])
    array([3., 7.])
    """
    grad = _real(grad)
    return np.asarray(grad.sum(axis=(0, *range(2, grad.ndim))))


@_ieee
def linear_grad_input(grad: npt.ArrayLike, weight: npt.ArrayLike) -> Array:
    """Gradient of `linear` by x: grad @ weight.

    Examples
    --------
    >>> linear_grad_input([[1, 1]], [[3, 4], [5, 6]])
    array([[ 8., 10.]])
    """
    return np.asarray(_real(grad) @ _real(weight))


@_ieee
def linear_grad_weight(x: npt.ArrayLike, grad: npt.ArrayLike) -> Array:
    """Gradient of `linear` by the weight: grad.T @ x.

    Examples
    --------
    >>> linear_grad_weight([[1, 2]], [[10, 20]])
    array([[10., 20.],
           [20., 40.]])
    """
    return np.asarray(_real(grad).T @ _real(x))


@_ieee
def linear_grad_bias(grad: npt.ArrayLike) -> Array:
    """Gradient of `linear` by the bias: the sum of the rows.

    Examples
    --------
    >>> linear_grad_bias([[1, 2], [3, 4]])
    array([4., 6.])
    """
    return conv2d_grad_bias(grad)


@_ieee
def max_pool2d_grad(
    grad: npt.ArrayLike, x: npt.ArrayLike, kernel: Ints, stride: Ints, pads: Ints, dilation: Ints = (1, 1),
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `max_pool2d`: each window's goes to the first of its largest values, row by row; to the last NaN
    where it holds one (PyTorch's rule).

    Examples
    --------
    >>> max_pool2d_grad([[[[5]]]], [[[[1, 7], [7, 0]]]], (2, 2), (2, 2), (0, 0, 0, 0))
    array([[[[0., 5.],
             [0., 0.]]]])
    """
    grad, x = _real(grad), _real(x)
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
    size = [max(x.shape[2 + a] + pads[a] + pads[2 + a],
                (grad.shape[2 + a] - 1) * stride[a] + dilation[a] * (kernel[a] - 1) + 1) for a in range(2)]
    padded = np.zeros((*x.shape[:2], *size))
    for u, v, (rows, columns) in _taps(kernel, stride, dilation, grad.shape[2:]):
        padded[:, :, rows, columns] += np.where(winner == u * kernel[1] + v, grad, 0.0)
    return np.array(padded[:, :, top : top + x.shape[2], left : left + x.shape[3]])


@_ieee
def avg_pool2d_grad(
    grad: npt.ArrayLike, size: Ints, kernel: Ints, stride: Ints, pads: Ints, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of `avg_pool2d` by x, of `size` (H, W): each window's in equal parts to all that its mean counts.

    Examples
    --------
    >>> avg_pool2d_grad([[[[4]]]], (2, 2), (2, 2), (2, 2), (0, 0, 0, 0))
    array([[[[1., 1.],
             [1., 1.]]]])
    """
    grad = _real(grad)
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


@_ieee
def global_avg_pool2d_grad(grad: npt.ArrayLike, size: Ints) -> Array:
    """Gradient of `global_avg_pool2d` by x, of `size` (H, W).

    Examples
    --------
    >>> global_avg_pool2d_grad([[[[6]]]], (1, 2))
    array([[[[3., 3.]]]])
    """
    grad = _real(grad)
    return np.array(np.broadcast_to(grad / (size[0] * size[1]), (*grad.shape[:2], *size)))


@_ieee
def clip_grad(grad: npt.ArrayLike, y: npt.ArrayLike, low: float, high: float) -> Array:
    """Gradient of `clip`, from its output: none where a bound has been reached (PyTorch's hardtanh).

    Examples
    --------
    >>> clip_grad([1, 1, 1], [0, 3, 6], 0, 6)
    array([0., 1., 0.])
    """
    y = _real(y)
    passes = ~((y <= low) & np.isfinite(low)) & ~((y >= high) & np.isfinite(high))
    return np.where(passes, _real(grad), 0.0)


@_ieee
def relu_grad(grad: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Gradient of `relu`, from its output: grad where y > 0, and where it is NaN.

    Examples
    --------
    >>> relu_grad([5, 5], [0, 1])
    array([0., 5.])
    """
    return clip_grad(grad, y, 0.0, np.inf)


@_ieee
def leaky_relu_grad(grad: npt.ArrayLike, x: npt.ArrayLike, alpha: float = 0.01) -> Array:
    """Gradient of `leaky_relu`, from its input (or, where alpha >= 0, its output): grad where x > 0, else alpha * grad.

    Examples
    --------
    >>> leaky_relu_grad([2, 2], [-1, 1], alpha=0.5)
    array([1., 2.])
    """
    grad = _real(grad)
    return np.where(_real(x) > 0, grad, alpha * grad)


@_ieee
def tanh_grad(grad: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Gradient of `tanh`, from its output: grad * (1 - y^2).

    Examples
    --------
    >>> tanh_grad([4], [0.5])
    array([3.])
    """
    y = _real(y)
    return _real(grad) * (1.0 - y * y)


@_ieee
def sigmoid_grad(grad: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Gradient of `sigmoid`, from its output: grad * y * (1 - y).

    Examples
    --------
    >>> sigmoid_grad([4], [0.5])
    array([1.])
    """
    y = _real(y)
    return _real(grad) * (1.0 - y) * y


@_ieee
def hard_swish_grad(grad: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    """Gradient of `hard_swish`: 0 up to -3, grad from 3 on, between them grad * (x / 3 + 1/2).

    Examples
    --------
    >>> hard_swish_grad([1, 1, 1], [-3, 0, 3])
    array([0. , 0.5, 1. ])
    """
    grad, x = _real(grad), _real(x)
    return np.where(x <= -3, 0.0, np.where(x < 3, grad * (x / 3 + 0.5), grad))


@_ieee
def silu_grad(grad: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    """Gradient of `silu`: grad * s * (1 + x * (1 - s)), s = sigmoid(x).

    Examples
    --------
    >>> silu_grad([1], [0])
    array([0.5])
    """
    x = _real(x)
    s = sigmoid(x)
    return _real(grad) * s * (1.0 + x * (1.0 - s))


@_ieee
def softmax_grad(grad: npt.ArrayLike, y: npt.ArrayLike, axis: int = -1) -> Array:
    """Gradient of `softmax`, from its output: y * (grad - sum of grad * y).

    Examples
    --------
    >>> softmax_grad([1, 0], [0.5, 0.5])
    array([ 0.25, -0.25])
    """
    grad, y = _real(grad), _real(y)
    total: Array = (grad * y).sum(axis=axis, keepdims=True)
    return y * (grad - total)


@_ieee
def batch_stats(x: npt.ArrayLike) -> Array:
    """Mean and variance (of the whole batch, biased) of each channel, (N, C, ...) to (C, 2).

    Examples
    --------
    >>> batch_stats([[1, 5], [3, 5]])
    array([[2., 1.],
           [5., 0.]])
    """
    x = _real(x)
    axes = (0, *range(2, x.ndim))
    return np.stack([x.mean(axis=axes), x.var(axis=axes)], axis=1)


@_ieee
def batch_norm_grad(
    grad: npt.ArrayLike, x: npt.ArrayLike, weight: npt.ArrayLike | None = None, eps: float = 1e-5
) -> Array:
    """Gradient by x of batch normalisation with the batch's own statistics (Ioffe and Szegedy, 2015, section 3).

    With h = (x - mean) / sqrt(var + eps), and means over all but the channel::

        dx = weight / sqrt(var + eps) * (grad - mean(grad) - h * mean(grad * h))

    Examples
    --------
    >>> batch_norm_grad([[1.0], [0.0]], [[3.0], [1.0]], eps=0).round(6)
    array([[0.],
           [0.]])
    """
    grad, x = _real(grad), _real(x)
    axes, shape = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    mean, var = (column.reshape(shape) for column in batch_stats(x).T)
    scale = 1.0 if weight is None else _real(weight).reshape(shape)
    h = (x - mean) / np.sqrt(var + eps)
    first, second = (values.mean(axis=axes).reshape(shape) for values in (grad, grad * h))
    return np.asarray(scale / np.sqrt(var + eps) * (grad - first - h * second))


@_ieee
def sum_to(grad: npt.ArrayLike, shape: Ints) -> Array:
    """Gradient of broadcasting from `shape`: the sum over everything that was repeated.

    Examples
    --------
    >>> sum_to([[1, 2], [3, 4]], (2, 1))
    array([[3.],
           [7.]])
    """
    grad = _real(grad)
    extra = grad.ndim - len(shape)
    axes = (*range(extra), *(extra + i for i, size in enumerate(shape) if size == 1))
    return np.asarray(grad.sum(axis=axes)).reshape(tuple(shape))


@_ieee
def cross_entropy(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """-sum of target * log(softmax(scores)): (N, C), (N, C) to a number. Targets carry weights and the mean.

    Examples
    --------
    >>> cross_entropy([[0, 0]], [[1, 0]])
    array(0.69314718)
    """
    scores, target = _real(scores), _real(target)
    top = scores.max(axis=1, keepdims=True)
    shifted = scores - top
    logs = np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted
    return np.asarray(np.where(target == 0, 0.0, target * logs).sum())


@_ieee
def cross_entropy_grad(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Gradient of `cross_entropy` by the scores: softmax(scores) * (sum of a row of target) - target.

    Examples
    --------
    >>> cross_entropy_grad([[0, 0]], [[1, 0]])
    array([[-0.5,  0.5]])
    """
    target = _real(target)
    total: Array = target.sum(axis=1, keepdims=True)
    return softmax(scores, axis=1) * total - target


@_ieee
def mean_squared_error(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """mean of (scores - target)^2.

    Examples
    --------
    >>> mean_squared_error([[1, 2]], [[0, 0]])
    array(2.5)
    """
    return np.asarray(np.mean((_real(scores) - _real(target)) ** 2))


@_ieee
def mean_squared_error_grad(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Gradient of `mean_squared_error` by the scores.

    Examples
    --------
    >>> mean_squared_error_grad([[1, 2]], [[0, 0]])
    array([[1., 2.]])
    """
    scores = _real(scores)
    return 2.0 * (scores - _real(target)) / scores.size


@_ieee
def binary_cross_entropy(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """mean of -(t log p + (1 - t) log(1 - p)) for p = sigmoid(scores), as max(s, 0) - s t + log(1 + e^-|s|).

    Examples
    --------
    >>> binary_cross_entropy([[0.0]], [[1]])
    array(0.69314718)
    """
    s, target = _real(scores), _real(target)
    return np.asarray(np.mean(np.maximum(s, 0) - s * target + np.log1p(np.exp(-np.abs(s)))))


@_ieee
def binary_cross_entropy_grad(scores: npt.ArrayLike, target: npt.ArrayLike) -> Array:
    """Gradient of `binary_cross_entropy` by the scores.

    Examples
    --------
    >>> binary_cross_entropy_grad([[0.0]], [[1]])
    array([[-0.5]])
    """
    return (sigmoid(scores) - _real(target)) / _real(scores).size
