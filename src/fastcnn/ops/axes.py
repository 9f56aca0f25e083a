"""Operations that rename or reorder axes: flattening, reshaping, transposition."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _gather
from fastcnn.kernels.view import View
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes


class Flatten(Op):
    """(d0, ..., dn) to a matrix, split at an axis; ONNX Flatten."""

    name = "Flatten"
    defaults = {"axis": 1}
    is_alias = True
    moves = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, axis = shapes[0], attrs["axis"]
        assert shape is not None
        if not -len(shape) <= axis <= len(shape):
            raise ValueError(f"start_dim={axis}, expected an axis of x (x.shape={shape})")
        axis = axis % len(shape) if axis < 0 else axis
        return prod(shape[:axis]), prod(shape[axis:])

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return reference.flatten(inputs[0], attrs["axis"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("Reshape", grad, shape=back.shape(node.inputs[0]))]

    def lower(self, node: Node, ctx: Lowering) -> None:
        """Nothing to run: the matrix is the same memory."""


class Reshape(Op):
    """The same elements in another shape; ONNX Reshape. In `shape`, 0 keeps a size and -1 takes what is left."""

    name = "Reshape"
    defaults = {"shape": ()}
    is_alias = True
    moves = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape = shapes[0]
        assert shape is not None
        return target_shape(shape, attrs["shape"])

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.asarray(inputs[0], np.float64).reshape(target_shape(inputs[0].shape, attrs["shape"]))

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("Reshape", grad, shape=back.shape(node.inputs[0]))]

    def lower(self, node: Node, ctx: Lowering) -> None:
        """Nothing to run: it is the same memory."""


def target_shape(shape: Sequence[int], wanted: Sequence[int], allow_zero: bool = False) -> Shape:
    """The shape that Reshape gives: 0 keeps a size, unless sizes may be 0, and -1 takes what is left.

    Examples
    --------
    >>> target_shape((2, 3, 4), (0, -1))
    (2, 12)
    """
    sizes = [int(size) for size in wanted]
    refusal = f"shape={tuple(sizes)}, expected a shape of {prod(shape)} elements (x.shape={tuple(shape)})"
    for i, size in enumerate(sizes):
        if size == 0 and not allow_zero:
            if i >= len(shape):
                raise ValueError(refusal)
            sizes[i] = shape[i]
    if sizes.count(-1) == 1:
        rest = -prod(sizes)
        if rest <= 0 or prod(shape) % rest:
            raise ValueError(refusal)
        sizes[sizes.index(-1)] = prod(shape) // rest
    if any(size < 0 for size in sizes) or prod(sizes) != prod(shape):
        raise ValueError(refusal)
    return tuple(sizes)


class Transpose(Op):
    """Axes in another order; ONNX Transpose."""

    name = "Transpose"
    defaults = {"perm": ()}

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        shape, perm = shapes[0], attrs["perm"]
        assert shape is not None
        if sorted(perm) != list(range(len(shape))):
            raise ValueError(f"perm={perm}, expected an order of the {len(shape)} axes (x.shape={shape})")
        strides = contiguous_strides(shape)
        loops = len(merged_loops([(shape[axis], strides[axis]) for axis in perm]))
        if loops > _gather.MOST:
            raise ValueError(f"perm={perm} takes {loops} loops, expected at most {_gather.MOST} (x.shape={shape})")
        return tuple(shape[axis] for axis in perm)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.transpose(np.asarray(inputs[0], np.float64), attrs["perm"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("Transpose", grad, perm=tuple(np.argsort(node.attrs["perm"]).tolist()))]

    def lower(self, node: Node, ctx: Lowering) -> None:
        strides = plain_strides(ctx.view(node.inputs[0]), ctx.shape(node.inputs[0]))
        gather(ctx, node, [(ctx.shape(node.inputs[0])[axis], strides[axis]) for axis in node.attrs["perm"]])


def plain_strides(view: View, shape: Shape) -> list[int]:
    """Floats from one element to the next along each axis of a plain value; a matrix may have gaps between its rows."""
    return [view.image, 1] if len(shape) == 2 else contiguous_strides(shape)


def contiguous_strides(shape: Shape) -> list[int]:
    """Elements from one to the next along each axis of an array without gaps."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def gather(ctx: Lowering, node: Node, loops: Sequence[tuple[int, int]], offset: int = 0) -> None:
    """Emit the step that copies elements of the input, in the order of nested loops (size, stride)."""
    output, x = ctx.view(node.output), ctx.view(node.inputs[0])
    size = prod(ctx.shape(node.output))
    row = output._replace(n=1, c=1, h=1, w=size, image=size, block=size, row=size)
    ctx.emit(node.op.lower(), _gather.Gather, row, x._replace(offset=x.offset + offset), merged_loops(loops))


def merged_loops(loops: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The loops without those of one round; neighbours whose elements follow each other are one."""
    merged: list[tuple[int, int]] = []
    for size, stride in loops:
        if size == 1:
            continue
        if merged and merged[-1][1] == size * stride:
            merged[-1] = merged[-1][0] * size, stride
        else:
            merged.append((size, stride))
    return merged or [(1, 1)]


OPS = (Flatten(), Reshape(), Transpose())
