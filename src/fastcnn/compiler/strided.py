"""Strided values: what a chain of reshapes, transposes and slices makes, as elements of the image that it began with.

Each axis of a value is a list of factors (size, stride). Strides count elements of the dense NCHW image. To merge axes
joins their lists, and to split one splits its factors, so that most chains stay one description and move nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fastcnn._record import record
from fastcnn.graph.ir import Shape

__all__ = ["Factor", "Strided", "of_image"]

Factor = tuple[int, int]  # size, stride


@record
class Strided:
    """A value whose elements are those of an image.

    Attributes
    ----------
    image : str
        Name of the image.
    sizes : tuple of int
        Its shape (N, C, H, W).
    axes : tuple
        The factors of each axis, the outermost first. An axis of size 1 has none.
    offset : int
        The image's element that comes first.

    Examples
    --------
    >>> tokens = of_image("x", (1, 8, 2, 3)).reshape((1, 8, 6)).transpose((0, 2, 1))
    >>> tokens.shape, tokens.axes
    ((1, 6, 8), ((), ((6, 1),), ((8, 6),)))
    """

    image: str
    sizes: Shape
    axes: tuple[tuple[Factor, ...], ...]
    offset: int = 0

    @property
    def shape(self) -> Shape:
        """The shape of the value."""
        return tuple(prod(size for size, _ in axis) for axis in self.axes)

    def with_axes(self, axes: Sequence[Sequence[Factor]], offset: int | None = None) -> Strided:
        """The same image with other axes."""
        joined = tuple(_joined(axis) for axis in axes)
        return Strided(self.image, self.sizes, joined, self.offset if offset is None else offset)

    def transpose(self, perm: Sequence[int]) -> Strided:
        """Its axes in another order."""
        return self.with_axes([self.axes[axis] for axis in perm])

    def reshape(self, shape: Shape) -> Strided | None:
        """The same elements in another shape, of which one size may be -1; None if a factor would be cut unevenly."""
        if -1 in shape:
            shape = tuple(prod(self.shape) // -prod(shape) if size == -1 else size for size in shape)
        left = [factor for axis in self.axes for factor in axis][::-1]  # the outermost last
        axes: list[list[Factor]] = []
        for size in shape:
            axis: list[Factor] = []
            while size > 1:
                have, stride = left.pop()
                if have > size:
                    if have % size:
                        return None
                    left.append((have // size, stride))
                    have, stride = size, stride * (have // size)
                if size % have:
                    return None
                axis.append((have, stride))
                size //= have
            axes.append(axis)
        return self.with_axes(axes)

    def slice(self, axis: int, start: int, size: int, step: int = 1) -> Strided | None:
        """Every `step`-th of its elements along an axis; None if the axis has several factors."""
        if size == self.shape[axis] and step == 1:
            return self
        if len(self.axes[axis]) != 1:
            return None
        ((_, stride),) = self.axes[axis]
        axes = [*self.axes[:axis], [(size, stride * step)], *self.axes[axis + 1 :]]
        return self.with_axes(axes, self.offset + start * stride)

    @property
    def is_image(self) -> bool:
        """Whether it is the image itself, as it is."""
        return self.shape == self.sizes and self == of_image(self.image, self.sizes)


def of_image(image: str, sizes: Shape) -> Strided:
    """An image (N, C, H, W) as it is."""
    strides = [prod(sizes[axis + 1 :]) for axis in range(4)]
    return Strided(image, sizes, tuple(_joined([factor]) for factor in zip(sizes, strides, strict=True)))


def _joined(axis: Sequence[Factor]) -> tuple[Factor, ...]:
    """The factors without those of size 1; neighbours whose elements follow each other are one."""
    joined: list[Factor] = []
    for size, stride in axis:
        if size == 1:
            continue
        if joined and joined[-1][1] == size * stride:
            joined[-1] = joined[-1][0] * size, stride
        else:
            joined.append((size, stride))
    return tuple(joined)
