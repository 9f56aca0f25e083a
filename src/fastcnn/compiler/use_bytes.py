"""The pass for quantised values. quantised.py, which does the work, is imported when a graph first has some."""

from __future__ import annotations

from fastcnn.compiler.state import State

__all__ = ["use_bytes"]


def use_bytes(state: State) -> State:
    """Compute quantised values as bytes, as far as there are kernels."""
    if not any(node.op == "Int8Quantize" for node in state.graph.nodes):
        return state
    from fastcnn.compiler.quantised import in_bytes

    return in_bytes(state)
