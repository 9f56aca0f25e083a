"""Pixels in another order, as windows and tokens of images have; channels that become neighbouring pixels, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels import _gather
from fastcnn.kernels.view import View
from fastcnn.ops.access import Access
from fastcnn.ops.base import check_size, images
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes


class MovePixels(Op):
    """Only the compiler makes it: images of the pixels of x (N, C, H, W), which are numbered through all N images.

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


class DepthToSpace(Op):
    """Channels become the pixels of a square: pixel shuffle; ONNX DepthToSpace.

    x (N, C * b * b, H, W) to (N, C, H * b, W * b). The mode tells whether the pixel of the square comes before the
    channel, "DCR", or after it, "CRD".
    """

    name = "DepthToSpace"
    defaults: Mapping[str, Any] = {"blocksize": 1, "mode": "DCR"}
    layout = "blocked"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, height, width = images(shapes)
        b = _block(attrs)
        if channels % (b * b):
            raise ValueError(f"x.shape={shapes[0]}, expected channels that {b * b} divides")
        return check_size((n, channels // (b * b), height * b, width * b))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, b = np.asarray(inputs[0], np.float64), attrs["blocksize"]
        n, channels, height, width = x.shape
        apart = x.reshape(n, *_parts(attrs, channels // (b * b)), height, width)
        order = (0, 3, 4, 1, 5, 2) if attrs["mode"] == "DCR" else (0, 1, 4, 2, 5, 3)
        y: np.ndarray = apart.transpose(order).reshape(n, -1, height * b, width * b)
        return y

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        return 0

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("SpaceToDepth", grad, **node.attrs)]

    def access(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Access:
        return Access("blocked", reads_narrow=True, reads_plain=True, writes_plain=True)

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, x, b = ctx.view(node.output), ctx.view(node.inputs[0]), node.attrs["blocksize"]
        channels = np.arange(x.c).reshape(_parts(node.attrs, y.c))
        by_pixel = channels if node.attrs["mode"] == "DCR" else np.moveaxis(channels, 0, 2)
        ctx.emit("shuffle", _gather.MoveElements, y, x, _floats_of_channels(by_pixel, x), b, 1)


class SpaceToDepth(DepthToSpace):
    """The pixels of a square become channels: pixel unshuffle; ONNX SpaceToDepth, the inverse of DepthToSpace."""

    name = "SpaceToDepth"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, height, width = images(shapes)
        b = _block(attrs)
        if height % b or width % b:
            raise ValueError(f"x.shape={shapes[0]}, expected height and width that {b} divides")
        return check_size((n, channels * b * b, height // b, width // b))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        x, b = np.asarray(inputs[0], np.float64), attrs["blocksize"]
        n, channels, height, width = x.shape
        apart = x.reshape(n, channels, height // b, b, width // b, b)
        order = (0, 3, 5, 1, 2, 4) if attrs["mode"] == "DCR" else (0, 1, 3, 5, 2, 4)
        y: np.ndarray = apart.transpose(order).reshape(n, -1, height // b, width // b)
        return y

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("DepthToSpace", grad, **node.attrs)]

    def lower(self, node: Node, ctx: Lowering) -> None:
        y, x, b = ctx.view(node.output), ctx.view(node.inputs[0]), node.attrs["blocksize"]
        pixels = np.arange(b)[:, None] * x.row + np.arange(b) * x.lanes
        channels = _floats_of_channels(np.arange(x.c), x)
        first = node.attrs["mode"] == "DCR"
        places = pixels[:, :, None] + channels if first else channels[:, None, None] + pixels
        ctx.emit("unshuffle", _gather.MoveElements, y, x, np.ascontiguousarray(places, np.intp), 1, b)


def _block(attrs: Attrs) -> int:
    """The side of the square, after checking the attributes."""
    if attrs["mode"] not in ("DCR", "CRD"):
        raise ValueError(f"mode={attrs['mode']!r}, expected DCR or CRD")
    if attrs["blocksize"] < 1:
        raise ValueError(f"blocksize={attrs['blocksize']}, expected an integer >= 1")
    return int(attrs["blocksize"])


def _parts(attrs: Attrs, channels: int) -> Shape:
    """The axes that the channels before DepthToSpace consist of: a square, and the channels behind it."""
    b = attrs["blocksize"]
    return (b, b, channels) if attrs["mode"] == "DCR" else (channels, b, b)


def _floats_of_channels(channels: np.ndarray, x: View) -> np.ndarray:
    """How many floats behind a pixel's first channel each channel of a view lies."""
    return np.ascontiguousarray(channels // x.lanes * x.block + channels % x.lanes, np.intp)


OPS = (MovePixels(), DepthToSpace(), SpaceToDepth())
