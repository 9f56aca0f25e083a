"""The compiled plans of a network: made when needed, kept for a few shapes, dropped when a layer changes.

compiler/runnable.py says what a plan offers, and that several threads may run it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from fastcnn._arguments import check_out, check_overlap
from fastcnn._forks import Guard
from fastcnn.compiler.lower import Packed
from fastcnn.compiler.network import Runnable, compile_network
from fastcnn.graph.ir import Graph
from fastcnn.io.preprocess import Pixels
from fastcnn.kernels import _cpu
from fastcnn.kernels._repeat import Repeat
from fastcnn.layers.newer import watch

if TYPE_CHECKING:
    from fastcnn.io.image import Preprocess

__all__ = ["Compilable", "Compiled", "PlanCache"]

T = TypeVar("T")

# Plans kept for a network; the least recently used is dropped first. Each plan holds an arena for its activations, so
# that the limit bounds the memory of a server that receives images of every size.
MAX_PLANS = 8

# Attempts to read a network while another thread assigns to its layers.
_LOOKS = 3


class Compilable(Protocol):
    """The part of a network that the cache needs."""

    _max_bytes: int | None  # that a prediction for one input may take

    @property
    def tuning(self) -> dict[str, str]:
        """The fastest algorithms, as measured."""

    @property
    def reproducible(self) -> bool:
        """Whether outputs have the same bits in batches of every size."""

    def named_layers(self) -> Iterator[tuple[str, Any]]:
        """The network and all layers below it, with their paths."""

    @property
    def dtype(self) -> str:
        """The type of the weights."""

    @property
    def strict(self) -> bool:
        """Whether steps that only NumPy computes are refused."""

    def _settled(self, look: Callable[[], T]) -> T:
        """Return `look()`, during which training changes no array of the network."""

    def _stored_graph(self, input_shape: Sequence[int]) -> Graph:
        """The network as a graph; constants that lie in a file stay there."""


class Compiled(NamedTuple):
    """A plan, and the facts about its graph that a prediction needs."""

    plan: Runnable
    output_shape: tuple[int, ...]
    ending: str  # the operation that the network ends in, without a domain

    def run(self, batch: np.ndarray | Pixels, out: np.ndarray | None = None) -> np.ndarray:
        """Return the network's output, in `out` if it is given; photos become numbers if the plan takes no pixels."""
        if isinstance(batch, Pixels):
            batch = np.ascontiguousarray(batch.values) if self.plan.takes_pixels else batch.numbers()
        if out is not None:
            shape = self.output_shape or getattr(out, "shape", ())
            check_overlap(check_out(out, shape, np.dtype(np.float32)), [batch], False)
        return self.plan.run([batch], None if out is None else [out])[0]


# Shape of the inputs, preprocessing of photos that stand for them, and instruction set.
_Key: TypeAlias = "tuple[tuple[int, ...], Preprocess | None, str]"


class _Recent(NamedTuple):
    """The plan of the last call."""

    changes: object  # the cache's, when the arrays behind the plan were read
    key: _Key
    compiled: Compiled
    repeat: Repeat | None


class PlanCache:
    """The compiled plans of one network, by input and instruction set, and their packed weights.

    Layers tell the cache when they change, and it then drops plans and weights.
    """

    def __init__(self) -> None:
        self._guard = Guard()
        self._plans: OrderedDict[_Key, Compiled] = OrderedDict()
        self._packed: Packed = {}
        self._changes = object()  # replaced after each change
        self._known: object = None  # `_changes` of the kept plans and packed weights
        self._recent: _Recent | None = None

    def layer_changed(self) -> None:
        """Note that a layer of the network has changed since plans were compiled."""
        self._changes = object()

    def again(self, x: Any, out: Any = None) -> np.ndarray | None:
        """Return the output, in `out` if it is given, for an input like that of the last call; None for other inputs or
        a changed network.

        It skips the checks of `Network.__call__` and `get`, which small networks would notice.
        """
        recent = self._recent
        if recent is None or recent.changes is not self._changes or recent.repeat is None:
            return None
        return recent.repeat.run(x, out)

    def get(self, network: Compilable, shape: tuple[int, ...], preprocess: Preprocess | None = None) -> Compiled:
        """Return the plan for inputs of `shape`, or for photos that stand for them; compile it if there is none.

        While the network is trained, all weights of a plan are of one step.
        """
        key = (shape, preprocess, _cpu.isa())
        recent = self._recent  # the plan of the last call needs no lock and no search
        if recent is not None and recent.changes is self._changes and recent.key == key:
            return recent.compiled
        compiled = self._kept(key)
        if compiled is not None:
            return compiled
        changes, graph = self._look(network, shape[1:])  # without the lock, as forward methods are users' code
        with self._guard.lock:
            if changes is not self._changes:  # training went on: the plan is for this call alone
                return _compile(network, graph, key, {})
            compiled = self._kept(key)  # another thread may have compiled it
            if compiled is None:
                if self._known is not changes:
                    self._plans.clear()
                    self._packed, self._known = {}, changes
                self._plans[key] = compiled = _compile(network, graph, key, self._packed)
                if len(self._plans) > MAX_PLANS:
                    self._plans.popitem(last=False)
                self._remember(key, compiled)
            return compiled

    def get_all(
        self, network: Compilable, shapes: Sequence[tuple[int, ...]], preprocess: Preprocess | None = None
    ) -> list[Compiled]:
        """Return the plans for inputs of several batch sizes; all their weights are of one step."""
        for _ in range(_LOOKS):
            changes = self._changes
            found = [self.get(network, shape, preprocess) for shape in shapes]
            if changes is self._changes:
                return found
        _, graph = self._look(network, shapes[0][1:])  # training goes on: the plans are for this call alone
        packed: Packed = {}
        return [_compile(network, graph, (shape, preprocess, _cpu.isa()), packed) for shape in shapes]

    def forget_plans(self) -> None:
        """Drop all plans; packed weights stay."""
        with self._guard.lock:
            self._plans.clear()
            self._recent = None

    def _kept(self, key: _Key) -> Compiled | None:
        with self._guard.lock:
            compiled = self._plans.get(key) if self._known is self._changes else None
            if compiled is not None:
                self._plans.move_to_end(key)
                self._remember(key, compiled)
            return compiled

    def _remember(self, key: _Key, compiled: Compiled) -> None:
        self._recent = _Recent(self._known, key, compiled, compiled.plan.repeat(key[0]))

    def _look(self, network: Compilable, shape: tuple[int, ...]) -> tuple[object, Graph]:
        """Return the network's graph, and `_changes` at the moment of reading."""
        for _ in range(_LOOKS):
            for _, layer in network.named_layers():
                watch(layer, self)
            changes, graph = network._settled(lambda: (self._changes, network._stored_graph(shape)))
            if changes is self._changes:
                break
        return changes, graph


def _compile(network: Compilable, graph: Graph, key: _Key, packed: Packed) -> Compiled:
    shape, preprocess, _ = key
    first, *others = graph.inputs  # a network has one; the rest is of gradients, and has fixed shapes
    compiled = compile_network(
        graph,
        {first: shape, **{name: tuple(size or 1 for size in graph.inputs[name]) for name in others}},
        packed=packed,
        tuning=network.tuning,
        pixels={} if preprocess is None else dict.fromkeys(graph.inputs, preprocess.levels()),
        reproducible=network.reproducible,
        max_bytes=network._max_bytes,
        strict=network.strict,
        bfloat16=network.dtype == "bfloat16",
    )
    # The graph is not kept: its constants would stay in memory beside the packed ones.
    return Compiled(compiled.plan, compiled.output_shape, compiled.ending)
