"""Puts the layers that 8 bits hurt most back to float32, until few predictions are lost."""

from __future__ import annotations

from collections.abc import Callable, Collection

from fastcnn.quantization.compare import Comparison, rows_of
from fastcnn.quantization.insert import QuantizedGraph
from fastcnn.quantization.report import QuantizationReport

__all__ = ["back_to_float"]


def back_to_float(
    quantized: Callable[[Collection[str]], QuantizedGraph],
    comparison: Comparison,
    skip: Collection[str],
    limit: float,
) -> tuple[QuantizedGraph, QuantizationReport]:
    """Find the fewest layers, the worst first, that must be float32 for a drop of at most `limit` points.

    Parameters
    ----------
    quantized : callable
        Gives the graph in which all but some nodes are quantised.
    comparison : Comparison
    skip : collection of str
        Nodes that stay float32 anyway.
    limit : float
    """
    worst = _by_harm(quantized, comparison, skip)

    def tried(count: int) -> tuple[QuantizedGraph, QuantizationReport]:
        back = worst[:count]
        found = quantized({*skip, *back})
        return found, comparison.measure(found, back)

    least, most = 1, len(worst)  # with all of them in float32 nothing is lost
    best = None
    while least <= most:
        count = (least + most) // 2 if best is not None else min(least * 2 - 1, most)
        result = tried(count)
        if (result[1].drop or 0.0) <= limit:
            best, most = result, count - 1
        else:
            least = count + 1
    return best if best is not None else tried(len(worst))


def _by_harm(
    quantized: Callable[[Collection[str]], QuantizedGraph], comparison: Comparison, skip: Collection[str]
) -> list[str]:
    """Names of the layers, first the one that alone in 8 bits makes the most noise in the output."""
    graph = comparison.graph
    names = [node.name for node, *_ in rows_of(graph) if node.name not in skip]
    (output,) = graph.outputs
    noise = {}
    for name in names:
        found = quantized({*skip, *names} - {name})
        noise[name] = comparison.noise(found, [output])[output]
    return sorted(names, key=lambda name: noise[name])
