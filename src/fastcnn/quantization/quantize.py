"""What `Model.quantize` does: calibrates a network, inserts integers, and compares the result with float32.

floating.py, calibrate.py, ranges.py, places.py and insert.py do the work, in this order; search.py puts layers back to
float32 until few predictions are lost.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn._arguments import as_choice, as_flag, as_float, as_int
from fastcnn._names import one_of
from fastcnn.compiler.network import is_resolved
from fastcnn.graph.ir import Graph
from fastcnn.network import Network
from fastcnn.quantization.calibrate import calibration_inputs, channel_means, channel_peaks, histograms
from fastcnn.quantization.compare import Comparison, buffers_of
from fastcnn.quantization.equalize import channels_of, equalised
from fastcnn.quantization.floating import float_graph, is_weighted
from fastcnn.quantization.insert import QuantizedGraph, quantized_graph
from fastcnn.quantization.places import find_places, is_layer
from fastcnn.quantization.ranges import METHODS, Histogram, range_of
from fastcnn.quantization.report import QuantizationReport
from fastcnn.quantization.search import back_to_float
from fastcnn.training.options import ON_ERROR

__all__ = ["Settings", "quantize"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Keyword arguments of `Model.quantize`, under their names."""

    method: str = "minmax"
    percentile: float = 99.99
    samples: int = 256
    skip: str | Sequence[str] = ()
    max_drop: float | None = None
    validation: Any = None
    equalize: bool = True
    correct_bias: bool = True
    fuse_sums: bool = True
    progress: bool | None = None
    on_error: str = "skip"

    def __post_init__(self) -> None:
        as_choice(self.method, "quantize: method", METHODS)
        as_choice(self.on_error, "quantize: on_error", ON_ERROR)
        as_int(self.samples, "quantize: samples", 1)
        if not 50 < as_float(self.percentile, "quantize: percentile") <= 100:
            raise ValueError(f"quantize: percentile={self.percentile}, expected a number above 50, at most 100")
        if self.max_drop is not None and not as_float(self.max_drop, "quantize: max_drop") >= 0:
            raise ValueError(f"quantize: max_drop={self.max_drop}, expected points of accuracy, 0 or more")
        for name in ("equalize", "correct_bias", "fuse_sums"):
            as_flag(getattr(self, name), f"quantize: {name}")
        names = [self.skip] if isinstance(self.skip, str) else self.skip
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"quantize: skip={self.skip!r}, expected names of layers")
        object.__setattr__(self, "skip", tuple(names))


def quantize(model: Network, calibration: Any, settings: Settings) -> tuple[Graph, frozenset[str], QuantizationReport]:
    """Quantise a network; see `Model.quantize`.

    Returns
    -------
    Graph, frozenset of str, QuantizationReport
        The graph, and which of its constants are no parameters.
    """
    x = calibration_inputs(model, calibration, settings.samples, settings.on_error, settings.progress)
    graph = float_graph(model, x.shape[1:])
    if not any(is_weighted(node, graph) for node in graph.nodes):
        raise ValueError("quantize: the network has no convolution and no linear layer with constant weights")
    skip = _skipped(graph, settings.skip)
    shapes = graph.infer(dict.fromkeys(graph.inputs, (1, *x.shape[1:]))) if is_resolved(graph) else {}
    groups = channels_of(graph, shapes) if settings.equalize and shapes else []
    if groups:
        names = [name for group in groups for name in group.values]
        graph = equalised(graph, groups, channel_peaks(graph, names, x))
    quantizer = Quantizer(graph, x, settings)
    comparison = Comparison(model, graph, quantizer.counts, x, settings.method, settings.validation, settings.progress)
    found = quantizer.quantized(skip)
    report = comparison.measure(found)
    if settings.max_drop is not None:
        if report.drop is None:
            raise ValueError("quantize: max_drop, but the outputs name no classes to compare: expected (N, classes)")
        if report.drop > settings.max_drop:
            found, report = back_to_float(quantizer.quantized, comparison, skip, settings.max_drop)
    return found.graph, buffers_of(found.graph), report


def _skipped(graph: Graph, patterns: Sequence[str]) -> frozenset[str]:
    """Names of the nodes that the settings leave in float32: by name, by a pattern with *, or all within a layer."""
    names = [node.name for node in graph.nodes if is_layer(node, graph)]
    skip: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")}
        if not matching:
            raise ValueError(f"quantize: skip={pattern!r}, {one_of(pattern, names)}")
        skip |= matching
    return frozenset(skip)


class Quantizer:
    """Makes quantised graphs of a float32 graph, whose values are counted once.

    Parameters
    ----------
    graph : Graph
        As `float_graph` gives it.
    x : ndarray
        Inputs.
    settings : Settings
    """

    def __init__(self, graph: Graph, x: np.ndarray, settings: Settings) -> None:
        self.graph, self.settings = graph, settings
        places = find_places(graph)
        self.counts = histograms(graph, list(places.scales), x, settings.progress)
        self.means: dict[str, np.ndarray] | None = None
        if settings.correct_bias:
            self.means = channel_means(graph, sorted({node.inputs[0] for node in places.weighted}), x)
        self._ranges: dict[frozenset[str], tuple[float, float]] = {}

    def quantized(self, skip: Collection[str]) -> QuantizedGraph:
        """The graph in which all but these nodes are quantised."""
        places = find_places(self.graph, skip, self.settings.fuse_sums)
        members: dict[str, set[str]] = {}
        for name, source in places.scales.items():
            members.setdefault(source, set()).add(name)
        ranges = {source: self._range(frozenset(names)) for source, names in members.items()}
        return quantized_graph(self.graph, places, ranges, self.means)

    def _range(self, names: frozenset[str]) -> tuple[float, float]:
        """The range of values that share a scale."""
        if names not in self._ranges:
            counts: Histogram = self.counts[min(names)]
            for name in sorted(names)[1:]:
                counts = counts.joined(self.counts[name])
            self._ranges[names] = range_of(counts, self.settings.method, self.settings.percentile)
        return self._ranges[names]
