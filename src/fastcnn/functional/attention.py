"""Attention: of queries to keys and values, and with the projections of several heads around it."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastcnn import _arguments as arguments
from fastcnn.functional._apply import Array, apply, prefixed
from fastcnn.functional.weighted import linear
from fastcnn.graph.trace import Symbol


def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    scale: float | None = None,
    out: np.ndarray | None = None,
) -> Any:
    """softmax(scale * query @ key^T + mask) @ value (Vaswani and others, Attention is all you need, 2017).

    Parameters
    ----------
    query : (..., L, D) array
        While a model is traced, all three have 4 dimensions: (N, heads, L, D).
    key : (..., S, D) array
    value : (..., S, E) array
    attn_mask : array, optional
        Of a shape that broadcasts with (..., L, S). Booleans tell which keys a query sees; numbers are added to the
        scores. A query that sees no key gets NaN.
    scale : float, optional
        1 / sqrt(D) by default.
    out : (..., L, E) array, optional

    Returns
    -------
    (..., L, E) array

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[1.0], [3.0]])
    >>> scaled_dot_product_attention(np.zeros((1, 2)), np.ones((2, 2)), values)
    array([[2.]])
    >>> scaled_dot_product_attention(np.zeros((1, 2)), np.ones((2, 2)), values, [[True, False]])
    array([[1.]])
    """
    with prefixed("scaled_dot_product_attention"):
        inputs = {"query": query, "key": key, "value": value}
        for name, given in inputs.items():
            if given is None:
                raise TypeError(f"{name}: got None, expected an array")
        inputs = {
            name: given if isinstance(given, Symbol) else arguments.as_real_array(given, name)
            for name, given in inputs.items()
        }
        mask = None if attn_mask is None else as_bias(attn_mask)
        number = 0.0 if scale is None else arguments.as_float(scale, "scale")
        if scale is not None and number == 0.0:
            raise ValueError("scale=0.0, expected another number than 0")
        shape = None if any(isinstance(given, Symbol) for given in (*inputs.values(), mask)) else _stack(inputs, mask)
        if shape is not None:
            inputs = {name: _as_heads(given, shape) for name, given in inputs.items()}
            if mask is not None:
                mask = _spread(mask, shape, inputs["query"].shape[2], inputs["key"].shape[2])
    result = apply(
        "scaled_dot_product_attention",
        "Attention",
        {**inputs, "attn_mask": mask},
        lambda: {"scale": number},
    )
    if shape is None:
        return result
    result = result.reshape(*shape, *result.shape[2:])
    if out is None:
        return result
    with prefixed("scaled_dot_product_attention"):
        arguments.check_out(out, result.shape, result.dtype)
    out[...] = result
    return out


def as_bias(mask: Array) -> Any:
    """What is added to the scores: 0 where a boolean mask is true, else -inf; numbers as they are."""
    if isinstance(mask, Symbol):
        return mask
    array = arguments.as_real_array(mask, "attn_mask")
    return np.where(array, np.float32(0), np.float32(-np.inf)) if array.dtype == bool else array


def _stack(inputs: dict[str, Any], mask: Any) -> tuple[int, ...]:
    """The axes before the last two, broadcast."""
    for name, given in inputs.items():
        if given.ndim < 2:
            raise ValueError(f"{name}.shape={given.shape}, expected at least 2 dimensions (..., tokens, channels)")
    shapes = [given.shape[:-2] for given in inputs.values()] + [() if mask is None else mask.shape[:-2]]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        told = ", ".join(f"{name}.shape={given.shape}" for name, given in inputs.items())
        more = "" if mask is None else f", attn_mask.shape={mask.shape}"
        raise ValueError(f"{told}{more}, expected axes before the last two that broadcast") from None


def _as_heads(given: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An operand (..., tokens, channels) as (N, heads, tokens, channels)."""
    wide = np.broadcast_to(given, (*shape, *given.shape[-2:]))
    return wide.reshape(prod(shape[:-1]), *(shape[-1:] or (1,)), *given.shape[-2:])


def _spread(mask: np.ndarray, shape: tuple[int, ...], queries: int, keys: int) -> np.ndarray:
    """A mask as (1 or N, 1 or heads, 1 or queries, keys)."""
    try:
        np.broadcast_to(mask, (*shape, queries, keys))
    except ValueError:
        raise ValueError(
            f"attn_mask.shape={mask.shape}, expected a shape that broadcasts with {(*shape, queries, keys)}"
        ) from None
    mask = mask.reshape((1,) * (2 - mask.ndim) + mask.shape)
    mask = np.broadcast_to(mask, (*mask.shape[:-1], keys))
    if prod(mask.shape[:-2]) == 1:
        return mask.reshape(1, 1, *mask.shape[-2:])
    return _as_heads(mask, shape)


def multi_head_attention(
    query: Array,
    key: Array,
    value: Array,
    num_heads: int,
    in_proj_weight: Array,
    in_proj_bias: Array | None,
    out_proj_weight: Array,
    out_proj_bias: Array | None,
    attn_mask: Array | None = None,
) -> Any:
    """Attention of several heads to projected queries, keys and values; the results of all heads are projected again.

    Parameters
    ----------
    query : (N, L, E) array
    key, value : (N, S, E) arrays
        The query itself for self-attention, which projects all three at once.
    num_heads : int
        A divisor of E: each head has E / num_heads channels.
    in_proj_weight : (3 * E, E) array
        Of query, key and value, one after the other.
    in_proj_bias : (3 * E,) array, optional
    out_proj_weight : (E, E) array
    out_proj_bias : (E,) array, optional
    attn_mask : array, optional
        As in `scaled_dot_product_attention`, of a shape that broadcasts with (N, num_heads, L, S).

    Returns
    -------
    (N, L, E) array

    Examples
    --------
    >>> import numpy as np
    >>> x, one = np.array([[[1.0], [3.0]]]), np.eye(1)
    >>> multi_head_attention(x, x, x, 1, np.array([[0.0], [0.0], [1.0]]), None, one, None)
    array([[[2.],
            [2.]]])
    """
    with prefixed("multi_head_attention"):
        heads = arguments.as_int(num_heads, "num_heads", 1)
        same = key is query, value is query
        query, key, value = (
            given if isinstance(given, Symbol) else arguments.as_real_array(given, name)
            for name, given in (("query", query), ("key", key), ("value", value))
        )
        for name, given in (("query", query), ("key", key), ("value", value)):
            if given.ndim != 3:
                raise ValueError(f"{name}.shape={given.shape}, expected 3 dimensions (batch, tokens, channels)")
        size = query.shape[2]
        if size % heads:
            raise ValueError(
                f"num_heads={heads}, expected a divisor of the channels {size} (query.shape={query.shape})"
            )
    if all(same):
        every = linear(query, in_proj_weight, in_proj_bias)
        parts = [_part(every, 2, i * size, size) for i in range(3)]
    else:
        parts = [
            _projected(given, in_proj_weight, in_proj_bias, i * size, size)
            for i, given in enumerate((query, key, value))
        ]
    parts = [_turned(_shaped(part, (-1, part.shape[1], heads, size // heads)), (0, 2, 1, 3)) for part in parts]
    mixed = _turned(scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask), (0, 2, 1, 3))
    return linear(_shaped(mixed, (-1, query.shape[1], size)), out_proj_weight, out_proj_bias)


def _projected(x: Any, weight: Array, bias: Array | None, start: int, size: int) -> Any:
    """The projection by some rows of a weight."""
    rows, more = _part(weight, 0, start, size, x), None if bias is None else _part(bias, 0, start, size, x)
    if not isinstance(x, Symbol):
        return linear(x, rows, more)
    y = x.tracer.apply("MatMul", [x, rows], {"trans_b": 1})
    return y if more is None else y + more


def _part(x: Any, axis: int, start: int, size: int, like: Any = None) -> Any:
    """Some of an axis, traced where x or `like` is."""
    symbol = x if isinstance(x, Symbol) else like
    if isinstance(symbol, Symbol):
        return symbol.tracer.apply("Slice", [x], {"axis": axis, "start": start, "end": start + size})
    return np.asarray(x)[(slice(None),) * axis + (slice(start, start + size),)]


def _shaped(x: Any, shape: tuple[int, ...]) -> Any:
    return x.tracer.apply("Reshape", [x], {"shape": shape}) if isinstance(x, Symbol) else x.reshape(shape)


def _turned(x: Any, perm: tuple[int, ...]) -> Any:
    return x.tracer.apply("Transpose", [x], {"perm": perm}) if isinstance(x, Symbol) else x.transpose(perm)
