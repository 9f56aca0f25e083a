"""Attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod, sqrt

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _attention
from fastcnn.ops.access import Access
from fastcnn.ops.base import check_size
from fastcnn.ops.node import Attrs, Lowering, Node, Op, Shape, Shapes

_PLACES = ("q_start", "q_step", "k_start", "k_step", "v_start", "v_step")


class HeadAttention(Op):
    """softmax(scale * q @ k^T + bias) @ v for each image and head, on images whose pixels are tokens.

    q (N, Cq, Hq, Wq), k (N, Ck, Hk, Wk), v (N, Cv, Hk, Wk); y (N, heads * value_dim, Hq, Wq). Head h reads head_dim
    channels of q from q_start + h * q_step on, and so of k; of v it reads value_dim. One value may be all three. The
    bias is (Nb, heads or 1, Hq * Wq or 1, Hk * Wk): image n takes n modulo Nb. A scale of 0 is 1 / sqrt(head_dim).
    """

    name = "HeadAttention"
    arguments = ("q", "k", "v", "bias")
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


def _heads(x: np.ndarray, heads: int, start: int, step: int, size: int) -> np.ndarray:
    """The channels of each head, (N, C, H, W) to (N, heads, tokens, size)."""
    tokens = x.reshape(*x.shape[:2], -1).swapaxes(1, 2)
    return np.stack([tokens[:, :, start + h * step :][:, :, :size] for h in range(heads)], 1)


OPS = (HeadAttention(),)
