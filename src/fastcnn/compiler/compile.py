"""Compiling: a graph goes through the passes, in the order of `PASSES`, and is lowered to a plan.

The file of each pass tells what it does; state.py tells what passes hand on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fastcnn.compiler import batch
from fastcnn.compiler.channels import channels_first
from fastcnn.compiler.choose import choose_algorithms
from fastcnn.compiler.expand import expand
from fastcnn.compiler.fold import fold, fold_constants
from fastcnn.compiler.fuse import fuse, fuse_pools
from fastcnn.compiler.layout import arrange
from fastcnn.compiler.lower import Lowering, Packed, packing
from fastcnn.compiler.memory import place
from fastcnn.compiler.pack import pack_weights
from fastcnn.compiler.plan import Plan
from fastcnn.compiler.recognise import recognise
from fastcnn.compiler.shuffle import fold_shuffles
from fastcnn.compiler.slices import cut_channels
from fastcnn.compiler.state import Options, State, Strides
from fastcnn.compiler.use_bytes import use_bytes
from fastcnn.graph.ir import Graph, Shape
from fastcnn.kernels import _cpu
from fastcnn.kernels._program import default_float_modes
from fastcnn.ops.budget import Budget

Shapes = Mapping[str, Shape]
Pass = Callable[[State], State]

PASSES: tuple[Pass, ...] = (
    use_bytes,
    fold_constants,
    recognise,
    channels_first,
    expand,
    fold,
    fuse,
    choose_algorithms,
    fuse_pools,
    fold_shuffles,
    cut_channels,
    arrange,
    pack_weights,
    place,
)

# Called after each pass that has changed the state, with the state and the pass's name. The tests set it to `verify`.
after_pass: Callable[[State, str], None] | None = None


def stages(state: State) -> Iterator[tuple[str, State]]:
    """The state after each pass, and the name of the pass.

    Parameters
    ----------
    state : State
        The state before the first pass.

    Raises
    ------
    ValueError
        As `compile_graph` does.
    """
    for step in PASSES:
        before, state = state, step(state)
        if after_pass is not None and state is not before:
            after_pass(state, step.__name__)
        yield step.__name__, state


def compile_batch(
    graph: Graph,
    input_shapes: Shapes,
    packed: Packed,
    tuning: Mapping[str, str],
    pixels: Mapping[str, np.ndarray] | None = None,
    reproducible: bool = True,
    budget: Budget | None = None,
    bfloat16: bool = False,
) -> Plan:
    """Compile a network whose inputs are batches; a batch may go through it in parts.

    Parameters
    ----------
    graph : Graph
    input_shapes : dict
        Shape of each graph input, the batch first. As for `compile_graph`, other shapes that are inferred already.
    packed, tuning, pixels : dict
        As for `compile_graph`.
    reproducible : bool
        Whether every image has the same bits in a batch as alone. If not, a batch may take other algorithms.
    budget, bfloat16
        As for `compile_graph`.

    Returns
    -------
    Plan
    """
    inputs = {name: input_shapes[name] for name in graph.inputs}
    size = 1 if () in inputs.values() else next((shape[0] for shape in inputs.values()), 1)
    together = 1 if reproducible else max(1, min(size, batch.MOST_TOGETHER))

    def compiled(shapes: Shapes) -> Plan:
        return compile_graph(
            graph, shapes, packed, tuning=tuning, pixels=pixels, together=together, budget=budget, bfloat16=bfloat16
        )

    def part(images: int) -> Plan:
        return compiled({name: (images, *shape[1:]) for name, shape in inputs.items()})

    if size < 2 * batch.LEAST_PARTS or not batch.is_separable(graph, inputs):
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
    strides: Sequence[Strides | None] = (),
    bfloat16: bool = False,
) -> Plan:
    """Compile a graph for inputs of given shapes, and for the instruction set in use.

    Parameters
    ----------
    graph : Graph
    input_shapes : dict
        Shape of each graph input. It may have the shapes of other values, too, if they are inferred already.
    packed : dict, optional
        Packed weights of earlier plans of the same graph; those of this plan are added.
    packed_ahead : bool
        Whether weights are packed once for many runs. Then the choice of algorithms does not count the time of packing.
    tuning : dict, optional
        Names of the algorithms that tuning has found fastest, by `Problem.key`.
    parameters : iterable of str
        Inputs that training changes. They are stored as parameters, in blocks of their first axis.
    pixels : dict, optional
        Inputs (N, C, H, W) that come as pixels, uint8 (N, H, W, C). Each has a table of what the values of a channel
        stand for, float32 (C, 256).
    together : int
        Images for which weights are read once, as the choice of algorithms assumes.
    whole : bool
        Whether every node is a step of its own. If not, two nodes may be one step, some channels and rows at a time.
    budget : Budget, optional
        What the graph's constants, inputs and outputs leave. Packed weights and the memory of values are asked for
        before they are computed or allocated.
    strides : sequence of (tuple of int or None)
        Floats from one image, channel and row to the next: of each graph input, then of each output. None stands for a
        contiguous array.
    bfloat16 : bool
        Whether convolutions may multiply numbers that are rounded to bfloat16.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError
        If shapes do not fit, a forced algorithm cannot compute its layer, or the budget does not suffice. The node is
        named.
    """
    vl = _cpu.vector_length()
    options = Options(
        vl,
        packed_ahead,
        tuning or {},
        frozenset(parameters),
        pixels or {},
        together,
        whole,
        budget,
        tuple(strides),
        bfloat16,
    )
    with default_float_modes():  # folding computes values
        state = _through_passes(State(graph, graph.infer(input_shapes), options))
        return _lowered(state, {} if packed is None else packed)


def arena_bytes(graph: Graph, input_shapes: Shapes, budget: Budget) -> int:
    """Bytes of memory for each concurrent caller of a plan, which is not made."""
    options = Options(_cpu.vector_length(), budget=budget)
    return _through_passes(State(graph, graph.infer(input_shapes), options)).placed.arena_bytes


def _as_read(constant: np.ndarray) -> np.ndarray:
    """A constant as steps read it, in the type of its value."""
    return np.ascontiguousarray(constant, None if constant.dtype == np.uint8 else np.float32)


def _through_passes(state: State) -> State:
    for _, after in stages(state):
        state = after
    return state


def _lowered(state: State, packed: Packed) -> Plan:
    graph, placement, budget = state.graph, state.placed, state.options.budget
    if budget is not None:
        try:
            budget.keep(placement.arena_bytes)
        except ValueError as error:
            raise ValueError(f"its values with padding, in vectors: {error}") from None
    lowering = Lowering(state, packed)
    with packing():
        for node in graph.nodes:
            lowering.lower(node)
    return Plan(
        steps=lowering.infos,
        arena_bytes=placement.arena_bytes,
        operations=state.operations,
        _makers=lowering.makers,
        _waits=lowering.waits,
        _constants=[_as_read(graph.constants[name]) for name in placement.constants],
        _output_shapes=[state.shapes[name] for name in graph.outputs],
        _refills=lowering.refills,
        _first_update=len(lowering.makers) if lowering.first_update is None else lowering.first_update,
        takes_pixels=bool(state.options.pixels),
        _scratch_limit=None if budget is None else budget.bytes,
    )
