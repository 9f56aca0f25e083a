"""Graphs run node by node, by the definitions of their operations."""

from __future__ import annotations

import numpy as np

from fastcnn import ops
from fastcnn.graph.ir import Graph


def evaluate(graph: Graph, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of a graph; inputs may also take the place of constants."""
    values = {**graph.constants, **inputs}
    for node in graph.nodes:
        operands = [values[name] if name else None for name in node.inputs]
        values[node.output] = ops.get(node.op).reference(node.attrs, operands)
    return values
