"""The plan: a graph compiled for one set of input shapes, ready to run.

A plan is a list of step makers. Each concurrent caller gets an executor with its own arena; packed weights are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

import numpy as np

from fastcnn.compiler.lower import Refill, StepInfo, packing
from fastcnn.kernels import _call, _cpu, _executor, _repeat, storage
from fastcnn.kernels._step import Step

# With fewer operations a further thread costs more time than it saves: docs/tuning.md, "Threads".
OPERATIONS_PER_THREAD = 1_000_000


@dataclass
class Plan:
    """A compiled graph; made by `compile_graph` (compile.py).

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
        The number of parts into which a batch is cut; `steps` computes one of them.
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
    _scratch_limit: int | None = None  # bytes that a budget leaves for scratch memory
    _idle: list[_executor.Executor] = field(default_factory=list)
    _arena: np.ndarray | None = None  # of plans that run in turns

    def __post_init__(self) -> None:
        """Derive what every run needs."""
        self._most_threads = self.operations // OPERATIONS_PER_THREAD
        self._calls_python = any(step.kernel == "numpy" for step in self.steps)
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
            C-contiguous, of the shapes compiled for. Inputs that come as pixels are uint8 (N, H, W, C).
        outputs : sequence of float32 arrays, optional
            C-contiguous; allocated if absent.
        done : list, optional
            Receives one item when all steps are done, even if Ctrl-C raises before the return. Plans of several parts
            do not take it.

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
            else:  # Ctrl-C raises between bytecodes, and none lies between the last step and the new item
                done.extend(map(executor.run, (arrays,), (threads,)))
            self._idle.append(executor)
        return results

    def run_in_pieces(
        self,
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        ends: Sequence[int],
        reached: Callable[[int], object],
    ) -> None:
        """Run the plan, and call ``reached(i)`` as soon as its first ``ends[i]`` steps are done.

        Parameters
        ----------
        inputs, outputs
            As for `run`.
        ends : sequence of int
            Ascending; the last one is the number of steps.
        reached : callable
        """
        threads = self.threads()
        executor = self._take(threads)
        executor.run_in_pieces([*inputs, *self._constants, *outputs], threads, list(ends), reached)
        self._idle.append(executor)

    def repeat(self, shape: tuple[int, ...]) -> _repeat.Repeat | None:
        """The shortest way to run the plan on inputs of one shape; None if there is none."""
        if self.parts > 1 or self.takes_pixels or len(self._output_shapes) != 1:
            return None
        return _repeat.Repeat(self._idle, shape, self._constants, self._output_shapes[0], self._most_threads)

    def call(self, inputs: Sequence[int], threads: int) -> _call.Call:
        """The plan with memory of its own for at most `threads` threads, to run without Python.

        `inputs` is the floats of each input.
        """
        outputs = [prod(shape) for shape in self._result_shapes]
        again = partial(self.call, inputs, threads)
        return _call.Call(self._take(threads), list(inputs), self._constants, outputs, self.parts, again)

    def _run_parts(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], threads: int) -> None:
        """Run all parts of a batch.

        Each thread takes parts through all steps. If there are more threads than parts, all threads compute one part
        after the other, and also where the calling thread alone computes some steps.
        """
        arrays = [*inputs, *self._constants, *outputs]
        fixed = range(len(inputs), len(inputs) + len(self._constants))
        strides = np.array([0 if i in fixed else array.nbytes // self.parts for i, array in enumerate(arrays)], np.intp)
        together = threads if threads > self.parts or self._calls_python else 1
        executors = [self._take(together) for _ in range(threads // together)]
        if together == 1 and not self._calls_python:
            _executor.run_chunks(executors, arrays, strides, self.parts)
        else:
            for part in range(self.parts):
                executors[0].run(
                    [array if i in fixed else array.reshape(self.parts, -1)[part] for i, array in enumerate(arrays)],
                    together,
                )
        self._idle += executors

    def times(self, inputs: Sequence[np.ndarray], repeats: int) -> list[list[float]]:
        """The seconds that each step took, in each of `repeats` runs of the first part."""
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
        """Shapes of the outputs of one part of the batch."""
        return list(self._output_shapes)

    def threads(self) -> int:
        """The number of threads that the next run uses."""
        return 1 if self._most_threads < 2 else min(_cpu.get_num_threads(), self._most_threads)

    def refill(self, constants: Mapping[str, np.ndarray]) -> None:
        """Pack other weights in place; the plan must not be running."""
        with packing():
            for array, refill in self._refills:
                array[...] = refill(constants)

    def leaves_nothing(self) -> None:
        """Let Ctrl-C end a run anywhere, as nobody reads what it has written until then."""
        self._first_update = len(self._makers)
        self._idle.clear()

    def compute_in(self, arena: np.ndarray) -> None:
        """Compute in this memory from now on. No other plan that does may run at the same time."""
        self._arena = arena
        self._idle.clear()

    def _take(self, threads: int) -> _executor.Executor:
        """An executor that nobody uses, with scratch memory for this number of threads."""
        while self._idle:
            try:
                executor = self._idle.pop()  # atomic: short calls cannot afford a lock
            except IndexError:  # another thread was faster
                break
            if executor.max_threads >= threads:
                return executor  # executors for fewer threads are dropped
        steps = [make() for make in self._makers]
        scratch = max((step.scratch for step in steps), default=0)
        stride = -(-scratch // storage.ALIGNMENT) * storage.ALIGNMENT + storage.ALIGNMENT
        if self._scratch_limit is not None and 4 * stride * threads > self._scratch_limit:
            raise ValueError(
                f"needs {4 * stride * threads} bytes on {threads} threads, more than max_bytes leaves "
                f"({self._scratch_limit})"
            )
        arena = storage.allocate_arena(-(-self.arena_bytes // 4)) if self._arena is None else self._arena
        memory_of_threads = storage.allocate(stride * threads)
        return _executor.Executor(steps, self._waits, arena, memory_of_threads, threads, self._first_update)
