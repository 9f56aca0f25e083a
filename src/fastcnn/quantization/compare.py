"""Compares a quantised graph with the float32 network: values of layers, predictions, and accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn._forks import computed_once
from fastcnn.compiler.network import infer_values
from fastcnn.graph.ir import Graph, Node
from fastcnn.graph_network import GraphNetwork
from fastcnn.network import Network
from fastcnn.quantization.calibrate import values_of
from fastcnn.quantization.floating import is_weighted
from fastcnn.quantization.insert import QuantizedGraph
from fastcnn.quantization.places import fused, is_layer
from fastcnn.quantization.ranges import Histogram, clipped_share
from fastcnn.quantization.report import LayerReport, QuantizationReport, decibels
from fastcnn.training.examine import examine

__all__ = ["Comparison", "buffers_of", "rows_of"]

# Inputs that the errors of layers are measured with, and how many of them at once.
COMPARED, AT_ONCE = 16, 4
_BATCH = 16


def buffers_of(graph: Graph) -> frozenset[str]:
    """The float32 constants of a quantised graph that training must not change."""
    learned = {name for node in graph.nodes if is_weighted(node, graph) for name in node.inputs[1:]}
    return frozenset(name for name, array in graph.constants.items() if array.dtype == np.float32) - learned


class Comparison:
    """The float32 network, and what it computes of inputs.

    Parameters
    ----------
    model : Network
    graph : Graph
        Of it, as `float_graph` gives it.
    counts : dict of str to Histogram
        Of the values that may be quantised.
    x : ndarray
        Inputs.
    method : str
        How ranges are found, for reports.
    validation : data whose labels are known, or None
    progress : bool or None
    """

    def __init__(
        self,
        model: Network,
        graph: Graph,
        counts: Mapping[str, Histogram],
        x: np.ndarray,
        method: str,
        validation: Any,
        progress: bool | None,
    ) -> None:
        self.model, self.graph, self.counts, self.x = model, graph, counts, x
        self.method, self.validation, self.progress = method, validation, progress

    def measure(self, found: QuantizedGraph, float_layers: Sequence[str] = ()) -> QuantizationReport:
        """Describe a quantised graph; `float_layers` are those that were put back to float32."""
        network = self._network(found.graph)
        rows = rows_of(self.graph)
        noise = self.noise(found, [*dict.fromkeys([*(output for *_, output in rows), *self.graph.outputs])])
        quantised = {node.name for node in found.places.layers}
        return QuantizationReport(
            layers=[
                LayerReport(
                    node.name,
                    op,
                    "int8" if node.name in quantised else "float32",
                    *self._range(output, found),
                    noise[output],
                )
                for node, op, output in rows
            ],
            method=self.method,
            samples=len(self.x),
            signal_to_noise=noise[self.graph.outputs[0]],
            agreement=self._agreement(network),
            accuracy=self._accuracy(network),
            float_accuracy=self._float_accuracy,
            float_layers=list(float_layers),
            weight_bytes=_bytes_of(found.graph),
            float_weight_bytes=_bytes_of(self.graph),
        )

    def noise(self, found: QuantizedGraph, names: Sequence[str]) -> dict[str, float]:
        """Signal to noise of values, in decibels."""
        x = self.x[:: max(1, len(self.x) // COMPARED)][:COMPARED]
        signal, noise = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        theirs = [found.dequantised.get(name, name) for name in names]
        for start in range(0, len(x), AT_ONCE):
            part = x[start : start + AT_ONCE]
            pairs = zip(values_of(self.graph, names, part, 1), values_of(found.graph, theirs, part, 1), strict=True)
            for exact, rounded in pairs:
                for name, a, b in zip(names, exact, rounded, strict=True):
                    signal[name] += float(np.square(a, dtype=np.float64).sum())
                    noise[name] += float(np.square(a - b, dtype=np.float64).sum())
        return {name: decibels(signal[name], noise[name]) for name in names}

    def _range(self, output: str, found: QuantizedGraph) -> tuple[float | None, float | None, float | None]:
        """The range of a value, and the share that lies outside."""
        if output not in found.dequantised:
            return None, None, None
        low, high = found.ranges[found.places.scales[output]]
        return low, high, clipped_share(self.counts[output], low, high)

    def _network(self, graph: Graph) -> GraphNetwork:
        """A network of a graph, which predicts as the model does."""
        network = GraphNetwork(graph, buffers_of(graph), self.model._max_bytes)
        network.input_shape = self.x.shape[1:]
        network.classes, network.task, network.preprocess = self.model.classes, self.model.task, self.model.preprocess
        return network

    @computed_once
    def _predicted(self) -> np.ndarray | None:
        """What float32 predicts; None where the outputs name no classes."""
        shapes, _ = infer_values(self.graph, dict.fromkeys(self.graph.inputs, (1, *self.x.shape[1:])))
        shape = shapes[self.graph.outputs[0]] or ()
        if len(shape) < 2 or shape[2:] not in ((), (1, 1)) or (shape[1] == 1 and self.model.task != "binary"):
            return None
        return Network.predict(self.model, self.x, _BATCH)

    def _agreement(self, network: Network) -> float | None:
        if self._predicted is None:
            return None
        return float(np.mean(network.predict(self.x, _BATCH) == self._predicted))

    @computed_once
    def _float_accuracy(self) -> float | None:
        return self._accuracy(self.model)

    def _accuracy(self, network: Network) -> float | None:
        if self.validation is None:
            return None
        given = self.validation
        data, labels = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        return float(examine(network, data, labels, _BATCH, None, self.progress).accuracy)


def rows_of(graph: Graph) -> list[tuple[Node, str, str]]:
    """The layers that a report tells of: the node, what it computes, and the value that is stored."""
    followers = fused(graph)
    inside = {node.name for node in followers.values()}
    rows = []
    for node in graph.nodes:
        if is_layer(node, graph) and node.name not in inside:
            after = followers.get(node.output)
            rows.append((node, node.op if after is None else f"{node.op}+{after.op}", (after or node).output))
    return rows


def _bytes_of(graph: Graph) -> int:
    return sum(array.nbytes for array in graph.constants.values())
