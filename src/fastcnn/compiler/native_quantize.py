"""Translation of ONNX's QuantizeLinear and DequantizeLinear into operations on bytes.

Activations have one scale and zero point. Weights are constants, signed bytes with zero point 0 and a scale for all of
them, or one for each place along an axis. Anything else stays general.
"""

from __future__ import annotations

import numpy as np

from fastcnn.compiler.rewriter import Quantised, Rewriter
from fastcnn.graph.ir import Node
from fastcnn.ops.general.elementwise import dtype_of

# A signed byte is stored as itself plus this.
SIGN = 128


def quantize(r: Rewriter) -> list[Node] | None:
    """The rule for QuantizeLinear."""
    numbers = _numbers(r) if r.keeps_bytes and r.is_float(0) else None
    if numbers is None or r.attr("block_size"):
        return None
    return [r.make("Int8Quantize", r.node.inputs[:1], scale=numbers[0], y_zero=numbers[1])]


def dequantize(r: Rewriter) -> list[Node] | None:
    """The rule for DequantizeLinear of what QuantizeLinear has made."""
    maker = r.made.get(r.node.inputs[0])
    numbers = _numbers(r) if maker is not None and maker.op == "Int8Quantize" else None
    if numbers is None or r.attr("block_size"):
        return None
    return [r.make("Int8Dequantize", r.node.inputs[:1], scale=numbers[0], x_zero=numbers[1])]


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
