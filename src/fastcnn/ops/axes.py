"""Operations that rename or reorder axes: flattening, reshaping, transposition."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from fastcnn import reference
from fastcnn.kernels import _reorder
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes


class Flatten(Op):
    """(d0, ..., dn) to a matrix, split at an axis; ONNX Flatten."""

    name = "Flatten"
    defaults = {"axis": 1}
    is_alias = True

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
        loops = len(_merged_axes(shape, perm))
        if loops > 4:
            raise ValueError(f"perm={perm} takes {loops} loops, expected at most 4 (x.shape={shape})")
        return tuple(shape[axis] for axis in perm)

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        return np.transpose(np.asarray(inputs[0], np.float64), attrs["perm"])

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("Transpose", grad, perm=tuple(np.argsort(node.attrs["perm"]).tolist()))]

    def lower(self, node: Node, ctx: Lowering) -> None:
        source = ctx.shape(node.inputs[0])
        target, view = ctx.view(node.output), ctx.view(node.inputs[0])
        strides = [prod(source[axis + 1 :]) for axis in range(len(source))]
        if len(source) == 2:
            strides[0] = view.image  # rows of a matrix may have gaps between them
        loops = _merged_axes(source, node.attrs["perm"], strides)
        (n, image), (c, block), (h, row), (w, step) = [(1, 0)] * (4 - len(loops)) + loops
        target = target._replace(n=n, c=c, h=h, w=w, image=c * h * w, block=h * w, row=w)
        ctx.emit("transpose", _reorder.Transpose, target, view, (image, block, row, step))


def _merged_axes(shape: Shape, perm: Sequence[int], strides: Sequence[int] | None = None) -> list[tuple[int, int]]:
    """Loops over the output, (size, stride in the input); axes that stay adjacent are one loop."""
    if strides is None:
        strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    loops: list[tuple[int, int]] = []
    for axis in perm:
        if shape[axis] == 1:
            continue
        if loops and loops[-1][1] == shape[axis] * strides[axis]:
            loops[-1] = loops[-1][0] * shape[axis], strides[axis]
        else:
            loops.append((shape[axis], strides[axis]))
    return loops or [(1, 1)]


OPS = (Flatten(), Reshape(), Transpose())
