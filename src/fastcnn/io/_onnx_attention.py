"""Attention as products and a softmax, which the compiler recognises: ONNX's own, and the forms of ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.errors import ModelLoadError
from fastcnn.io._onnx_expansion import Expansion

__all__ = ["is_plain", "microsoft_attention", "microsoft_multi_head_attention", "plain_attention"]

_BY_HEAD = (0, 2, 1, 3)  # from (N, length, heads, size) to (N, heads, length, size)
_PLAIN: dict[str, Any] = {"is_causal": 0, "softcap": 0.0, "qk_matmul_output_mode": 0}
_TAKEN = ("scale", "q_num_heads", "kv_num_heads", "softmax_precision")


def is_plain(attrs: dict[str, Any], shapes: list[tuple[int | None, ...] | None], outputs: int) -> bool:
    """Whether `plain_attention` computes ONNX's Attention of queries, keys, values and a mask that is added.

    Parameters
    ----------
    attrs : dict
    shapes : list of tuples
        Of the inputs.
    outputs : int
    """
    if outputs > 1 or not 3 <= len(shapes) <= 4 or not set(attrs) <= {*_PLAIN, *_TAKEN}:
        return False
    if any(attrs.get(key, value) != value for key, value in _PLAIN.items()):
        return False
    q, k = shapes[:2]
    if q is None or k is None or len(q) != len(k):
        return False
    if len(q) == 4:
        return q[1] == k[1] and q[1] is not None and not {"q_num_heads", "kv_num_heads"} & set(attrs)
    return len(q) == 3 and attrs.get("q_num_heads", 0) == attrs.get("kv_num_heads", -1)


def plain_attention(e: Expansion) -> None:
    """ONNX's Attention, where every query has a key of its own head, without a past."""
    q, k, v, mask = e.inputs(3, 4)
    e.only(**_PLAIN)
    e.attrs.pop("softmax_precision", None)  # float32 has the precision of the operands, at least
    e.attrs.pop("kv_num_heads", None)
    shape = e.shape(q) or ()
    if len(shape) == 4:
        if shape[3] is None:
            raise ModelLoadError(f"queries of shape {shape}, expected heads of a known size")
        e.add("MatMul", _weights(e, q, e.add("Transpose", k, perm=(0, 1, 3, 2)), mask, shape[3]), v, output=0)
    else:
        _attend_tokens(e, q, k, v, mask, *_head_size(e, shape[2], "q_num_heads"))


def _heads(e: Expansion, x: str, heads: int, perm: tuple[int, ...]) -> str:
    """x of shape (N, length, heads * size), split into heads."""
    split = e.add("Reshape", x, e.constant((0, 0, heads, -1), np.int64))
    return e.add("Transpose", split, perm=perm)


def _attend_tokens(e: Expansion, q: str, k: str, v: str, bias: str, heads: int, size: int) -> None:
    """The first output: attention of q, k and v, each of shape (N, length, heads * size)."""
    q, v = (_heads(e, x, heads, _BY_HEAD) for x in (q, v))
    mixed = e.add("MatMul", _weights(e, q, _heads(e, k, heads, (0, 2, 3, 1)), bias, size), v)
    e.add("Reshape", e.add("Transpose", mixed, perm=_BY_HEAD), e.constant((0, 0, -1), np.int64), output=0)


def _weights(e: Expansion, q: str, k: str, bias: str, size: int) -> str:
    """The weights of attention, from queries (N, heads, length, size) and keys (N, heads, size, length)."""
    scale = e.attr("scale", 0.0) or size**-0.5
    return e.add("Softmax", e.added(e.add("Mul", e.add("MatMul", q, k), e.constant(scale)), bias), axis=-1)


def _head_size(e: Expansion, width: int | None, key: str = "num_heads") -> tuple[int, int]:
    heads = e.attr(key, 0)
    if type(heads) is not int or heads < 1 or width is None or width % heads:
        raise ModelLoadError(f"{key}={heads}, expected a divisor of the width {width}")
    return heads, width // heads


def microsoft_attention(e: Expansion) -> None:
    """Of x (N, length, inputs), whose queries, keys and values are one product."""
    x, weight, bias, mask, past, scores_bias, past_length = e.inputs(2, 7)
    e.refuse(mask_index=mask, past=past, past_sequence_length=past_length)
    e.only(unidirectional=0, do_rotary=0, past_present_share_buffer=0, rotary_embedding_dim=0)
    e.attrs.pop("mask_filter_value", None)
    e.rank(x, 3, 3)
    e.rank(weight, 2, 2)
    width = (e.shape(weight) or (None, None))[1] or 0
    sizes = e.attr("qkv_hidden_sizes", ()) or (width // 3,) * 3
    if len(sizes) != 3 or sum(sizes) != width or sizes[0] != sizes[1] or min(sizes) < 1:
        raise ModelLoadError(f"qkv_hidden_sizes={sizes[:8]}, expected three with the sum {width}")
    heads, size = _head_size(e, sizes[0])
    q, k, v = _split(e, e.added(e.add("MatMul", x, weight), bias), sizes, 2)
    _attend_tokens(e, q, k, v, scores_bias, heads, size)


def _split(e: Expansion, x: str, sizes: tuple[int, ...], axis: int) -> list[str]:
    ends = np.cumsum(sizes)
    return [
        e.add("Slice", x, *(e.constant([number], np.int64) for number in (end - size, end, axis)))
        for size, end in zip(sizes, ends, strict=True)
    ]


def microsoft_multi_head_attention(e: Expansion) -> None:
    """Of queries, keys and values (N, length, width), with a bias of each."""
    names = ("query", "key", "value", "bias", "key_padding_mask", "attention_bias", "past_key", "past_value")
    q, k, v, bias, mask, scores_bias, *past = e.inputs(3, 10)
    e.refuse(key_padding_mask=mask, **dict(zip(names[6:], past[:2], strict=True)), past_sequence_length=past[2])
    e.refuse(cache_indirection=past[3])
    e.only(unidirectional=0)
    e.attrs.pop("mask_filter_value", None)
    for x in (q, k, v):
        e.rank(x, 3, 3)
    widths = [(e.shape(x) or (None,) * 3)[2] for x in (q, k, v)]
    heads, size = _head_size(e, widths[0])
    if bias:
        sizes = tuple(width or 0 for width in widths)
        q, k, v = (e.add("Add", x, part) for x, part in zip((q, k, v), _split(e, bias, sizes, 0), strict=True))
    _attend_tokens(e, q, k, v, scores_bias, heads, size)
