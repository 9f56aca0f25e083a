"""General operations: ONNX's operators in plain NumPy, for any type of number and any number of dimensions.

Graphs that come from ONNX files consist of them, under ONNX's qualified names ("ai.onnx::Conv"). The compiler replaces
them by operations with kernels where it can (compiler/native.py); the others run in NumPy. The definitions are those of
https://onnx.ai/onnx/operators, in the form of opset 21. io/_onnx_dialect.py translates older forms.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from fastcnn.ops.base import MAX_ELEMENTS
from fastcnn.ops.budget import CALL, Budget, Cost
from fastcnn.ops.node import Attrs, Op, Shape, Shapes

DOMAIN = "ai.onnx::"
Array = np.ndarray
Ints = tuple[int, ...]
Floats = tuple[float, ...]
Texts = tuple[str, ...]
# From the attributes and inputs to the upper bound of the cost. Only the shapes and types of inputs matter, and the
# values of those in `General.value_inputs`.
Costs = Callable[[Attrs, Sequence[Any]], Cost]
Rule = Callable[[Attrs, Sequence[Any]], Sequence[int]]

# Bytes that a call takes beside its arrays: NumPy's buffers for casts, and Python's objects.
OVERHEAD = 1 << 18
# An array has at most 64 axes, and some operators take four numbers for each.
MOST_NUMBERS = 256
_INPUT = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class General(Op):
    """An operator of ONNX, defined by a Python function.

    The parameters of the function are the inputs, its keyword-only parameters the attributes.

    Parameters
    ----------
    name : str
        ONNX's.
    function : callable
        Gives one array, or a tuple of them.
    cost : callable
        Upper bound of the cost of evaluation.
    values : tuple of int
        Inputs whose values, not just their shapes, decide the shape of the output.
    shape : callable, optional
        The rule for the shape of the first output, if there is one.
    by_element : bool
        Whether one element of each input tells the type of the output. The default rule for the shape is broadcasting.
    many : bool
        Whether the inputs in `values` may be long. If not, they have a few numbers for each axis.
    first : bool
        Whether the first input alone has the type of the output: others are indices or lengths.

    Attributes
    ----------
    annotations : dict
        Of each attribute: "int", "float", "str", "Ints", "Floats" or "Texts", with " | None" where it may be absent.
    """

    opset = 21

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        cost: Costs,
        values: Ints = (),
        shape: Rule | None = None,
        by_element: bool = False,
        many: bool = False,
        first: bool = False,
    ) -> None:
        self.name, self.function, self.value_inputs, self.by_element = DOMAIN + name, function, values, by_element
        self.shape_rule = shape or (_broadcast if by_element else None)
        self._cost, self._many, self._first = cost, many, first
        parameters = inspect.signature(function).parameters.values()
        inputs = [p for p in parameters if p.kind in _INPUT]
        self.variadic = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
        self.arguments = tuple(p.name for p in inputs)
        self.required = sum(p.default is inspect.Parameter.empty for p in inputs) or int(self.variadic)
        keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
        self.takes_output = any(p.name == "output" for p in keywords)  # the function computes one output
        attributes = [p for p in keywords if p.name != "output"]
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

    def cost(self, attrs: Attrs, inputs: Sequence[Any]) -> Cost:
        """The upper bound of the cost of evaluation.

        Parameters
        ----------
        attrs, inputs
            As for `evaluate`. Only the shapes and types of inputs matter, and the values of those in `value_inputs`.
        """
        self.check_values([None if x is None else x.shape for x in inputs])
        return self._cost(attrs, inputs)

    def check_values(self, shapes: Shapes) -> None:
        """Refuse inputs that describe axes, but have more numbers than axes need: they become Python's lists."""
        for i in () if self._many else self.value_inputs:
            shape = shapes[i] if i < len(shapes) else None
            if shape is not None and prod(shape) > MOST_NUMBERS:
                raise ValueError(f"input {i} has {prod(shape)} numbers, expected at most {MOST_NUMBERS}")

    def evaluate(self, attrs: Attrs, inputs: Sequence[Array | None], budget: Budget) -> Array:
        """Compute the node's output.

        Parameters
        ----------
        attrs : dict
            "output" is the number of the output that the node stands for.
        inputs : sequence of arrays, None where one is absent
        budget : Budget
            Asked before anything is computed.

        Raises
        ------
        ValueError
            If the inputs do not fit, or evaluation takes too much.
        """
        with _told():
            budget.require(self.cost(attrs, inputs))
            return self._call(attrs, inputs)

    def _call(self, attrs: Attrs, inputs: Sequence[Array | None]) -> Array:
        index = attrs.get("output", 0)
        keywords = {key: value for key, value in attrs.items() if key != "output" or self.takes_output}
        with np.errstate(all="ignore"):
            result = self.function(*inputs, **keywords)
        outputs = result if isinstance(result, tuple) else (result,)
        return np.asarray(result if self.takes_output else outputs[index])

    def result(self, attrs: Attrs, inputs: Sequence[Array | None], budget: Budget) -> tuple[Shape, np.dtype]:
        """Shape and type of the output, by the rule if there is one, else by computing the output.

        Only the values of the inputs in `value_inputs` matter. The budget is also asked for the work of a prediction.
        """
        with _told():
            budget.require_step(self.cost(attrs, inputs))
        if self.shape_rule is not None and attrs.get("output", 0) == 0:
            try:
                shape = tuple(int(size) for size in self.shape_rule(attrs, inputs))
                size_of(shape)
                if self.by_element:
                    return shape, self._call(attrs, [_single(x) for x in inputs]).dtype
                return shape, np.result_type(*[x for x in inputs[: 1 if self._first else None] if x is not None])
            except MemoryError:
                raise
            except Exception:  # noqa: S110 - the operands do not fit: computing tells why
                pass
        array = self.evaluate(attrs, inputs, budget)
        return array.shape, array.dtype

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return prod(output)


# Of each annotation of an attribute: types of Python, what a list has, and whether it is a list.
_KINDS: dict[str, tuple[tuple[type, ...], str, bool]] = {
    "int": ((int,), "integers", False),
    "float": ((int, float), "numbers", False),
    "str": ((str,), "texts", False),
    "Ints": ((int,), "integers", True),
    "Floats": ((int, float), "numbers", True),
    "Texts": ((str,), "texts", True),
}


def _check_kind(key: str, value: Any, kind: str) -> None:
    kind, _, optional = kind.partition(" | ")
    if value is None and optional:
        return
    wanted, plural, is_list = _KINDS[kind]
    if is_list and not isinstance(value, tuple):
        raise ValueError(f"{key}={str(value)[:80]!r}, expected a list of {plural}")
    items: Sequence[Any] = value if is_list else (value,)
    for item in items:
        if type(item) not in wanted or (type(item) is int and abs(item) >= 2**63):
            raise ValueError(f"{key}={str(item)[:80]!r}, expected {'text' if str in wanted else 'a number'}")


@contextmanager
def _told() -> Iterator[None]:
    """Turn any exception of NumPy about operands that do not fit into a ValueError that names the cause."""
    try:
        yield
    except (MemoryError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _broadcast(attrs: Attrs, inputs: Sequence[Any]) -> Ints:
    return np.broadcast_shapes(*[x.shape for x in inputs if x is not None])


def _single(x: Array | None) -> Array | None:
    """One element in place of the array."""
    return x if x is None or x.size == 1 else np.zeros((1,) * x.ndim, x.dtype)


def size_of(shape: Sequence[Any]) -> int:
    """Elements of an array of this shape, none of whose sizes may be negative."""
    sizes = [int(size) for size in shape]
    if any(size < 0 for size in sizes):
        raise ValueError(f"shape {tuple(sizes)}, expected sizes >= 0")
    return min(prod(sizes), MAX_ELEMENTS * 16)


def bytes_of(*arrays: Any) -> int:
    """Bytes of arrays; a stand-in counts as the array that it stands for."""
    return sum(x.size * x.dtype.itemsize for x in arrays if x is not None)


def width_of(*arrays: Any) -> int:
    """Bytes of a number in the result of a function of arrays: integers may become float64."""
    return max((x.dtype.itemsize if x.dtype.kind == "f" else 8 for x in arrays if x is not None), default=8)


def elements_of(*arrays: Any) -> int:
    """Elements of arrays after broadcasting; elements of the largest if they do not fit."""
    shapes = [x.shape for x in arrays if x is not None]
    try:
        return prod(np.broadcast_shapes(*shapes))
    except ValueError:
        return max(map(prod, shapes), default=1)


def cost_of(size: int, work: int) -> Cost:
    """The cost with the overhead of Python's objects and of the buffers of NumPy's functions."""
    return Cost(int(size) + OVERHEAD, int(work) + CALL)


def by_elements(arrays: int, passes: int = 0) -> Costs:
    """The cost of a function by the arrays of the result's size that it holds, and its passes over them."""

    def cost(attrs: Attrs, inputs: Sequence[Any]) -> Cost:
        count = elements_of(*inputs)
        return cost_of(arrays * count * width_of(*inputs), (passes or 2 * arrays) * count)

    return cost


def general(
    name: str,
    cost: Costs,
    values: Ints = (),
    shape: Rule | None = None,
    by_element: bool = False,
    many: bool = False,
    first: bool = False,
) -> Callable[[Callable[..., Any]], General]:
    """Decorator: an operator from its definition; see `General`."""
    return lambda function: General(name, function, cost, values, shape, by_element, many, first)


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
