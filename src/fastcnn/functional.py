"""The functional API: operations on NumPy arrays, or on symbols while a model is traced. PyTorch's names and meaning.

Arguments are brought into ONNX's form here; shapes are validated by each operation's shape rule (`fastcnn.ops`).
float32 runs on the kernels; float64 on the definitions in `fastcnn.reference`, for checking. Other real types are
taken as NumPy promotes them with float32 (uint8 images become float32, int64 arrays float64). Arrays may have any
strides, byte order and alignment.

Every function gives a new C-contiguous array, or writes to `out` (C-contiguous, of the result's shape and type; it
must not overlap an input, except that elementwise functions may replace theirs) and returns it. Every function
raises TypeError or ValueError that names the argument, what came and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn import ops
from fastcnn.compiler.choose import algorithm_names
from fastcnn.compiler.eager import run_node
from fastcnn.graph.trace import Symbol

__all__ = [
    "add", "avg_pool2d", "batch_norm", "clip", "concat", "conv2d", "dropout", "flatten", "global_avg_pool2d",
    "hardswish", "leaky_relu", "linear", "max_pool2d", "mul", "pad", "relu", "relu6", "sigmoid", "silu", "softmax",
    "tanh",
]

Array = Any  # an ndarray or what np.asarray takes; or a Symbol


def _apply(
    function: str, op: str, inputs: Mapping[str, Array], attrs: Callable[[], Mapping[str, Any]], out: Any = None
) -> Any:
    """Apply one operation to named inputs; errors are prefixed by the function's name.

    `attrs` is called inside, so that what is wrong with an attribute is reported in the same way.
    """
    try:
        full = {**ops.get(op).defaults, **attrs()}
        symbol = next((value for value in inputs.values() if isinstance(value, Symbol)), None)
        if symbol is not None:
            if out is not None:
                raise TypeError("out: cannot be given while a model is traced")
            values = [
                value if value is None or isinstance(value, Symbol) else arguments.as_real_array(value, name)
                for name, value in inputs.items()
            ]
            return symbol.tracer.apply(op, values, full)
        arrays = [
            None if value is None else arguments.as_real_array(value, name) for name, value in inputs.items()
        ]
        return _compute(op, full, arrays, out)
    except ValueError as error:
        raise ValueError(f"{function}: {error}") from None
    except TypeError as error:
        raise TypeError(f"{function}: {error}") from None


def _compute(op: str, attrs: Mapping[str, Any], arrays: Sequence[np.ndarray | None], out: Any) -> np.ndarray:
    dtype = arguments.common_type([array for array in arrays if array is not None])
    shape = ops.get(op).infer(attrs, [None if array is None else array.shape for array in arrays])
    if out is None:
        result = np.empty(shape, dtype)
    else:
        result = arguments.check_out(out, shape, dtype)
        arguments.check_overlap(result, arrays, ops.get(op).is_elementwise)
    if result.size == 0:
        return result
    if dtype == np.float64 or any(array is not None and array.size == 0 for array in arrays):
        # Sums over nothing are too rare to have kernels.
        with np.errstate(all="ignore"):
            result[...] = ops.get(op).reference(attrs, arrays)
        return result
    ready = [None if array is None else np.require(array, np.float32, ["C", "A"]) for array in arrays]
    run_node(op, dict(attrs), ready, result)
    return result


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
    stride, dilation : int or pair
        In pixels; a pair is (height, width).
    padding : int, pair, four numbers, "same" or "valid"
        Zeros around the image: everywhere, (height, width), or (top, left, bottom, right). "same" gives
        ceil(size / stride) outputs and puts an odd pixel at the bottom and right, as TensorFlow does.
    groups : int
        Groups of channels that do not see each other; C is depthwise.
    algorithm : {"auto", "direct", "depthwise", "im2col"}
        How it is computed; ValueError where the one asked for cannot do this layer.
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
            "strides": arguments.as_pair(stride, "stride"), **arguments.as_padding(padding),
            "dilations": arguments.as_pair(dilation, "dilation"), "group": arguments.as_int(groups, "groups", 1),
            "algorithm": algorithm,
        }

    return _apply("conv2d", "Conv", {"x": x, "weight": weight, "bias": bias}, attrs, out)


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
    lead: tuple[int, ...] = ()
    if not isinstance(x, Symbol):
        try:
            x = arguments.as_real_array(x, "x")
        except TypeError as error:
            raise TypeError(f"linear: {error}") from None
        if x.ndim != 2 and x.ndim >= 1 and out is None:
            lead = x.shape[:-1]
            x = x.reshape(int(np.prod(lead)), x.shape[-1])
            return linear(x, weight, bias).reshape(*lead, -1)
    return _apply("linear", "Gemm", {"x": x, "weight": weight, "bias": bias}, dict, out)


def relu(x: Array, out: np.ndarray | None = None) -> Any:
    """max(x, 0): positives stay, negatives become zero (Nair and Hinton, 2010).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> relu([-1.5, 0.0, 2.0])
    array([0., 0., 2.])
    """
    return _apply("relu", "Relu", {"x": x}, dict, out)


def relu6(x: Array, out: np.ndarray | None = None) -> Any:
    """min(max(x, 0), 6) (Krizhevsky, 2010).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> relu6([-1.0, 2.0, 9.0])
    array([0., 2., 6.])
    """
    return _apply("relu6", "Clip", {"x": x}, lambda: {"min": 0.0, "max": 6.0}, out)


def clip(x: Array, min: float | None = None, max: float | None = None, out: np.ndarray | None = None) -> Any:
    """Values below `min` become `min`, above `max` `max`.

    Parameters
    ----------
    x : array
    min, max : float, optional
        Bounds; none where absent.
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> clip([-2.0, 0.5, 3.0], -1, 1)
    array([-1. ,  0.5,  1. ])
    """

    def attrs() -> dict[str, float]:
        low = float("-inf") if min is None else arguments.as_float(min, "min")
        return {"min": low, "max": float("inf") if max is None else arguments.as_float(max, "max")}

    return _apply("clip", "Clip", {"x": x}, attrs, out)


def leaky_relu(x: Array, negative_slope: float = 0.01, out: np.ndarray | None = None) -> Any:
    """x where positive, else negative_slope * x (Maas, Hannun and Ng, 2013).

    Parameters
    ----------
    x : array
    negative_slope : float
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> leaky_relu([-1.0, 2.0], 0.5)
    array([-0.5,  2. ])
    """
    attrs = lambda: {"alpha": arguments.as_float(negative_slope, "negative_slope")}  # noqa: E731
    return _apply("leaky_relu", "LeakyRelu", {"x": x}, attrs, out)


def tanh(x: Array, out: np.ndarray | None = None) -> Any:
    """Hyperbolic tangent.

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> tanh([0.0, 100.0])
    array([0., 1.])
    """
    return _apply("tanh", "Tanh", {"x": x}, dict, out)


def sigmoid(x: Array, out: np.ndarray | None = None) -> Any:
    """1 / (1 + exp(-x)).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> sigmoid([0.0, 100.0])
    array([0.5, 1. ])
    """
    return _apply("sigmoid", "Sigmoid", {"x": x}, dict, out)


def hardswish(x: Array, out: np.ndarray | None = None) -> Any:
    """x * clip(x / 6 + 1/2, 0, 1) (Howard and others, Searching for MobileNetV3, 2019).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> hardswish([-3.0, 0.0, 3.0])
    array([-0.,  0.,  3.])
    """
    return _apply("hardswish", "HardSwish", {"x": x}, dict, out)


def silu(x: Array, out: np.ndarray | None = None) -> Any:
    """x * sigmoid(x), also called swish (Elfwing, Uchibe and Doya, 2017).

    Parameters
    ----------
    x : array
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> silu([0.0, 100.0])
    array([  0., 100.])
    """
    return _apply("silu", "Swish", {"x": x}, dict, out)


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
        window = _window(kernel_size, stride, padding, ceil_mode)
        return {**window, "dilations": arguments.as_pair(dilation, "dilation")}

    return _apply("max_pool2d", "MaxPool", {"x": x}, attrs, out)


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
        window = _window(kernel_size, stride, padding, ceil_mode)
        return {**window, "count_include_pad": arguments.as_flag(count_include_pad, "count_include_pad")}

    return _apply("avg_pool2d", "AveragePool", {"x": x}, attrs, out)


def _window(kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any) -> dict[str, Any]:
    kernel = arguments.as_pair(kernel_size, "kernel_size")
    return {
        "kernel_shape": kernel, "strides": kernel if stride is None else arguments.as_pair(stride, "stride"),
        **arguments.as_padding(padding), "ceil_mode": arguments.as_flag(ceil_mode, "ceil_mode"),
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
    return _apply("global_avg_pool2d", "GlobalAveragePool", {"x": x}, dict, out)


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
    mean = running_mean
    if weight is None or bias is None:
        shape = np.shape(mean)
        weight = np.ones(shape, np.float32) if weight is None else weight
        bias = np.zeros(shape, np.float32) if bias is None else bias
    inputs = {"x": x, "weight": weight, "bias": bias, "running_mean": mean, "running_var": running_var}
    return _apply("batch_norm", "BatchNormalization", inputs, lambda: {"epsilon": arguments.as_float(eps, "eps")}, out)


def softmax(x: Array, dim: int = -1, out: np.ndarray | None = None) -> Any:
    """exp(x) / sum of exp(x) along an axis: scores to probabilities.

    Parameters
    ----------
    x : array
    dim : int
        The axis.
    out : array of x's shape, optional

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> softmax([0.0, 0.0])
    array([0.5, 0.5])
    """
    return _apply("softmax", "Softmax", {"x": x}, lambda: {"axis": arguments.as_axis(dim, "dim")}, out)


def add(x: Array, y: Array, out: np.ndarray | None = None) -> Any:
    """x + y, broadcast as by NumPy.

    Parameters
    ----------
    x, y : arrays
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> add([1.0, 2.0], 3.0)
    array([4., 5.])
    """
    return _apply("add", "Add", {"x": x, "y": y}, dict, out)


def mul(x: Array, y: Array, out: np.ndarray | None = None) -> Any:
    """x * y, broadcast as by NumPy.

    Parameters
    ----------
    x, y : arrays
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> mul([1.0, 2.0], 3.0)
    array([3., 6.])
    """
    return _apply("mul", "Mul", {"x": x, "y": y}, dict, out)


def concat(arrays: Sequence[Array], dim: int = 1, out: np.ndarray | None = None) -> Any:
    """Arrays one after the other along an axis.

    Parameters
    ----------
    arrays : sequence of arrays
        Of equal shape, except along `dim`.
    dim : int
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> concat([[[1.0]], [[2.0, 3.0]]])
    array([[1., 2., 3.]])
    """
    if not isinstance(arrays, (list, tuple)) or not arrays:
        raise TypeError(f"concat: arrays={arrays!r:.80}, expected a list of at least one array")
    inputs = {f"arrays[{i}]": array for i, array in enumerate(arrays)}
    return _apply("concat", "Concat", inputs, lambda: {"axis": arguments.as_axis(dim, "dim")}, out)


def pad(x: Array, padding: Sequence[int], value: float = 0.0, out: np.ndarray | None = None) -> Any:
    """A border of one value.

    Parameters
    ----------
    x : array of at most 4 dimensions
    padding : sequence of int
        In PyTorch's order: (left, right) of the last dimension, then (top, bottom) of the one before, and so on.
    value : float
    out : array, optional

    Returns
    -------
    array

    Examples
    --------
    >>> pad([1.0, 2.0], (1, 2))
    array([0., 1., 2., 0., 0.])
    """

    def attrs() -> dict[str, Any]:
        rank = len(x.shape) if isinstance(x, Symbol) else np.ndim(x)
        if not isinstance(padding, (list, tuple, np.ndarray)) or len(padding) % 2 or len(padding) > 2 * rank:
            raise ValueError(f"padding={padding!r}, expected pairs for at most {rank} dimensions")
        sizes = [arguments.as_int(size, f"padding[{i}]", 0) for i, size in enumerate(padding)]
        begins, ends = [0] * rank, [0] * rank
        for i in range(len(sizes) // 2):
            begins[rank - 1 - i], ends[rank - 1 - i] = sizes[2 * i], sizes[2 * i + 1]
        return {"pads": (*begins, *ends), "value": arguments.as_float(value, "value")}

    return _apply("pad", "Pad", {"x": x}, attrs, out)


def flatten(x: Array, start_dim: int = 1, out: np.ndarray | None = None) -> Any:
    """(d0, ..., dn) to (d0 * ... , the rest), a matrix split before `start_dim`; ONNX Flatten.

    Parameters
    ----------
    x : array
    start_dim : int
        1 keeps the batch axis.
    out : array, optional

    Returns
    -------
    two-dimensional array

    Examples
    --------
    >>> flatten([[[1.0, 2.0], [3.0, 4.0]]])
    array([[1., 2., 3., 4.]])
    """
    return _apply("flatten", "Flatten", {"x": x}, lambda: {"axis": arguments.as_axis(start_dim, "start_dim")}, out)


def dropout(x: Array, p: float = 0.5) -> Any:
    """x unchanged: at inference nothing is dropped (Srivastava and others, 2014).

    Parameters
    ----------
    x : array
    p : float
        Probability with which training drops an element.

    Returns
    -------
    array of x's shape

    Examples
    --------
    >>> dropout([1.0, 2.0])
    array([1., 2.])
    """
    return _apply("dropout", "Dropout", {"x": x}, lambda: {"ratio": arguments.as_float(p, "p")})
