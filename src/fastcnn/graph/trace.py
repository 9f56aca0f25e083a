"""Tracing: a forward method written in plain Python, run once on symbols, leaves a graph.

Symbols stand for values; `fastcnn.functional` applies operations to them through the tracer. Which layers exist, and
what their parameters are called, is the layers' business.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn, Protocol

import numpy as np

from fastcnn import ops
from fastcnn.graph.ir import Graph, Node, Shape

_tracer: ContextVar[Tracer | None] = ContextVar("_tracer", default=None)


class Traceable(Protocol):
    """What `trace` needs of a model."""

    def _apply(self, *inputs: Any) -> Any:
        """Compute the output."""

    def named_children(self) -> Iterator[tuple[str, Any]]:
        """Sub-layers with their names."""

    def _stored_state(self) -> dict[str, np.ndarray]:
        """Parameters and buffers, under their full names; those that lie in a file stay there."""


class Symbol:
    """A value that is not known yet.

    Attributes
    ----------
    shape : tuple of int
        With a batch of one.
    ndim : int
    name : str
    tracer : Tracer
    """

    __slots__ = ("name", "shape", "tracer")
    __array_ufunc__ = None  # so that array + symbol comes to Symbol.__radd__

    def __init__(self, tracer: Tracer, name: str, shape: Shape) -> None:
        self.tracer, self.name, self.shape = tracer, name, shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __repr__(self) -> str:
        return f"Symbol({self.name!r}, shape={self.shape})"

    def __add__(self, other: Any) -> Symbol:
        return self.tracer.apply("Add", [self, other], {})

    def __mul__(self, other: Any) -> Symbol:
        return self.tracer.apply("Mul", [self, other], {})

    __radd__, __rmul__ = __add__, __mul__

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(
            f"{self!r} has no values while a model is traced: forward can use fastcnn.functional, + and *, and the "
            "shape, but cannot look at numbers"
        )

    __array__ = __bool__ = __float__ = __int__ = __iter__ = __len__ = __getitem__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse


def _contiguous(value: Any) -> np.ndarray:
    return np.ascontiguousarray(value, np.float32)


class Tracer:
    """Collects the nodes of one model.

    Parameters
    ----------
    parameters : dict of str to ndarray
        Known by identity; other arrays become constants of their own.
    paths : dict of int to str
        Name of each layer, by identity.
    """

    def __init__(self, parameters: Mapping[str, np.ndarray], paths: Mapping[int, str]) -> None:
        self._names = {id(array): name for name, array in parameters.items()}
        self._arrays = dict(parameters)  # also keeps them alive, and so their identities
        self._paths = paths
        self._scopes: list[str] = []
        self._taken: set[str] = set()
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.shapes: dict[str, Shape] = {}

    def input(self, name: str, shape: Shape) -> Symbol:
        """A symbol for an input of the network."""
        self.shapes[name] = shape
        return Symbol(self, name, shape)

    def apply(self, op: str, inputs: Sequence[Any], attrs: Mapping[str, Any], shape: Shape | None = None) -> Symbol:
        """Append a node.

        Parameters
        ----------
        op : str
        inputs : sequence of Symbol, array, number or None
        attrs : dict
            Those that are not given take their defaults.
        shape : tuple of int, optional
            Of the output, where it is known. The operation then needs no shape rule, all attributes that it needs are
            given, and arrays keep their types.

        Returns
        -------
        Symbol

        Raises
        ------
        ValueError
            Where the shapes do not fit.
        """
        names = tuple(self._value(value, _contiguous if shape is None else np.asarray) for value in inputs)
        if shape is None:
            attrs = {**ops.get(op).defaults, **attrs}
            shape = ops.get(op).infer(attrs, [self.shapes[name] if name else None for name in names])
        name = self._node_name(op)
        self.nodes.append(Node(op, name, names, f"{name}:0", attrs))
        self.shapes[f"{name}:0"] = shape
        return Symbol(self, f"{name}:0", shape)

    @contextmanager
    def scope(self, layer: object) -> Iterator[None]:
        """Name the nodes made inside after a layer, or by a path."""
        path = layer if isinstance(layer, str) else self._paths.get(id(layer))
        self._scopes.append(path if path is not None else self._scopes[-1] if self._scopes else "")
        try:
            yield
        finally:
            self._scopes.pop()

    def knows(self, value: Any) -> bool:
        """Whether an array is a parameter of the model."""
        return self._arrays.get(self._names.get(id(value), "")) is value

    def _value(self, value: Any, as_array: Callable[[Any], np.ndarray]) -> str:
        if value is None:
            return ""
        if isinstance(value, Symbol):
            if value.tracer is not self:
                raise ValueError(f"{value!r} belongs to another model's forward")
            return value.name
        name = self._names.get(id(value))
        if name is None:
            name = f"const_{len(self.constants)}"
            array = as_array(value)
            self._names[id(array)], self._arrays[name] = name, array
        self.constants[name] = self._arrays[name]
        self.shapes[name] = self._arrays[name].shape
        return name

    def _node_name(self, op: str) -> str:
        """The layer's path; where one layer makes several nodes, or none does, with the operation's name."""
        path = self._scopes[-1] if self._scopes else ""
        name = path or op.lower()
        number = 1
        while name in self._taken:
            name, number = f"{path}.{op.lower()}_{number}" if path else f"{op.lower()}_{number}", number + 1
        self._taken.add(name)
        return name


def tracer_of(values: Iterable[Any]) -> Tracer | None:
    """The tracer to which an operation on these values belongs; None where it is computed at once.

    Operations on parameters alone belong to the model that is traced, so that the parameters learn through them.
    """
    values = list(values)
    symbol = next((value for value in values if isinstance(value, Symbol)), None)
    if symbol is not None:
        return symbol.tracer
    tracer = _tracer.get()
    return tracer if tracer is not None and any(map(tracer.knows, values)) else None


@contextmanager
def scope(layer: object) -> Iterator[None]:
    """Within it, nodes are named after `layer` (an object or a path); nothing happens where nothing is traced."""
    tracer = _tracer.get()
    if tracer is None:
        yield
    else:
        with tracer.scope(layer):
            yield


def trace(model: Traceable, input_shape: Sequence[int]) -> Graph:
    """The graph of a model.

    Parameters
    ----------
    model : layer
        Its forward takes one value and gives one.
    input_shape : sequence of int
        Without the batch axis.

    Returns
    -------
    Graph
        One input "x" with a free batch size; constants under their state-dict names, those that lie in a file as
        `StoredArray`.

    Raises
    ------
    TypeError
        Where forward looks at numbers, or does not return what a functional call has given.
    ValueError
        Where shapes do not fit.

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> [node.op for node in trace(Linear(4, 2), (4,)).nodes]
    ['Gemm']
    """
    tracer = Tracer(model._stored_state(), dict(_paths(model)))
    x = tracer.input("x", (1, *input_shape))
    (y,) = _outputs(tracer, model._apply, [x], f"{type(model).__name__}.forward")
    return Graph(tracer.nodes, {"x": (None, *input_shape)}, [y], tracer.constants)


def trace_function(function: Callable[..., Any], input_shapes: Mapping[str, Shape]) -> Graph:
    """The graph of a function that calls functions of `fastcnn.functional`, for inputs of given shapes.

    Raises
    ------
    TypeError, ValueError
        As `trace` does.

    Examples
    --------
    >>> from fastcnn import functional as F
    >>> graph = trace_function(lambda a, b: F.relu(F.add(a, b)), {"a": (2, 3), "b": (2, 3)})
    >>> [node.op for node in graph.nodes]
    ['Add', 'Relu']
    """
    title = getattr(function, "__name__", type(function).__name__)
    _check_takes(function, len(input_shapes), title)
    tracer = Tracer({}, {})
    inputs = [tracer.input(name, shape) for name, shape in input_shapes.items()]
    outputs = _outputs(tracer, function, inputs, title)
    return Graph(tracer.nodes, dict(input_shapes), outputs, tracer.constants)


def _check_takes(function: Callable[..., Any], count: int, title: str) -> None:
    try:
        parameters = inspect.signature(function)
    except (TypeError, ValueError):
        return  # some functions in C do not tell theirs
    try:
        parameters.bind(*[None] * count)
    except TypeError as error:
        raise TypeError(f"{title}: {error}, expected a function of {count} array{'s' * (count > 1)}") from None


def _outputs(tracer: Tracer, function: Callable[..., Any], inputs: list[Symbol], title: str) -> list[str]:
    """Names of what a function computes from the inputs; an input itself is copied."""
    token = _tracer.set(tracer)
    try:
        y = function(*inputs)
    finally:
        _tracer.reset(token)
    if not isinstance(y, Symbol):
        raise TypeError(f"{title} returned {type(y).__name__}, expected one value computed from {inputs[0].name}")
    return [(tracer.apply("Identity", [y], {}) if y in inputs else y).name]


def _paths(layer: Traceable, prefix: str = "") -> Iterator[tuple[int, str]]:
    for name, child in layer.named_children():
        yield id(child), prefix + name
        yield from _paths(child, f"{prefix}{name}.")
