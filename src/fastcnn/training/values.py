"""Values that remember what they were computed from, so that losses can be plain functions: reverse-mode
differentiation of NumPy's functions, in float64.

For scores, which are few; networks themselves are differentiated as graphs, by graph/autodiff.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

__all__ = ["Value"]

_Back = Callable[[np.ndarray], np.ndarray]


class Value(NDArrayOperatorsMixin):
    """An array of float64 that arithmetic and NumPy's functions take, and that remembers them.

    Parameters
    ----------
    data : array_like

    Attributes
    ----------
    data : ndarray, float64
        What it stands for.

    Notes
    -----
    Known are ``+ - * / ** @``, comparisons (which give plain arrays), indexing; of NumPy ``abs``, ``exp``, ``log``,
    ``log1p``, ``expm1``, ``sqrt``, ``square``, ``tanh``, ``maximum``, ``minimum``, ``clip``, ``where``, ``sum``,
    ``mean``, ``max``, ``min``, ``reshape``, ``transpose`` and ``take_along_axis``; and the methods below.

    Examples
    --------
    >>> x = Value([1.0, 2.0])
    >>> ((np.exp(x) * x).sum().gradient_by(x) / np.exp(x.data)).round(6)
    array([2., 3.])
    """

    def __init__(self, data: Any, parents: Sequence[tuple[Value, _Back]] = ()) -> None:
        self.data = np.asarray(data, np.float64)
        self._parents = parents

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def T(self) -> Value:
        """The axes in reverse order."""
        return self._new(self.data.T, lambda g: g.T)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"Value({self.data!r})"

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("loss: a function that takes a Value for an array would lose the gradient; use NumPy's")

    def __float__(self) -> float:
        return float(self.data)

    def __getitem__(self, index: Any) -> Value:
        def back(gradient: np.ndarray) -> np.ndarray:
            whole = np.zeros_like(self.data)
            np.add.at(whole, index, gradient)
            return whole

        return self._new(self.data[index], back)

    def gradient_by(self, other: Value) -> np.ndarray:
        """Return the gradient of this number by another value.

        Raises
        ------
        ValueError
            If this is not a single number.
        """
        if self.data.size != 1:
            raise ValueError(f"gradient_by: shape {self.shape}, expected a single number")
        gradients = {id(self): np.ones_like(self.data)}
        for value in _last_first(self):
            gradient = gradients[id(value)]
            for parent, back in value._parents:
                part = _summed_to(back(gradient), parent.shape)
                gradients[id(parent)] = gradients.get(id(parent), 0.0) + part
        return gradients.get(id(other), np.zeros_like(other.data))

    def _new(self, data: np.ndarray, back: _Back) -> Value:
        return Value(data, [(self, back)])

    # -- methods of arrays, and of scores -------------------------------------------------------------

    def sum(self, axis: Any = None, keepdims: bool = False) -> Value:
        """The sum along axes."""
        return self._new(
            self.data.sum(axis=axis, keepdims=keepdims),
            lambda g: np.broadcast_to(_kept(g, axis, self.ndim, keepdims), self.shape),
        )

    def mean(self, axis: Any = None, keepdims: bool = False) -> Value:
        """The mean along axes."""
        total = self.sum(axis, keepdims)
        share: Value = total * (total.data.size / max(self.data.size, 1))
        return share

    def max(self, axis: Any = None, keepdims: bool = False) -> Value:
        """The largest along axes; equal ones share the gradient."""
        result = self.data.max(axis=axis, keepdims=True)
        share = (self.data == result) / (self.data == result).sum(axis=axis, keepdims=True)
        return self._new(
            self.data.max(axis=axis, keepdims=keepdims), lambda g: share * _kept(g, axis, self.ndim, keepdims)
        )

    def min(self, axis: Any = None, keepdims: bool = False) -> Value:
        """The smallest along axes."""
        smallest: Value = -(-self).max(axis, keepdims)
        return smallest

    def reshape(self, *shape: Any) -> Value:
        """As `numpy.reshape`."""
        return self._new(self.data.reshape(*shape), lambda g: g.reshape(self.shape))

    def log_softmax(self) -> Value:
        """Logarithms of the probabilities of classes: of each row, its scores less the logarithm of their exp's sum.

        Examples
        --------
        >>> Value([[0.0, 0.0]]).log_softmax().data.round(4)
        array([[-0.6931, -0.6931]])
        """
        shifted = self.data - self.data.max(axis=-1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return self._new(logs, lambda g: g - np.exp(logs) * g.sum(axis=-1, keepdims=True))

    def softmax(self) -> Value:
        """Probabilities of classes, along the last axis."""
        result: Any = np.exp(self.log_softmax())
        return cast(Value, result)

    def sigmoid(self) -> Value:
        """Probabilities of independent yes-or-no scores."""
        half: Value = np.tanh(self * 0.5) * 0.5 + 0.5
        return half

    # -- what NumPy calls -----------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        if method == "reduce" and ufunc is np.add:
            return inputs[0].sum(settings.get("axis", 0), settings.get("keepdims", False))
        arrays = [_data(value) for value in inputs]
        if method == "__call__" and not settings and ufunc in _PLAIN:
            return ufunc(*arrays)
        if method != "__call__" or settings or ufunc not in _UFUNCS:
            raise TypeError(f"loss: numpy.{ufunc.__name__} is not known here, expected one of {_names(_UFUNCS)}")
        result = ufunc(*arrays)
        backs = _UFUNCS[ufunc](result, *arrays)
        return Value(result, [(v, b) for v, b in zip(inputs, backs, strict=True) if isinstance(v, Value)])

    def __array_function__(self, function: Any, types: Any, arguments: Any, settings: Any) -> Any:
        if function not in _FUNCTIONS:
            raise TypeError(f"loss: numpy.{function.__name__} is not known here, expected one of {_names(_FUNCTIONS)}")
        return _FUNCTIONS[function](*arguments, **settings)


def _last_first(value: Value) -> list[Value]:
    """The values that one was computed from, each before those that it was computed from itself."""
    order: list[Value] = []
    seen: set[int] = set()
    pending: list[tuple[Value, bool]] = [(value, False)]
    while pending:
        at, is_done = pending.pop()
        if is_done:
            order.append(at)
        elif id(at) not in seen:
            seen.add(id(at))
            pending.append((at, True))
            pending.extend((parent, False) for parent, _ in at._parents)
    return order[::-1]


def _data(value: Any) -> Any:
    return value.data if isinstance(value, Value) else value


def _names(known: Iterable[Any]) -> str:
    return ", ".join(sorted(function.__name__ for function in known))


def _summed_to(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Undo broadcasting."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    axes = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    summed: np.ndarray = gradient.sum(axis=axes, keepdims=True) if axes else gradient
    return summed


def _kept(gradient: np.ndarray, axis: Any, ndim: int, keepdims: bool) -> np.ndarray:
    """A gradient with the axes that were reduced."""
    return gradient if keepdims else np.expand_dims(gradient, tuple(range(ndim)) if axis is None else axis)


def _where(condition: Any, x: Any, y: Any) -> Value:
    chosen = np.asarray(_data(condition), bool)
    parents: list[tuple[Value, _Back]] = []
    for value, part in ((x, chosen), (y, ~chosen)):
        if isinstance(value, Value):
            parents.append((value, lambda g, part=part: np.where(part, g, 0.0)))  # type: ignore[misc]
    return Value(np.where(chosen, _data(x), _data(y)), parents)


def _take_along_axis(x: Value, indices: np.ndarray, axis: int = -1) -> Value:
    def back(gradient: np.ndarray) -> np.ndarray:
        whole = np.zeros_like(x.data)
        place: list[Any] = list(np.indices(indices.shape, sparse=True))
        place[axis] = indices
        np.add.at(whole, tuple(place), gradient)
        return whole

    return x._new(np.take_along_axis(x.data, indices, axis), back)


def _transpose(x: Value, axes: Any = None) -> Value:
    order = tuple(reversed(range(x.ndim))) if axes is None else tuple(axes)
    return x._new(x.data.transpose(order), lambda g: g.transpose(np.argsort(order)))


def _clip(x: Value, low: Any, high: Any) -> Any:
    return np.minimum(np.maximum(x, low), high)


def _larger(first: Any, second: Any) -> Any:
    """Shares of the gradient of a maximum: equal ones share it."""
    return np.where(first == second, 0.5, first > second)


_PLAIN = {np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal, np.isfinite, np.isnan}
# Of the result and the operands: what a gradient becomes on its way to each operand.
_UFUNCS: Mapping[Any, Callable[..., tuple[_Back, ...]]] = {
    np.add: lambda y, a, b: (lambda g: g, lambda g: g),
    np.subtract: lambda y, a, b: (lambda g: g, lambda g: -g),
    np.multiply: lambda y, a, b: (lambda g: g * b, lambda g: g * a),
    np.divide: lambda y, a, b: (lambda g: g / b, lambda g: -g * y / b),
    np.power: lambda y, a, b: (lambda g: g * b * np.power(a, b - 1.0), lambda g: g * y * np.log(a)),
    np.matmul: lambda y, a, b: (lambda g: g @ np.transpose(b), lambda g: np.transpose(a) @ g),
    np.negative: lambda y, a: (lambda g: -g,),
    np.absolute: lambda y, a: (lambda g: g * np.sign(a),),
    np.exp: lambda y, a: (lambda g: g * y,),
    np.expm1: lambda y, a: (lambda g: g * (y + 1),),
    np.log: lambda y, a: (lambda g: g / a,),
    np.log1p: lambda y, a: (lambda g: g / (1 + a),),
    np.sqrt: lambda y, a: (lambda g: g / (2 * y),),
    np.square: lambda y, a: (lambda g: g * 2 * a,),
    np.tanh: lambda y, a: (lambda g: g * (1 - y * y),),
    np.maximum: lambda y, a, b: (lambda g: g * _larger(a, b), lambda g: g * _larger(b, a)),
    np.minimum: lambda y, a, b: (lambda g: g * _larger(b, a), lambda g: g * _larger(a, b)),
}
_FUNCTIONS: Mapping[Any, Callable[..., Any]] = {
    np.sum: Value.sum,
    np.mean: Value.mean,
    np.max: Value.max,
    np.min: Value.min,
    np.reshape: Value.reshape,
    np.transpose: _transpose,
    np.where: _where,
    np.clip: _clip,
    np.take_along_axis: _take_along_axis,
}
