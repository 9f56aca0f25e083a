"""The graph of a quantised network: QuantizeLinear and DequantizeLinear around its operations, integers as weights.

Activations are uint8. Weights are int8 with a scale for each output and the zero point 0. Biases are int32 with the
scales of the products. This is what ONNX Runtime and OpenVINO compute in 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fastcnn import ops
from fastcnn.graph.ir import Graph, Node
from fastcnn.quantization.places import Places
from fastcnn.quantization.ranges import scale_and_zero

__all__ = ["QuantizedGraph", "quantized_graph", "quantized_weight"]

QUANTIZE, DEQUANTIZE = f"{ops.GENERAL}QuantizeLinear", f"{ops.GENERAL}DequantizeLinear"
# A bias takes at most half of the range of int32, so that sums with products do not leave it.
_MOST_BIAS, _MOST_SUM = 2.0**30, 2.0**31 - 1


@dataclass(frozen=True)
class QuantizedGraph:
    """A quantised graph.

    Attributes
    ----------
    graph : Graph
    dequantised : dict of str to str
        Of each quantised value of the float32 graph, the value that stands for it.
    places : Places
    ranges : dict of str to (float, float)
        Of each value whose scale others have.
    """

    graph: Graph
    dequantised: Mapping[str, str]
    places: Places
    ranges: Mapping[str, tuple[float, float]]


def quantized_weight(weight: np.ndarray, bias: np.ndarray | None, x_scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights as int8, and the scale of each output.

    Parameters
    ----------
    weight : ndarray (outputs, ...)
    bias : ndarray (outputs,), or None
        It has to fit into int32 in units of the products, which bounds the scale from below.
    x_scale : float
        Of the inputs.

    Examples
    --------
    >>> quantized_weight(np.float32([[1.27, -0.5]]), None, 1.0)
    (array([[127, -50]], dtype=int8), array([0.01], dtype=float32))
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    peak = np.abs(rows).max(1)
    scale = np.where(peak > 0, peak / 127, 1 / 127)
    if bias is not None:
        scale = np.maximum(scale, np.abs(bias.astype(np.float64)) / (x_scale * _MOST_BIAS))
    scale = np.maximum(scale, 1e-12).astype(np.float32)
    whole = np.clip(np.rint(rows / scale[:, None]), -127, 127).astype(np.int8)
    return whole.reshape(weight.shape), scale


def quantized_graph(
    graph: Graph,
    places: Places,
    ranges: Mapping[str, tuple[float, float]],
    means: Mapping[str, np.ndarray] | None = None,
) -> QuantizedGraph:
    """Make the graph of the quantised network.

    Parameters
    ----------
    graph : Graph
        As `float_graph` gives it.
    places : Places
    ranges : dict of str to (float, float)
        Of each value that `places.scales` names.
    means : dict of str to ndarray (channels,), optional
        Of the channels that convolutions and linear layers read. Then biases make up for what the rounding of weights
        adds on average.
    """
    return _Inserter(graph, places, ranges, means).run()


class _Inserter:
    def __init__(
        self,
        graph: Graph,
        places: Places,
        ranges: Mapping[str, tuple[float, float]],
        means: Mapping[str, np.ndarray] | None,
    ) -> None:
        self.graph, self.places, self.ranges, self.means = graph, places, ranges, means
        self.numbers = {name: scale_and_zero(*ranges[name]) for name in dict.fromkeys(places.scales.values())}
        self.constants = dict(graph.constants)
        self.nodes: list[Node] = []
        self.dequantised: dict[str, str] = {}

    def run(self) -> QuantizedGraph:
        weighted = {node.name for node in self.places.weighted}
        for name in self.graph.inputs:
            self.quantise(name)
        for node in self.graph.nodes:
            inputs = [self.dequantised.get(name, name) for name in node.inputs]
            if node.name in weighted:
                inputs[1:] = self.parameters(node)
            self.nodes.append(node.reading(inputs))
            self.quantise(node.output)
        used = {name for node in self.nodes for name in node.inputs}
        constants = {name: array for name, array in self.constants.items() if name in used}
        graph = Graph(self.nodes, self.graph.inputs, self.graph.outputs, constants, self.graph.types)
        return QuantizedGraph(graph, self.dequantised, self.places, self.ranges)

    def quantise(self, value: str) -> None:
        """Add the nodes behind a value, if it is quantised."""
        source = self.places.scales.get(value)
        if source is None:
            return
        scale, zero = self.numbers[source]
        names = f"{source}.scale", f"{source}.zero_point"
        self.constants |= zip(names, (np.asarray(scale), np.asarray(zero)), strict=True)
        whole = f"{value}/quantized"
        self.nodes.append(Node(QUANTIZE, f"{value}/QuantizeLinear", (value, *names), whole, {}))
        self.dequantised[value] = self.dequantise(whole, f"{value}/dequantized", names)

    def dequantise(self, whole: str, output: str, numbers: tuple[str, ...], **attrs: int) -> str:
        name = f"{whole.removesuffix('/quantized')}/DequantizeLinear"
        self.nodes.append(Node(DEQUANTIZE, name, (whole, *numbers), output, attrs))
        return output

    def parameters(self, node: Node) -> list[str]:
        """The names of the weights and the bias of a node, behind their integers."""
        x, weight_name, *rest = node.inputs
        bias_name = next((name for name in rest if name), "")
        weight, x_scale = self.graph.constants[weight_name], float(self.numbers[self.places.scales[x]][0])
        bias = self.graph.constants[bias_name] if bias_name else None
        whole, scale = quantized_weight(weight, bias, x_scale)
        if self.means is not None:
            error = whole * scale.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float64) - weight
            shift = _mean_output(node, error, self.means[x])
            bias = -shift if bias is None else bias - shift
            bias_name = bias_name or f"{node.name}.bias"
        self.constants |= {weight_name: whole, f"{weight_name}_scale": scale}
        names = [self.dequantise(weight_name, f"{weight_name}/dequantized", (f"{weight_name}_scale",), axis=0)]
        if bias is not None:
            units = scale * np.float32(x_scale)
            steps = np.clip(np.rint(bias / units.astype(np.float64)), -_MOST_SUM, _MOST_SUM)
            self.constants |= {bias_name: steps.astype(np.int32), f"{bias_name}_scale": units}
            names.append(self.dequantise(bias_name, f"{bias_name}/dequantized", (f"{bias_name}_scale",), axis=0))
        return names


def _mean_output(node: Node, weight: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """What weights make of inputs that are the mean of their channel everywhere."""
    rows = weight.reshape(*weight.shape[:2], -1).sum(2)
    if node.op == "Gemm":
        return np.asarray(rows @ mean)
    groups = node.attrs["group"]
    parts = rows.reshape(groups, -1, rows.shape[1]) @ mean.reshape(groups, -1, 1)
    return np.asarray(parts).reshape(-1)
