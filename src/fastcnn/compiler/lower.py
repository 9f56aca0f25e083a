"""Lowering: each operation of a graph with layouts becomes steps of kernels, with packed weights.

Operations emit their steps by `Op.lower`; compiler/plan.py runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from fastcnn._record import record
from fastcnn.compiler import memory
from fastcnn.compiler.cost import packed_bound
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node
from fastcnn.kernels._program import default_float_modes
from fastcnn.kernels._step import Step
from fastcnn.kernels.view import View
from fastcnn.ops.budget import Cost

Packed = dict[tuple[Any, ...], np.ndarray]


@record
class StepInfo:
    """The description of a step, for people.

    Attributes
    ----------
    name : str
        Name of the graph's node.
    fused : tuple of str
        Names of the nodes that became part of it.
    kernel : str
        Name of the kernel, such as "direct" or "pool".
    reasons : dict
        The algorithms that were not chosen, and why.
    operations : int
        Floating point operations of the node's definition; Winograd's algorithm does fewer.
    bytes : int
        Size of what it reads and writes, weights included.
    problem : str
        `Problem.key` of a convolution, else "".
    """

    name: str
    fused: tuple[str, ...]
    kernel: str
    reasons: Mapping[str, str]
    operations: int
    bytes: int
    problem: str


@record
class Refill:
    """The way to pack weights again after constants have changed; within `packing`."""

    make: Callable[..., np.ndarray]
    names: tuple[str, ...]
    as_stored: bool = False

    def __call__(self, constants: Mapping[str, np.ndarray]) -> np.ndarray:
        dtype = None if self.as_stored else np.float32
        return self.make(*[np.asarray(constants[name], dtype) if name else None for name in self.names])


@contextmanager
def packing() -> Iterator[None]:
    """Within it, weights are packed: numbers are computed as kernels do, and NaN comes without a warning."""
    with np.errstate(all="ignore"), default_float_modes():  # infinity times a weight of zero is NaN
        yield


class Lowering:
    """What `Op.lower` works with: the views and constants of a node, and the list of steps."""

    def __init__(self, state: State, packed: Packed) -> None:
        self.vl, self.bfloat16, self._budget = state.options.vl, state.options.bfloat16, state.options.budget
        self.makers: list[Callable[[], Step]] = []
        self.waits: list[bool] = []
        self.infos: list[StepInfo] = []
        self.first_update: int | None = None  # the first step that changes what outlives a run
        self.refills: list[tuple[np.ndarray, Refill]] = []
        self._constants, self._shapes, self._views = state.graph.constants, state.shapes, state.placed.views
        self._packed, self._work = packed, state.work
        self._hazards = memory.Waits()
        self._node: Node

    def lower(self, node: Node) -> None:
        shapes = self._shapes
        sizes = [shapes[name] if name else None for name in node.inputs]
        self._node = node
        operations = self._work.get((node.op, node.name))
        if operations is None:  # a node that a pass behind fusing has made
            operations = node.kind.flops(node.attrs, sizes, shapes[node.output])
        self._operations = operations
        self._bytes = 4 * sum(prod(size) for size in (*sizes, shapes[node.output]) if size is not None)
        node.kind.lower(node, self)

    def view(self, name: str) -> View:
        """Where a value lies."""
        return self._views[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value."""
        return self._shapes[name]

    def pack(
        self,
        kind: str,
        make: Callable[..., np.ndarray],
        *indices: int,
        variant: object = None,
        as_stored: bool = False,
    ) -> np.ndarray:
        """Weights in the kernel's order, packed once for all plans of a model.

        `make` takes the constants at the inputs `indices` of the node, and None for an input that is absent. They come
        as float32, unless `as_stored` asks for their own types.
        """
        inputs = self._node.inputs
        names = tuple([inputs[i] if i < len(inputs) else "" for i in indices])
        key = (kind, names, self.vl, variant)
        refill = Refill(make, names, as_stored)
        if key not in self._packed:
            if self._budget is not None:
                group = max(1, self._node.attrs.get("group", 1))
                self._budget.require(Cost(sum(packed_bound(self.shape(name), group) for name in names if name), 0))
            self._packed[key] = refill(self._constants)
            if self._budget is not None:
                self._budget.keep(self._packed[key].nbytes)
        self.refills.append((self._packed[key], refill))
        return self._packed[key]

    def weights(
        self, kind: str, make: Callable[..., np.ndarray], index: int, variant: object = None
    ) -> np.ndarray | View:
        """Weights in the kernel's order: packed ahead if they are constants, else by a step of the plan."""
        place = self._node.decided.packed.get(index, index)
        name = self._node.inputs[place] if place < len(self._node.inputs) else ""
        if name and name not in self._constants:
            return self.view(name)
        return self.pack(kind, make, index, variant=variant)

    def emit(self, kernel: str, make: Callable[..., Step], *arguments: object, writes: int = 1) -> None:
        """Append a step; `make` is called once for each executor.

        The step writes the first `writes` views among the arguments, and reads the others.
        """
        if self._node.kind.updates and self.first_update is None:
            self.first_update = len(self.makers)
        self.makers.append(lambda: make(*arguments))
        views = [argument for argument in arguments if isinstance(argument, View)]
        self.waits.append(self._hazards.before(views[:writes], views[writes:]))
        name, decided = self._node.name, self._node.decided
        reasons, problem = self._node.kind.reasons, ""
        if decided.choice is not None:
            reasons, problem = decided.choice.reasons, decided.choice.problem
        self.infos.append(StepInfo(name, decided.fused, kernel, reasons, self._operations, self._bytes, problem))
