"""Attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod, sqrt

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _attention, _attention_grad, _pointwise
from fastcnn.ops.access import Access
from fastcnn.ops.base import check_size
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

_PLACES = ("q_start", "q_step", "k_start", "k_step", "v_start", "v_step")


class Attention(Op):
    """softmax(scale * q @ k^T + bias) @ v, for q (N, heads, L, D), k (N, heads, S, D), v (N, heads, S, E).

    The bias, attn_mask, has a shape (..., S) that broadcasts with (N, heads, L, S). A scale of 0 is 1 / sqrt(D). It has
    no kernel: compiler/channels.py makes HeadAttention of it.
    """

    name = "Attention"
    arguments = ("query", "key", "value", "attn_mask")
    required = 3
    defaults = {"scale": 0.0}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        q, k, v = shapes[:3]
        for name, shape in zip(self.arguments, (q, k, v), strict=False):
            if shape is None or len(shape) != 4:
                raise ValueError(f"{name}.shape={shape}, expected 4 dimensions (batch, heads, tokens, channels)")
        assert q is not None and k is not None and v is not None
        if k[:2] != q[:2] or k[3] != q[3]:
            raise ValueError(f"key.shape={k}, expected {(*q[:2], 'tokens', q[3])} (query.shape={q})")
        if v[:3] != k[:3]:
            raise ValueError(f"value.shape={v}, expected {(*k[:3], 'channels')} (key.shape={k})")
        bias, scores = shapes[3] if len(shapes) > 3 else None, (*q[:3], k[2])
        if bias is not None:
            fits = 1 <= len(bias) <= 4 and bias[-1] == scores[-1]
            if not fits or any(size not in (1, whole) for size, whole in zip(bias[::-1], scores[::-1], strict=False)):
                raise ValueError(
                    f"attn_mask.shape={bias}, expected a shape (..., {k[2]}) that broadcasts with {scores}"
                )
        return check_size((*q[:3], v[3]))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        q, k, v, *bias = inputs
        assert q is not None and k is not None and v is not None
        return reference.attention(q, k, v, bias[0] if bias else None, attrs["scale"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        q, k = shapes[:2]
        assert q is not None and k is not None
        return prod(q[:3]) * k[2] * (2 * q[3] + 2 * output[3] + 5)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        """The weights are computed again: storing them takes more memory than all operands."""
        q, k, v, *bias = node.inputs
        scale = node.attrs["scale"] or 1 / sqrt(back.shape(q)[3])
        scores = back.add("MatMul", q, k, trans_b=1, scale=scale)
        if bias and bias[0]:
            scores = back.add("Add", scores, bias[0])
        weights = back.add("Softmax", scores, axis=-1)
        grads: list[str | None] = [None] * len(node.inputs)
        if back.needs(v):
            grads[2] = back.add("MatMul", weights, grad, trans_a=1)
        wanted = [back.needs(name) for name in (q, k, *filter(None, bias))]
        if not any(wanted):
            return grads
        of_scores = back.add("SoftmaxGrad", back.add("MatMul", grad, v, trans_b=1), weights, axis=-1)
        if wanted[0]:
            grads[0] = back.add("MatMul", of_scores, k, scale=scale)
        if wanted[1]:
            grads[1] = back.add("MatMul", of_scores, q, trans_a=1, scale=scale)
        if wanted[2:] == [True]:
            shape = back.shape(bias[0])
            same = back.shape(of_scores) == shape
            grads[3] = of_scores if same else back.add("SumTo", of_scores, shape=shape)
        return grads


class HeadAttention(Op):
    """softmax(scale * q @ k^T + bias) @ v for each image and head, on images whose pixels are tokens.

    q (N, Cq, Hq, Wq), k (N, Ck, Hk, Wk), v (N, Cv, Hk, Wk); y (N, heads * value_dim, Hq, Wq). Head h reads head_dim
    channels of q from q_start + h * q_step on, and so of k; of v it reads value_dim. One value may be all three. The
    bias is (Nb, heads or 1, Hq * Wq or 1, Hk * Wk): image n takes n modulo Nb. A scale of 0 is 1 / sqrt(head_dim).
    """

    name = "HeadAttention"
    arguments: tuple[str, ...] = ("q", "k", "v", "bias")
    required = 3
    layout = "blocked"
    is_internal = True
    defaults = {"heads": 1, "head_dim": 1, "value_dim": 1, **dict.fromkeys(_PLACES, 0), "scale": 0.0}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        q, k, v, *rest = shapes
        for name, shape in zip(self.arguments, shapes, strict=False):
            if shape is None and name != "bias" or shape is not None and len(shape) != 4:
                raise ValueError(f"{name}.shape={shape}, expected 4 dimensions")
        assert q is not None and k is not None and v is not None
        if k[0] != q[0] or v[0] != q[0] or k[2:] != v[2:]:
            raise ValueError(f"k.shape={k} and v.shape={v}, expected the batch of q.shape={q}, and the same pixels")
        heads, dims = attrs["heads"], attrs["head_dim"]
        for name, shape, size in (("q", q, dims), ("k", k, dims), ("v", v, attrs["value_dim"])):
            start, step = attrs[f"{name}_start"], attrs[f"{name}_step"]
            if min(heads, size) < 1 or min(start, step) < 0 or start + (heads - 1) * step + size > shape[1]:
                raise ValueError(
                    f"{heads} heads of {size} channels, {step} apart from {start} on, expected to lie within the "
                    f"channels of {name}.shape={shape}"
                )
        bias, queries, keys = rest[0] if rest else None, prod(q[2:]), prod(k[2:])
        if bias is not None:
            fits = bias[0] > 0 and q[0] % bias[0] == 0 and bias[1] in (1, heads) and bias[2] in (1, queries)
            if not fits or bias[3] != keys:
                raise ValueError(
                    f"bias.shape={bias}, expected (divisor of {q[0]}, 1 or {heads}, 1 or {queries}, {keys})"
                )
        return check_size((q[0], heads * attrs["value_dim"], *q[2:]))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        q, k, v, *rest = inputs
        assert q is not None and k is not None and v is not None
        sizes = (attrs["head_dim"], attrs["head_dim"], attrs["value_dim"])
        heads = [
            _heads(x, attrs["heads"], attrs[f"{name}_start"], attrs[f"{name}_step"], size)
            for name, x, size in zip("qkv", (q, k, v), sizes, strict=True)
        ]
        bias = rest[0] if rest else None
        if bias is not None:
            bias = np.tile(bias, (len(q) // len(bias), 1, 1, 1))
        y = reference.attention(heads[0], heads[1], heads[2], bias, attrs["scale"])
        return np.ascontiguousarray(y.swapaxes(2, 3)).reshape(len(q), -1, *q.shape[2:])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        k = shapes[1]
        assert k is not None
        scores: int = output[0] * attrs["heads"] * prod(output[2:]) * prod(k[2:])
        return scores * (2 * int(attrs["head_dim"]) + 2 * int(attrs["value_dim"]) + 5)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        """One step for each image that queries, keys and values are parts of; the weights are computed again."""
        operands, bias = node.inputs[:3], node.inputs[3] if len(node.inputs) > 3 else ""
        grads: list[str | None] = [None] * len(node.inputs)

        def of(letters: str) -> str:
            return back.add("HeadAttentionGrad", grad, node.output, *node.inputs, **node.attrs, of=letters)

        for name in filter(back.needs, dict.fromkeys(operands)):
            grads[operands.index(name)] = of(
                "".join(key for key, own in zip("qkv", operands, strict=True) if own == name)
            )
        if bias and back.needs(bias):
            shape, q = back.shape(bias), back.shape(operands[0])
            full = (shape[0], node.attrs["heads"], prod(q[2:]), shape[3])
            whole = back.add("Reshape", of("bias"), shape=full)
            grads[3] = whole if full == shape else back.add("SumTo", whole, shape=shape)
        return grads

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        return Access("blocked", plain=(3,))

    def lower(self, node: Node, ctx: Lowering) -> None:
        attrs, names = node.attrs, (node.output, *node.inputs)
        views = [ctx.view(name) if name else None for name in names] + [None] * (5 - len(names))
        ctx.emit(
            "attention",
            _attention.HeadAttention,
            *views,
            attrs["heads"],
            attrs["head_dim"],
            attrs["value_dim"],
            tuple(attrs[key] for key in _PLACES),
            attrs["scale"] or 1 / sqrt(attrs["head_dim"]),
        )


class HeadAttentionGrad(HeadAttention):
    """Gradient of HeadAttention by the image of some operands, whose letters are `of`; "bias" for that of the bias.

    The gradient of the bias is (Nb * heads, queries, keys), before it is summed where the bias is broadcast.
    """

    name = "HeadAttentionGrad"
    arguments = ("grad", "y", "q", "k", "v", "bias")
    required = 5
    defaults = {**HeadAttention.defaults, "of": "qkv"}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        super().infer(attrs, shapes[2:])
        for key, size in (("q", "head_dim"), ("k", "head_dim"), ("v", "value_dim")):
            if attrs["heads"] > 1 and attrs[f"{key}_step"] < attrs[size] and attrs["of"] != "bias":
                raise ValueError(f"{key}_step={attrs[f'{key}_step']}, expected at least {attrs[size]}: heads apart")
        q, k, bias = shapes[2], shapes[3], shapes[5] if len(shapes) > 5 else None
        assert q is not None and k is not None
        if attrs["of"] == "bias":
            assert bias is not None
            return bias[0] * attrs["heads"], prod(q[2:]), prod(k[2:])
        shape = shapes[2 + "qkv".index(attrs["of"][0])]
        assert shape is not None
        return shape

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        grad, _, *operands = inputs
        q, k, v = (np.asarray(x, np.float64) for x in operands[:3])
        bias = operands[3] if len(operands) > 3 else None
        heads, sizes = attrs["heads"], (attrs["head_dim"], attrs["head_dim"], attrs["value_dim"])
        own = [
            _heads(x, heads, attrs[f"{key}_start"], attrs[f"{key}_step"], size)
            for key, x, size in zip("qkv", (q, k, v), sizes, strict=True)
        ]
        assert grad is not None
        above = _heads(np.asarray(grad, np.float64), heads, 0, sizes[2], sizes[2])
        added = None if bias is None else np.tile(bias, (len(q) // len(bias), 1, 1, 1))
        *found, of_scores = reference.attention_grad(above, own[0], own[1], own[2], added, attrs["scale"])
        if attrs["of"] == "bias":
            assert bias is not None
            total: np.ndarray = of_scores.reshape(-1, len(bias) * heads, *of_scores.shape[2:]).sum(0)
            return total
        result = np.zeros((q, k, v)["qkv".index(attrs["of"][0])].shape)
        for key, part, size in zip("qkv", found, sizes, strict=True):
            for head in range(heads if key in attrs["of"] else 0):
                start = attrs[f"{key}_start"] + head * attrs[f"{key}_step"]
                rows = part[:, head].swapaxes(1, 2).reshape(len(part), size, *result.shape[2:])
                result[:, start : start + size] += rows
        return result

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        q, k, own = shapes[2], shapes[3], {"q": 2, "k": 2, "v": 2}
        assert q is not None and k is not None
        scores = q[0] * attrs["heads"] * prod(q[2:]) * prod(k[2:])
        sizes = {"q": attrs["head_dim"], "k": attrs["head_dim"], "v": attrs["value_dim"]}
        parts = 0 if attrs["of"] == "bias" else sum(own[key] * sizes[key] for key in attrs["of"])
        return int(scores * (2 * sizes["q"] + 2 * sizes["v"] + parts + 8))

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        raise ValueError(f"node {node.name!r}: the gradient of attention has no gradient")

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        return Access("blocked", plain=(5,))

    def lower(self, node: Node, ctx: Lowering) -> None:
        attrs, names = node.attrs, (node.output, *node.inputs)
        views = [ctx.view(name) if name else None for name in names] + [None] * (7 - len(names))
        shape = ctx.shape(node.output)
        if attrs["of"] != "bias" and (len(_channels(attrs, attrs["of"])) < shape[1] or shape[1] % ctx.vl):
            ctx.emit("fill", _pointwise.Fill, views[0], 0.0)
        ctx.emit(
            "attentiongrad",
            _attention_grad.HeadAttentionGrad,
            *views,
            attrs["heads"],
            attrs["head_dim"],
            attrs["value_dim"],
            tuple(attrs[key] for key in _PLACES),
            attrs["scale"] or 1 / sqrt(attrs["head_dim"]),
            attrs["of"],
        )


def _channels(attrs: Attrs, letters: str) -> set[int]:
    """The channels that the heads of some operands read."""
    sizes = {"q": attrs["head_dim"], "k": attrs["head_dim"], "v": attrs["value_dim"]}
    return {
        attrs[f"{key}_start"] + head * attrs[f"{key}_step"] + i
        for key in letters
        for head in range(attrs["heads"])
        for i in range(sizes[key])
    }


def _heads(x: np.ndarray, heads: int, start: int, step: int, size: int) -> np.ndarray:
    """The channels of each head, (N, C, H, W) to (N, heads, tokens, size)."""
    tokens = x.reshape(*x.shape[:2], -1).swapaxes(1, 2)
    return np.stack([tokens[:, :, start + h * step :][:, :, :size] for h in range(heads)], 1)


OPS = (Attention(), HeadAttention(), HeadAttentionGrad())
