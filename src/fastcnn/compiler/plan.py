"""The plan: a graph compiled for one set of input shapes, ready to run.

A plan is a list of step makers. Each concurrent caller gets an executor of its own, with its own arena; packed
weights are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fastcnn.compiler import batch, memory
from fastcnn.compiler.choose import with_algorithms
from fastcnn.compiler.expand import expand
from fastcnn.compiler.fold import fold
from fastcnn.compiler.fuse import fuse, fuse_pools
from fastcnn.compiler.layout import arrange, levels_of
from fastcnn.compiler.lower import Lowering, Packed, Refill, StepInfo
from fastcnn.compiler.pack import pack_weights
from fastcnn.compiler.shuffle import fold_shuffles
from fastcnn.compiler.slices import cut_channels
from fastcnn.graph.ir import Graph
from fastcnn.kernels import _cpu, _executor, _repeat, storage
from fastcnn.kernels._program import default_float_modes
from fastcnn.kernels._step import Step
from fastcnn.ops.budget import Budget

# Below this much work a second thread costs more than it brings: calling it, meeting after each stage and taking
# data from another core's cache add up to 5 microseconds and more (Sapphire Rapids, 2026-11).
OPERATIONS_PER_THREAD = 1_000_000

Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Plan:
    """A compiled graph; made by `compile_graph`.

    Attributes
    ----------
    steps : list of StepInfo
        In the order in which they run.
    arena_bytes : int
        Memory of one concurrent caller, inputs, weights and outputs not counted.
    operations : int
        Floating point operations of one run.
    takes_pixels : bool
        Whether inputs come as pixels.
    parts : int
        A batch is cut into so many parts, for one of which the steps are.
    """

    steps: list[StepInfo]
    arena_bytes: int
    operations: int
    _makers: list[Callable[[], Step]]
    _waits: list[bool]
    _constants: list[np.ndarray]
    _output_shapes: list[tuple[int, ...]]
    _refills: list[tuple[np.ndarray, Refill]]
    _first_update: int
    takes_pixels: bool = False
    parts: int = 1
    _scratch_limit: int | None = None  # bytes, where a file's budget leaves few
    _idle: list[_executor.Executor] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Derive what every run needs."""
        self._most_threads = self.operations // OPERATIONS_PER_THREAD
        self._result_shapes = [
            (self.parts * shape[0], *shape[1:]) if self.parts > 1 else shape for shape in self._output_shapes
        ]

    def run(
        self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray] | None = None, done: list[None] | None = None
    ) -> list[np.ndarray]:
        """Run the plan; safe to call from several Python threads at once.

        Parameters
        ----------
        inputs : sequence of float32 arrays
            C-contiguous, of the shapes compiled for; where they come as pixels, uint8 (N, H, W, C).
        outputs : sequence of float32 arrays, optional
            C-contiguous; new ones if absent.
        done : list, optional
            Gets one more item when all steps are done, which tells so even where Ctrl-C raises before the return. Not
            for plans of several parts.

        Returns
        -------
        list of float32 arrays
        """
        results = [np.empty(shape, np.float32) for shape in self._result_shapes] if outputs is None else list(outputs)
        threads = self.threads()
        if self.parts > 1:
            self._run_parts(inputs, results, threads)
        else:
            executor = self._take(threads)
            arrays = [*inputs, *self._constants, *results]
            if done is None:
                executor.run(arrays, threads)
            else:  # Ctrl-C raises between bytecodes: there is none between the last step and the new item
                done.extend(map(executor.run, (arrays,), (threads,)))
            self._idle.append(executor)
        return results

    def repeat(self, shape: tuple[int, ...]) -> _repeat.Repeat | None:
        """The shortest way to run the plan on inputs of a shape, where it has one input and one output."""
        if self.parts > 1 or self.takes_pixels or len(self._output_shapes) != 1:
            return None
        return _repeat.Repeat(self._idle, shape, self._constants, self._output_shapes[0], self._most_threads)

    def _run_parts(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], threads: int) -> None:
        """Each thread takes parts of the batch through all steps; where there are more threads than parts, all threads
        take one part after the other."""
        arrays = [*inputs, *self._constants, *outputs]
        fixed = range(len(inputs), len(inputs) + len(self._constants))
        strides = np.array([0 if i in fixed else array.nbytes // self.parts for i, array in enumerate(arrays)], np.intp)
        together = threads if threads > self.parts else 1
        executors = [self._take(together) for _ in range(threads // together)]
        if together == 1:
            _executor.run_chunks(executors, arrays, strides, self.parts)
        else:
            for part in range(self.parts):
                executors[0].run(
                    [array if i in fixed else array.reshape(self.parts, -1)[part] for i, array in enumerate(arrays)],
                    together,
                )
        self._idle += executors

    def times(self, inputs: Sequence[np.ndarray], repeats: int) -> list[list[float]]:
        """The seconds that each step took, in each of `repeats` runs; of the first part, where there are several."""
        inputs = [array.reshape(self.parts, -1)[0] for array in inputs]
        outputs = [np.empty(shape, np.float32) for shape in self._output_shapes]
        threads = self.threads()
        executor = self._take(threads)
        times = [executor.times([*inputs, *self._constants, *outputs], threads) for _ in range(repeats)]
        self._idle.append(executor)
        return times

    @property
    def packed_bytes(self) -> int:
        """Size of its packed weights."""
        return sum({id(array): array.nbytes for array, _ in self._refills}.values())

    @property
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Of one part of the batch."""
        return list(self._output_shapes)

    def threads(self) -> int:
        """The number of threads that the next run uses."""
        return 1 if self._most_threads < 2 else min(_cpu.get_num_threads(), self._most_threads)

    def refill(self, constants: Mapping[str, np.ndarray]) -> None:
        """Pack other weights, in place; nobody may be running the plan."""
        for array, refill in self._refills:
            array[...] = refill(constants)

    def _take(self, threads: int) -> _executor.Executor:
        """An executor that nobody uses and that has scratch memory for so many threads."""
        while self._idle:
            try:
                executor = self._idle.pop()  # atomic: no lock, as calls are as short as microseconds
            except IndexError:  # another thread was faster
                break
            if executor.max_threads >= threads:
                return executor  # smaller ones are dropped: the number of threads has grown
        steps = [make() for make in self._makers]
        scratch = max((step.scratch for step in steps), default=0)
        stride = -(-scratch // storage.ALIGNMENT) * storage.ALIGNMENT + storage.ALIGNMENT
        if self._scratch_limit is not None and 4 * stride * threads > self._scratch_limit:
            raise ValueError(
                f"needs {4 * stride * threads} bytes on {threads} threads, more than max_bytes leaves "
                f"({self._scratch_limit})"
            )
        arena = storage.allocate_arena(self.arena_bytes // 4)
        memory_of_threads = storage.allocate(stride * threads)
        return _executor.Executor(steps, self._waits, arena, memory_of_threads, threads, self._first_update)


def compile_batch(
    graph: Graph,
    input_shapes: Shapes,
    packed: Packed,
    tuning: Mapping[str, str],
    pixels: Mapping[str, np.ndarray] | None = None,
    reproducible: bool = True,
    budget: Budget | None = None,
) -> Plan:
    """Compile a network whose inputs are batches, which may go through it in parts.

    Parameters
    ----------
    graph : Graph
    input_shapes : dict
        Shape of each graph input, the batch first.
    packed, tuning, pixels : dict
        As for `compile_graph`.
    reproducible : bool
        Whether every image is computed as it is alone; else a batch may take other algorithms.
    budget : Budget, optional
        As for `compile_graph`.

    Returns
    -------
    Plan
    """
    size = next((shape[0] for shape in input_shapes.values()), 1)
    together = 1 if reproducible else max(1, min(size, batch.MOST_TOGETHER))

    def compiled(shapes: Shapes) -> Plan:
        return compile_graph(graph, shapes, packed, tuning=tuning, pixels=pixels, together=together, budget=budget)

    def part(images: int) -> Plan:
        return compiled({name: (images, *shape[1:]) for name, shape in input_shapes.items()})

    if size < 2 * batch.LEAST_PARTS or not batch.is_separable(graph, input_shapes):
        return compiled(input_shapes)
    plan = part(1)
    images = batch.part_size(size, plan.arena_bytes, plan.packed_bytes)
    if images > 1:
        plan = part(images)
    return replace(plan, parts=size // images, operations=plan.operations * (size // images))


def compile_graph(
    graph: Graph,
    input_shapes: Shapes,
    packed: Packed | None = None,
    packed_ahead: bool = True,
    tuning: Mapping[str, str] | None = None,
    parameters: Iterable[str] = (),
    pixels: Mapping[str, np.ndarray] | None = None,
    together: int = 1,
    whole: bool = False,
    budget: Budget | None = None,
) -> Plan:
    """Compile a graph for inputs of given shapes, and for the instruction set in use.

    Parameters
    ----------
    graph : Graph
    input_shapes : dict
        Shape of each graph input.
    packed : dict, optional
        Packed weights of earlier plans of the same graph, and of this one afterwards.
    packed_ahead : bool
        Whether weights stay as they are for many runs, so that packing them costs nothing.
    tuning : dict, optional
        Algorithms that measurements have found best, by `Problem.key`.
    parameters : iterable of str
        Inputs that are stored as parameters, in blocks of their first axis: what training changes.
    pixels : dict, optional
        Inputs (N, C, H, W) that come as pixels, uint8 (N, H, W, C): what each value of a channel stands for, float32
        (C, 256).
    together : int
        Images for which weights are read at once, as far as the choice of algorithms is concerned.
    whole : bool
        Whether every node is a step of its own, also where two would be faster together, some channels and rows at a
        time.
    budget : Budget, optional
        What is left after the graph's constants, inputs and outputs: asked before anything is computed or allocated,
        for packed weights and the memory of its values.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        Where shapes do not fit, a forced algorithm cannot compute its layer, or the budget does not suffice; the node
        is named.
    """
    with default_float_modes():  # folding computes, too
        return _compile_graph(
            graph,
            input_shapes,
            {} if packed is None else packed,
            packed_ahead,
            tuning,
            parameters,
            {} if pixels is None else pixels,
            together,
            whole,
            budget,
        )


def _compile_graph(
    graph: Graph,
    input_shapes: Shapes,
    packed: Packed,
    packed_ahead: bool,
    tuning: Mapping[str, str] | None,
    parameters: Iterable[str],
    pixels: Mapping[str, np.ndarray],
    together: int,
    whole: bool,
    budget: Budget | None,
) -> Plan:
    vl = _cpu.vector_length()
    fused, chosen, shapes = _chosen(graph, dict(input_shapes), vl, packed_ahead, tuning, together, whole, budget)
    chosen.constants.update({levels_of(name): levels for name, levels in pixels.items()})
    shapes |= {name: array.shape for name, array in chosen.constants.items()}  # of filters in another order, too
    layouts = pack_weights(arrange(chosen, shapes, vl, parameters, pixels), vl)
    placement = memory.place(layouts, vl)
    if budget is not None:
        try:
            budget.keep(4 * placement.arena_floats)
        except ValueError as error:
            raise ValueError(f"its values with padding, in vectors: {error}") from None
    lowering = Lowering(layouts, placement, packed, vl, budget)
    for node in layouts.graph.nodes:
        lowering.lower(node)
    operations = sum(
        node.kind.flops(node.attrs, [shapes[name] if name else None for name in node.inputs], shapes[node.output])
        for node in fused.nodes
    )
    return Plan(
        steps=lowering.infos,
        arena_bytes=4 * placement.arena_floats,
        operations=operations,
        _makers=lowering.makers,
        _waits=lowering.waits,
        _constants=[np.ascontiguousarray(chosen.constants[name], np.float32) for name in placement.constants],
        _output_shapes=[layouts.shapes[name] for name in layouts.graph.outputs],
        _refills=lowering.refills,
        _first_update=len(lowering.makers) if lowering.first_update is None else lowering.first_update,
        takes_pixels=bool(pixels),
        _scratch_limit=None if budget is None else budget.bytes,
    )


def _chosen(
    graph: Graph,
    input_shapes: dict[str, tuple[int, ...]],
    vl: int,
    packed_ahead: bool,
    tuning: Mapping[str, str] | None,
    together: int,
    whole: bool,
    budget: Budget | None,
) -> tuple[Graph, Graph, dict[str, tuple[int, ...]]]:
    """The graph after fusing, the graph with its algorithms, and the shapes of all values."""
    expanded = expand(graph, input_shapes)
    folded = fold(expanded, expanded.infer(input_shapes), budget)
    shapes = folded.infer(input_shapes)
    fused = fuse(folded, shapes)
    chosen = with_algorithms(fused, shapes, vl, packed_ahead, tuning, together)
    chosen = fold_shuffles(fuse_pools(chosen, shapes, vl), shapes)
    return fused, chosen if whole else cut_channels(chosen, shapes, vl), shapes


def arena_bytes(graph: Graph, input_shapes: Shapes, budget: Budget) -> int:
    """The memory of one concurrent caller of a plan, without making it."""
    vl = _cpu.vector_length()
    _, chosen, shapes = _chosen(graph, dict(input_shapes), vl, True, None, 1, False, budget)
    shapes |= {name: array.shape for name, array in chosen.constants.items()}
    return 4 * memory.place(pack_weights(arrange(chosen, shapes, vl), vl), vl).arena_floats
