"""Products of two computed matrices, or of two stacks of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _matmul
from fastcnn.ops.base import check_size
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes


class MatMul(Op):
    """y = scale * a @ b of the last two axes, with NumPy's broadcasting of the others; ONNX MatMul.

    With trans_a and trans_b, the last two axes of a and b change places before.
    """

    name = "MatMul"
    defaults = {"trans_a": 0, "trans_b": 0, "scale": 1.0}
    arguments = ("a", "b")
    required = 2
    takes_activation = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        a, b = shapes
        for name, shape in (("a", a), ("b", b)):
            if shape is None or len(shape) < 2:
                raise ValueError(f"{name}.shape={shape}, expected at least 2 dimensions")
        assert a is not None and b is not None
        (rows, inner), (others, columns) = _matrix(a, attrs["trans_a"]), _matrix(b, attrs["trans_b"])
        if inner != others:
            raise ValueError(
                f"b.shape={b} has matrices of {others} rows, expected {inner}, the columns of those of a (a.shape={a})"
            )
        try:
            batch = np.broadcast_shapes(a[:-2], b[:-2])
        except ValueError:
            raise ValueError(
                f"b.shape={b}, expected axes before the last two that broadcast with a.shape={a}"
            ) from None
        return check_size((*batch, rows, columns))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        a, b = inputs
        assert a is not None and b is not None
        a, b = (x.swapaxes(-1, -2) if attrs[key] else x for x, key in ((a, "trans_a"), (b, "trans_b")))
        return reference.multiply(reference.matmul(a, b), np.float64(attrs["scale"]))

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        a = shapes[0]
        assert a is not None
        return 2 * prod(output) * _matrix(a, attrs["trans_a"])[1]

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        """For y = a @ b they are grad @ b^T and a^T @ grad. What is read transposed has its gradient transposed."""
        (a, b), turned_a, turned_b = node.inputs, node.attrs["trans_a"], node.attrs["trans_b"]
        products = (
            (a, (b, grad, turned_b, 1) if turned_a else (grad, b, 0, 1 - turned_b)),
            (b, (grad, a, 1, turned_a) if turned_b else (a, grad, 1 - turned_a, 0)),
        )
        grads: list[str | None] = []
        for own, (left, right, trans_a, trans_b) in products:
            if not back.needs(own):
                grads.append(None)
                continue
            part = back.add("MatMul", left, right, trans_a=trans_a, trans_b=trans_b, scale=node.attrs["scale"])
            shape = back.shape(own)
            grads.append(part if back.shape(part) == shape else back.add("SumTo", part, shape=shape))
        return grads

    def lower(self, node: Node, ctx: Lowering) -> None:
        names = (node.output, *node.inputs)
        views, shapes = [ctx.view(name) for name in names], [ctx.shape(name) for name in names]
        turned = bool(node.attrs["trans_a"]), bool(node.attrs["trans_b"])
        (rows, columns), inner = shapes[0][-2:], _matrix(shapes[1], turned[0])[1]
        pitches = [view.image if len(shape) == 2 else shape[-1] for view, shape in zip(views, shapes, strict=True)]
        offsets = _offsets(shapes)
        if not turned[0] and not offsets[2].any() and prod(shapes[1]) * columns == prod(shapes[0]) * inner:
            rows, offsets = rows * offsets.shape[1], offsets[:, :1]  # all matrices of a are multiplied with one of b
        ctx.emit(
            "matmul",
            _matmul.MatMul,
            *views,
            (rows, columns, inner),
            (pitches[0], pitches[1], pitches[2]),
            offsets,
            turned,
            node.attrs["scale"],
            node.decided.finish.activation,
        )


def _matrix(shape: Shape, turned: int) -> tuple[int, int]:
    """Rows and columns of the matrices of an operand, as they are multiplied."""
    return (shape[-1], shape[-2]) if turned else (shape[-2], shape[-1])


def _offsets(shapes: Sequence[Shape]) -> np.ndarray:
    """Where each matrix of the output and of the operands begins; those of an operand are broadcast."""
    batch, rows = shapes[0][:-2], []
    for shape in shapes:
        count, size = prod(shape[:-2]), prod(shape[-2:])
        rows.append(np.broadcast_to((np.arange(count) * size).reshape(shape[:-2]), batch).reshape(-1))
    return np.stack(rows)


OPS = (MatMul(),)
