"""The compiled plans of a model: made when needed, kept for a few shapes, dropped when a layer changes.

What a plan is, and that several threads may run it, is compiler/plan.py's.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from weakref import WeakSet

import numpy as np

from fastcnn.compiler.plan import Packed, Plan, compile_batch
from fastcnn.graph.ir import Graph
from fastcnn.io._pixels import Pixels
from fastcnn.kernels import _cpu
from fastcnn.kernels._executor import Repeat
from fastcnn.layers.base import generation
from fastcnn.ops.budget import MAX_BYTES

if TYPE_CHECKING:
    from fastcnn.compiler.mixed import MixedPlan
    from fastcnn.io.image import Preprocess
    from fastcnn.model import Model

__all__ = ["Compiled", "PlanCache"]

# Plans kept per model, the least recently used go first. A plan holds an arena of the size of its largest
# activations, so that this bounds the memory of a server that meets images of every size.
MAX_PLANS = 8


class Compiled(NamedTuple):
    """A plan, and what a prediction must know of its graph."""

    plan: Plan | MixedPlan
    output_shape: tuple[int, ...]
    ends_in_softmax: bool

    def run(self, batch: np.ndarray | Pixels) -> np.ndarray:
        """Return the network's output; photos are turned into numbers here where the plan does not do it."""
        if isinstance(batch, Pixels):
            batch = np.ascontiguousarray(batch.values) if self.plan.takes_pixels else batch.numbers()
        return self.plan.run([batch])[0]


# Shape of the inputs, how photos are preprocessed that come in their place, and instruction set.
_Key: TypeAlias = "tuple[tuple[int, ...], Preprocess | None, str]"


class PlanCache:
    """The compiled plans of one model, by input and instruction set, and their packed weights.

    Both are forgotten when a layer changes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plans: OrderedDict[_Key, Compiled] = OrderedDict()
        self._packed: Packed = {}
        self._generation = -1
        self._versions: tuple[int, ...] = ()
        self._recent: tuple[_Key, int, Compiled, Repeat | None] | None = None
        _caches.add(self)

    def unlock_in_child(self) -> None:
        """Forget who held the lock: after a fork that thread may not exist any more."""
        self._lock = threading.Lock()

    def again(self, x: Any) -> np.ndarray | None:
        """Return the output for an input like that of the last call; None where it is not, or anything has changed.

        Of small networks the checks of `Model.__call__` and `get` would be a sixth of the time.
        """
        recent = self._recent
        if recent is None or recent[3] is None or recent[1] != generation():
            return None
        return recent[3].run(x)

    def get(self, model: Model, shape: tuple[int, ...], preprocess: Preprocess | None = None) -> Compiled:
        """Return the plan for inputs of `shape`, or for photos that stand for them, compiling it if there is none."""
        key = (shape, preprocess, _cpu.isa())
        recent = self._recent  # the same again: no lock, no search
        if recent is not None and recent[1] == generation() and recent[0] == key:
            return recent[2]
        with self._lock:
            self._forget_if_changed(model)
            compiled = self._plans.get(key)
            if compiled is None:
                self._plans[key] = compiled = self._compile(model, shape, preprocess)
                if len(self._plans) > MAX_PLANS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            repeat = compiled.plan.repeat(shape) if isinstance(compiled.plan, Plan) else None
            self._recent = key, self._generation, compiled, repeat
            return compiled

    def _compile(self, model: Model, shape: tuple[int, ...], preprocess: Preprocess | None) -> Compiled:
        graph, tuning = model._stored_graph(shape[1:]), model.tuning
        shapes = dict.fromkeys(graph.inputs, shape)
        pixels = {} if preprocess is None else dict.fromkeys(graph.inputs, preprocess.levels())
        output = graph.outputs[0]
        if graph.is_general:
            return _compile_general(graph, shapes, tuning, pixels, model._max_bytes or MAX_BYTES)
        last = next((node.op for node in graph.nodes if node.output == output), None)
        budget = model._budget(graph, shapes)
        plan = compile_batch(graph, shapes, self._packed, tuning, pixels, model.reproducible, budget)
        return Compiled(plan, graph.infer(shapes)[output], last == "Softmax")

    def forget_plans(self) -> None:
        """Compile anew from now on; packed weights stay."""
        with self._lock:
            self._plans.clear()
            self._recent = None

    def _forget_if_changed(self, model: Model) -> None:
        now = generation()
        if now == self._generation:
            return  # the common case costs one comparison, not a walk through all layers
        versions = tuple(layer._version for _, layer in model.named_layers())
        if versions != self._versions:
            self._plans.clear()
            self._packed = {}
        self._generation, self._versions = now, versions


def _compile_general(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], tuning: Mapping[str, str], pixels: Mapping[str, np.ndarray],
    max_bytes: int,
) -> Compiled:
    from fastcnn.compiler.mixed import compile_general

    whole = compile_general(graph, shapes, tuning, max_bytes, pixels)
    output = graph.outputs[0]
    last = next((node.op for node in graph.nodes if node.output == output), "")
    shape = whole.resolved.known[output].shape or ()  # () where it depends on values
    if shape and whole.plan.parts > 1:
        shape = (shape[0] * whole.plan.parts, *shape[1:])
    return Compiled(whole.plan, shape, last.endswith("Softmax") and not last.endswith("LogSoftmax"))


_caches: WeakSet[PlanCache] = WeakSet()


def _unlock_in_child() -> None:
    for cache in _caches:
        cache.unlock_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock_in_child)
