"""Fake quantisation: float32 values, rounded and clipped as 8 bits would be, for training.

    y = scale * round(clip(x / scale, low, high))

The gradient passes rounding straight through, and is 0 where values are clipped (Bengio et al., Estimating or
propagating gradients through stochastic neurons, 2013). compiler/fake_quantize.py makes the operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastcnn.ops.node import Attrs, Backward, Node, Op, Shape, Shapes

__all__ = ["MAGIC", "OPS", "FakeQuantize"]

# A float32 of this size has no fraction: adding it rounds to the nearest integer, half to even.
MAGIC = np.float32(1.5 * 2**23)
# Values up to this far behind an end are rounded to it, so that the end itself is not clipped.
_MARGIN = 0.49


class FakeQuantize(Op):
    """Inputs are x, the scale, which broadcasts with it, and `MAGIC`.

    The attributes are the least and the greatest of the integers, without zero point.
    """

    name = "FakeQuantize"
    arguments = ("x", "scale", "magic")
    required = 3
    defaults = {"low": 0, "high": 255}
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x, scale = shapes[:2]
        assert x is not None and scale is not None
        if np.broadcast_shapes(x, scale) != x:
            raise ValueError(f"scale.shape={scale}, expected a shape that broadcasts to that of x, {x}")
        return x

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, scale = (np.asarray(value, np.float64) for value in inputs[:2])
        return np.asarray(np.rint(np.clip(x / scale, attrs["low"], attrs["high"])) * scale)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        x, scale, _ = node.inputs
        clipped = back.add("Clip", back.add("Div", x, scale), **_bounds(node.attrs))
        return [back.add("ClipGrad", grad, clipped, **_bounds(node.attrs)), None, None]

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        x, scale, magic = node.inputs
        steps: tuple[tuple[str, tuple[str, ...], dict[str, float]], ...] = (
            ("Div", (scale,), {}),
            ("Clip", (), _bounds(node.attrs)),
            ("Add", (magic,), {}),
            ("Sub", (magic,), {}),
            ("Mul", (scale,), {}),
        )
        nodes: list[Node] = []
        value = x
        for i, (op, others, attrs) in enumerate(steps):
            last = i == len(steps) - 1
            name = node.name if last else f"{node.name}:{op.lower()}"
            output = node.output if last else f"{node.output}:{op.lower()}"
            nodes.append(Node(op, name, (value, *others), output, attrs))
            value = output
        return nodes


def _bounds(attrs: Attrs) -> dict[str, float]:
    return {"min": attrs["low"] - _MARGIN, "max": attrs["high"] + _MARGIN}


OPS = [FakeQuantize()]
