"""Merging: convolutions of one value whose results are added become one convolution, of the sum of their filters.

    Conv(x, V) + Conv(x, W)  =  Conv(x, V + W)

Smaller filters are padded with zeros, x itself is a filter with a single 1, and a batch normalisation of x is one with
its factors. Networks that are trained with several branches in a block then cost as much as plain ones. Source: Ding et
al., RepVGG: Making VGG-style ConvNets Great Again, 2021.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcnn import ops
from fastcnn._record import record
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node, Shape
from fastcnn.ops.base import resolve_pads

__all__ = ["merge_convolutions"]


@record
class _Branch:
    """A convolution of a value, x, by constants.

    Attributes
    ----------
    x : str
    attrs : dict
        Of the convolution; None for one pixel of a channel by itself, in any convolution with stride 1.
    pads : tuple of int
    weight, bias : ndarray
        (O, C / group, kh, kw) and (O,); a factor for each channel, (C,), where attrs is None.
    """

    x: str
    attrs: Mapping[str, object] | None
    pads: tuple[int, int, int, int]
    weight: np.ndarray
    bias: np.ndarray


def merge_convolutions(state: State) -> State:
    """Replace sums of convolutions of one value by convolutions."""
    if not any(node.op in ("Add", "Sub") for node in state.graph.nodes):
        return state
    constants = dict(state.graph.constants)
    nodes: dict[str, Node] = {}
    changed = False
    for node in state.graph.nodes:
        merged = _merged(node, nodes, constants, state) if node.op in ("Add", "Sub") else None
        if merged is not None:
            for name in node.inputs:
                if state.is_private(name):
                    nodes.pop(name, None)
            node, changed = merged, True
        nodes[node.output] = node
    return state.with_nodes(nodes.values(), constants) if changed else state


def _merged(node: Node, nodes: Mapping[str, Node], constants: dict[str, np.ndarray], state: State) -> Node | None:
    """The convolution that a sum of two convolutions is."""
    shapes = [state.shapes[name] for name in (*node.inputs, node.output)]
    if len(shapes[2]) != 4 or len({*shapes}) != 1 or node.inputs[0] == node.inputs[1]:
        return None
    branches = [_branch(name, nodes, constants, state) for name in node.inputs]
    for i, name in enumerate(node.inputs):
        # One operand may be what the other one reads. A dense convolution adds it as well in its epilogue.
        other = branches[1 - i]
        if other is not None and other.x == name and other.attrs is not None and other.attrs["group"] != 1:
            ones = np.ones(shapes[i][1])
            branches[i] = _Branch(name, None, (0, 0, 0, 0), ones, 0 * ones)
    first, second = branches
    if first is None or second is None or first.x != second.x or first.attrs is second.attrs is None:
        return None
    joined = _sum(first, second, -1.0 if node.op == "Sub" else 1.0, state.shapes[first.x])
    if joined is None:
        return None
    assert joined.attrs is not None
    names = f"{node.output}:merged", f"{node.output}:merged bias"
    constants |= zip(names, (joined.weight.astype(np.float32), joined.bias.astype(np.float32)), strict=True)
    attrs = {**ops.get("Conv").defaults, **joined.attrs, "pads": joined.pads, "auto_pad": "NOTSET"}
    name = next(nodes[x].name for x in node.inputs if x in nodes and nodes[x].op == "Conv")
    return Node("Conv", name, (joined.x, *names), node.output, attrs)


def _branch(name: str, nodes: Mapping[str, Node], constants: Mapping[str, np.ndarray], state: State) -> _Branch | None:
    """A value that one node alone reads, if it is a convolution or a batch normalisation by constants."""
    node = nodes.get(name)
    if node is None or not state.is_private(name) or not all(x in constants for x in node.inputs[1:] if x):
        return None
    if node.op == "BatchNormalization" and len(state.shapes[name]) == 4:
        gamma, beta, mean, var = (np.asarray(constants[x], np.float64) for x in node.inputs[1:])
        slope = gamma / np.sqrt(var + node.attrs["epsilon"])
        return _Branch(node.inputs[0], None, (0, 0, 0, 0), slope, beta - mean * slope)
    if node.op != "Conv" or node.attrs["algorithm"] != "auto":
        return None
    weight = np.asarray(constants[node.inputs[1]], np.float64)
    bias = np.zeros(len(weight))
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = np.asarray(constants[node.inputs[2]], np.float64)
    if node.decided.scale is not None:
        weight = weight * node.decided.scale.factors[:, None, None, None]
    pads = resolve_pads(node.attrs, state.shapes[node.inputs[0]][2:], weight.shape[2:])
    return _Branch(node.inputs[0], node.attrs, pads, weight, bias)


def _sum(first: _Branch, second: _Branch, sign: float, shape: Shape) -> _Branch | None:
    """The convolution that adds `sign` times the second branch to the first; None if no one does."""
    if first.attrs is None:
        turned = _Branch(second.x, second.attrs, second.pads, sign * second.weight, sign * second.bias)
        return _sum(turned, _Branch(first.x, None, first.pads, sign * first.weight, sign * first.bias), sign, shape)
    assert first.attrs is not None
    if second.attrs is None:
        single = _of_pixels(first, second.weight, shape)
        if single is None:
            return None
        second = _Branch(first.x, first.attrs, (0, 0, 0, 0), single, second.bias)
    if any(first.attrs[key] != second.attrs[key] for key in ("strides", "dilations", "group")):  # type: ignore[index]
        return None
    large, small = (first, second) if first.weight.size >= second.weight.size else (second, first)
    border = [a - b for a, b in zip(large.pads, small.pads, strict=True)]
    taps = [a - b for a, b in zip(large.weight.shape[2:], small.weight.shape[2:], strict=True)]
    dilations = first.attrs["dilations"]
    assert isinstance(dilations, tuple)
    for axis in range(2):
        before, behind = border[axis], border[axis + 2]
        if before < 0 or behind < 0 or before % dilations[axis] or before + behind != taps[axis] * dilations[axis]:
            return None
    top, left = border[0] // dilations[0], border[1] // dilations[1]
    weight = (1.0 if large is first else sign) * large.weight
    rows, columns = small.weight.shape[2:]
    weight[:, :, top : top + rows, left : left + columns] += (1.0 if small is first else sign) * small.weight
    return _Branch(first.x, first.attrs, large.pads, weight, first.bias + sign * second.bias)


def _of_pixels(branch: _Branch, factors: np.ndarray, shape: Shape) -> np.ndarray | None:
    """Filters of 1 x 1 that multiply each channel by a factor, in the groups of a convolution with stride 1."""
    outs, ins = branch.weight.shape[:2]
    if branch.attrs is None or branch.attrs["strides"] != (1, 1) or outs != shape[1]:
        return None
    weight = np.zeros((outs, ins, 1, 1))
    weight[np.arange(outs), np.arange(outs) % ins, 0, 0] = factors
    return weight
