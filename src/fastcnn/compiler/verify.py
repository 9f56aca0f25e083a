"""Verifying: the rules that a state obeys after each pass. The tests check them for every graph that they compile.

A fault is named after the pass that makes it, not where it shows. verify_storage.py checks how values are stored and
where they lie.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastcnn import ops
from fastcnn.compiler.choose import ALGORITHMS
from fastcnn.compiler.compile import PASSES
from fastcnn.compiler.expand import expanded
from fastcnn.compiler.state import State
from fastcnn.compiler.verify_storage import storage_faults
from fastcnn.graph.ir import Node, Shape
from fastcnn.ops.bands import Bands
from fastcnn.ops.base import resolve_pads
from fastcnn.ops.decisions import ConvChoice, Finish, Scale
from fastcnn.ops.island import Island
from fastcnn.ops.node import UNDECIDED, Op

__all__ = ["verify"]

STAGES = tuple(step.__name__ for step in PASSES)
# The pass that fills in a field of `Decisions`: before it the field is empty.
MADE_BY = {
    "scale": "fold",
    "fused": "fuse",
    "finish": "fuse",
    "gate": "fuse",
    "choice": "choose_algorithms",
    "places": "fold_shuffles",
    "blocks": "arrange",
    "packed": "pack_weights",
}
TYPES: dict[str, tuple[type, ...]] = {
    "scale": (Scale, type(None)),
    "fused": (tuple,),
    "finish": (Finish,),
    "gate": (tuple, type(None)),
    "choice": (ConvChoice, type(None)),
    "places": (tuple,),
    "blocks": (tuple,),
    "packed": (dict,),
}


def verify(state: State, stage: str) -> None:
    """Check the rules that a state obeys after a pass.

    Parameters
    ----------
    state : State
    stage : str
        Name of the pass.

    Raises
    ------
    AssertionError
        Naming the pass, the node and the rule that it breaks.
    """
    for fault in _faults(state, stage):
        raise AssertionError(f"after {stage}: {fault}")


def _faults(state: State, stage: str) -> Iterator[str]:
    passed = STAGES[: STAGES.index(stage) + 1]
    yield from _structure_faults(state)
    for node in state.graph.nodes:
        checks = (_attribute_fault(node), _decision_fault(node, passed), _choice_fault(node, state, passed))
        for fault in (*checks, _shape_fault(node, state)):
            if fault:
                yield f"node {node.name!r} ({node.op}): {fault}"
    if stage == "expand":
        for node in state.graph.nodes:
            if expanded([node], state.shapes) != [node]:
                yield f"node {node.name!r} ({node.op}): it is made of simpler ones"
    if (state.layouts is not None) != ("arrange" in passed):
        yield "layouts are there before they are decided, or are missing after"
    elif (state.placement is not None) != ("place" in passed):
        yield "values have their places before they are decided, or none after"
    elif state.layouts is not None:
        yield from storage_faults(state)


def _structure_faults(state: State) -> Iterator[str]:
    """Every value is made once, before it is read; users and shapes are those of this graph."""
    graph = state.graph
    known = {*graph.inputs, *graph.constants}
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if node.output in known or not node.output:
            yield f"node {node.name!r} ({node.op}): its output {node.output!r} is made twice"
        for name in filter(None, node.inputs):
            if name not in known:
                yield f"node {node.name!r} ({node.op}): it reads {name!r}, which is not made before"
            readers.setdefault(name, []).append(node)
        known.add(node.output)
    for name in graph.outputs:
        if name not in known:
            yield f"output {name!r} is not made"
    for name in known - state.shapes.keys():
        yield f"value {name!r} has no shape"
    counts = {name: len(nodes) for name, nodes in readers.items()}
    if state.users != readers or {name: state.reads[name] for name in counts} != counts:
        yield "its users are those of another graph"
    for name, array in graph.constants.items():
        if state.shapes.get(name) != array.shape:
            yield f"constant {name!r}: shape {array.shape}, known as {state.shapes.get(name)}"


def _attribute_fault(node: Node) -> str:
    """Attributes are those of the operation; passes tell each other the rest in `Decisions`."""
    if node.op == "InBands":
        return "" if isinstance(node.attrs.get("bands"), Bands) and len(node.attrs) == 1 else "expected Bands alone"
    if node.op == ops.ISLAND:
        return "" if isinstance(node.attrs.get("island"), Island) and len(node.attrs) == 1 else "expected Island alone"
    if node.op == "PackWeights":
        return "" if {"form", "ins", "size"} <= node.attrs.keys() else f"attributes {sorted(node.attrs)}"
    if node.attrs.keys() | {*node.kind.later} != node.kind.defaults.keys():
        return f"attributes {sorted(node.attrs)}, expected {sorted(node.kind.defaults)}"
    return ""


def _decision_fault(node: Node, passed: tuple[str, ...]) -> str:
    """Decisions have their types, and none comes before its pass."""
    for name, types in TYPES.items() if node.decided is not UNDECIDED else ():
        value: Any = getattr(node.decided, name)
        if not isinstance(value, types):
            return f"{name} is {type(value).__name__}, expected {types[0].__name__}"
        if MADE_BY[name] not in passed and value != getattr(UNDECIDED, name):
            return f"{name} is decided before {MADE_BY[name]}"
    if node.decided.finish.pool and "fuse_pools" not in passed:
        return "a pool is inside before fuse_pools"
    if node.op == "InBands" and "cut_channels" not in passed:
        return "bands are there before cut_channels"
    return ""


def _choice_fault(node: Node, state: State, passed: tuple[str, ...]) -> str:
    """Every convolution has an algorithm that exists, the size of its filters and its actual padding."""
    decided, shapes = node.decided, state.shapes
    if node.op != "Conv" or "choose_algorithms" not in passed:
        return ""
    if decided.choice is None:
        return "no algorithm is chosen"
    weight, x = shapes[node.inputs[1]], shapes[node.inputs[0]]
    layouts = {entry.name: entry.layout for entry in ALGORITHMS}
    if layouts.get(decided.choice.algorithm) != decided.choice.layout:
        return f"algorithm {decided.choice.algorithm!r} on {decided.choice.layout} values"
    if decided.choice.kernel != weight[2:]:
        return f"kernel {decided.choice.kernel}, its filters have {weight[2:]}"
    if decided.choice.pads != resolve_pads(node.attrs, x[2:], weight[2:]):
        return f"padding {decided.choice.pads} is not that of its attributes"
    if decided.scale is not None and np.shape(decided.scale.factors) != weight[:1]:
        return f"{np.shape(decided.scale.factors)} factors, it has {weight[0]} filters"
    if decided.places and sorted(decided.places) != list(range(x[1])):
        return f"places {decided.places} are not those of {x[1]} channels"
    return ""


def _shape_fault(node: Node, state: State) -> str:
    """The shape that is known is the one that the operation infers."""
    if any(name and name not in state.shapes for name in (*node.inputs, node.output)):
        return ""  # told already
    operands = [state.shapes[name] if name else None for name in node.inputs]
    if node.op == "InBands":
        bands: Bands = node.attrs["bands"]
        if bands.conv.kind.infer(bands.conv.attrs, operands[:3]) != bands.between:
            return f"its convolution does not give {bands.between}"
        found = bands.reader.kind.infer(bands.reader.attrs, [bands.between, *operands[3:]])
    elif type(node.kind).infer is Op.infer:
        return ""  # made by a pass that knows the shape
    else:
        try:
            found = _pooled(node, node.kind.infer(node.attrs, operands))
        except ValueError as error:
            return str(error)
    return "" if found == state.shapes[node.output] else f"it gives {found}, known as {state.shapes[node.output]}"


def _pooled(node: Node, shape: Shape) -> Shape:
    return (*shape[:2], shape[2] // 2, shape[3] // 2) if node.decided.finish.pool else shape
