"""Eager calls: one operation on arrays, as a plan of one node.

Plans are kept for operations and shapes that come back. Every call packs the weights anew, because they may have
changed. Threads need no lock: a plan in use is taken out of the dict, and each operation on the dict is atomic.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Any

import numpy as np

from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.plan import Plan
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels import _cpu

# The most plans that are kept for further calls, and the most bytes of their arenas.
KEPT_PLANS, KEPT_BYTES = 64, 256 << 20

_idle: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()


def run_node(op: str, attrs: dict[str, Any], inputs: list[np.ndarray | None], out: np.ndarray) -> None:
    """Compute one operation.

    Parameters
    ----------
    op : str
        ONNX name.
    attrs : dict
        All of its attributes.
    inputs : list of float32 arrays or None
        C-contiguous, not empty, already validated.
    out : float32 array
        Receives the result; C-contiguous, of the inferred shape.

    Raises
    ------
    ValueError
        If a forced algorithm cannot compute this layer.
    """
    shapes = tuple(None if array is None else array.shape for array in inputs)
    key = (op, repr(attrs), shapes, _cpu.isa())
    weights = ops.get(op).constants
    names = [f"input{i}" if array is not None else "" for i, array in enumerate(inputs)]
    constants = {names[i]: array for i, array in enumerate(inputs) if i in weights and array is not None}
    arrays = {names[i]: array for i, array in enumerate(inputs) if i not in weights and array is not None}
    plan = _idle.pop(key, None)  # weights are packed in place, so two callers need two plans
    if plan is None:
        node = Node(op, "", tuple(names), "output", attrs)
        graph = Graph([node], {name: array.shape for name, array in arrays.items()}, ["output"], constants)
        shapes_by_name = {name: array.shape for name, array in arrays.items()}
        plan = compile_graph(graph, shapes_by_name, packed_ahead=False)
    else:
        plan.refill(constants)
    plan.run(list(arrays.values()), [out])
    _idle[key] = plan
    while len(_idle) > KEPT_PLANS or sum(kept.arena_bytes for kept in list(_idle.values())) > KEPT_BYTES:
        with suppress(KeyError):  # another thread was faster
            _idle.popitem(last=False)
