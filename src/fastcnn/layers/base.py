"""The base of all layers: a tree of named arrays and sub-layers with a ``forward``.

This file registers parameters, buffers and sub-layers, and makes state dicts. newer.py tells watchers of changes and
knows which trainer holds newer values. The other files have the layers themselves. graph/trace.py turns a forward
method into a graph, and network.py runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_flag, as_mapping
from fastcnn._names import meant
from fastcnn.graph.stored import read_and_keep
from fastcnn.graph.trace import scope
from fastcnn.layers.arrays import Buffer, LoadResult, Parameter, frozen_float32
from fastcnn.layers.newer import Watcher, bring_up_to_date, generation, settled, tell_watchers

__all__ = ["Buffer", "Layer", "LoadResult", "Parameter", "failed_layer", "generation"]

# PyTorch's BatchNorm saves this count of batches. Inference does not need it.
_IGNORED_SUFFIX = "num_batches_tracked"

_MOST_PROBLEMS = 20  # told of a state that does not fit
_FAILED_LAYER = "fastcnn_layer"

T = TypeVar("T")


def failed_layer(error: BaseException) -> Layer | None:
    """Return the innermost layer whose forward raised the error, or None where it is not known."""
    return error.__dict__.get(_FAILED_LAYER)


class Layer:
    """Base of all layers: set arrays and sub-layers as attributes, and write ``forward``.

    ``Parameter``, ``Buffer`` and ``Layer`` values are registered under the attribute's name. A plain array that is
    assigned to a registered name replaces the values and must have the same shape. The layer keeps a read-only copy, so
    that compiled plans notice every change. Sub-classes need not call ``super().__init__()``.

    Examples
    --------
    >>> from fastcnn.layers import Linear
    >>> class Block(Layer):
    ...     def __init__(self):
    ...         self.fc = Linear(4, 2)
    ...     def forward(self, x):
    ...         return self.fc(x) * 2
    ...     def extra_repr(self):
    ...         return "with 4 inputs"
    >>> Block()
    Block(
      with 4 inputs
      (fc): Linear(in_features=4, out_features=2)
    )
    >>> len(list(Block().named_children())), len(list(Block().named_buffers()))
    (1, 0)
    >>> [name for name, _ in Block().named_parameters()]
    ['fc.weight', 'fc.bias']
    """

    _children: dict[str, Layer]
    _frozen: bool = False

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls)
        # __setattr__ needs these entries.
        self.__dict__.update(_parameters={}, _buffers={}, _children={})
        tell_watchers(self)
        return self

    @property
    def _parameters(self) -> dict[str, np.ndarray]:
        bring_up_to_date(self)
        store: dict[str, np.ndarray] = self.__dict__["_parameters"]
        return store

    @property
    def _buffers(self) -> dict[str, np.ndarray]:
        bring_up_to_date(self)
        store: dict[str, np.ndarray] = self.__dict__["_buffers"]
        return store

    def forward(self, *inputs: Any) -> Any:
        """Compute the layer's output: arrays from arrays, or symbols from symbols. A call of the layer does the same.

        Parameters
        ----------
        *inputs : array_like or Symbol
            For images (N, C, H, W). Most layers take one.

        Returns
        -------
        ndarray or Symbol
        """
        raise TypeError(f"{type(self).__name__} has no forward method: it only holds other layers")

    def __call__(self, *inputs: Any) -> Any:
        """Run `forward`; a tracer names the nodes after the layer's path in the model."""
        with scope(self):
            try:
                return self._apply(*inputs)
            except (ValueError, TypeError) as error:
                error.__dict__.setdefault(_FAILED_LAYER, self)
                raise

    def _apply(self, *inputs: Any) -> Any:
        """`forward`, and what a kind of layer does to every input before."""
        return self.forward(*inputs)

    # -- attributes ---------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        # Python calls this only where the ordinary look-up fails.
        bring_up_to_date(self)
        for store in ("_parameters", "_buffers", "_children"):
            registered = self.__dict__.get(store, {})
            if name in registered:
                return read_and_keep(registered, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        settled([self], lambda: self._assign(name, value))

    def _assign(self, name: str, value: Any) -> None:
        where = f"{type(self).__name__}.{name}"
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        elif isinstance(value, (Parameter, Buffer)):
            store = self._parameters if isinstance(value, Parameter) else self._buffers
            self._register(store, name, value.view(np.ndarray))
        elif isinstance(value, Layer):
            self._register(self._children, name, value)
        elif value is not None and (name in self._parameters or name in self._buffers):
            self._replace(name, value, where)
        elif isinstance(value, np.ndarray):
            raise TypeError(f"{where}: got a plain array, expected Parameter(...) or Buffer(...), so that it is saved")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Layer) for item in value):
            raise TypeError(f"{where}: got a list of layers, expected a Sequential, so that their parameters are saved")
        else:
            self._forget(name)
            object.__setattr__(self, name, value)
        self._touch()

    def __delattr__(self, name: str) -> None:
        settled([self], lambda: self._delete(name))

    def _delete(self, name: str) -> None:
        if not self._forget(name):
            object.__delattr__(self, name)
        self._touch()

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._parameters, *self._buffers, *self._children]

    def _register(self, store: dict[str, Any], name: str, value: Any) -> None:
        if not name or "." in name:
            raise ValueError(f"{type(self).__name__}: name={name!r}, expected a name without dots")
        if hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__}.{name} is a method, expected another name for the attribute")
        self.__dict__.pop(name, None)
        if name not in store:  # a value of another kind may have this name; a known name keeps its place
            self._forget(name)
        store[name] = value

    def _forget(self, name: str) -> bool:
        """Remove `name` from the registry that has it. Return whether one had it."""
        stores: tuple[dict[str, Any], ...] = (self._parameters, self._buffers, self._children)
        found = [store for store in stores if name in store]
        for store in found:
            del store[name]
        return bool(found)

    def _replace(self, name: str, value: ArrayLike, where: str) -> None:
        store = self._store_of(name)
        array = frozen_float32(value, where)
        if array.shape != store[name].shape:
            raise ValueError(f"{where}: shape={array.shape}, expected {store[name].shape}")
        store[name] = array

    def _store_of(self, name: str) -> dict[str, np.ndarray]:
        return self._parameters if name in self._parameters else self._buffers

    def _touch(self, by: Watcher | None = None) -> None:
        """Tell all watchers of the layer but `by`, which has changed it."""
        tell_watchers(self, by)

    def _take_value(self, name: str, array: np.ndarray, by: Watcher) -> None:
        """Replace a registered array by one that has no other owner."""
        array.flags.writeable = False
        parameters, buffers = self.__dict__["_parameters"], self.__dict__["_buffers"]  # the properties would ask `by`
        (parameters if name in parameters else buffers)[name] = array
        self._touch(by)

    def _settled(self, look: Callable[[], T]) -> T:
        """Return `look()`, during which training changes no array of this layer or of a layer below it."""
        return settled([layer for _, layer in self.named_layers()], look)

    # -- training -----------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Keep the arrays of this layer and all layers below it as they are during training.

        Their parameters get no gradients. Batch normalisation uses its running statistics and leaves them unchanged.
        Layers before a frozen one still learn through it.

        Examples
        --------
        >>> layer = Layer()
        >>> layer.freeze()
        >>> layer.is_frozen
        True
        >>> layer.thaw()
        >>> layer.is_frozen
        False
        """
        self._set_frozen(True)

    def thaw(self) -> None:
        """Undo `freeze` for this layer and all layers below it."""
        self._set_frozen(False)

    @property
    def is_frozen(self) -> bool:
        """Whether training leaves this layer's own arrays as they are."""
        return self._frozen

    def _set_frozen(self, frozen: bool) -> None:
        def change() -> None:
            for _, layer in self.named_layers():
                layer.__dict__["_frozen"] = frozen
                layer._touch()

        self._settled(change)

    # -- the tree -----------------------------------------------------------------------------------

    def named_children(self) -> Iterator[tuple[str, Layer]]:
        """Yield name and layer of each direct sub-layer, in order of assignment.

        Yields
        ------
        (str, Layer)
        """
        yield from self._children.items()

    def named_layers(self, prefix: str = "") -> Iterator[tuple[str, Layer]]:
        """Yield dotted path and layer of this layer and all layers below it, parents first.

        Parameters
        ----------
        prefix : str
            Path of this layer itself.

        Yields
        ------
        (str, Layer)

        Examples
        --------
        >>> from fastcnn import ReLU, Sequential
        >>> [path for path, layer in Sequential(Sequential(ReLU())).named_layers()]
        ['', '0', '0.0']
        """
        yield prefix, self
        for name, child in list(self._children.items()):
            yield from child.named_layers(f"{prefix}.{name}" if prefix else name)

    def _named_arrays(self, parameters: bool, buffers: bool) -> Iterator[tuple[str, Layer, str]]:
        """Yield (full name, owning layer, name within the layer) of parameters, buffers or both."""
        for path, layer in self.named_layers():
            # The properties would bring values up to date, and only names are needed.
            stores = [layer.__dict__["_parameters"]] * parameters + [layer.__dict__["_buffers"]] * buffers
            for name in (name for store in stores for name in store):
                yield (f"{path}.{name}" if path else name), layer, name

    def named_parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield name and array of each parameter of this layer and all layers below it.

        Yields
        ------
        (str, ndarray)
        """
        for full, layer, name in self._named_arrays(True, False):
            yield full, read_and_keep(layer._parameters, name)

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield name and array of each buffer of this layer and all layers below it.

        Yields
        ------
        (str, ndarray)
        """
        for full, layer, name in self._named_arrays(False, True):
            yield full, read_and_keep(layer._buffers, name)

    # -- state --------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return all parameters and buffers under the dotted names that PyTorch gives them.

        Returns
        -------
        dict of str to ndarray
            Read-only float32 arrays, not copied.

        Examples
        --------
        >>> from fastcnn.layers import BatchNorm2d
        >>> list(BatchNorm2d(8).state_dict())
        ['weight', 'bias', 'running_mean', 'running_var']
        """

        def read() -> dict[str, np.ndarray]:
            arrays = self._named_arrays(True, True)
            return {full: read_and_keep(layer._store_of(name), name) for full, layer, name in arrays}

        return self._settled(read)

    def _stored_state(self) -> dict[str, np.ndarray]:
        """Return `state_dict`, in which arrays that lie in a file stay there (`fastcnn.graph.stored`)."""
        arrays = self._named_arrays(True, True)
        return self._settled(lambda: {full: layer._store_of(name)[name] for full, layer, name in arrays})

    def load_state_dict(self, state: Mapping[str, ArrayLike], strict: bool = True) -> LoadResult:
        """Copy values into the parameters and buffers: all of them, or none if an error occurs.

        Parameters
        ----------
        state : mapping of str to array_like
            Arrays by dotted names. PyTorch's ``num_batches_tracked`` entries are ignored.
        strict : bool
            Whether missing and unexpected names are errors. Wrong shapes always are.

        Returns
        -------
        LoadResult
            The missing and the unexpected names, both empty when strict.

        Raises
        ------
        ValueError
            Lists the missing, unexpected and mismatched names, twenty at most.
        TypeError
            If a value does not hold real numbers.

        Examples
        --------
        >>> from fastcnn.layers import Linear
        >>> layer = Linear(2, 1)
        >>> layer.load_state_dict({"weight": [[1, 2, 3]], "scale": [1]})
        Traceback (most recent call last):
        ...
        ValueError: load_state_dict: 3 names do not fit Linear
          weight: shape (1, 3), expected (1, 2)
          bias: missing
          scale: unexpected
        """
        owners = {full: (layer, name) for full, layer, name in self._named_arrays(True, True)}
        given = as_mapping(state, "load_state_dict: state")
        wanted = {name: value for name, value in given.items() if name.split(".")[-1] != _IGNORED_SUFFIX}
        result = LoadResult([n for n in owners if n not in wanted], [n for n in wanted if n not in owners])
        loaded: dict[str, np.ndarray] = {}
        problems: list[str] = []
        for full, (layer, name) in owners.items():
            if full in wanted:
                loaded[full] = array = frozen_float32(wanted[full], f"load_state_dict: {full}")
                expected = layer._store_of(name)[name].shape
                if array.shape != expected:
                    problems.append(f"{full}: shape {array.shape}, expected {expected}")
        if as_flag(strict, "load_state_dict: strict"):
            problems += [f"{name}: missing" for name in result.missing]
            problems += [
                f"{name}: unexpected{meant(name, result.missing)}" for name in result.unexpected[:_MOST_PROBLEMS]
            ]
            problems += [f"{name}: unexpected" for name in result.unexpected[_MOST_PROBLEMS:]]
        if problems:
            count = f"{len(problems)} name{'s do' if len(problems) > 1 else ' does'} not fit"
            rest = len(problems) - _MOST_PROBLEMS
            more = [f"… and {rest} more"] if rest > 0 else []
            listing = "\n  ".join([*problems[:_MOST_PROBLEMS], *more])
            raise ValueError(f"load_state_dict: {count} {type(self).__name__}\n  {listing}")

        def change() -> None:
            for full, array in loaded.items():
                layer, name = owners[full]
                layer._store_of(name)[name] = array
                layer._touch()

        self._settled(change)
        return result

    def __getstate__(self) -> dict[str, Any]:
        for store in (self._parameters, self._buffers):
            for name in store:
                read_and_keep(store, name)
        return {name: value for name, value in self.__dict__.items() if name not in ("_watchers", "_holder")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for array in (*self._parameters.values(), *self._buffers.values()):
            array.flags.writeable = False  # a pickle or a deep copy does not keep the flag
        self._touch()

    # -- text ---------------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """Return the layer's settings, which ``repr`` prints between its parentheses.

        Returns
        -------
        str
        """
        return ""

    def __repr__(self) -> str:
        name, extra = type(self).__name__, self.extra_repr()
        if not self._children:
            return f"{name}({extra})"
        lines = [extra] if extra else []
        lines += [f"({key}): {child!r}".replace("\n", "\n  ") for key, child in self._children.items()]
        return f"{name}(\n  " + "\n  ".join(lines) + "\n)"
