"""Recognising: functions that files spell out in several operations become one.

    x * sigmoid(x)  →  Swish

    x * 0.5 * (1 + erf(x / sqrt(2)))  →  Gelu

    x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))  →  Gelu, approximate

    Reshape to groups ▸ InstanceNormalization ▸ Reshape back  →  GroupNormalization

    Reshape ▸ Transpose ▸ Reshape  →  DepthToSpace, SpaceToDepth

The factors of a product may come in any order, each by itself or multiplied before.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isclose, pi, sqrt

import numpy as np

from fastcnn import ops
from fastcnn.compiler.state import State
from fastcnn.graph.ir import Node

# Files round constants to float32, some to four digits.
CLOSE = 1e-4


_HINTS = ("Sigmoid", "Erf", "Tanh", "InstanceNormalization", "Transpose")
# The orders of axes that stand between two reshapes, by operation and mode: see ops/pixels.py.
_SQUARES = {
    (0, 3, 4, 1, 5, 2): ("DepthToSpace", "DCR"),
    (0, 1, 4, 2, 5, 3): ("DepthToSpace", "CRD"),
    (0, 3, 5, 1, 2, 4): ("SpaceToDepth", "DCR"),
    (0, 1, 3, 5, 2, 4): ("SpaceToDepth", "CRD"),
}


def recognise(state: State) -> State:
    """Replace what several nodes compute by the operation that it is."""
    if not any(node.op in _HINTS for node in state.graph.nodes):
        return state
    nodes, constants, changed = [], dict(state.graph.constants), False
    for node in state.graph.nodes:
        found = None
        if node.op == "Mul":
            found = _activation(node, state)
        elif node.op == "Reshape":
            found = _group_norm(node, state, constants) or _square(node, state)
        nodes.append(node if found is None else found)
        changed = changed or found is not None
    return state.with_nodes(state.wanted(nodes), constants) if changed else state


def _group_norm(node: Node, state: State, constants: dict[str, np.ndarray]) -> Node | None:
    """The normalisation of groups that a reshape ends."""
    norm = state.makers.get(node.inputs[0])
    if norm is None or norm.op != "InstanceNormalization" or not all(name in constants for name in norm.inputs[1:]):
        return None
    apart = state.makers.get(norm.inputs[0])
    if apart is None or apart.op != "Reshape":
        return None
    x, shape, (count, groups, *_) = apart.inputs[0], state.shapes[node.output], state.shapes[apart.output]
    if state.shapes[x] != shape or len(shape) < 3 or shape[0] != count or shape[1] % groups:
        return None
    names = []
    for name, part in zip(norm.inputs[1:], ("scale", "bias"), strict=True):
        names.append(f"{node.output}:{part}")
        constants[names[-1]] = np.repeat(np.asarray(constants[name]), shape[1] // groups)
    attrs = {"num_groups": groups, "epsilon": norm.attrs["epsilon"]}
    return Node("GroupNormalization", node.name, (x, *names), node.output, attrs)


def _square(node: Node, state: State) -> Node | None:
    """The move of the pixels of squares to channels, or back, that a reshape ends."""
    transpose = state.makers.get(node.inputs[0])
    if transpose is None or transpose.op != "Transpose" or transpose.attrs["perm"] not in _SQUARES:
        return None
    (op, mode), apart = _SQUARES[transpose.attrs["perm"]], state.makers.get(transpose.inputs[0])
    if apart is None or apart.op != "Reshape" or len(state.shapes[apart.inputs[0]]) != 4:
        return None
    n, c, h, w = state.shapes[apart.inputs[0]]
    parts = state.shapes[apart.output]
    if op == "SpaceToDepth":
        b = parts[3]
        wanted, behind = (n, c, h // b, b, w // b, b), (n, c * b * b, h // b, w // b)
    else:
        b = parts[2]
        inner = (b, b, c // (b * b)) if mode == "DCR" else (c // (b * b), b, b)
        wanted, behind = (n, *inner, h, w), (n, c // (b * b), h * b, w * b)
    if parts != wanted or state.shapes[node.output] != behind:
        return None
    return Node(op, node.name, apart.inputs[:1], node.output, {"blocksize": b, "mode": mode})


def _activation(node: Node, state: State) -> Node | None:
    """The activation that a product is."""
    found = _gate(node, state)
    if found is None:
        return None
    op, x, approximate = found
    attrs = {**ops.get(op).defaults, **({"approximate": approximate} if approximate else {})}
    return Node(op, node.name, (x,), node.output, attrs)


def _gate(node: Node, state: State) -> tuple[str, str, str] | None:
    """The activation that a product of x and a gate is, its operand and form."""
    values, number = _factors(node.output, state)
    gates = [(name, state.makers[name].op) for name in values if name in state.makers]
    if len(values) != 2:
        return None
    for name, op in gates:
        x = values[0] if name == values[1] else values[1]
        if op == "Sigmoid" and number == 1.0 and state.makers[name].inputs[0] == x:
            return ("Swish", x, "") if state.is_private(name) else None
        if op != "Add" or not isclose(number, 0.5, rel_tol=CLOSE):
            continue
        form = _gelu_form(name, x, state)
        if form:
            return "Gelu", x, form
    return None


def _gelu_form(name: str, x: str, state: State) -> str:
    """Whether a value is 1 + erf(x / sqrt(2)), "none", or 1 + tanh(...), "tanh"; else ""."""
    terms = state.makers[name].inputs
    inner = [term for term in terms if term not in state.graph.constants]
    one = [term for term in terms if term in state.graph.constants]
    if len(inner) != 1 or _number(one[0], state) != 1.0 or inner[0] not in state.makers:
        return ""
    function = state.makers[inner[0]]
    if function.op not in ("Erf", "Tanh"):
        return ""
    values, number = _factors(function.inputs[0], state)
    if function.op == "Erf":
        return "none" if values == [x] and isclose(number, sqrt(0.5), rel_tol=CLOSE) else ""
    return "tanh" if isclose(number, sqrt(2 / pi), rel_tol=CLOSE) and _is_cubic(values, x, state) else ""


def _is_cubic(values: Sequence[str], x: str, state: State) -> bool:
    """Whether the product of values is x + 0.044715 * x^3."""
    sums = [name for name in values if name != x and name in state.makers and state.makers[name].op == "Add"]
    if len(sums) != 1 or sorted(values) not in ([sums[0]], sorted([x, sums[0]])):
        return False
    power = 3 if len(values) == 1 else 2  # x * (1 + 0.044715 * x^2)
    for term, other in (state.makers[sums[0]].inputs, state.makers[sums[0]].inputs[::-1]):
        first = term == x if power == 3 else _number(term, state) == 1.0
        if first:
            factors, number = _factors(other, state)
            return factors == [x] * power and isclose(number, 0.044715, rel_tol=CLOSE)
    return False


def _factors(name: str, state: State) -> tuple[list[str], float]:
    """The values that a product consists of, and the product of its numbers."""
    node = state.makers.get(name)
    if node is None or node.op not in ("Mul", "Pow"):
        number = _number(name, state)
        return ([name], 1.0) if number is None else ([], number)
    if node.op == "Pow":
        exponent = _number(node.inputs[1], state) if len(node.inputs) > 1 else node.attrs.get("exponent")
        return ([node.inputs[0]] * int(exponent), 1.0) if exponent in (2.0, 3.0) else ([name], 1.0)
    values, total = [], 1.0
    for operand in node.inputs:
        inner = state.makers.get(operand)
        if inner is not None and inner.op == "Mul" and not state.is_private(operand):
            values.append(operand)
            continue
        found, number = _factors(operand, state)
        values, total = values + found, total * number
    return values, total


def _number(name: str, state: State) -> float | None:
    """The value of a constant of one element; None for others."""
    array = state.graph.constants.get(name)
    return float(np.asarray(array).reshape(())) if array is not None and np.size(array) == 1 else None
