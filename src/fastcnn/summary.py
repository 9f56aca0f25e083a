"""The table that `Model.summary` prints: one row per node of the graph, with the kernel that runs it.

Shapes and arithmetic come from ops/, kernels and reasons from the compiled plan.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastcnn._table import as_html, as_table
from fastcnn.compiler.lower import StepInfo
from fastcnn.compiler.network import compile_network

if TYPE_CHECKING:
    from fastcnn.graph.ir import Graph

__all__ = ["Row", "Summary", "summarise"]

_HEADINGS = ("layer", "op", "output", "parameters", "MFLOP", "kernel")
_LEFT_ALIGNED = (0, 1, 2, 5, 6)
# Operations of quantised graphs under ONNX's names; those that leave no step have no row.
_CONVERSIONS = {"Int8Quantize": "QuantizeLinear", "Int8Dequantize": "DequantizeLinear"}
_WEIGHT = "Int8Weight"


@dataclass(frozen=True)
class Row:
    """One node of the graph.

    Attributes
    ----------
    name : str
        Path of the layer, or the name of the node.
    op : str
        ONNX operator.
    output_shape : tuple of int
        With the batch axis.
    parameters : int
        Numbers in the node's constants. Those that an earlier row has counted are not counted again.
    flops : int
        Arithmetic operations for this batch, a multiply-add counting two.
    kernel : str
        What runs the node: a kernel's name; "in <name>" where another node's kernel does it on the way;
        "folded" where nothing is left to do.
    reasons : dict of str to str
        Kernels that were not taken, and why.
    type : {"float32", "bfloat16", "int8", ""}
        How the kernel multiplies, or what it makes; "" where nothing is left to do.
    """

    name: str
    op: str
    output_shape: tuple[int, ...]
    parameters: int
    flops: int
    kernel: str
    reasons: dict[str, str] = field(default_factory=dict)
    type: str = "float32"


@dataclass(frozen=True)
class Summary:
    """A model's rows, and their totals; ``print`` shows it as a table.

    Attributes
    ----------
    rows : list of Row
        In the order of execution.
    verbose : bool
        Whether its text tells for each layer why other kernels were not taken.
    """

    rows: list[Row]
    verbose: bool = False

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        """Arithmetic operations for one batch, a multiply-add counting two."""
        return sum(row.flops for row in self.rows)

    def __str__(self) -> str:
        total = ("total", "", "", f"{self.parameters:,}", _mflop(self.flops), "", "")
        rows = [(*_HEADINGS, "type"), *(_cells(row) for row in self.rows), total]
        if {row.type for row in self.rows} <= {"float32", ""}:
            rows = [row[:-1] for row in rows]
        table = as_table(rows[:-1], _LEFT_ALIGNED, rows[-1])
        return "\n".join([table, *self._reasons()]) if self.verbose else table

    def _reasons(self) -> list[str]:
        lines = ["", "kernels that were not taken"]
        for row in self.rows:
            lines += [f"{row.name}: {row.kernel}"] if row.reasons else []
            lines += [f"  not {name}: {reason}" for name, reason in row.reasons.items()]
        return lines if len(lines) > 2 else [*lines, "none: no layer has another one"]

    def _repr_html_(self) -> str:
        return as_html(self)


def summarise(graph: Graph, verbose: bool = False, bfloat16: bool = False) -> Summary:
    """Compile a graph for a batch of one, and describe its nodes.

    Parameters
    ----------
    graph : Graph
        As `Model.graph` returns.
    verbose : bool
        As in `Summary`.
    bfloat16 : bool
        As for `compile_network`.

    Returns
    -------
    Summary
    """
    shapes = {name: tuple(size or 1 for size in shape) for name, shape in graph.inputs.items()}
    compiled = compile_network(graph, shapes, bfloat16=bfloat16)
    graph, steps = compiled.graph, compiled.plan.steps
    values = {name: shape or () for name, shape in compiled.shapes.items()}
    by_name = {step.name: step for step in steps}
    hosts = {name: step.name for step in steps for name in step.fused}
    packed = {node.output: node.inputs for node in graph.nodes if node.op == _WEIGHT}
    counted: set[str] = set()
    rows = []
    for node in graph.nodes:
        step = by_name.get(node.name)
        if node.op == _WEIGHT or (node.op in _CONVERSIONS and step is None):
            continue
        read = [part for name in node.inputs for part in packed.get(name, (name,))]
        constants = [name for name in dict.fromkeys(read) if name in graph.constants and name not in counted]
        counted.update(constants)
        host = hosts.get(node.name)
        rows.append(
            Row(
                name=node.name,
                op=_CONVERSIONS.get(node.op, node.op),
                output_shape=values[node.output],
                parameters=sum(math.prod(graph.constants[name].shape) for name in constants),
                flops=node.kind.flops(node.attrs, [values.get(name) for name in node.inputs], values[node.output]),
                kernel=step.kernel if step else _host(host),
                reasons=dict(step.reasons) if step else {},
                type=_type_of(step or by_name.get(host or "")),
            )
        )
    return Summary(rows, verbose)


def _type_of(step: StepInfo | None) -> str:
    if step is None:
        return ""
    if step.kernel == "quantize" or step.kernel.startswith("int8"):
        return "int8"
    return "bfloat16" if step.kernel == "bfloat16" else "float32"


def _host(name: str | None) -> str:
    return "folded" if name is None else f"in {name}"


def _cells(row: Row) -> tuple[str, ...]:
    shape = "x".join(map(str, row.output_shape))
    return row.name, row.op, shape, f"{row.parameters:,}", _mflop(row.flops), row.kernel, row.type


def _mflop(flops: int) -> str:
    return f"{flops / 1e6:,.2f}"
