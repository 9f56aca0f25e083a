"""ONNX Runtime's own operators, as nodes of standard operators that compute the same.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md defines them. Quantised numbers are
computed as float32 and rounded again, as ONNX Runtime does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_dialect import RawNode

__all__ = ["EXPANSIONS", "Expansion"]

MICROSOFT = "com.microsoft"
OPSET = 21


class Expansion:
    """The nodes that stand for one.

    Parameters
    ----------
    raw : RawNode
    fresh : callable
        Makes a new name of a value from a similar one.
    shape : callable
        The shape of a value, as far as it is known.
    """

    def __init__(
        self, raw: RawNode, fresh: Callable[[str], str], shape: Callable[[str], tuple[int | None, ...] | None]
    ) -> None:
        self.raw, self._fresh, self.shape = raw, fresh, shape
        self.parts: list[RawNode] = []
        self.attrs = dict(raw.attrs)

    def run(self, rule: Callable[[Expansion], None]) -> list[RawNode]:
        """Return the nodes. ModelLoadError for attributes and inputs that the rule does not take."""
        rule(self)
        if self.attrs:
            raise ModelLoadError(f"unknown attributes {', '.join(list(self.attrs)[:8])}")
        return self.parts

    def attr(self, key: str, default: Any) -> Any:
        """Take an attribute."""
        value = self.attrs.pop(key, default)
        if not isinstance(value, (int, float) if isinstance(default, float) else type(default)):
            raise ModelLoadError(f"attribute {key}={str(value)[:80]!r}, expected one like {default!r}")
        return value

    def inputs(self, least: int, most: int) -> list[str]:
        """All inputs, "" for those that are absent."""
        found = self.raw.inputs
        if not least <= len(found) <= most or "" in found[:least]:
            raise ModelLoadError(f"{sum(map(bool, found))} inputs, expected {least} to {most}")
        return [*found, *[""] * (most - len(found))]

    def refuse(self, **inputs: str) -> None:
        """Refuse inputs that are not supported."""
        for name, value in inputs.items():
            if value:
                raise ModelLoadError(f"its input {name} is not supported")

    def only(self, **values: Any) -> None:
        """Refuse attributes that have other values than these."""
        for key, value in values.items():
            found = self.attrs.pop(key, value)
            if found != value:
                raise ModelLoadError(f"{key}={str(found)[:80]}, expected {value}: others are not supported")

    def add(self, op: str, *inputs: str, output: int | None = None, **attrs: Any) -> str:
        """Add a node of one output: a new value, or that of the node that is replaced."""
        target = self.raw.outputs[output] if output is not None else ""
        target = target or self._fresh(f"{self.raw.name or self.raw.inputs[0]}/{op.lower()}")
        name = self.raw.name if output == 0 else ""
        self.parts.append(RawNode(op, name, list(inputs), [target], attrs, OPSET, self.raw.constant))
        return target

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        return self.raw.constant(np.asarray(value, dtype))

    def added(self, x: str, *others: str) -> str:
        """The sum of x and those that are present."""
        for other in others:
            if other:
                x = self.add("Add", x, other)
        return x

    def activated(self, x: str) -> None:
        """The first output: the function of x that the attribute `activation` names."""
        name = self.attr("activation", "")
        numbers = self.attrs.pop("activation_params", None) or ()
        for key in ("activation_alpha", "activation_beta", "activation_gamma"):
            numbers += (self.attrs.pop(key),) if key in self.attrs else ()
        if name not in _ACTIVATIONS:
            raise ModelLoadError(f"activation={name[:40]!r}, expected one of {', '.join(filter(None, _ACTIVATIONS))}")
        keys = _ACTIVATIONS[name]
        if name == "Clip":
            self.add("Clip", x, *(self.constant(number) for number in numbers[:2]), output=0)
        else:
            self.add(name or "Identity", x, output=0, **dict(zip(keys, numbers, strict=False)))

    def real(self, x: str, scale: str, zero: str) -> str:
        """The numbers that quantised ones stand for."""
        return self.add("DequantizeLinear", x, scale, *([zero] if zero else []))

    def quantised(self, x: str, scale: str, zero: str, like: str) -> None:
        """The first output: x in the type of `zero`, or of `like` where there is none."""
        self.add("QuantizeLinear", x, scale, zero or self.add("CastLike", self.constant(0), like), output=0)


_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "": (),
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}


# -- quantised ----------------------------------------------------------------------------------------


def _qlinear_binary(op: str) -> Callable[[Expansion], None]:
    def rule(e: Expansion) -> None:
        a, a_scale, a_zero, b, b_scale, b_zero, scale, zero = e.inputs(7, 8) if len(e.raw.inputs) > 6 else _few(e)
        e.quantised(e.add(op, e.real(a, a_scale, a_zero), e.real(b, b_scale, b_zero)), scale, zero, a)

    return rule


def _few(e: Expansion) -> list[str]:
    raise ModelLoadError(f"{len(e.raw.inputs)} inputs, expected 7 or 8")


def _qlinear_unary(op: str, **defaults: Any) -> Callable[[Expansion], None]:
    def rule(e: Expansion) -> None:
        x, x_scale, x_zero, scale, zero = _five(e)
        attrs = {key: e.attr(key, default) for key, default in defaults.items()}
        e.quantised(e.add(op, e.real(x, x_scale, x_zero), **attrs), scale, zero, x)

    return rule


def _five(e: Expansion) -> list[str]:
    """x, its scale and zero point, and those of the result; zero points may be absent."""
    found = [*e.raw.inputs, ""][:5]
    if not 4 <= len(e.raw.inputs) <= 5 or not (found[0] and found[1] and found[3]):
        raise ModelLoadError(f"{sum(map(bool, e.raw.inputs))} inputs, expected x, and two scales and zero points")
    return found


def _qlinear_pool(e: Expansion) -> None:
    x, x_scale, x_zero, scale, zero = _five(e)
    e.only(channels_last=0)
    attrs, e.attrs = e.attrs, {}
    e.quantised(e.add("AveragePool", e.real(x, x_scale, x_zero), **attrs), scale, zero, x)


def _qlinear_global_pool(e: Expansion) -> None:
    e.only(channels_last=0)
    _qlinear_unary("GlobalAveragePool")(e)


def _qlinear_softmax(e: Expansion) -> None:
    """Before opset 13, all axes from the given one on were one."""
    opset = e.attr("opset", 13)
    x, x_scale, x_zero, scale, zero = _five(e)
    attrs = {"axis": e.attr("axis", -1), **({"flatten": 1} if opset < 13 else {})}
    e.quantised(e.add("Softmax", e.real(x, x_scale, x_zero), **attrs), scale, zero, x)


def _qlinear_concat(e: Expansion) -> None:
    scale, zero, *rest = e.raw.inputs
    if not rest or len(rest) % 3:
        raise ModelLoadError(f"{len(e.raw.inputs)} inputs, expected a scale and zero point, and three for each part")
    parts = [e.real(*rest[i : i + 3]) for i in range(0, len(rest), 3)]
    e.quantised(e.add("Concat", *parts, axis=e.attr("axis", 0)), scale, zero, rest[0])


def _q_gemm(e: Expansion) -> None:
    """alpha * a_scale * b_scale * ((A - a_zero) @ (B - b_zero) + C), which stays float32 without a scale of its own."""
    a, a_scale, a_zero, b, b_scale, b_zero, c, scale, zero = e.inputs(6, 9)
    if e.attr("transA", 0):
        a = e.add("Transpose", a, perm=(1, 0))
    if e.attr("transB", 0):
        b = e.add("Transpose", b, perm=(1, 0))
    product = e.added(e.add("MatMulInteger", a, b, a_zero, b_zero), c)
    factor = e.add("Mul", e.add("Mul", a_scale, b_scale), e.constant(e.attr("alpha", 1.0)))
    real = ("Mul", e.add("Cast", product, to=1), factor)
    if scale:
        e.quantised(e.add(*real), scale, zero, a)
    else:
        e.add(*real, output=0)


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
            rank = _rank(e, operands[i], 2, 64)
            operands[i] = e.add("Transpose", operands[i], perm=(*range(rank - 2), rank - 1, rank - 2))
    alpha = e.attr("alpha", 1.0)
    if alpha == 1.0:
        e.add("MatMul", *operands, output=0)
    else:
        e.add("Mul", e.add("MatMul", *operands), e.constant(alpha), output=0)


def _rank(e: Expansion, value: str, least: int, most: int) -> int:
    shape = e.shape(value)
    if shape is None or not least <= len(shape) <= most:
        wanted = f"{least} to {most}" if least < most else str(least)
        raise ModelLoadError(f"an input of shape {shape}, expected {wanted} dimensions")
    return len(shape)


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


def _heads(e: Expansion, x: str, heads: int, perm: tuple[int, ...]) -> str:
    """(N, length, heads * size), split into heads."""
    split = e.add("Reshape", x, e.constant((0, 0, heads, -1), np.int64))
    return e.add("Transpose", split, perm=perm)


def _attend(e: Expansion, q: str, k: str, v: str, bias: str, heads: int, size: int) -> None:
    """The first output: attention of q, k and v of shape (N, length, heads * size)."""
    scale = e.attr("scale", 0.0) or size**-0.5
    q, v = (_heads(e, x, heads, (0, 2, 1, 3)) for x in (q, v))
    scores = e.add("Mul", e.add("MatMul", q, _heads(e, k, heads, (0, 2, 3, 1))), e.constant(scale))
    mixed = e.add("MatMul", e.add("Softmax", e.added(scores, bias), axis=-1), v)
    e.add("Reshape", e.add("Transpose", mixed, perm=(0, 2, 1, 3)), e.constant((0, 0, -1), np.int64), output=0)


def _head_size(e: Expansion, width: int | None) -> tuple[int, int]:
    heads = e.attr("num_heads", 0)
    if type(heads) is not int or heads < 1 or width is None or width % heads:
        raise ModelLoadError(f"num_heads={heads}, expected a divisor of the width {width}")
    return heads, width // heads


def _attention(e: Expansion) -> None:
    """Of x (N, length, inputs), whose queries, keys and values are one product."""
    x, weight, bias, mask, past, scores_bias, past_length = e.inputs(2, 7)
    e.refuse(mask_index=mask, past=past, past_sequence_length=past_length)
    e.only(unidirectional=0, do_rotary=0, past_present_share_buffer=0, rotary_embedding_dim=0)
    e.attrs.pop("mask_filter_value", None)
    _rank(e, x, 3, 3)
    _rank(e, weight, 2, 2)
    width = (e.shape(weight) or (None, None))[1] or 0
    sizes = e.attrs.pop("qkv_hidden_sizes", None) or (width // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != width or sizes[0] != sizes[1]:
        raise ModelLoadError(f"qkv_hidden_sizes={sizes[:8]}, expected three with the sum {width}")
    heads, size = _head_size(e, sizes[0])
    q, k, v = _split(e, e.added(e.add("MatMul", x, weight), bias), sizes, 2)
    _attend(e, q, k, v, scores_bias, heads, size)


def _split(e: Expansion, x: str, sizes: tuple[int, ...], axis: int) -> list[str]:
    ends = np.cumsum(sizes)
    return [
        e.add("Slice", x, *(e.constant([number], np.int64) for number in (end - size, end, axis)))
        for size, end in zip(sizes, ends, strict=True)
    ]


def _multi_head_attention(e: Expansion) -> None:
    """Of queries, keys and values (N, length, width), with a bias of each."""
    names = ("query", "key", "value", "bias", "key_padding_mask", "attention_bias", "past_key", "past_value")
    q, k, v, bias, mask, scores_bias, *past = e.inputs(3, 10)
    e.refuse(key_padding_mask=mask, **dict(zip(names[6:], past[:2], strict=True)), past_sequence_length=past[2])
    e.refuse(cache_indirection=past[3])
    e.only(unidirectional=0)
    e.attrs.pop("mask_filter_value", None)
    for x in (q, k, v):
        _rank(e, x, 3, 3)
    widths = [(e.shape(x) or (None,) * 3)[2] for x in (q, k, v)]
    heads, size = _head_size(e, widths[0])
    if bias:
        sizes = tuple(width or 0 for width in widths)
        q, k, v = (e.add("Add", x, part) for x, part in zip((q, k, v), _split(e, bias, sizes, 0), strict=True))
    _attend(e, q, k, v, scores_bias, heads, size)


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
    "Attention": _attention,
    "MultiHeadAttention": _multi_head_attention,
}
# By domain and name. ONNX Runtime writes one of its operators as if it was a standard one.
EXPANSIONS: dict[tuple[str, str], Callable[[Expansion], None]] = {
    **{(MICROSOFT, name): rule for name, rule in _OWN.items()},
    ("", "SimplifiedLayerNormalization"): _renamed("RMSNormalization", *_NORM),
}
