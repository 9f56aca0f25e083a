"""Reductions along axes: sums, means, maxima and norms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels import _broadcast
from fastcnn.ops.access import Access
from fastcnn.ops.axes import contiguous_strides, plain_strides
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

REDUCED_LOOPS = 3  # the most that a tile reduces at once


class Reduction(Op):
    """The axes of `axes` become one element each, or vanish; ONNX ReduceSum, ReduceMean, ReduceMax and ReduceL2."""

    defaults = {"axes": (), "keepdims": 1}

    def __init__(self, name: str, kind: str, define: Callable[..., Any]) -> None:
        self.name, self._kind, self._define = name, kind, define

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        x = shapes[0]
        assert x is not None
        axes = _axes(attrs["axes"], x)
        if prod(x) == 0:
            raise ValueError(f"x.shape={x}, expected at least one element")
        if len(_merged(x, axes, contiguous_strides(x))[1]) > REDUCED_LOOPS:
            raise ValueError(f"axes={attrs['axes']}, expected axes that form at most {REDUCED_LOOPS} groups")
        return tuple(1 if i in axes else size for i, size in enumerate(x) if attrs["keepdims"] or i not in axes)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x = np.asarray(inputs[0], np.float64)
        with np.errstate(all="ignore"):
            return np.asarray(self._define(x, axis=_axes(attrs["axes"], x.shape), keepdims=bool(attrs["keepdims"])))

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        assert shapes[0] is not None
        return prod(shapes[0])

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        (x,), y = node.inputs, node.output
        shape = back.shape(x)
        axes = _axes(node.attrs["axes"], shape)
        kept = tuple(1 if i in axes else size for i, size in enumerate(shape))
        if not node.attrs["keepdims"]:
            grad, y = (back.add("Reshape", name, shape=kept) for name in (grad, y))
        count = prod(shape[axis] for axis in axes)
        if self._kind == "sum":
            factor = 1 / count if self.name == "ReduceMean" else 1.0
            return [back.add("BroadcastTo", grad, shape=shape, factor=factor)]
        if self._kind == "largest":  # equal maxima share the gradient
            same = back.add("Same", x, y)
            shares = back.add("SumTo", same, shape=kept)
            return [back.add("Mul", same, back.add("Div", grad, shares))]
        # x / y, but zero where y is.
        divisor = back.add("Add", y, back.add("Same", y, back.add("ZerosLike", y)))
        return [back.add("Mul", x, back.add("Div", grad, divisor))]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        shape = shapes[node.inputs[0]]
        planes = len(shape) == 4 and node.attrs["keepdims"] and _axes(node.attrs["axes"], shape) == (2, 3)
        return Access("follow" if planes else "plain")

    def lower(self, node: Node, ctx: Lowering) -> None:
        shape = ctx.shape(node.inputs[0])
        if ctx.view(node.output).lanes > 1:
            self.lower_planes(node, ctx, prod(shape[2:]) if self.name == "ReduceMean" else 1)
            return
        axes = _axes(node.attrs["axes"], shape)
        count = prod(shape[axis] for axis in axes)
        emit_reduction(node, ctx, self._kind, axes, count if self.name == "ReduceMean" else 1)

    def lower_planes(self, node: Node, ctx: Lowering, divisor: int) -> None:
        """Emit the reduction of blocked planes: of each block, all pixels."""
        y, x = ctx.view(node.output), ctx.view(node.inputs[0])
        kept, reduced = ([x.n, -(-x.c // x.lanes)], [x.image, x.block]), ([x.h, x.w], [x.row, x.lanes])
        row = y._replace(n=1, c=1, h=1, w=x.n * y.image, image=x.n * y.image, lanes=1)
        ctx.emit(node.op.lower(), _broadcast.Reduce, row, x, self._kind, kept, reduced, x.lanes, float(divisor))


def _axes(axes: Sequence[int], shape: Shape) -> tuple[int, ...]:
    """Axes in order, counted from the front; none stands for all."""
    if any(not -len(shape) <= axis < len(shape) for axis in axes):
        raise ValueError(f"axes={tuple(axes)}, expected axes of x (x.shape={shape})")
    return tuple(sorted({axis % len(shape) for axis in axes})) if axes else tuple(range(len(shape)))


Loops = list[tuple[int, int]]  # sizes and steps, outermost first


def _merged(shape: Shape, axes: Sequence[int], strides: Sequence[int]) -> tuple[Loops, Loops]:
    """Loops over the kept and over the reduced axes."""
    found: list[tuple[bool, int, int]] = []
    for i, (size, step) in enumerate(zip(shape, strides, strict=True)):
        if size == 1:
            continue
        reduced = i in axes
        if found and found[-1][0] == reduced and found[-1][2] == size * step:
            found[-1] = (reduced, found[-1][1] * size, step)
        else:
            found.append((reduced, size, step))
    kept = [(size, step) for reduced, size, step in found if not reduced]
    return kept, [(size, step) for reduced, size, step in found if reduced]


def emit_reduction(node: Node, ctx: Lowering, kind: str, axes: Sequence[int], divisor: float = 1) -> None:
    """Emit a reduction of a node's first input along axes. Its output has no gaps."""
    shape, x = ctx.shape(node.inputs[0]), ctx.view(node.inputs[0])
    kept, reduced = _merged(shape, axes, plain_strides(x, shape))
    columns = kept.pop()[0] if kept and kept[-1][1] == 1 else 1
    loops = [([size for size, _ in part], [step for _, step in part]) for part in (kept, reduced)]
    ctx.emit(node.op.lower(), _broadcast.Reduce, ctx.view(node.output), x, kind, *loops, columns, float(divisor))


def _l2(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> Any:
    return np.sqrt((x * x).sum(axis=axis, keepdims=keepdims))


OPS = (
    Reduction("ReduceSum", "sum", np.sum),
    Reduction("ReduceMean", "sum", np.mean),
    Reduction("ReduceMax", "largest", np.max),
    Reduction("ReduceL2", "squares", _l2),
)
