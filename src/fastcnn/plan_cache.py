"""The compiled plans of a network: made when needed, kept for a few shapes, dropped when a layer changes.

What a plan is, and that several threads may run it, is compiler/plan.py's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np

from fastcnn._forks import Guard
from fastcnn.compiler.lower import Packed
from fastcnn.compiler.plan import Plan, compile_batch
from fastcnn.graph.ir import Graph, last_function
from fastcnn.io.preprocess import Pixels
from fastcnn.kernels import _cpu
from fastcnn.kernels._repeat import Repeat
from fastcnn.layers.newer import watch
from fastcnn.ops.budget import MAX_BYTES, Budget

if TYPE_CHECKING:
    from fastcnn.compiler.mixed import MixedPlan
    from fastcnn.io.image import Preprocess

__all__ = ["Compilable", "Compiled", "PlanCache"]

T = TypeVar("T")

# Plans kept per network, the least recently used go first. A plan holds an arena of the size of its largest
# activations, so that this bounds the memory of a server that meets images of every size.
MAX_PLANS = 8

# How often a network is looked at anew where another thread assigns to its layers meanwhile.
_LOOKS = 3


class Compilable(Protocol):
    """What the cache needs of a network."""

    _max_bytes: int | None

    @property
    def tuning(self) -> dict[str, str]:
        """The algorithms that have been measured to be the fastest."""

    @property
    def reproducible(self) -> bool:
        """Whether outputs have the same bits in batches of every size."""

    def named_layers(self) -> Iterator[tuple[str, Any]]:
        """The network and all layers below it, with their paths."""

    def _settled(self, look: Callable[[], T]) -> T:
        """Return `look()`, in which no training changes an array of the network."""

    def _stored_graph(self, input_shape: Sequence[int]) -> Graph:
        """The network as a graph; constants that lie in a file stay there."""

    def _budget(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Budget | None:
        """What compiling the graph may take; None where nobody bounds it."""


class Compiled(NamedTuple):
    """A plan, and what a prediction must know of its graph."""

    plan: Plan | MixedPlan
    output_shape: tuple[int, ...]
    ending: str  # the operation that the network ends in, without a domain

    def run(self, batch: np.ndarray | Pixels) -> np.ndarray:
        """Return the network's output; photos are turned into numbers here where the plan does not do it."""
        if isinstance(batch, Pixels):
            batch = np.ascontiguousarray(batch.values) if self.plan.takes_pixels else batch.numbers()
        return self.plan.run([batch])[0]


# Shape of the inputs, how photos are preprocessed that come in their place, and instruction set.
_Key: TypeAlias = "tuple[tuple[int, ...], Preprocess | None, str]"


class _Recent(NamedTuple):
    """The last plan asked for."""

    changes: object  # as of the cache, when the arrays behind the plan were looked at
    key: _Key
    compiled: Compiled
    repeat: Repeat | None


class PlanCache:
    """The compiled plans of one network, by input and instruction set, and their packed weights.

    Both are forgotten when one of the network's layers changes, as they tell the cache. Other networks' do not.
    """

    def __init__(self) -> None:
        self._guard = Guard()
        self._plans: OrderedDict[_Key, Compiled] = OrderedDict()
        self._packed: Packed = {}
        self._changes = object()  # another one after each change
        self._known: object = None  # the one that plans and packed weights are of
        self._recent: _Recent | None = None

    def layer_changed(self) -> None:
        """Note that a layer of the network is not any more what plans were compiled from."""
        self._changes = object()

    def again(self, x: Any) -> np.ndarray | None:
        """Return the output for an input like that of the last call; None where it is not, or the network has changed.

        Of small networks the checks of `Network.__call__` and `get` would be a sixth of the time.
        """
        recent = self._recent
        if recent is None or recent.changes is not self._changes or recent.repeat is None:
            return None
        return recent.repeat.run(x)

    def get(self, network: Compilable, shape: tuple[int, ...], preprocess: Preprocess | None = None) -> Compiled:
        """Return the plan for inputs of `shape`, or for photos that stand for them, compiling it if there is none.

        All its weights are of one step where the network is being trained.
        """
        key = (shape, preprocess, _cpu.isa())
        recent = self._recent  # the same again: no lock, no search
        if recent is not None and recent.changes is self._changes and recent.key == key:
            return recent.compiled
        compiled = self._kept(key)
        if compiled is not None:
            return compiled
        changes, graph = self._look(network, shape[1:])  # not behind the lock, as forward methods are users' code
        with self._guard.lock:
            if changes is not self._changes:  # a training step later: for this call only
                return _compile(network, graph, key, {})
            compiled = self._kept(key)  # another thread may have been faster
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
        """Return the plans for inputs of several batch sizes, their weights all of one step."""
        for _ in range(_LOOKS):
            changes = self._changes
            found = [self.get(network, shape, preprocess) for shape in shapes]
            if changes is self._changes:
                return found
        _, graph = self._look(network, shapes[0][1:])  # while training goes on: for this call only
        packed: Packed = {}
        return [_compile(network, graph, (shape, preprocess, _cpu.isa()), packed) for shape in shapes]

    def forget_plans(self) -> None:
        """Compile anew from now on; packed weights stay."""
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
        repeat = compiled.plan.repeat(key[0]) if isinstance(compiled.plan, Plan) else None
        self._recent = _Recent(self._known, key, compiled, repeat)

    def _look(self, network: Compilable, shape: tuple[int, ...]) -> tuple[object, Graph]:
        """Return the graph of the network as it is, and `_changes` of that moment."""
        for _ in range(_LOOKS):
            for _, layer in network.named_layers():
                watch(layer, self)
            changes, graph = network._settled(lambda: (self._changes, network._stored_graph(shape)))
            if changes is self._changes:
                break
        return changes, graph


def _compile(network: Compilable, graph: Graph, key: _Key, packed: Packed) -> Compiled:
    shape, preprocess, _ = key
    shapes = dict.fromkeys(graph.inputs, shape)
    pixels = {} if preprocess is None else dict.fromkeys(graph.inputs, preprocess.levels())
    output = graph.outputs[0]
    if graph.is_general:
        return _compile_general(graph, shapes, network.tuning, pixels, network._max_bytes or MAX_BYTES)
    budget = network._budget(graph, shapes)
    plan = compile_batch(graph, shapes, packed, network.tuning, pixels, network.reproducible, budget)
    return Compiled(plan, graph.infer(shapes)[output], _ending(graph))


def _compile_general(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    tuning: Mapping[str, str],
    pixels: Mapping[str, np.ndarray],
    max_bytes: int,
) -> Compiled:
    from fastcnn.compiler.mixed import compile_general

    whole = compile_general(graph, shapes, tuning, max_bytes, pixels)
    output = graph.outputs[0]
    shape = whole.resolved.known[output].shape or ()  # () where it depends on values
    if shape and whole.plan.parts > 1:
        shape = (shape[0] * whole.plan.parts, *shape[1:])
    return Compiled(whole.plan, shape, _ending(graph))


def _ending(graph: Graph) -> str:
    last = last_function(graph)
    return "" if last is None else last.op.rpartition(":")[2]
