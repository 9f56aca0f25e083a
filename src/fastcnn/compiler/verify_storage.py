"""Verifying how values are stored and where they lie.

The layouts of what a node reads and writes agree, and no value is written over before its last reader has read it.
"""

from __future__ import annotations

from collections.abc import Iterator

from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node
from fastcnn.kernels.view import ARENA, NO_HALO, View, four_dimensions

# Operations that bring values from one layout into another.
REORDERS = {"Reorder", "Lookup", "Pack", "Unpack", "PackWeights"}


def storage_faults(state: State) -> Iterator[str]:
    """The faults of layouts, and of places once they are decided.

    Parameters
    ----------
    state : State
        After layout.py.
    """
    layouts = state.arranged
    for name in (*state.graph.inputs, *state.graph.constants, *state.makers):
        if name not in layouts.lanes:
            yield f"value {name!r} has no layout"
            return
    for name in (*state.graph.inputs, *state.graph.constants, *state.graph.outputs):
        if layouts.lanes[name] != 1 or name in layouts.halos:
            yield f"value {name!r} is the caller's, and plain without halo"
    for node in state.graph.nodes:
        for fault in (_layout_fault(node, state), _parameter_fault(node, state), _join_fault(node, state)):
            if fault:
                yield f"node {node.name!r} ({node.op}): {fault}"
    if state.placement is not None:
        yield from _place_faults(state)


def _layout_fault(node: Node, state: State) -> str:
    """Images are read in the layout in which they are written, and with as many zeros around them as are read."""
    layouts, shapes, vl, op = state.arranged, state.shapes, state.options.vl, node.kind
    if node.op in REORDERS or op.is_alias or op.layout == "parameter":
        return ""
    access = layouts.accesses.get(node.output)
    if access is None or (not node.decided.packed and access != op.access(node, shapes, vl)):
        return f"its access is known as {access}"
    for i in access.plain:
        if i < len(node.inputs) and node.inputs[i] and layouts.lanes[node.inputs[i]] != 1:
            return f"it reads {node.inputs[i]!r} with {layouts.lanes[node.inputs[i]]} lanes, expected 1"
    plain = {name for i, name in enumerate(node.inputs) if i in access.plain or access.reads_any}
    operands = [name for name in op.operands(node) if len(shapes[name]) == 4 and name not in plain]
    lanes = layouts.lanes[node.output] if len(shapes[node.output]) == 4 and not op.packs else None
    for name in operands:
        few = shapes[name][1] if access.reads_narrow and name == node.inputs[0] and shapes[name][1] < vl else 0
        few = access.narrow or few
        narrow = layouts.lanes[name] == few or (access.reads_plain and layouts.lanes[name] == 1)
        if lanes is not None and layouts.lanes[name] != lanes and not narrow:
            return f"it reads {name!r} with {layouts.lanes[name]} lanes, and writes {lanes}"
        if lanes is None and access.layout == "blocked" and layouts.lanes[name] != vl and not narrow:
            return f"it reads {name!r} with {layouts.lanes[name]} lanes, expected {vl}"
    if operands and any(access.halo):
        halo = layouts.halos.get(node.inputs[0], NO_HALO)
        if any(have < need for have, need in zip(halo, access.halo, strict=True)):
            return f"it reads {access.halo} zeros around {node.inputs[0]!r}, which has {halo}"
    return ""


def _parameter_fault(node: Node, state: State) -> str:
    """Weights that change are stored as parameters, and packed ones are there."""
    layouts, constants = state.arranged, state.graph.constants
    changes = node.kind.updates and node.inputs[0] not in layouts.parameters
    for i in node.kind.constants:
        name = node.inputs[i] if i < len(node.inputs) else ""
        if name and name not in constants and (name in layouts.parameters) == changes:
            return f"input {name!r} is {'' if changes else 'not '}stored as a parameter"
    for i, place in node.decided.packed.items():
        maker = state.makers.get(node.inputs[place]) if place < len(node.inputs) else None
        if maker is None or maker.op != "PackWeights" or maker.inputs != (node.inputs[i],):
            return f"input {place} is not what input {i} is packed as"
    return ""


def _join_fault(node: Node, state: State) -> str:
    """What is written straight into a concatenation stands there in order."""
    layouts, start = state.arranged, 0
    if node.op != "Concat" or not any(layouts.joins.get(name, ("",))[0] == node.output for name in node.inputs):
        return ""
    for name in node.inputs:
        if layouts.joins.get(name) != (node.output, start):
            return f"{name!r} is joined at {layouts.joins.get(name)}, expected channel {start}"
        if layouts.halos.get(name) != layouts.halos.get(node.output):
            return f"{name!r} has another halo than the concatenation"
        start += state.shapes[name][1]
    return ""


def _place_faults(state: State) -> Iterator[str]:
    """Views have the shapes and lanes of their values, lie in the arena, and outlive their last readers."""
    layouts, placement = state.arranged, state.placed
    for name in (*state.graph.inputs, *state.makers):
        view = placement.views.get(name)
        if view is None:
            yield f"value {name!r} has no place"
            return
        if name not in layouts.parameters and name not in state.options.pixels:
            shape = four_dimensions(state.shapes[name])
            if (view.n, view.c, view.h, view.w) != shape or view.lanes != layouts.lanes[name]:
                yield f"value {name!r} of {shape} in {layouts.lanes[name]} lanes lies as {view}"
        if view.slot == ARENA and not 0 <= _start(view) <= _end(view) <= placement.arena_bytes:
            yield f"value {name!r} lies outside the arena"
    yield from _lost_values(state)


def _lost_values(state: State) -> Iterator[str]:
    """Values that are written over before their last reader reads them."""
    views, joins = state.placed.views, state.arranged.joins
    last = {name: i for i, node in enumerate(state.graph.nodes) for name in node.inputs}
    alive: dict[str, View] = {}
    for i, node in enumerate(state.graph.nodes):
        for name in node.inputs:
            if name in state.makers and views[name].slot == ARENA and name not in alive:
                yield f"node {node.name!r} ({node.op}): {name!r} is written over before it reads it"
        view = views[node.output]
        silent = node.kind.is_alias or node.kind.updates or node.op == "Column"  # other names for existing values
        joined = {name for name in node.inputs if joins.get(name, ("",))[0] == node.output}
        whole = joins.get(node.output, (node.output,))[0]
        if view.slot == ARENA:
            for name, other in [*alive.items()] if not silent else ():
                together = name in joined or joins.get(name, (name,))[0] == whole
                if not together and _start(view) < _end(other) and _start(other) < _end(view):
                    del alive[name]
                    if last.get(name, -1) > i:
                        yield f"node {node.name!r} ({node.op}): it writes over {name!r}, which is still read"
            alive[node.output] = view


def _start(view: View) -> int:
    """The first byte."""
    top, left, *_ = view.halo
    return (view.offset - top * view.row - left * view.lanes) * view.item


def _end(view: View) -> int:
    blocks = -(-view.c // view.lanes)
    _, _, bottom, right = view.halo
    last = view.offset + (view.n - 1) * view.image + (blocks - 1) * view.block + (view.h - 1 + bottom) * view.row
    return (last + (view.w + right) * view.lanes) * view.item
