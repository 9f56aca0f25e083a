"""Translation of ONNX's QuantizeLinear and DequantizeLinear into operations on bytes.

Activations have one scale and zero point. Weights are constants, signed bytes with zero point 0 and a scale for all of
them, or one for each place along an axis. Activations whose scale depends on their values are rounded and stay float32.
Anything else stays general.
"""

from __future__ import annotations

import numpy as np

from fastcnn import ops
from fastcnn.compiler.rewriter import Chain, Quantised, Rewriter
from fastcnn.graph.ir import Node
from fastcnn.ops.fake_quantize import MAGIC
from fastcnn.ops.general.elementwise import dtype_of

# A signed byte is stored as itself plus this.
SIGN = 128
# Values that are zero everywhere have this scale: division by 0 would give NaN.
_LEAST_SCALE = np.float32(1e-30)
_DYNAMIC = f"{ops.GENERAL}DynamicQuantizeLinear"


def quantize(r: Rewriter) -> list[Node] | None:
    """The rule for QuantizeLinear."""
    numbers = _numbers(r) if r.keeps_bytes and r.is_float(0) else None
    if numbers is None or r.attr("block_size"):
        return None
    return [r.make("Int8Quantize", r.node.inputs[:1], scale=numbers[0], y_zero=numbers[1])]


def dequantize(r: Rewriter) -> list[Node] | None:
    """The rule for DequantizeLinear of what QuantizeLinear or DynamicQuantizeLinear has made."""
    source = r.makers.get(r.node.inputs[0])
    if source is not None and source.op == _DYNAMIC:
        return _rounded(r, source)
    maker = r.made.get(r.node.inputs[0])
    numbers = _numbers(r) if maker is not None and maker.op == "Int8Quantize" else None
    if numbers is None or r.attr("block_size"):
        return None
    return [r.make("Int8Dequantize", r.node.inputs[:1], scale=numbers[0], x_zero=numbers[1])]


def _rounded(r: Rewriter, source: Node) -> list[Node] | None:
    """What the bytes of DynamicQuantizeLinear stand for: x, rounded to 256 levels between its extremes and 0."""
    (x,) = source.inputs
    made = [r.makers.get(name) for name in r.node.inputs[1:]]
    if not all(node is not None and node.op == _DYNAMIC and node.inputs == (x,) for node in made):
        return None
    chain = Chain(r)
    none, all_levels = r.constant("levels", np.float32(0), 0), r.constant("levels", np.float32(255), 255)
    low = chain.made("Min", (chain.made("Neg", (_largest(chain, chain.made("Neg", (x,))),)), none))
    high = chain.made("Max", (_largest(chain, x), none))
    scale = chain.made("Div", (chain.made("Sub", (high, low)), all_levels))
    scale = chain.made("Max", (scale, r.constant("levels", _LEAST_SCALE, "least")))
    chain.value = chain.made("Neg", (chain.made("Div", (low, scale)),))
    _round(chain)
    zero = chain.value
    chain.value = chain.made("Div", (x, scale))
    _round(chain)
    chain.add("Add", zero)
    chain.add("Clip", min=0.0, max=255.0)
    chain.add("Sub", zero)
    chain.add("Mul", scale)
    return chain.ended()


def _largest(chain: Chain, x: str) -> str:
    """The largest number of a value, with its rank. Planes are reduced first, in whatever layout they lie."""
    if len(chain.shape) == 4:
        x = chain.made("ReduceMax", (x,), axes=(2, 3))
    return chain.made("ReduceMax", (x,))


def _round(chain: Chain) -> None:
    magic = chain.r.constant("levels", MAGIC, "magic")
    chain.add("Add", magic)
    chain.add("Sub", magic)


def _numbers(r: Rewriter) -> tuple[float, int] | None:
    """Scale, and zero point as it is stored, of an activation; None if there are several, or types are others."""
    scale, zero = r.array(1), r.array(2)
    if scale is None or scale.size != 1 or scale.dtype != np.float32 or (r.has(2) and (zero is None or zero.size != 1)):
        return None
    dtype = zero.dtype if zero is not None else dtype_of(r.node.attrs.get("output_dtype") or 2)
    if dtype not in (np.uint8, np.int8) or not 0 < float(scale.reshape(())) < np.inf:
        return None
    stored = (SIGN if dtype == np.int8 else 0) + (0 if zero is None else int(zero.reshape(())))
    return float(scale.reshape(())), stored


def quantised_weight(r: Rewriter) -> Quantised | None:
    """What a constant DequantizeLinear is made of, if kernels can read it as bytes."""
    q, scale, zero = r.array(0), r.array(1), r.array(2)
    if not r.keeps_bytes or q is None or scale is None or q.ndim < 2 or r.attr("block_size") or scale.ndim > 1:
        return None
    if r.attr("output_dtype") not in (0, 1) or scale.dtype != np.float32:
        return None
    if q.dtype == np.uint8 and zero is not None and np.all(zero == SIGN):
        q, zero = (q.astype(np.int16) - SIGN).astype(np.int8), None
    if q.dtype != np.int8 or (zero is not None and np.any(zero)):
        return None
    axis = r.attr("axis") % q.ndim
    return Quantised(q, np.broadcast_to(scale.reshape(-1), (q.shape[axis],)) if scale.size == 1 else scale, axis)
