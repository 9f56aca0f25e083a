"""General operations: ONNX's operators in plain NumPy, for any type of number and any number of dimensions.

Graphs that come from ONNX files consist of these, under ONNX's qualified names ("ai.onnx::Conv"). The compiler replaces
those that it can by the operations with kernels (compiler/native.py); what is left runs as it is here. The definitions
are those of https://onnx.ai/onnx/operators, in the form of opset 21; older forms are brought to it by
io/_onnx_dialect.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.ops.base import MAX_ELEMENTS, Attrs, Op, Shape, Shapes

DOMAIN = "ai.onnx::"
Array = np.ndarray
Ints = tuple[int, ...]
Floats = tuple[float, ...]
# From the attributes and inputs to the number of elements of the largest array that evaluation makes.
Size = Callable[[Attrs, Sequence[Any]], int]

Rule = Callable[[Attrs, Sequence[Any]], Sequence[int]]

_INPUT = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class General(Op):
    """One of ONNX's operators, defined by a Python function: its parameters are the inputs, its keyword-only ones the
    attributes.

    Parameters
    ----------
    name : str
        ONNX's.
    function : callable
        Gives one array, or a tuple of them.
    values : tuple of int
        Inputs whose values, not just their shapes, decide about the shape of the output.
    size : callable, optional
        Elements of the largest array it makes; by default those of the inputs broadcast together.
    shape : callable, optional
        Shape of the first output, whose type is the inputs': for those that take long to compute.

    Attributes
    ----------
    annotations : dict
        Of each attribute: "int", "float", "str", "Ints" or "Floats", with " | None" where it may be absent.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], values: Ints = (), size: Size | None = None,
        shape: Rule | None = None,
    ) -> None:
        self.name, self.function, self.value_inputs, self.shape_rule = DOMAIN + name, function, values, shape
        self._size = size or _broadcast_size
        parameters = inspect.signature(function).parameters.values()
        inputs = [p for p in parameters if p.kind in _INPUT]
        self.variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
        self.arguments = tuple(p.name for p in inputs)
        self.required = sum(p.default is inspect.Parameter.empty for p in inputs) or int(self.variadic)
        attributes = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
        self.defaults: Mapping[str, Any] = {p.name: p.default for p in attributes}
        self.annotations = {p.name: str(p.annotation) for p in attributes}

    def check(self, attrs: Attrs, inputs: Sequence[str]) -> None:
        for key, value in attrs.items():
            if key == "output":
                if type(value) is not int or not 0 <= value < 16:
                    raise ValueError(f"output={value!r}, expected the number of an output")
            elif key not in self.annotations:
                known = ", ".join(self.annotations) or "none"
                raise ValueError(f"unknown attribute {key!r}; known are {known}")
            else:
                _check_kind(key, value, self.annotations[key])
        for key, default in self.defaults.items():
            if default is inspect.Parameter.empty and key not in attrs:
                raise ValueError(f"attribute {key!r} is missing")
        most = None if self.variadic else len(self.arguments)
        if len(inputs) < self.required or (most is not None and len(inputs) > most) or "" in inputs[: self.required]:
            expected = f"at least {self.required}" if most is None else f"{self.required} to {most}"
            raise ValueError(f"{sum(map(bool, inputs))} inputs, expected {expected}")

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        raise ValueError("its shape depends on values: the graph must be resolved first (compiler/resolve.py)")

    def evaluate(self, attrs: Attrs, inputs: Sequence[Array | None], max_bytes: int) -> Array:
        """Compute the node's output.

        Parameters
        ----------
        attrs : dict
            "output" is the number of the output that the node stands for.
        inputs : sequence of arrays, None where one is absent
        max_bytes : int
            The most that the output may take.

        Raises
        ------
        ValueError
            Where the inputs do not fit, or the output would be too large.
        """
        index = attrs.get("output", 0)
        try:
            with np.errstate(all="ignore"):
                size = max((x.dtype.itemsize for x in inputs if x is not None), default=8)
                needed = int(self._size(attrs, inputs)) * size
                if needed > max_bytes:
                    raise ValueError(f"needs {needed} bytes, more than max_bytes leaves ({max(0, max_bytes)})")
                keywords = {key: value for key, value in attrs.items() if key != "output"}
                result = self.function(*inputs, **keywords)
            outputs = result if isinstance(result, tuple) else (result,)
            return np.asarray(outputs[index])
        except (MemoryError, ValueError):
            raise
        except Exception as error:  # of NumPy, for operands that make no sense: whatever it is, it names the cause
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def result(self, attrs: Attrs, inputs: Sequence[Array | None], max_bytes: int) -> tuple[Shape, np.dtype]:
        """Shape and type of the output, for inputs of which only the values in `value_inputs` matter: by the rule
        where there is one, else by computing it."""
        if self.shape_rule is not None and attrs.get("output", 0) == 0:
            try:
                shape = tuple(int(size) for size in self.shape_rule(attrs, inputs))
            except (ValueError, TypeError, IndexError, KeyError, AttributeError, ZeroDivisionError):
                pass  # operands that make no sense: computing tells why
            else:
                dtype = np.result_type(*[x for x in inputs if x is not None])
                if size_of(shape) * dtype.itemsize > max_bytes:
                    raise ValueError(f"its output {shape} takes more than max_bytes leaves ({max(0, max_bytes)})")
                return shape, dtype
        array = self.evaluate(attrs, inputs, max_bytes)
        return array.shape, array.dtype

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return prod(output)


def _check_kind(key: str, value: Any, kind: str) -> None:
    kind, _, optional = kind.partition(" | ")
    if value is None and optional:
        return
    items: Sequence[Any] = value if kind in ("Ints", "Floats") and isinstance(value, tuple) else (value,)
    if kind in ("Ints", "Floats") and not isinstance(value, tuple):
        raise ValueError(f"{key}={str(value)[:80]!r}, expected a list of {'integers' if kind == 'Ints' else 'numbers'}")
    wanted = {"int": (int,), "Ints": (int,), "float": (int, float), "Floats": (int, float), "str": (str,)}[kind]
    for item in items:
        if type(item) not in wanted or (type(item) is int and abs(item) >= 2**63):
            raise ValueError(f"{key}={str(item)[:80]!r}, expected {'text' if kind == 'str' else 'a number'}")


def _broadcast_size(attrs: Attrs, inputs: Sequence[Array | None]) -> int:
    shapes = [x.shape for x in inputs if x is not None]
    try:
        return prod(np.broadcast_shapes(*shapes))
    except ValueError:
        return max(map(prod, shapes), default=1)


def size_of(shape: Sequence[Any]) -> int:
    """Elements of an array of this shape, none of whose sizes may be negative."""
    sizes = [int(size) for size in shape]
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape {tuple(sizes)}, expected sizes >= 0")
    return min(prod(sizes), MAX_ELEMENTS * 16)


def general(
    name: str, values: Ints = (), size: Size | None = None, shape: Rule | None = None
) -> Callable[[Callable[..., Any]], General]:
    """Decorator: an operator from its definition; see `General`."""
    return lambda function: General(name, function, values, size, shape)


def axis_of(axis: int, ndim: int) -> int:
    """An axis as a number from 0."""
    if not -ndim <= axis < max(ndim, 1):
        raise ValueError(f"axis={axis}, expected an axis of {ndim} dimensions")
    return int(axis) % max(ndim, 1)


def axes_of(axes: Any, ndim: int) -> Ints:
    """Axes as different numbers from 0."""
    found = tuple(axis_of(int(axis), ndim) for axis in axes)
    if len(set(found)) < len(found):
        raise ValueError(f"axes={tuple(int(a) for a in axes)}, expected different axes")
    return found
