"""Equalising: the channels of a value get more similar ranges, so that few of the 256 levels are wasted on any.

    clip((W x + b), 0, c)  =  s clip((W x + b) / s, 0, c / s)      for each channel, 0 < s <= 1

What divides the channels of a convolution multiplies those of its readers, through ReLUs, clips and sums. Channels of a
clip are stretched no farther than its bound. Where all of them are, the network computes the same; beyond the range of
the calibration a channel is clipped, as quantising does anyway. A depthwise convolution has a scale for each channel,
so that its inputs are equalised completely. Others share the burden with their weights (Nagel et al., Data-free
quantization through weight equalization and bias correction, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fastcnn.graph.ir import Graph, Node, Shape
from fastcnn.quantization.floating import is_weighted

__all__ = ["Channels", "channels_of", "equalised"]

# How far channels are stretched; those that hardly ever differ from zero stay what they are.
MOST = 64.0


@dataclass
class Channels:
    """Values whose channels are scaled by the same numbers.

    Attributes
    ----------
    values : list of str
    makers, readers : list of Node
        The convolutions that compute them, and those that read them.
    bound : float
        Of the clips among them.
    """

    values: list[str] = field(default_factory=list)
    makers: list[Node] = field(default_factory=list)
    readers: list[Node] = field(default_factory=list)
    bound: float = float("inf")


def channels_of(graph: Graph, shapes: Mapping[str, Shape]) -> list[Channels]:
    """The values of a network with depthwise convolutions whose channels can be scaled; none of other networks.

    Parameters
    ----------
    graph : Graph
        As `float_graph` gives it.
    shapes : dict
        Of its values.
    """
    if not any(is_weighted(node, graph) and _is_depthwise(node, graph) for node in graph.nodes):
        return []
    leader = {name: name for name in [*graph.inputs, *(node.output for node in graph.nodes)]}

    def find(name: str) -> str:
        while leader[name] != name:
            leader[name] = name = leader[leader[name]]
        return name

    for node in graph.nodes:
        if _passes(node, graph, shapes):
            for name in node.inputs:
                leader[find(name)] = find(node.output)
    groups = {find(name): Channels() for name in leader}
    fixed = {find(name) for name in (*graph.inputs, *graph.outputs)}
    for name in leader:
        groups[find(name)].values.append(name)
    for node in graph.nodes:
        own = groups[find(node.output)]
        if _passes(node, graph, shapes):
            own.bound = min(own.bound, node.attrs.get("max", float("inf")))
            continue
        takes = node.op == "Conv" and is_weighted(node, graph)
        if takes:
            own.makers.append(node)
        else:
            fixed.add(find(node.output))
        if takes and (node.attrs["group"] == 1 or _is_depthwise(node, graph)):
            groups[find(node.inputs[0])].readers.append(node)
        else:
            fixed.update(find(name) for name in node.inputs if name in leader)
    return [group for name, group in groups.items() if name not in fixed and group.makers and group.readers]


def _passes(node: Node, graph: Graph, shapes: Mapping[str, Shape]) -> bool:
    """Whether scaled channels go through a node as they are."""
    if node.op == "Add":
        return len({shapes[name] for name in node.inputs}) == 1 and not any(n in graph.constants for n in node.inputs)
    return node.op == "Relu" or (node.op == "Clip" and node.attrs["min"] == 0)


def _is_depthwise(node: Node, graph: Graph) -> bool:
    if node.op != "Conv":
        return False
    weight = graph.constants[node.inputs[1]]
    return bool(weight.shape[1] == 1 and weight.shape[0] == node.attrs["group"] > 1)


def equalised(graph: Graph, groups: Sequence[Channels], peaks: Mapping[str, np.ndarray]) -> Graph:
    """The graph with scaled channels.

    Parameters
    ----------
    graph : Graph
    groups : sequence of Channels
        As `channels_of` gives them.
    peaks : dict of str to ndarray (channels,)
        The largest magnitude of each channel of their values.
    """
    constants = dict(graph.constants)
    for group in groups:
        peak = np.max([peaks[name] for name in group.values if name in peaks], axis=0)
        factors = _factors(peak, group, graph, constants)
        for node in group.makers:
            for name in filter(None, node.inputs[1:]):
                array = constants[name]
                constants[name] = (array / factors.reshape(-1, *[1] * (array.ndim - 1))).astype(np.float32)
        for node in group.readers:
            shape = (-1, 1, 1, 1) if _is_depthwise(node, graph) else (1, -1, 1, 1)
            constants[node.inputs[1]] = (constants[node.inputs[1]] * factors.reshape(shape)).astype(np.float32)
    return replace(graph, constants=constants)


def _factors(peak: np.ndarray, group: Channels, graph: Graph, constants: Mapping[str, np.ndarray]) -> np.ndarray:
    """What channels are divided by: their share of the range, or its mean with what the weights of readers need."""
    top = min(float(peak.max()), group.bound) if group.bound == float("inf") else group.bound
    if peak.max() <= 0:
        return np.ones_like(peak)
    share = np.clip(peak / top, 1 / MOST, 1.0)
    reach = np.zeros_like(peak)
    for node in group.readers:
        if not _is_depthwise(node, graph):
            weight = constants[node.inputs[1]]
            rows = np.abs(weight).max(tuple(range(2, weight.ndim)))  # (outputs, inputs)
            reach = np.maximum(reach, (rows / np.maximum(rows.max(1, keepdims=True), 1e-30)).max(0))
    if reach.any():
        balanced = np.sqrt(share / np.clip(reach, 1 / MOST, 1.0))
        share = np.maximum(share, np.minimum(balanced, 1.0))
    return np.where(peak > 0, share, 1.0)
