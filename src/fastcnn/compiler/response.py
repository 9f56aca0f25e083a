"""Local response normalisation as PyTorch exports it: a chain of other operators in place of ONNX's LRN.

An average over windows of three dimensions sums the squares of neighbouring channels. Only LRN has a kernel, which runs
faster and can be trained.

    x / (k + alpha * AveragePool(Pad(x * x as (N, 1, C, ...))))^beta
"""

from __future__ import annotations

from fastcnn.compiler.rewriter import Rewriter
from fastcnn.graph.ir import Node
from fastcnn.ops.general import DOMAIN

_RESHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def local_response(r: Rewriter) -> list[Node] | None:
    """LRN in place of the division that ends the chain; None if the operators before compute something else."""
    if len(r.node.inputs) != 2 or r.node.attrs.get("axis") is not None:
        return None
    x, below = r.node.inputs
    power = _maker(r, below, "Pow")
    if power is None or r.known[x].shape is None or len(r.shape()) != 4 or not r.is_float(0):
        return None
    beta = _number(r, power.inputs[1])
    bias, rest = _with_number(r, power.inputs[0], "Add")
    alpha, mean = _with_number(r, rest, "Mul")
    pool = _maker(r, _unshaped(r, mean), "AveragePool")
    pad = _maker(r, pool.inputs[0], "Pad") if pool is not None else None
    if beta is None or bias is None or alpha is None or pool is None or pad is None:
        return None
    (n, channels), padded = r.shape()[:2], r.known[pad.inputs[0]].shape
    kernel, amounts = tuple(pool.attrs["kernel_shape"]), r.known[pad.inputs[1]].array
    before = (kernel[0] - 1) // 2
    if amounts is None or pad.attrs.get("mode", "constant") != "constant" or not _is_zero(r, pad):
        return None
    if amounts.tolist() != [0, 0, before, 0, 0, 0, 0, kernel[0] - 1 - before, 0, 0]:
        return None  # PyTorch and ONNX centre even windows differently
    # A pool with as many outputs as inputs, and no other padding, has one window of neighbours for each channel.
    if padded is None or padded[:3] != (n, 1, channels) or r.known[pool.output].shape != padded:
        return None
    if kernel[1:] != (1, 1) or any(pool.attrs.get("pads") or ()) or r.shape() != r.known[below].shape:
        return None
    square = _maker(r, _unshaped(r, pad.inputs[0]), "Mul")
    if square is None or square.inputs != (x, x):
        return None
    return [r.make("LRN", (x,), size=kernel[0], alpha=alpha, beta=beta, bias=bias)]


def _maker(r: Rewriter, name: str, op: str) -> Node | None:
    node = r.makers.get(name)
    return node if node is not None and node.op == DOMAIN + op else None


def _unshaped(r: Rewriter, name: str) -> str:
    """The value before operations that only change its shape."""
    while (node := r.makers.get(name)) is not None and node.op.removeprefix(DOMAIN) in _RESHAPING:
        name = node.inputs[0]
    return name


def _number(r: Rewriter, name: str) -> float | None:
    array = r.known[name].array
    return float(array.reshape(())) if array is not None and array.size == 1 and array.ndim <= 4 else None


def _with_number(r: Rewriter, name: str, op: str) -> tuple[float | None, str]:
    """The number that a node adds to a value or multiplies it with, and the value."""
    node = _maker(r, name, op)
    if node is None:
        return None, name
    first, second = (_number(r, value) for value in node.inputs)
    return (second, node.inputs[0]) if first is None else (first, node.inputs[1])


def _is_zero(r: Rewriter, pad: Node) -> bool:
    """Whether it pads with zeros, and has no list of axes."""
    value = _number(r, pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] else 0.0
    return value == 0.0 and (len(pad.inputs) < 4 or not pad.inputs[3])
