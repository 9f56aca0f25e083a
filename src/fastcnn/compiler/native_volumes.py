"""The translation rule for convolution of volumes (N, C, D, H, W): one axis goes to the batch or to the channels.

Where one axis has one tap, its places become images: (N * places, C, H, W). Where it has one output, its taps become
channels: (N, C * taps, H, W). Else outputs become images, and taps channels: (N * outputs, C * taps, H, W).

The axis with the fewest taps is chosen. Taps that meet only padding do not count: a volume of depth 1 has one tap.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from fastcnn._record import record
from fastcnn.compiler.rewriter import Chain, Rewriter
from fastcnn.graph.ir import Node, Shape
from fastcnn.ops.general.windows import window_pads, window_sizes

__all__ = ["conv_of_volumes"]


def conv_of_volumes(r: Rewriter, weight: np.ndarray) -> list[Node] | None:
    """The nodes that compute the current convolution as one of images.

    Parameters
    ----------
    r : Rewriter
    weight : ndarray
        Shape (O, C / groups, taps of each axis).
    """
    axes = _axes(r, weight.shape[2:])
    if not all(axis.taps for axis in axes):  # outputs of nothing but padding
        return None
    axis = min(axes, key=lambda axis: (axis.parts, axis.number))
    rest = [other for other in axes if other is not axis]
    chain = Chain(r)
    if axis.outputs == 1:
        _taps_to_channels(chain, axis)
    else:
        _places_to_batch(chain, axis)
    filters = np.moveaxis(weight, 2 + axis.number, 2)[:, :, list(axis.taps)]
    filters = filters.reshape(len(weight), -1, *filters.shape[3:])
    name = r.constant(f"{r.node.inputs[1]}_of_images", filters, axis.number, axis.taps)
    strides, dilations = tuple(other.stride for other in rest), tuple(other.dilation for other in rest)
    pads = tuple(other.pads[end] for end in (0, 1) for other in rest)
    settings = {"strides": strides, "dilations": dilations, "pads": pads, "group": r.attr("group")}
    chain.add("Conv", name, *r.node.inputs[2:], **settings)
    chain.shape = (chain.shape[0], len(weight), *(other.outputs for other in rest))
    chain.reshape(axis.outputs, *chain.shape[1:])
    places = {axis.number: 1, rest[0].number: 3, rest[1].number: 4}
    chain.turn((0, 2, places[0], places[1], places[2]))
    return chain.ended()


@record
class _Axis:
    """How a convolution goes along one axis.

    Attributes
    ----------
    number : int
        0, 1 or 2.
    size, outputs, stride, dilation : int
    pads : (int, int)
        What the convolution adds before and after.
    taps : tuple of int
        Those that meet elements of the input.
    """

    number: int
    size: int
    outputs: int
    stride: int
    dilation: int
    pads: tuple[int, int]
    taps: tuple[int, ...]

    @property
    def parts(self) -> int:
        """How often an element of the input is copied."""
        return 1 if self.outputs == 1 else len(self.taps)

    def place(self, tap: int) -> int:
        """Where the first output has a tap; negative in the padding."""
        return tap * self.dilation - self.pads[0]


def _axes(r: Rewriter, kernel: Shape) -> list[_Axis]:
    sizes = r.shape()[2:]
    strides, dilations = r.attr("strides") or (1,) * 3, r.attr("dilations") or (1,) * 3
    pads = window_pads(sizes, kernel, strides, dilations, r.attr("pads") or (0,) * 6, r.attr("auto_pad"))
    outputs = window_sizes(sizes, kernel, strides, dilations, pads)
    axes = [
        _Axis(number, *settings, taps=())
        for number, settings in enumerate(zip(sizes, outputs, strides, dilations, pads, strict=True))
    ]
    return [
        replace(axis, taps=tuple(tap for tap in range(count) if _meets(axis, tap)))
        for axis, count in zip(axes, kernel, strict=True)
    ]


def _meets(axis: _Axis, tap: int) -> bool:
    """Whether an output has an element of the input at a tap."""
    place = axis.place(tap)
    output = max(0, -(place // axis.stride))  # the first that is not in the padding before
    return output < axis.outputs and place + output * axis.stride < axis.size


def _taps_to_channels(chain: Chain, axis: _Axis) -> None:
    """(N, C, D, H, W) to (N, C * taps, ...): the one output meets a part of the axis, or every few of its elements."""
    others = [2 + number for number in range(3) if number != axis.number]
    chain.turn((0, 1, 2 + axis.number, *others))
    _, channels, size, *rest = chain.shape
    taps = len(axis.taps)
    if taps < size:
        start = axis.place(axis.taps[0])
        chain.add("Slice", **_part(2, start, taps, axis.dilation))
        chain.shape = (*chain.shape[:2], taps, *rest)
    chain.reshape(channels * taps, *rest)


def _places_to_batch(chain: Chain, axis: _Axis) -> None:
    """(N, C, D, H, W) to (N * outputs, C * taps, ...)."""
    others = [2 + number for number in range(3) if number != axis.number]
    chain.turn((0, 2 + axis.number, 1, *others))
    images, size, channels, *rest = chain.shape
    chain.reshape(size, channels, prod(rest))
    first, last = axis.place(axis.taps[0]), axis.place(axis.taps[-1])
    before, after = max(0, -first), max(0, last + (axis.outputs - 1) * axis.stride + 1 - size)
    if before or after:
        chain.add("Pad", pads=(0, before, 0, 0, 0, after, 0, 0))
        size += before + after
    whole, parts = chain.value, []
    for tap in axis.taps:
        chain.value = whole
        start = axis.place(tap) + before
        if (start, axis.outputs, axis.stride) != (0, size, 1):
            chain.add("Slice", **_part(1, start, axis.outputs, axis.stride))
        chain.add("Reshape", shape=(-1, channels, 1, prod(rest)))
        parts.append(chain.value)
    if len(parts) > 1:
        chain.value = chain.made("Concat", tuple(parts), axis=2)
    chain.shape = (images * axis.outputs, channels, len(parts), prod(rest))
    chain.reshape(channels * len(parts), *rest)


def _part(axis: int, start: int, count: int, step: int) -> dict[str, int]:
    """The attributes of a slice of every `step`-th element."""
    return {"axis": axis, "start": start, "end": start + (count - 1) * step + 1, "step": step}
