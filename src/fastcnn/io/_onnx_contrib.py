"""ONNX Runtime's own operators, as nodes of standard operators that compute the same.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md defines them. Quantised numbers are
computed as float32 and rounded again, as ONNX Runtime does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_attention import microsoft_attention, microsoft_multi_head_attention, plain_attention
from fastcnn.io._onnx_dialect import RawNode
from fastcnn.io._onnx_expansion import OPSET, Expansion

__all__ = ["EXPANSIONS"]

MICROSOFT = "com.microsoft"


# -- quantised ----------------------------------------------------------------------------------------


def _qlinear_binary(op: str) -> Callable[[Expansion], None]:
    def rule(e: Expansion) -> None:
        a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = e.inputs(7, 8, (2, 5))
        e.quantised(e.add(op, e.real(a, a_scale, a_zero), e.real(b, b_scale, b_zero)), scale, zero, a)

    return rule


def _qlinear_unary(op: str, **defaults: Any) -> Callable[[Expansion], None]:
    def rule(e: Expansion) -> None:
        x, x_scale, x_zero, scale, zero = e.inputs(4, 5, (2,))
        attrs = {key: e.attr(key, default) for key, default in defaults.items()}
        e.quantised(e.add(op, e.real(x, x_scale, x_zero), **attrs), scale, zero, x)

    return rule


def _qlinear_pool(e: Expansion) -> None:
    x, x_scale, x_zero, scale, zero = e.inputs(4, 5, (2,))
    e.only(channels_last=0)
    attrs, e.attrs = e.attrs, {}
    e.quantised(e.add("AveragePool", e.real(x, x_scale, x_zero), **attrs), scale, zero, x)


def _qlinear_global_pool(e: Expansion) -> None:
    e.only(channels_last=0)
    _qlinear_unary("GlobalAveragePool")(e)


def _qlinear_softmax(e: Expansion) -> None:
    """Before opset 13, all axes from the given one on were one."""
    opset = e.attr("opset", 13)
    x, x_scale, x_zero, scale, zero = e.inputs(4, 5, (2,))
    attrs = {"axis": e.attr("axis", -1), **({"flatten": 1} if opset < 13 else {})}
    e.quantised(e.add("Softmax", e.real(x, x_scale, x_zero), **attrs), scale, zero, x)


def _qlinear_concat(e: Expansion) -> None:
    (scale, zero), rest = (*e.raw.inputs, "", "")[:2], e.raw.inputs[2:]
    if not rest or len(rest) % 3:
        raise ModelLoadError(f"{len(e.raw.inputs)} inputs, expected a scale and zero point, and three for each part")
    parts = [e.real(*part) for part in zip(rest[::3], rest[1::3], rest[2::3], strict=True)]
    e.quantised(e.add("Concat", *parts, axis=e.attr("axis", 0)), scale, zero, rest[0])


def _q_gemm(e: Expansion) -> None:
    """alpha * a_scale * b_scale * ((A - a_zero) @ (B - b_zero) + C), which stays float32 without a scale of its own."""
    a, a_scale, a_zero, b, b_scale, b_zero, c, scale, zero = e.inputs(6, 9)
    alpha = e.attr("alpha", 1.0)
    flags = {"transA": e.attr("transA", 0), "transB": e.attr("transB", 0)}
    parts = [e.real(a, a_scale, a_zero), e.real(b, b_scale, b_zero, axis=0 if flags["transB"] else 1)]
    if c:
        parts.append(e.real(c, e.add("Mul", a_scale, b_scale), "", axis=e.rank(c, 1, 2) - 1))
    attrs = {**flags, "alpha": alpha, "beta": alpha}
    if scale:
        e.quantised(e.add("Gemm", *parts, **attrs), scale, zero, a)
    else:
        e.add("Gemm", *parts, output=0, **attrs)


def _renamed(op: str, *keys: str) -> Callable[[Expansion], None]:
    """A standard operator under another name."""

    def rule(e: Expansion) -> None:
        attrs = {key: e.attrs.pop(key) for key in keys if key in e.attrs}
        inputs, outputs = e.raw.inputs, e.raw.outputs
        e.parts.append(RawNode(op, e.raw.name, list(inputs), list(outputs), attrs, OPSET, e.raw.constant))

    return rule


# -- fused --------------------------------------------------------------------------------------------


def _fused_conv(e: Expansion) -> None:
    x, w, b, z = e.inputs(2, 4)
    keys = [key for key in e.attrs if not key.startswith("activation")]
    attrs = {key: e.attrs.pop(key) for key in keys}
    e.activated(e.added(e.add("Conv", x, w, *([b] if b else []), **attrs), z))


def _fused_gemm(e: Expansion) -> None:
    a, b, c = e.inputs(2, 3)
    attrs = {key: e.attrs.pop(key) for key in ("alpha", "beta", "transA", "transB") if key in e.attrs}
    e.activated(e.add("Gemm", a, b, *([c] if c else []), **attrs))


def _fused_matmul(e: Expansion) -> None:
    e.only(transBatchA=0, transBatchB=0)
    operands = e.inputs(2, 2)
    for i, key in enumerate(("transA", "transB")):
        if e.attr(key, 0):
            rank = e.rank(operands[i], 2, 64)
            operands[i] = e.add("Transpose", operands[i], perm=(*range(rank - 2), rank - 1, rank - 2))
    alpha = e.attr("alpha", 1.0)
    if alpha == 1.0:
        e.add("MatMul", *operands, output=0)
    else:
        e.add("Mul", e.add("MatMul", *operands), e.constant(alpha), output=0)


def _gelu(approximate: str) -> Callable[[Expansion], None]:
    def rule(e: Expansion) -> None:
        x, bias = e.inputs(1, 2)
        e.add("Gelu", e.added(x, bias), approximate=approximate, output=0)

    return rule


def _quick_gelu(e: Expansion) -> None:
    (x,) = e.inputs(1, 1)
    e.add("Mul", x, e.add("Sigmoid", e.add("Mul", x, e.constant(e.attr("alpha", 1.702)))), output=0)


def _skip_norm(op: str, with_shift: bool) -> Callable[[Expansion], None]:
    """Normalisation of a sum, which is the fourth output."""

    def rule(e: Expansion) -> None:
        x, skip, *rest = e.inputs(3, 5 if with_shift else 4)
        norm, bias = rest[:-1], rest[-1]
        total = e.added(x, skip, bias)
        outputs = [*e.raw.outputs, *[""] * 4][:4]
        if outputs[3]:
            e.add("Identity", total, output=3)
        if not with_shift and any(outputs[1:3]):
            raise ModelLoadError("its outputs mean and inv_std_var are not supported")
        attrs = {"axis": -1, "epsilon": e.attr("epsilon", 1e-12)}
        inputs = [total, *[name for name in norm if name]]
        kept = outputs[: 3 if any(outputs[1:3]) else 1]
        e.parts.append(RawNode(op, e.raw.name, inputs, kept, attrs, OPSET, e.raw.constant))

    return rule


_NORM = ("axis", "epsilon", "stash_type")
_OWN: dict[str, Callable[[Expansion], None]] = {
    "QLinearAdd": _qlinear_binary("Add"),
    "QLinearMul": _qlinear_binary("Mul"),
    "QLinearSigmoid": _qlinear_unary("Sigmoid"),
    "QLinearLeakyRelu": _qlinear_unary("LeakyRelu", alpha=0.01),
    "QLinearSoftmax": _qlinear_softmax,
    "QLinearAveragePool": _qlinear_pool,
    "QLinearGlobalAveragePool": _qlinear_global_pool,
    "QLinearConcat": _qlinear_concat,
    "QGemm": _q_gemm,
    "QuantizeLinear": _renamed("QuantizeLinear", "axis"),
    "DequantizeLinear": _renamed("DequantizeLinear", "axis"),
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": _gelu("none"),
    "BiasGelu": _gelu("none"),
    "FastGelu": _gelu("tanh"),
    "QuickGelu": _quick_gelu,
    "LayerNormalization": _renamed("LayerNormalization", *_NORM),
    "SkipLayerNormalization": _skip_norm("LayerNormalization", True),
    "SkipSimplifiedLayerNormalization": _skip_norm("RMSNormalization", False),
    "Attention": microsoft_attention,
    "MultiHeadAttention": microsoft_multi_head_attention,
}
# By domain and name. ONNX Runtime writes one of its operators as if it was a standard one. Other forms of the standard
# Attention are inlined.
EXPANSIONS: dict[tuple[str, str], Callable[[Expansion], None]] = {
    **{(MICROSOFT, name): rule for name, rule in _OWN.items()},
    ("", "Attention"): plain_attention,
    ("", "SimplifiedLayerNormalization"): _renamed("RMSNormalization", *_NORM),
}
