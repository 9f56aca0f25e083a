"""A state as text: what each node reads, how and where its output is stored, and what the passes have decided about it.

The reasons against other algorithms follow each convolution.
"""

from __future__ import annotations

from fastcnn._table import Columns
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node
from fastcnn.kernels.view import ARENA

__all__ = ["as_text"]


def as_text(state: State, reasons: bool = True) -> str:
    """The graph of a state as a table, a node a line.

    Parameters
    ----------
    state : State
    reasons : bool
        Whether to tell of each convolution why it has no other algorithm.

    Examples
    --------
    >>> from fastcnn.compiler.state import Options, State
    >>> from fastcnn.graph.ir import Graph
    >>> graph = Graph([Node("Relu", "relu", ("x",), "y", {})], {"x": (2, 4)}, ["y"], {})
    >>> print(as_text(State(graph, {"x": (2, 4), "y": (2, 4)}, Options(vl=8))))
    node  operation  reads  output
    relu  Relu       x      y 2x4
    """
    headings = ["node", "operation", "reads", "output"]
    headings += [heading for heading, is_known in (("stored", state.layouts), ("memory", state.placement)) if is_known]
    rows = [_cells(node, state) for node in state.graph.nodes]
    if any(row[-1] for row in rows):
        headings.append("decided")
    else:
        rows = [row[:-1] for row in rows]
    columns = Columns.around([headings, *rows], left=range(len(headings)))
    lines = [columns.line(headings)]
    for node, row in zip(state.graph.nodes, rows, strict=True):
        lines.append(columns.line(row))
        choice = node.decided.choice
        if reasons and choice is not None:
            lines += [f"    not {name}: {reason}" for name, reason in choice.reasons.items()]
    return "\n".join(lines)


def _cells(node: Node, state: State) -> list[str]:
    reads = ", ".join(name for name in node.inputs if name and name not in state.graph.constants)
    output = f"{node.output} {'x'.join(map(str, state.shapes[node.output]))}"
    cells = [node.name, node.op, reads, output]
    if state.layouts is not None:
        cells.append(_stored(node.output, state))
    if state.placement is not None:
        cells.append(_memory(node.output, state))
    return [*cells, _decided(node)]


def _stored(name: str, state: State) -> str:
    layouts = state.arranged
    if name in layouts.parameters:
        return "parameter"
    lanes = layouts.lanes[name]
    words = ["plain" if lanes == 1 else f"blocks of {lanes}"]
    if name in layouts.halos:
        words.append(f"halo {','.join(map(str, layouts.halos[name]))}")
    if name in layouts.joins:
        target, channel = layouts.joins[name]
        words.append(f"in {target} from channel {channel}")
    return ", ".join(words)


def _memory(name: str, state: State) -> str:
    view = state.placed.views[name]
    if view.slot == ARENA:
        return f"arena {4 * view.offset:,}"
    return "input" if view.slot <= len(state.graph.inputs) else "output"


def _decided(node: Node) -> str:
    decided = node.decided
    words = []
    if decided.choice is not None:
        words.append(decided.choice.algorithm)
    if decided.scale is not None:
        words.append(f"scaled by {decided.scale.norm}")
    if decided.places:
        words.append("looks channels up")
    if decided.gate is not None:
        words.append(f"behind {decided.gate[0]}")
    if decided.finish.activation is not None:
        words.append(f"then {decided.finish.activation[0]}")
    if decided.finish.pool:
        words.append("then the maxima of 2 x 2")
    if decided.blocks:
        words.append("rows are blocks of images")
    if decided.packed:
        words.append("packs its weights")
    if decided.fused:
        words.append(f"has taken in {', '.join(decided.fused)}")
    return "; ".join(words)
