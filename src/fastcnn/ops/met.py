"""The windows of a convolution that meet its image.

Other windows lie in the padding alone, and add nothing to gradients. Kernels never see them. Nor do kernels see padding
longer than a window, or strides longer than the image.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn._record import record
from fastcnn.ops.node import Attrs


@record
class WindowsMet:
    """The windows of a convolution that meet its image.

    Attributes
    ----------
    first, count : pairs of int
        The first window and their number, in height and width. If none meets the image, `first` is behind the last
        window and `count` is 1. That window does not exist, and its gradient is zero.
    lacks_any : bool
        Whether other windows were left out.
    attrs : dict
        Strides and padding of the convolution with these windows alone; empty if nothing changes.
    """

    first: tuple[int, int]
    count: tuple[int, int]
    lacks_any: bool
    attrs: Attrs


def windows_met(attrs: Attrs, size: Sequence[int], kernel: Sequence[int], windows: Sequence[int]) -> WindowsMet:
    """The windows that meet an image of `size` (H, W), where there are `windows` in height and width.

    Strides are then bounded by the image and its padding, and padding by a window. Padding before the image is negative
    where the first window begins inside.

    Examples
    --------
    >>> attrs = {"strides": (1, 3), "pads": (0, 4, 0, 5), "dilations": (1, 1)}
    >>> windows_met(attrs, (3, 5), (1, 2), (3, 5))
    WindowsMet(first=(0, 1), count=(3, 2), lacks_any=True, attrs={'strides': (1, 3), 'pads': (0, 1, 0, 0)})
    """
    axes = [
        _met(
            size[axis],
            kernel[axis],
            attrs["strides"][axis],
            attrs["pads"][axis],
            attrs["dilations"][axis],
            windows[axis],
        )
        for axis in range(2)
    ]
    first, count, strides, before, after = zip(*axes, strict=True)
    lacks_any = any(first) or count != tuple(windows)
    bounded = lacks_any or strides != attrs["strides"]
    return WindowsMet(first, count, lacks_any, {"strides": strides, "pads": (*before, *after)} if bounded else {})


def _met(size: int, taps: int, stride: int, before: int, dilation: int, windows: int) -> tuple[int, int, int, int, int]:
    """Along one axis: the first window, their number, stride, and padding before and after."""
    extent = dilation * (taps - 1) + 1
    first = max(0, (before - extent) // stride + 1)
    count = min(windows, (size - 1 + before) // stride + 1) - first
    if count < 1:
        first, count, stride, before = windows, 1, size, 0
    before -= first * stride if first < windows else 0
    stride = min(stride, size + before)  # a single window takes any stride
    return first, count, stride, before, max(0, (count - 1) * stride + extent - size - before)
