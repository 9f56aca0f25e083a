"""Translation rules for arithmetic of two arrays, powers, and reductions along axes. native.py has the others."""

from __future__ import annotations

import numpy as np

from fastcnn.compiler.response import local_response
from fastcnn.compiler.rewriter import Link, Rewriter, Rule
from fastcnn.graph.ir import Node
from fastcnn.ops.general.base import axes_of


def arithmetic(op: str) -> Rule:
    """Add, Sub, Mul or Div of two arrays; a constant is subtracted or divided by as a sum or product."""

    def rule(r: Rewriter) -> list[Node] | None:
        if not r.is_float() or r.node.attrs.get("axis") is not None:
            return None
        second = r.array(1)
        if op in ("Add", "Mul") or second is None:
            return [r.make(op, r.node.inputs)]
        with np.errstate(all="ignore"):
            opposite = -second if op == "Sub" else np.float32(1) / second
        constant = r.constant(f"{r.node.inputs[1]}_opposite", opposite, op)
        return [r.make("Add" if op == "Sub" else "Mul", (r.node.inputs[0], constant))]

    return rule


def division(r: Rewriter) -> list[Node] | None:
    return local_response(r) or arithmetic("Div")(r)


def power(r: Rewriter) -> list[Node] | None:
    """Powers with a constant exponent that multiplications, a root and a quotient compute."""
    exponent = r.array(1)
    if not r.is_float(0) or exponent is None or exponent.size != 1 or exponent.ndim > len(r.shape()):
        return None
    x = r.node.inputs[0]
    links: dict[float, tuple[Link, ...]] = {
        1.0: (("Identity", (), {}),),
        2.0: (("Mul", (x,), {}),),
        3.0: (("Mul", (x,), {}), ("Mul", (x,), {})),
        0.5: (("Sqrt", (), {}),),
        -1.0: (("Reciprocal", (), {}),),
        -0.5: (("Sqrt", (), {}), ("Reciprocal", (), {})),
    }
    chosen = links.get(float(exponent.reshape(())))
    return r.chain(*chosen) if chosen else None


def einsum(r: Rewriter) -> list[Node] | None:
    """Products of matrices: one letter is summed, each array has one of its own, and they share the others."""
    terms = r.attr("equation").replace(" ", "").replace("->", ",").split(",")
    if not r.is_float() or len(terms) != 3 or "." in "".join(terms) or any(len({*term}) < len(term) for term in terms):
        return None
    first, second, result = terms
    names, lead = list(r.node.inputs), "".join(letter for letter in result if letter in first and letter in second)
    summed = {*first} & {*second} - {*result}
    if len(summed) != 1 or len(result) != len(lead) + 2 or not result.startswith(lead):
        return None
    row, column = result[-2], result[-1]
    if row in second:  # the transposed product
        first, second, names = second, first, names[::-1]
    if {*first} != {*lead, row, *summed} or {*second} != {*lead, column, *summed}:
        return None
    nodes: list[Node] = []
    flags = []
    for i, (letters, own) in enumerate(((first, row), (second, column))):
        orders = [lead + "".join(pair) for pair in ((own, *summed), (*summed, own))]
        if letters not in orders:
            nodes.append(r.make("Transpose", (names[i],), r.name(f"{r.node.output}/{i}"),
                                perm=tuple(letters.index(letter) for letter in orders[0])))  # fmt: skip
            names[i], letters = nodes[-1].output, orders[0]
        flags.append(int(letters != orders[i]))
    return [*nodes, r.make("MatMul", tuple(names), trans_a=flags[0], trans_b=flags[1])]


def variadic(op: str) -> Rule:
    """Sum, Min or Max of any number of arrays, one after the other."""

    def rule(r: Rewriter) -> list[Node] | None:
        if not r.is_float():
            return None
        if len(r.node.inputs) == 1:
            return r.chain(("Identity", (), {}))
        return r.chain(*[(op, (name,), {}) for name in r.node.inputs[1:]])

    return rule


def reduction(op: str) -> Rule:
    """A reduction along constant axes. Over the planes of images it is a pooling."""

    def rule(r: Rewriter) -> list[Node] | None:
        axes, shape, kept = r.array(1), r.shape(), r.attr("keepdims")
        if not r.is_float(0) or (r.has(1) and axes is None):
            return None
        if axes is None or axes.size == 0:
            if r.attr("noop_with_empty_axes"):
                return None
            chosen = tuple(range(len(shape)))
        else:
            chosen = axes_of(sorted(axes.ravel() % max(1, len(shape))), len(shape))
        pool = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "MaxPool"}.get(op)
        if pool and len(shape) == 4 and chosen == (2, 3):
            attrs = {"kernel_shape": shape[2:]} if pool == "MaxPool" else {}
            return r.chain((pool, (), attrs), *[("Reshape", (), {"shape": (0, 0)})] * (not kept))
        return [r.make(op, r.node.inputs[:1], axes=chosen, keepdims=int(bool(kept)))]

    return rule


def where(r: Rewriter) -> list[Node] | None:
    """A choice whose condition is the same everywhere, of an operand that has the shape of the result."""
    condition = r.array(0)
    if condition is None or not condition.size or condition.any() != condition.all():
        return None
    chosen = 1 if condition.all() else 2
    shape = np.broadcast_shapes(*(r.shape(i) for i in range(3)))
    if r.shape(chosen) != shape or not r.is_float(1, 2):
        return None
    return [r.make("Identity", r.node.inputs[chosen : chosen + 1])]
