"""Upper bounds of memory and work for operations with kernels: for their definitions, which folding computes, and for
the values of a network.

ops/general has the bounds for general operations. ops/budget.py compares bounds with what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.base import resolve_pads
from fastcnn.ops.budget import CALL, KERNEL, NODE_BYTES, Budget, Cost

Shapes = Mapping[str, tuple[int, ...]]
# Winograd's algorithm turns filters of 3 x 3 into up to 8 x 8 numbers. A vector holds at most LANES floats.
TRANSFORMED, LANES = 64 / 9, 16


def definition_cost(node: Node, shapes: Shapes) -> Cost:
    """The cost of `Op.reference`, which computes in float64.

    Parameters
    ----------
    node : Node
    shapes : dict
        Shape of every value.
    """
    sizes = [shapes[name] if name else None for name in node.inputs]
    read, written = sum(prod(size) for size in sizes if size is not None), prod(shapes[node.output])
    x, taps = shapes[node.inputs[0]], 1
    padded = prod(x)
    if "pads" in node.attrs and "strides" in node.attrs:
        kernel = shapes[node.inputs[1]][2:] if node.op == "Conv" else node.attrs["kernel_shape"]
        top, left, bottom, right = resolve_pads(node.attrs, x[2:], kernel)
        padded = x[0] * x[1] * (x[2] + top + bottom + kernel[0]) * (x[3] + left + right + kernel[1])
        taps = prod(kernel)
    columns = taps * x[1] * prod(shapes[node.output][2:]) if node.op == "Conv" else 0
    flops = node.kind.flops(node.attrs, sizes, shapes[node.output])
    calls = taps + x[0] * node.attrs.get("group", 1) + node.attrs.get("size", 1) if len(x) > 1 else 1
    return Cost(8 * (4 * read + 8 * written + 2 * padded + 2 * columns), 8 * (flops + read + written) + calls * CALL)


def take_network(graph: Graph, shapes: Shapes, budget: Budget) -> None:
    """Take the nodes, inputs, outputs and work of a network out of a budget.

    Its other values share memory, which compiling asks for.

    Parameters
    ----------
    graph : Graph
        All operations have kernels.
    shapes : dict
        Shape of every value.
    budget : Budget

    Raises
    ------
    ValueError
        Naming the node that takes too much.
    """
    budget.keep(NODE_BYTES * len(graph.nodes))
    for name in graph.inputs:
        budget.keep(4 * prod(shapes[name]))
    outputs = set(graph.outputs)
    for node in graph.nodes:
        sizes = [shapes[name] if name else None for name in node.inputs]
        try:
            work = node.kind.flops(node.attrs, sizes, shapes[node.output]) // KERNEL
            budget.require_step(Cost(4 * prod(shapes[node.output]), work))
            if node.output in outputs:
                budget.keep(4 * prod(shapes[node.output]))
        except ValueError as error:
            raise ValueError(f"node {node.name!r} ({node.op}): its output {shapes[node.output]}: {error}") from None


def arena_bound(graph: Graph, shapes: Shapes) -> int:
    """Upper bound of the bytes that the values of a network take.

    Each value counts twice and with memory of its own, with padding and with all lanes of vectors filled. A network
    within its budget by this bound need not be planned to find the true size.
    """
    total = 0
    for node in graph.nodes:
        for name, border in ((node.output, 0), *((name, 1) for name in node.inputs[:1])):
            n, c, h, w = _four(shapes[name])
            if border and "pads" in node.attrs:
                pads = node.attrs["pads"]
                h, w = h + sum(pads[0::2]) + LANES, w + sum(pads[1::2]) + LANES
            total += 2 * 4 * n * (-(-c // LANES) * LANES) * h * (-(-w // LANES) * LANES)
    return total


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    return 1, 1, 1, prod(shape)


def packed_bound(shape: tuple[int, ...], group: int) -> int:
    """Upper bound of the bytes of packed weights, whose outputs are stored in pairs of vectors.

    Examples
    --------
    >>> packed_bound((64, 32, 1, 1), 1)
    8192
    """
    outs = -(-(shape[0] if shape else 1) // group)
    whole = -(-outs // (2 * LANES)) * 2 * LANES * group
    size = whole * prod(shape[1:])
    return int(4 * size * (TRANSFORMED if shape[2:] == (3, 3) else 1))
