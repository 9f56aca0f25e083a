"""Functions of single elements, of two or several arrays that are broadcast, and casts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.ops.budget import Cost
from fastcnn.ops.general.base import Array, Costs, General, Ints, by_elements, cost_of, general, width_of
from fastcnn.ops.node import Attrs

# Elements for which the error function is computed at a time: its temporary arrays stay small.
PART = 1 << 14
# ONNX's numbers of element types that NumPy has.
DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}


def dtype_of(number: int) -> np.dtype:
    """NumPy's type for ONNX's number of one."""
    if number not in DTYPES:
        raise ValueError(f"element type {number}, expected one of {', '.join(DTYPES.values())}")
    return np.dtype(DTYPES[number])


def erf(x: Array) -> Array:
    """The error function, to the last digits of float64.

    Examples
    --------
    >>> erf(np.array([0.0, 0.5, -3.0])).round(6)
    array([ 0.      ,  0.5205  , -0.999978])
    """
    result = np.empty(x.shape, x.dtype)
    flat, target = np.ascontiguousarray(x).reshape(-1), result.reshape(-1)
    for start in range(0, flat.size, PART):
        target[start : start + PART] = reference.erf(flat[start : start + PART])
    return result


def _with_erf(arrays: int) -> Costs:
    """The cost of a function that holds a number of arrays, and computes the error function of one."""

    def cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
        count, held = inputs[0].size, by_elements(arrays)(attrs, inputs)
        return Cost(held.bytes + 14 * 8 * min(count, PART), held.work + 40 * count)

    return cost


def _unary(name: str, function: Callable[..., Any], cost: Costs) -> General:
    def call(x):  # type: ignore[no-untyped-def]
        return np.asarray(function(x)).astype(x.dtype, copy=False)

    return General(name, call, cost, by_element=True)


def _broadcast_shape(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    x, y = inputs
    return np.broadcast_shapes(x.shape, _aligned_shape(x.ndim, y.shape, attrs.get("axis")))


def _binary(name: str, function: Callable[..., Any], arrays: int) -> General:
    def call(x, y, *, axis: int | None = None):  # type: ignore[no-untyped-def]
        return function(x, _aligned(x, y, axis))

    return General(name, call, _pair_cost(arrays), shape=_broadcast_shape, by_element=True)


def _pair_cost(arrays: int) -> Costs:
    """The cost of a function of two arrays, by the number of arrays of the result's size that it holds."""

    def cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
        x, y = inputs
        count = math.prod(_broadcast_shape(attrs, inputs))
        return cost_of(arrays * count * width_of(x, y), 2 * arrays * count)

    return cost


def _aligned(x: Array, y: Array, axis: int | None) -> Array:
    """The second operand as opset 6 broadcasts it: its first dimension is dimension `axis` of the first operand."""
    return y.reshape(_aligned_shape(x.ndim, y.shape, axis))


def _aligned_shape(ndim: int, shape: Ints, axis: int | None) -> Ints:
    if axis is None or len(shape) > ndim:
        return shape
    return (*shape, *[1] * (ndim - (axis % ndim) - len(shape)))


def _variadic(name: str, function: Callable[..., Any]) -> General:
    def call(*arrays):  # type: ignore[no-untyped-def]
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result

    return General(name, call, by_elements(3, 8), by_element=True)


def _divide(x: Array, y: Array) -> Array:
    if x.dtype.kind not in "iu":
        return np.asarray(x / y)
    wide: Array = np.floor_divide(x, y)  # ONNX rounds towards zero
    negative = (np.remainder(x, y) != 0) & ((x < 0) != (y < 0))
    return np.asarray(wide + negative).astype(x.dtype)


def _power(x: Array, y: Array) -> Array:
    if x.dtype.kind in "iu" and y.dtype.kind in "iu" and y.size and int(y.min()) < 0:
        return np.asarray(np.power(x.astype(np.float64), y)).astype(x.dtype)
    return np.asarray(np.power(x, y)).astype(x.dtype)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), by an exponential that does not overflow."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e)).astype(x.dtype)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), for large x too."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _clip_shape(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    if any(bound is not None and bound.size != 1 for bound in inputs[1:]):
        raise ValueError("bounds of several elements")
    shape: Ints = inputs[0].shape
    return shape


@general("Clip", lambda attrs, inputs: by_elements(3)(attrs, inputs[:1]), shape=_clip_shape, by_element=True)
def clip(x, low=None, high=None):  # type: ignore[no-untyped-def]
    if low is not None:
        x = np.maximum(x, low.reshape(()).astype(x.dtype))
    return x if high is None else np.minimum(x, high.reshape(()).astype(x.dtype))


@general("LeakyRelu", by_elements(5), by_element=True)
def leaky_relu(x, *, alpha: float = 0.01):  # type: ignore[no-untyped-def]
    return np.where(x >= 0, x, alpha * x).astype(x.dtype)


@general("ThresholdedRelu", by_elements(4), by_element=True)
def thresholded_relu(x, *, alpha: float = 1.0):  # type: ignore[no-untyped-def]
    return np.where(x > alpha, x, 0).astype(x.dtype)


@general("PRelu", _pair_cost(4), shape=_broadcast_shape, by_element=True)
def prelu(x, slope, *, axis: int | None = None):  # type: ignore[no-untyped-def]
    return np.where(x >= 0, x, _aligned(x, slope, axis) * x).astype(x.dtype)


@general("Elu", by_elements(6), by_element=True)
def elu(x, *, alpha: float = 1.0):  # type: ignore[no-untyped-def]
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)


@general("Celu", by_elements(7), by_element=True)
def celu(x, *, alpha: float = 1.0):  # type: ignore[no-untyped-def]
    return (np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha))).astype(x.dtype)


@general("Selu", by_elements(7), by_element=True)
def selu(x, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875):  # type: ignore[no-untyped-def]
    return (gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))).astype(x.dtype)


@general("HardSigmoid", by_elements(4), by_element=True)
def hard_sigmoid(x, *, alpha: float = 0.2, beta: float = 0.5):  # type: ignore[no-untyped-def]
    return np.clip(alpha * x + beta, 0, 1).astype(x.dtype)


@general("Gelu", _with_erf(6), by_element=True)
def gelu(x, *, approximate: str = "none"):  # type: ignore[no-untyped-def]
    if approximate == "tanh":
        return (0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))).astype(x.dtype)
    return (0.5 * x * (1 + erf(x / math.sqrt(2)))).astype(x.dtype)


@general("Swish", by_elements(6), by_element=True)
def swish(x, *, alpha: float = 1.0):  # type: ignore[no-untyped-def]
    return (x * sigmoid(alpha * x)).astype(x.dtype)


@general("Shrink", by_elements(6), by_element=True)
def shrink(x, *, bias: float = 0.0, lambd: float = 0.5):  # type: ignore[no-untyped-def]
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0)).astype(x.dtype)


@general("IsInf", by_elements(2), by_element=True)
def is_inf(x, *, detect_negative: int = 1, detect_positive: int = 1):  # type: ignore[no-untyped-def]
    return np.isinf(x) & ((x < 0) & bool(detect_negative) | (x > 0) & bool(detect_positive))


@general("Mod", by_elements(2), by_element=True)
def mod(x, y, *, fmod: int = 0):  # type: ignore[no-untyped-def]
    return np.fmod(x, y) if fmod else np.mod(x, y)


@general("BitShift", by_elements(2), by_element=True)
def bit_shift(x, y, *, direction: str):  # type: ignore[no-untyped-def]
    return np.left_shift(x, y) if direction == "LEFT" else np.right_shift(x, y)


@general("Mean", by_elements(4, 8), by_element=True)
def mean(*arrays):  # type: ignore[no-untyped-def]
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return (total / len(arrays)).astype(total.dtype)


@general("Where", by_elements(2), by_element=True)
def where(condition, x, y):  # type: ignore[no-untyped-def]
    return np.where(condition, x, y)


def _cast_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x = inputs[0]
    return cost_of(x.size * dtype_of(attrs["to"]).itemsize, 2 * x.size)


def _like_cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
    x, target = inputs
    return cost_of(x.size * target.dtype.itemsize, 2 * x.size)


def _same_shape(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    shape: Ints = inputs[0].shape
    return shape


@general("Cast", _cast_cost, by_element=True)
def cast(x, *, to: int, saturate: int = 1, round_mode: str = "up"):  # type: ignore[no-untyped-def]
    return x.astype(dtype_of(to))


@general("CastLike", _like_cost, shape=_same_shape, by_element=True)
def cast_like(x, target, *, saturate: int = 1, round_mode: str = "up"):  # type: ignore[no-untyped-def]
    return x.astype(target.dtype)


@general("Dropout", lambda attrs, inputs: cost_of(inputs[0].size, inputs[0].size))
def dropout(x, ratio=None, training=None, *, output: int = 0, seed: int | None = None):  # type: ignore[no-untyped-def]
    if training is not None and training.any() and (ratio is None or ratio.any()):
        raise ValueError("training_mode is true: only inference is computed")
    return np.ones(x.shape, bool) if output else x


# Functions and their costs.
_UNARY: dict[str, tuple[Callable[..., Any], Costs]] = {
    "Relu": (lambda x: np.maximum(x, 0), by_elements(2)),
    "Sigmoid": (sigmoid, by_elements(4)),
    "Softplus": (softplus, by_elements(5)),
    "Softsign": (lambda x: x / (1 + np.abs(x)), by_elements(4)),
    "Mish": (lambda x: x * np.tanh(softplus(x)), by_elements(6)),
    "Erf": (erf, _with_erf(2)),
    "HardSwish": (lambda x: x * np.clip(x / 6 + 0.5, 0, 1), by_elements(4)),
    "Reciprocal": (lambda x: 1 / x, by_elements(2)),
    "Identity": (lambda x: x, by_elements(0)),
    **{
        name: (function, by_elements(2))
        for name, function in {
            "Tanh": np.tanh,
            "Sqrt": np.sqrt,
            "Exp": np.exp,
            "Log": np.log,
            "Abs": np.abs,
            "Neg": np.negative,
            "Floor": np.floor,
            "Ceil": np.ceil,
            "Round": np.rint,
            "Sign": np.sign,
            "Not": np.logical_not,
            "BitwiseNot": np.invert,
            "Sin": np.sin,
            "Cos": np.cos,
            "Tan": np.tan,
            "Asin": np.arcsin,
            "Acos": np.arccos,
            "Atan": np.arctan,
            "Sinh": np.sinh,
            "Cosh": np.cosh,
            "Asinh": np.arcsinh,
            "Acosh": np.arccosh,
            "Atanh": np.arctanh,
        }.items()
    },
}
_BINARY: dict[str, tuple[Callable[..., Any], int]] = {
    "Div": (_divide, 5),
    "Pow": (_power, 4),
    **{
        name: (function, 2)
        for name, function in {
            "Add": np.add,
            "Sub": np.subtract,
            "Mul": np.multiply,
            "Equal": np.equal,
            "Less": np.less,
            "LessOrEqual": np.less_equal,
            "Greater": np.greater,
            "GreaterOrEqual": np.greater_equal,
            "And": np.logical_and,
            "Or": np.logical_or,
            "Xor": np.logical_xor,
            "BitwiseAnd": np.bitwise_and,
            "BitwiseOr": np.bitwise_or,
            "BitwiseXor": np.bitwise_xor,
        }.items()
    },
}
OPS = (
    *(_unary(name, *entry) for name, entry in _UNARY.items()),
    *(_binary(name, *entry) for name, entry in _BINARY.items()),
    _variadic("Min", np.minimum),
    _variadic("Max", np.maximum),
    _variadic("Sum", np.add),
    General("IsNaN", lambda x: np.isnan(x), by_elements(1), by_element=True),
    clip,
    leaky_relu,
    thresholded_relu,
    prelu,
    elu,
    celu,
    selu,
    hard_sigmoid,
    gelu,
    swish,
    shrink,
    is_inf,
    mod,
    bit_shift,
    mean,
    where,
    cast,
    cast_like,
    dropout,
)
