"""Resizing of images: each pixel is a weighted sum of a few neighbours, rows and columns apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastcnn.kernels import _resample
from fastcnn.ops.base import check_pair, check_size, images
from fastcnn.ops.interpolation import coordinates, nearest_of, neighbours
from fastcnn.ops.node import Attrs, Backward, Lowering, Node, Op, Shape, Shapes

MOST = 1 << 16  # rows or columns: the tables of taps, which no budget counts, stay small
MODES = ("nearest", "linear", "cubic")


class Taps(NamedTuple):
    """The taps of all outputs along an axis: output i has those from starts[i] to starts[i + 1]."""

    starts: np.ndarray
    inputs: np.ndarray
    weights: np.ndarray

    def transposed(self, length: int) -> Taps:
        """Those of the gradient: the outputs that each of `length` inputs is a tap of."""
        outputs = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        order = np.argsort(self.inputs, kind="stable")
        starts = np.searchsorted(self.inputs[order], np.arange(length + 1))
        return Taps(starts, outputs[order], self.weights[order])

    def applied(self, x: np.ndarray, axis: int) -> np.ndarray:
        """The outputs along an axis of x, in float64."""
        moved = np.moveaxis(np.asarray(x, np.float64), axis, 0)
        result = np.zeros((len(self.starts) - 1, *moved.shape[1:]))
        outputs = np.repeat(np.arange(len(result)), np.diff(self.starts))
        np.add.at(result, outputs, moved[self.inputs] * self.weights.reshape(-1, *[1] * (moved.ndim - 1)))
        return np.moveaxis(result, 0, axis)


def taps_of(attrs: Attrs, axis: int, length: int) -> Taps:
    """The taps of an axis, 0 for rows and 1 for columns, of `length` inputs; those of weight zero are left out."""
    size, scale = attrs["sizes"][axis], (attrs["scale_h"], attrs["scale_w"])[axis]
    if size == length and scale == 1:
        return Taps(np.arange(size + 1), np.arange(size), np.ones(size))
    rule = attrs["coordinate_transformation_mode"]
    if attrs["mode"] == "nearest":
        return Taps(np.arange(size + 1), nearest_of(length, size, scale, rule, attrs["nearest_mode"]), np.ones(size))
    where = coordinates(length, size, scale, rule, 0.0, 1.0)
    outside = bool(attrs["exclude_outside"])
    index, weights = neighbours(where, length, attrs["mode"], attrs["cubic_coeff_a"], 1.0, outside)
    used = weights != 0
    starts = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
    return Taps(starts, index[used], weights[used])


class Resize(Op):
    """Images of another size; ONNX Resize of the last two axes, with the sizes and scales that it has found."""

    name = "Resize"
    defaults: Mapping[str, Any] = {
        "sizes": (1, 1),
        "scale_h": 1.0,
        "scale_w": 1.0,
        "mode": "nearest",
        "nearest_mode": "round_prefer_floor",
        "coordinate_transformation_mode": "half_pixel",
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
    }
    layout = "blocked"

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, height, width = images(shapes)
        check_pair("sizes", attrs["sizes"], 1)
        if max(attrs["sizes"]) > MOST:
            raise ValueError(f"sizes={attrs['sizes']}, expected at most {MOST}")
        if attrs["mode"] not in MODES:
            raise ValueError(f"mode={attrs['mode']!r}, expected nearest, linear or cubic")
        if not (0 < attrs["scale_h"] < 2**31 and 0 < attrs["scale_w"] < 2**31):
            raise ValueError(f"scales={attrs['scale_h'], attrs['scale_w']}, expected positive numbers")
        if height * width == 0:
            raise ValueError(f"x.shape={shapes[0]}, expected images of at least one pixel")
        return check_size((n, channels, *attrs["sizes"]))

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        rows, columns = (taps_of(attrs, i, inputs[0].shape[2 + i]) for i in (0, 1))
        return columns.applied(rows.applied(inputs[0], 2), 3)

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        taps = {"nearest": 1, "linear": 2, "cubic": 4}[attrs["mode"]]
        return 2 * taps * taps * prod(output)

    def gradient(self, node: Node, grad: str, back: Backward) -> list[str | None]:
        return [back.add("ResizeGrad", grad, of=back.shape(node.inputs[0])[2:], **node.attrs)]

    def lower(self, node: Node, ctx: Lowering) -> None:
        size = ctx.shape(node.inputs[0])[2:]
        rows, columns = (taps_of(node.attrs, i, size[i]) for i in (0, 1))
        ctx.emit("resize", _resample.Resample, ctx.view(node.output), ctx.view(node.inputs[0]), rows, columns)


class ResizeGrad(Resize):
    """Gradient of Resize by its input, images of the size `of`."""

    name = "ResizeGrad"
    defaults = {**Resize.defaults, "of": (1, 1)}
    arguments = ("grad",)
    is_internal = True

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        n, channels, *size = images(shapes, "grad")
        if tuple(size) != attrs["sizes"]:
            raise ValueError(f"grad.shape={shapes[0]}, expected {(n, channels, *attrs['size'])}")
        return n, channels, *attrs["of"]

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        assert inputs[0] is not None
        rows, columns = (taps_of(attrs, i, n).transposed(n) for i, n in enumerate(attrs["of"]))
        return columns.applied(rows.applied(inputs[0], 2), 3)

    def lower(self, node: Node, ctx: Lowering) -> None:
        rows, columns = (taps_of(node.attrs, i, n).transposed(n) for i, n in enumerate(node.attrs["of"]))
        ctx.emit("resizegrad", _resample.Resample, ctx.view(node.output), ctx.view(node.inputs[0]), rows, columns)


OPS = (Resize(), ResizeGrad())
