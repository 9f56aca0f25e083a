"""Pixels in another order, which windows and tokens of images are; only the compiler makes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np

from fastcnn.kernels import _gather
from fastcnn.kernels.view import View
from fastcnn.ops.base import check_size, images
from fastcnn.ops.node import Attrs, Lowering, Node, Op, Shape, Shapes


class MovePixels(Op):
    """Images of the pixels of x (N, C, H, W), which are numbered through all N images.

    `shape` is the number, height and width of the images. `images` and `pixels` are nested loops, the outermost first:
    for each loop its rounds, and how far the number of the pixel moves in a round. `offset` is the number of the first
    pixel. A loop stays within a row, or moves by full rows or images.
    """

    name = "MovePixels"
    defaults = {"shape": (), "images": (), "pixels": (), "offset": 0}
    layout = "blocked"
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        count, height, width = attrs["shape"]
        return check_size((count, images(shapes)[1], height, width))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x = inputs[0]
        assert x is not None
        numbers = np.array(attrs["offset"])
        for size, step in (*_pairs(attrs["images"]), *_pairs(attrs["pixels"])):
            numbers = numbers[..., None] + step * np.arange(size)
        rows = np.moveaxis(np.asarray(x, np.float64), 1, 3).reshape(-1, x.shape[1])
        count, height, width = attrs["shape"]
        return np.moveaxis(rows[numbers.ravel()].reshape(count, height, width, x.shape[1]), 3, 1)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, x, attrs = ctx.view(node.output), ctx.view(node.inputs[0]), node.attrs
        loops = [
            [(size, _floats(step, x)) for size, step in _pairs(attrs[key]) if size > 1] for key in ("images", "pixels")
        ]
        start = x._replace(offset=x.offset + _floats(attrs["offset"], x))
        ctx.emit("move", _gather.MovePixels, y, start, *loops)


def _pairs(flat: Sequence[int]) -> Iterator[tuple[int, int]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _floats(pixels: int, x: View) -> int:
    """How many floats a number of pixels is in a view."""
    image, pixel = divmod(pixels, prod((x.h, x.w)))
    return image * x.image + pixel // x.w * x.row + pixel % x.w * x.lanes


OPS = (MovePixels(),)
