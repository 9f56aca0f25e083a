"""Mixed plans: steps in NumPy between plans, for networks that no single plan can hold.

A shape depends on values there, or an input or output is not float32. Other networks have islands (islands.py).

A step in NumPy is as correct as a kernel, but slower. It runs on one thread, except for matrix products, and allocates
memory. `Model.summary` and `profile` show it as "numpy".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import prod
from time import perf_counter
from typing import ClassVar

import numpy as np

from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.lower import Packed, StepInfo
from fastcnn.compiler.plan import Plan
from fastcnn.compiler.resolve import Resolved
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels._program import default_float_modes
from fastcnn.ops.budget import MAX_BYTES, Budget
from fastcnn.ops.general import General
from fastcnn.ops.island import InNumpy


@dataclass
class Segment:
    """A plan of nodes with kernels, and the names of what it reads and writes."""

    plan: Plan
    inputs: list[str]
    outputs: list[str]


@dataclass
class MixedPlan:
    """Segments and steps in NumPy, in the order in which they run; it has the methods of `Plan`.

    Attributes
    ----------
    steps : list of StepInfo
    arena_bytes, operations, parts : int
        As of `Plan`.
    takes_pixels : bool
        Never: inputs are converted to the graph's types.
    """

    takes_pixels: ClassVar[bool] = False

    steps: list[StepInfo]
    arena_bytes: int
    operations: int
    _program: list[Segment | Node]
    _graph: Graph
    _max_bytes: int  # that one run of a part may take, for each image
    _images: int
    parts: int = 1
    _last_use: dict[str, int] = field(default_factory=dict)

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray] | None = None) -> list[np.ndarray]:
        """Run it; see `Plan.run`. Inputs are converted to the graph's types."""
        if self.parts > 1:
            parts = [
                self._execute(arrays, None)
                for arrays in zip(*[np.split(array, self.parts) for array in inputs], strict=True)
            ]
            results = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        else:
            results = self._execute(inputs, None)
        if outputs is None:
            return results
        for target, result in zip(outputs, results, strict=True):
            if target.shape != result.shape:  # it may depend on values, so that nobody has checked it
                raise ValueError(f"out.shape={target.shape}, expected {result.shape}")
            target[...] = result
        return list(outputs)

    def times(self, inputs: Sequence[np.ndarray], repeats: int) -> list[list[float]]:
        """The seconds that each step took, in each of `repeats` runs."""
        rows = []
        inputs = [np.split(array, self.parts)[0] for array in inputs]
        for _ in range(repeats):
            row: list[float] = []
            self._execute(inputs, row)
            rows.append(row)
        return rows

    def repeat(self, shape: tuple[int, ...]) -> None:
        """None, because there is no shorter way than `run`."""

    def threads(self) -> int:
        """The most threads that a part of the next run uses."""
        return max((part.plan.threads() for part in self._program if isinstance(part, Segment)), default=1)

    def _execute(self, inputs: Sequence[np.ndarray], times: list[float] | None) -> list[np.ndarray]:
        with default_float_modes():
            return self._run_program(inputs, times)

    def _run_program(self, inputs: Sequence[np.ndarray], times: list[float] | None) -> list[np.ndarray]:
        graph = self._graph
        values: dict[str, np.ndarray] = dict(graph.constants)
        for name, array in zip(graph.inputs, inputs, strict=True):
            values[name] = np.asarray(array, graph.types.get(name, "float32"))
        outside = {*graph.inputs, *graph.constants}
        budget = Budget.of_a_run(self._max_bytes, self._images)
        budget.keep(sum(array.nbytes for array in values.values()))
        for i, part in enumerate(self._program):
            start = perf_counter()
            if isinstance(part, Segment):
                arrays = [np.array(values[name], np.float32, order="C", copy=None) for name in part.inputs]
                if times is not None:
                    times += part.plan.times(arrays, 1)[0]
                made = dict(zip(part.outputs, part.plan.run(arrays), strict=True))
            else:
                made = {part.output: self._evaluate(part, values, budget)}
                if times is not None:
                    times.append(perf_counter() - start)
            values |= made
            budget.keep(sum(array.nbytes for array in made.values()))
            for name in part.inputs:
                if self._last_use.get(name) == i and name in values:
                    budget.release(values.pop(name).nbytes)
        return [np.array(values[name], order="C", copy=None if name not in outside else True) for name in graph.outputs]

    @staticmethod
    def _evaluate(node: Node, values: Mapping[str, np.ndarray], budget: Budget) -> np.ndarray:
        op = node.kind
        assert isinstance(op, General)
        try:
            return op.evaluate(node.attrs, [values[name] if name else None for name in node.inputs], budget)
        except ValueError as error:
            raise ValueError(f"node {node.name!r} ({node.op}): {error}") from None


def compile_mixed(
    resolved: Resolved,
    packed: Packed | None = None,
    tuning: Mapping[str, str] | None = None,
    budget: Budget | None = None,
    limit: tuple[int, int] = (MAX_BYTES, 1),
) -> MixedPlan:
    """Compile a resolved graph.

    Parameters
    ----------
    resolved : Resolved
    packed, tuning : dict, optional
        As for `compile_graph`.
    budget : Budget, optional
        As for `compile_graph`.
    limit : (int, int)
        `max_bytes` and the number of images: the limit of a run, whose cost may be known only then.

    Returns
    -------
    MixedPlan
    """
    graph = resolved.graph
    shapes = {name: value.shape for name, value in resolved.known.items() if value.shape is not None}
    program: list[Segment | Node] = []
    steps: list[StepInfo] = []
    groups = _groups(graph)
    outside = _read_outside(groups, graph)
    for group in groups:
        if ops.is_general(group[0].op):
            program += group
            steps += [_step_info(node, shapes) for node in group]
            continue
        segment = _segment(graph, group, outside, shapes, {} if packed is None else packed, tuning, budget)
        program.append(segment)
        steps += segment.plan.steps
    last_use = {name: i for i, part in enumerate(program) for name in part.inputs}
    for name in (*graph.outputs, *graph.constants):
        last_use.pop(name, None)
    plans = [part.plan for part in program if isinstance(part, Segment)]
    arena = sum(plan.arena_bytes for plan in plans)
    operations = sum(plan.operations for plan in plans) + sum(s.operations for s in steps if s.kernel == "numpy")
    return MixedPlan(steps, arena, operations, program, graph, *limit, 1, last_use)


def _groups(graph: Graph) -> list[list[Node]]:
    """The nodes in an order in which those with kernels form groups as large as possible."""
    known = {*graph.inputs, *graph.constants, ""}
    missing = [len({name for name in node.inputs if name not in known}) for node in graph.nodes]
    readers: dict[str, list[int]] = {}
    for i, node in enumerate(graph.nodes):
        for name in {*node.inputs} - known:
            readers.setdefault(name, []).append(i)
    ready: dict[bool, list[int]] = {False: [], True: []}  # heaps of indices, by whether nodes are general
    for i, node in enumerate(graph.nodes):
        if not missing[i]:
            heappush(ready[ops.is_general(node.op)], i)
    groups: list[list[Node]] = []
    general = False
    while ready[False] or ready[True]:
        group: list[Node] = []
        while ready[general]:
            group.append(graph.nodes[heappop(ready[general])])
            for i in readers.get(group[-1].output, ()):
                missing[i] -= 1
                if not missing[i]:
                    heappush(ready[ops.is_general(graph.nodes[i].op)], i)
        if group:
            groups.append(group)
        general = not general
    return groups


def _read_outside(groups: list[list[Node]], graph: Graph) -> set[str]:
    """The values that another group than their own, or the caller, reads."""
    maker = {node.output: number for number, group in enumerate(groups) for node in group}
    read = {
        name
        for number, group in enumerate(groups)
        for node in group
        for name in node.inputs
        if maker.get(name, number) != number
    }
    return read | set(graph.outputs)


def _segment(
    graph: Graph,
    nodes: list[Node],
    outside: set[str],
    shapes: Mapping[str, tuple[int, ...]],
    packed: Packed,
    tuning: Mapping[str, str] | None,
    budget: Budget | None,
) -> Segment:
    made = {node.output for node in nodes}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name and name not in made)
    constants = {name: graph.constants[name] for name in read if name in graph.constants}
    inputs = {name: shapes[name] for name in read if name not in constants}
    outputs = [node.output for node in nodes if node.output in outside]
    part = Graph(nodes, dict(inputs), outputs, constants)
    return Segment(compile_graph(part, inputs, packed, tuning=tuning, budget=budget), list(inputs), outputs)


def _step_info(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> StepInfo:
    sizes = [prod(shapes.get(name, ())) for name in (*node.inputs, node.output) if name]
    operations = prod(shapes.get(node.output, ()))
    if node.op.endswith("::MatMul") and node.inputs[0] in shapes:
        operations *= 2 * shapes[node.inputs[0]][-1]
    return StepInfo(node.name, (), "numpy", InNumpy.reasons, operations, 4 * sum(sizes), "")
