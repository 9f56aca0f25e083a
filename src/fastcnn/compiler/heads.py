"""Attention: products of queries and keys, softmax, and products with values are found in a graph.

    MatMul(q, k) ▸ Mul by a number ▸ Add of constants ▸ Softmax ▸ MatMul with v

Numbers that multiply q or k before are part of the scale. Constants may be added to the scores in other shapes of the
same elements, as masks of windows are.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt

import numpy as np

from fastcnn._record import record
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node

__all__ = ["Attention", "Heads", "attentions"]


@record
class Heads:
    """An operand of attention, (..., tokens, channels of a head).

    Attributes
    ----------
    name : str
    is_turned : bool
        Whether it is (..., channels of a head, tokens) instead.
    """

    name: str
    is_turned: bool = False


@record
class Attention:
    """One attention.

    Attributes
    ----------
    q, k, v : Heads
    sizes : (int, int)
        The number of images, and of the heads of each.
    scale : float
        Factor of the products of queries and keys.
    bias : str
        Name of a value that is added to them; "" if there is none.
    mask : ndarray or None
        Constants that are added to them, of up to four axes.
    """

    q: Heads
    k: Heads
    v: Heads
    sizes: tuple[int, int]
    scale: float
    bias: str = ""
    mask: np.ndarray | None = None


def attentions(state: State) -> Mapping[str, Attention]:
    """The attentions of a graph, by the name of their output."""
    found: dict[str, Attention] = {}
    for node in state.graph.nodes:
        attention = None
        if node.op == "Attention":
            attention = _of_node(node, state)
        elif node.op == "MatMul":
            attention = _of_product(node, state)
        if attention is not None:
            found[node.output] = attention
    return found


def _of_node(node: Node, state: State) -> Attention:
    q, k, v, *bias = node.inputs
    shape = state.shapes[q]
    scale = node.attrs["scale"] or 1 / sqrt(shape[-1])
    return Attention(Heads(q), Heads(k), Heads(v), (shape[0], shape[1]), scale, bias[0] if bias else "")


def _of_product(node: Node, state: State) -> Attention | None:
    """The attention that ends in a product of weights and values."""
    weights, v = node.inputs
    softmax = _maker(weights, state, "Softmax")
    rank = len(state.shapes[node.output])
    if softmax is None or rank not in (3, 4) or node.attrs["trans_a"] or node.decided.finish.activation:
        return None
    if softmax.attrs["axis"] not in (-1, rank - 1) or len(state.shapes[v]) != rank:
        return None
    scores, mask = _without_mask(softmax.inputs[0], state)
    if node.attrs["scale"] != 1.0 or len(state.shapes[scores]) != rank:
        return None
    scores, factor = _without_factors(scores, state)
    product = _maker(scores, state, "MatMul")
    if product is None or product.attrs["trans_a"]:
        return None
    (q, first), (k, second) = (_without_factors(name, state) for name in product.inputs)
    if not (len(state.shapes[q]) == len(state.shapes[k]) == rank):
        return None
    lead = {state.shapes[name][:-2] for name in (q, k, v)}
    if len(lead) != 1:
        return None
    (sizes,) = lead
    images, heads = sizes if rank == 4 else (sizes[0], 1)
    total = factor * first * second * product.attrs["scale"]
    keys = Heads(k, is_turned=not product.attrs["trans_b"])
    return Attention(Heads(q), keys, Heads(v, bool(node.attrs["trans_b"])), (images, heads), total, mask=mask)


def _maker(name: str, state: State, op: str) -> Node | None:
    """The node of an operation that computes a value for one reader; None if there is none."""
    node = state.makers.get(name)
    return node if node is not None and node.op == op and state.is_private(name) else None


def _without_factors(name: str, state: State) -> tuple[str, float]:
    """What a value is before numbers multiply it, and their product."""
    factor = 1.0
    node = _maker(name, state, "Mul")
    while node is not None:
        for x, other in (node.inputs, node.inputs[::-1]):
            array = state.graph.constants.get(other)
            if array is not None and prod(array.shape) == 1 and state.shapes[x] == state.shapes[node.output]:
                factor, name = factor * float(np.asarray(array).reshape(())), x
                break
        else:
            return name, factor
        node = _maker(name, state, "Mul")
    return name, factor


def _without_mask(name: str, state: State) -> tuple[str, np.ndarray | None]:
    """The scores before constants are added, and what these add up to: (images, heads, queries, keys), or 1 of some."""
    mask: np.ndarray | None = None
    first = name
    while state.is_private(name) and name in state.makers:
        node, shape = state.makers[name], state.shapes[name]
        constants = [other for other in node.inputs if other in state.graph.constants]
        if node.op == "Add" and len(constants) == 1:
            (name,) = (other for other in node.inputs if other not in constants)
            mask = np.asarray(state.graph.constants[constants[0]]) + (0 if mask is None else mask)
            if state.shapes[name] != shape:
                return first, None
        elif node.op == "Reshape" and mask is not None:
            name = node.inputs[0]
            mask = np.broadcast_to(mask, shape).reshape(state.shapes[name])
        elif node.op == "Reshape":
            name = node.inputs[0]
        else:
            break
    if mask is None:
        return first, None
    shape = state.shapes[name]
    full = mask.reshape((1,) * (len(shape) - mask.ndim) + mask.shape)
    full = np.broadcast_to(full, (*full.shape[:-1], shape[-1]))
    return name, _without_repeats(full if len(shape) == 4 else full[:, None])


def _without_repeats(mask: np.ndarray) -> np.ndarray:
    """The mask of as few images as tell it: those of every image of a batch are the same."""
    count = len(mask)
    for few in range(1, count // 2 + 1):
        if count % few == 0 and (mask.reshape(-1, few, *mask.shape[1:]) == mask[:few]).all():
            return mask[:few]
    return mask
