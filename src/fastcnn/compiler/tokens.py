"""Values of a graph as images: the pixels of an image (N, C, H, W) are tokens (N, L, C).

A value is computed under its own name, or as an image, or it is a description of an image's elements. What moves
elements is kept aside until something reads it that needs it.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt, prod
from typing import Any

import numpy as np

from fastcnn import ops
from fastcnn.compiler.state import State
from fastcnn.compiler.strided import Factor, Strided, of_image
from fastcnn.graph.ir import Node, Shape, add_shapes
from fastcnn.kernels import _gather

__all__ = ["Values", "grid", "sizes_of"]


def grid(pixels: int) -> tuple[int, int]:
    """Height and width for tokens in a row: as square as possible, so that kernels can work by rows.

    Examples
    --------
    >>> grid(196), grid(197), grid(50)
    ((14, 14), (1, 197), (5, 10))
    """
    height = next(h for h in range(isqrt(pixels), 0, -1) if pixels % h == 0)
    return height, pixels // height


def sizes_of(shape: Shape) -> Shape:
    """The image shape of a value (N, ..., C). Rows (N, 1, C) are the pixels of one image."""
    pixels = prod(shape[1:-1])
    if pixels == 1:
        return (1, shape[-1], *grid(shape[0]))
    return (shape[0], shape[-1], *(shape[1:3] if len(shape) == 4 else grid(pixels)))


class Values:
    """The values of a graph that is made anew, node by node.

    Constants that training changes keep their names: what is made of them is computed in each step.
    """

    def __init__(self, state: State, trained: frozenset[str] | None = None) -> None:
        self.is_training, self.trained = trained is not None, trained or frozenset()
        self.state, self.shapes = state, dict(state.shapes)
        self.constants: dict[str, np.ndarray] = dict(state.graph.constants)
        self.nodes: list[Node] = []
        self.made = {"", *self.constants, *state.graph.inputs}
        self.pending: dict[str, Node] = {}  # nodes that move elements, which may not be needed
        self.places: dict[str, Strided] = {}
        self.images: dict[tuple[str, Shape], str] = {}  # by value and image shape
        self.imaged: set[str] = set()  # the values that have an image

    # Nodes and values

    def emit(self, op: str, name: str, inputs: tuple[str, ...], output: str, **attrs: Any) -> str:
        """Append a node, and give the name of its output."""
        return self.append(Node(op, name, inputs, output, {**ops.get(op).defaults, **attrs}))

    def append(self, node: Node) -> str:
        add_shapes([node], self.shapes)
        self.nodes.append(node)
        self.made.add(node.output)
        return node.output

    def reshape(self, name: str, shape: Shape) -> str:
        output = f"{name}:as{'x'.join(map(str, shape))}"
        if output not in self.made:
            self.emit("Reshape", output, (name,), output, shape=shape)
        return output

    def transpose(self, name: str, perm: Shape) -> str:
        output = f"{name}:perm{''.join(map(str, perm))}"
        if output not in self.made:
            self.emit("Transpose", output, (name,), output, perm=perm)
        return output

    def place(self, name: str) -> Strided | None:
        """The value as elements of an image."""
        if name not in self.places and len(self.shapes[name]) == 4 and name not in self.constants:
            self.places[name] = of_image(name, self.shapes[name])
        return self.places.get(name)

    def plain(self, name: str) -> str:
        """The name under which the value itself is computed."""
        if name in self.made:
            return name
        place = self.places.get(name)
        if place is not None and place.is_image and name not in self.state.outputs:
            return self.plain(place.image)
        found = place and (self.one_pixel(name, place) or self.turned(name, place))
        node = self.pending.pop(name, None)
        if found:
            return found
        assert node is not None
        return self.append(node.reading(self.plain(source) for source in node.inputs))

    def one_pixel(self, name: str, place: Strided) -> str:
        """The value, if its elements are one pixel of each image; else ""."""
        count, channels, height, width = place.sizes
        wanted = of_image(place.image, place.sizes)
        if self.shapes[name][:1] != (count,) or prod(self.shapes[name]) != count * channels or height * width == 1:
            return ""
        flat = place.reshape((count, channels))
        if flat is None or flat.axes != wanted.axes[:2] or place.offset >= height * width:
            return ""
        row, column = divmod(place.offset, width)
        pixel = self.part(self.part(place.image, 2, row, 1), 3, column, 1)
        return self.emit("Reshape", f"{name}:pixel", (pixel,), name, shape=self.shapes[name])

    def turned(self, name: str, place: Strided) -> str:
        """The value, if its elements are those of an entire image in another order; else ""."""
        factors = [factor for axis in place.axes for factor in axis]
        order = sorted(range(len(factors)), key=lambda i: -factors[i][1])
        dense = [factors[i] for i in order]
        whole = prod(self.shapes[name]) == prod(place.sizes) and place.offset == 0
        if not whole or any(factors[i][1] != prod(size for size, _ in dense[k + 1 :]) for k, i in enumerate(order)):
            return ""
        flat = self.reshape(self.plain(place.image), tuple(size for size, _ in dense))
        perm = tuple(order.index(i) for i in range(len(order)))
        turned = flat if perm == tuple(range(len(perm))) else self.transpose(flat, perm)
        return self.emit("Reshape", f"{name}:rows", (turned,), name, shape=self.shapes[name])

    def part(self, image: str, axis: int, start: int, size: int) -> str:
        """Part of an image along an axis."""
        image = self.plain(image)
        if self.shapes[image][axis] == size:
            return image
        output = f"{image}:part{axis}.{start}.{size}"
        if output not in self.made:
            self.emit("Slice", output, (image,), output, axis=axis, start=start, end=start + size)
        return output

    # Values as images

    def is_channels_last(self, name: str) -> bool:
        """Whether the last axis of the value runs over the channels of an image that is computed already."""
        if name in self.imaged:
            return True
        place, shape = self.places.get(name), self.shapes[name]
        return place is not None and len(shape) > 2 and place.axes[-1] == ((shape[-1], prod(place.sizes[2:])),)

    def image(self, name: str, sizes: Shape | None = None) -> str:
        """An image of the value (N, ..., C), with the shape `sizes` or the usual one."""
        sizes = sizes or sizes_of(self.shapes[name])
        if (name, sizes) not in self.images:
            self.images[name, sizes] = self.new_image(name, sizes)
            self.imaged.add(name)
        return self.images[name, sizes]

    def new_image(self, name: str, sizes: Shape) -> str:
        if name in self.constants and name not in self.trained:
            array = np.asarray(self.constants[name]).reshape(sizes[0], -1, sizes[1])
            return self.constant(f"{name}:image", np.swapaxes(array, 1, 2).reshape(sizes))
        place = self.place(name)
        moved = place and self.image_of_place(place, sizes)
        if moved:
            return moved
        rows, matrix = self.plain(name), (sizes[0], prod(sizes[2:]), sizes[1])
        if self.shapes[name] != matrix:
            rows = self.reshape(rows, matrix)
        return self.reshape(self.transpose(rows, (0, 2, 1)), sizes)

    def constant(self, name: str, array: np.ndarray) -> str:
        if name not in self.constants:
            with np.errstate(over="ignore"):  # beyond float32's range a number becomes infinite
                self.constants[name] = np.ascontiguousarray(array, np.float32)
            self.shapes[name] = array.shape
            self.made.add(name)
        return name

    def image_of_place(self, place: Strided, sizes: Shape) -> str:
        """The image, from the pixels of the image that the value consists of; "" if it does not consist of pixels."""
        count, _, height, width = sizes
        pixels = prod(place.sizes[2:])
        start, offset = divmod(place.offset % (place.sizes[1] * pixels), pixels)
        by_pixel = place.reshape((count, height * width, sizes[1]))
        if by_pixel is None or by_pixel.axes[2] not in (((sizes[1], pixels),), ()):
            return ""
        source = self.part(place.image, 1, start, sizes[1])
        found = replace(by_pixel, offset=0).axes[:2]
        whole = found == tokens(place.image, place.sizes).axes[:2] and place.sizes[2:] == sizes[2:]
        if whole and offset == 0 == place.offset // prod(place.sizes[1:]):
            return source
        first = place.offset // prod(place.sizes[1:]) * pixels + offset
        loops = [_pixel_loops(axis, place.sizes) for axis in found]  # they have no gradient
        if self.is_training or None in loops or max(len(loop or ()) for loop in loops) > 2 * _gather.MOST:
            return ""
        output = f"{source}:moved{len(self.nodes)}"
        images, moves = (tuple(loop or ()) for loop in loops)
        shape = (count, height, width)
        return self.emit(
            "MovePixels", output, (source,), output, shape=shape, images=images, pixels=moves, offset=first
        )

    def whole(self, name: str) -> tuple[str, Strided] | None:
        """The image whose pixels are the rows of the value (..., C), and the value as its elements; None if none is."""
        place, channels = self.place(name), self.shapes[name][-1]
        if place is None or place.axes[-1] != ((channels, prod(place.sizes[2:])),):
            return None
        images, _, pixels = planes(place.image, place.sizes).axes
        leading = [factor for axis in place.axes[:-1] for factor in axis]
        start, first = divmod(place.offset, prod(place.sizes[2:]))
        if sorted(leading) != sorted([*images, *pixels]) or first or start >= place.sizes[1]:
            return None
        image = self.part(place.image, 1, start, channels)
        return image, with_channels(place, image, self.shapes[image])

    def natural(self, name: str) -> tuple[str, Strided]:
        """An image of the value (N, ..., C) in any order of its pixels, and the value as its elements.

        An order that others need later costs a copy then, unless the order is that of the images and of their pixels.
        """
        found = self.whole(name)
        if found is None:
            image = self.image(name)
            standard = tokens(image, self.shapes[image]).reshape(self.shapes[name])
            assert standard is not None
            found = image, standard
        return found

    def computed(self, node: Node, image: str, like: Strided | None = None) -> bool:
        """Note the image that was computed in place of the output (N, ..., C); its pixels have the order `like`."""
        sizes = self.shapes[image]
        standard = tokens(image, sizes).reshape(self.shapes[node.output])
        place = standard if like is None else with_channels(like, image, sizes)
        assert place is not None
        if place == standard:
            self.images[node.output, sizes] = image
            self.imaged.add(node.output)
        self.places[node.output] = place
        return True


def planes(image: str, sizes: Shape) -> Strided:
    """An image as planes (N, C, L)."""
    planes = of_image(image, sizes).reshape((*sizes[:2], -1))
    assert planes is not None
    return planes


def tokens(image: str, sizes: Shape) -> Strided:
    """The pixels of an image as tokens (N, L, C)."""
    return planes(image, sizes).transpose((0, 2, 1))


def with_channels(place: Strided, image: str, sizes: Shape) -> Strided:
    """A value (N, ..., C) as the elements of another image, whose pixels have the same order."""
    pixels = prod(sizes[2:])
    before, behind = place.sizes[1] * pixels, sizes[1] * pixels
    axes = [
        [(size, stride if stride < before else stride // before * behind) for size, stride in axis]
        for axis in place.axes[:-1]
    ]
    return Strided(image, sizes, tuple(map(tuple, (*axes, [(sizes[1], pixels)] if sizes[1] > 1 else []))))


def _pixel_loops(axis: tuple[Factor, ...], sizes: Shape) -> list[int] | None:
    """Loops over the numbers of pixels, for MovePixels; None if one crosses from row to row unevenly."""
    _, channels, height, width = sizes
    loops: list[int] = []
    for size, stride in axis:
        if stride >= channels * height * width:
            if stride % (channels * height * width):
                return None
            loops += size, stride // channels
        elif stride >= height * width:
            return None
        elif stride % width == 0 or (size - 1) * stride < width:
            loops += size, stride
        elif width % stride == 0 and size % (width // stride) == 0:
            loops += size // (width // stride), width, width // stride, stride
        else:
            return None
    return loops
