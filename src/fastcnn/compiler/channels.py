"""Channels first: layers over the last axis of tokens (N, L, C) become layers over the channels of images (N, C, H, W).

A layer normalisation or a fully connected layer of tokens is one of every pixel by itself. As an image the tokens lie
in blocks of channels, 1 x 1 convolutions multiply them, and what follows becomes their epilogue.

    LayerNormalization(axis=-1)  →  ChannelNormalization
    Gemm of (..., C)             →  Conv of 1 x 1
    MatMul ▸ Softmax ▸ MatMul    →  HeadAttention

Reshapes, transposes and slices between them are descriptions (`Strided`), and vanish where the next layer reads the
image as it lies. Otherwise MovePixels brings pixels into another order, or the nodes themselves are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isqrt, prod
from typing import Any

import numpy as np

from fastcnn import ops
from fastcnn.compiler.heads import Attention, Heads, attentions
from fastcnn.compiler.state import State
from fastcnn.compiler.strided import Factor, Strided, of_image
from fastcnn.graph.ir import Node, Shape, add_shapes, live
from fastcnn.kernels import _gather

__all__ = ["channels_first"]


def channels_first(state: State) -> State:
    """Compute layers of tokens as layers of images, where their weights are constants."""
    if not any(_is_of_tokens(node, state) for node in state.graph.nodes):
        return state
    return _Converter(state).run()


def _is_of_tokens(node: Node, state: State) -> bool:
    """Whether it works on the last axis of tokens, or attends to them."""
    if node.op not in ("LayerNormalization", "Gemm", "Softmax", "Attention"):
        return False
    return len(state.shapes[node.output]) > 2


def _grid(pixels: int) -> tuple[int, int]:
    """Height and width for tokens in a row: as square as possible, so that kernels can work by rows.

    Examples
    --------
    >>> _grid(196), _grid(197), _grid(50)
    ((14, 14), (1, 197), (5, 10))
    """
    height = next(h for h in range(isqrt(pixels), 0, -1) if pixels % h == 0)
    return height, pixels // height


def _sizes(shape: Shape) -> Shape:
    """The image shape of a value (N, ..., C)."""
    grid = shape[1:3] if len(shape) == 4 else _grid(prod(shape[1:-1]))
    return (shape[0], shape[-1], *grid)


class _Converter:
    """Goes through the nodes in order. Each value is known by its name, as an image, or as a description."""

    def __init__(self, state: State) -> None:
        self.state, self.shapes = state, dict(state.shapes)
        self.constants: dict[str, np.ndarray] = dict(state.graph.constants)
        self.nodes: list[Node] = []
        self.made = {"", *self.constants, *state.graph.inputs}
        self.pending: dict[str, Node] = {}  # nodes that move elements, which may not be needed
        self.places: dict[str, Strided] = {}
        self.images: dict[tuple[str, Shape], str] = {}  # by value and image shape
        self.imaged: set[str] = set()  # the values that have an image
        self.attentions: Mapping[str, Attention] = attentions(state)

    def run(self) -> State:
        for node in self.state.graph.nodes:
            found = self.attentions.get(node.output)
            if found is not None:
                self.attend(node, found)
            elif not _HANDLERS.get(node.op, _Converter.pointwise)(self, node):
                self.keep(node)
        for name in self.state.graph.outputs:
            self.plain(name)
        nodes = live(self.nodes, self.state.graph.outputs)
        return self.state.with_nodes(nodes, self.constants, self.shapes)

    # Nodes and values

    def emit(self, op: str, name: str, inputs: tuple[str, ...], output: str, **attrs: Any) -> str:
        """Append a node, and give the name of its output."""
        return self.append(Node(op, name, inputs, output, {**ops.get(op).defaults, **attrs}))

    def append(self, node: Node) -> str:
        add_shapes([node], self.shapes)
        self.nodes.append(node)
        self.made.add(node.output)
        return node.output

    def keep(self, node: Node) -> None:
        """Append a node that reads and writes values as they are."""
        node = node.reading(self.plain(name) for name in node.inputs)
        if node.op == "Gemm" and len(self.shapes[node.output]) > 2:
            self.multiply_rows(node)
        else:
            self.append(node)

    def multiply_rows(self, node: Node) -> None:
        """A fully connected layer of more than rows, as one of rows."""
        x, shape = node.inputs[0], self.shapes[node.output]
        rows = self.reshape(x, (-1, self.shapes[x][-1]))
        product = self.append(replace(node.reading((rows, *node.inputs[1:])), output=f"{node.output}:rows"))
        self.emit("Reshape", f"{node.name}:unrows", (product,), node.output, shape=(-1, *shape[1:]))

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
        if name in self.pending:
            node = self.pending.pop(name)
            pixel = self.one_pixel(name)
            if pixel:
                return self.emit("Reshape", node.name, (pixel,), name, shape=self.shapes[name])
            return self.append(node.reading(self.plain(source) for source in node.inputs))
        assert place is not None
        return self.rows_of_image(name, place)

    def one_pixel(self, name: str) -> str:
        """An image of 1 x 1 with the value's elements, if they are one pixel of each image; else ""."""
        place = self.places.get(name)
        if place is None:
            return ""
        count, channels, height, width = place.sizes
        wanted = of_image(place.image, place.sizes)
        if self.shapes[name][:1] != (count,) or prod(self.shapes[name]) != count * channels or height * width == 1:
            return ""
        flat = place.reshape((count, channels))
        if flat is None or flat.axes != wanted.axes[:2] or place.offset >= height * width:
            return ""
        row, column = divmod(place.offset, width)
        image = self.part(place.image, 2, row, 1)
        return self.part(image, 3, column, 1)

    def rows_of_image(self, name: str, place: Strided) -> str:
        """The value (N, ..., C), from the image that was computed in its place."""
        shape, (count, channels, *_) = self.shapes[name], place.sizes
        assert place == _tokens(place.image, place.sizes).reshape(shape)
        flat = self.reshape(self.plain(place.image), (count, channels, -1))
        if len(shape) == 3:
            return self.emit("Transpose", f"{name}:rows", (flat,), name, perm=(0, 2, 1))
        return self.emit("Reshape", f"{name}:rows", (self.transpose(flat, (0, 2, 1)),), name, shape=shape)

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
        sizes = sizes or _sizes(self.shapes[name])
        if (name, sizes) not in self.images:
            self.images[name, sizes] = self.new_image(name, sizes)
            self.imaged.add(name)
        return self.images[name, sizes]

    def new_image(self, name: str, sizes: Shape) -> str:
        if name in self.constants:
            array = np.asarray(self.constants[name]).reshape(sizes[0], -1, sizes[1])
            return self.constant(f"{name}:image", np.swapaxes(array, 1, 2).reshape(sizes))
        place = self.place(name)
        moved = place and self.image_of_place(place, sizes)
        if moved:
            return moved
        shape = self.shapes[name]
        rows = self.plain(name)
        if len(shape) != 3:
            rows = self.reshape(rows, (shape[0], prod(shape[1:-1]), shape[-1]))
        return self.reshape(self.transpose(rows, (0, 2, 1)), sizes)

    def constant(self, name: str, array: np.ndarray) -> str:
        if name not in self.constants:
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
        if found == _tokens(place.image, place.sizes).axes[:2] and offset == 0 == place.offset // prod(place.sizes[1:]):
            if place.sizes[2:] == sizes[2:]:
                return source
        first = place.offset // prod(place.sizes[1:]) * pixels + offset
        loops = [_pixel_loops(axis, place.sizes) for axis in found]
        if None in loops or max(len(loop or ()) for loop in loops) > 2 * _gather.MOST:
            return ""
        output = f"{source}:moved{len(self.nodes)}"
        images, moves = (tuple(loop or ()) for loop in loops)
        shape = (count, height, width)
        return self.emit(
            "MovePixels", output, (source,), output, shape=shape, images=images, pixels=moves, offset=first
        )

    def computed(self, node: Node, image: str) -> bool:
        """Note that an image was computed in place of the node's output (N, ..., C)."""
        sizes, shape = self.shapes[image], self.shapes[node.output]
        place = _tokens(image, sizes).reshape(shape)
        assert place is not None
        self.places[node.output] = place
        self.images[node.output, sizes] = image
        self.imaged.add(node.output)
        return True

    # Layers

    def normalise(self, node: Node) -> bool:
        shape, weights = self.shapes[node.output], node.inputs[1:]
        last = node.attrs["axis"] in (-1, len(shape) - 1)
        if len(shape) < 3 or not last or not all(name in self.constants for name in weights if name):
            return False
        inputs = (self.image(node.inputs[0]), *weights)
        attrs = {"epsilon": node.attrs["epsilon"]}
        return self.computed(
            node, self.append(Node("ChannelNormalization", node.name, inputs, f"{node.output}:image", attrs))
        )

    def multiply(self, node: Node) -> bool:
        x, weight, *bias = node.inputs
        shape = self.shapes[node.output]
        if len(shape) < 3 or not all(name in self.constants for name in (weight, *bias) if name):
            return False
        if prod(shape[1:-1]) == 1:
            return False
        outs, ins = self.shapes[weight]
        filters = self.filters(weight, (outs, ins, 1, 1))
        inputs = (self.image(x), filters, *bias)
        return self.computed(node, self.emit("Conv", node.name, inputs, f"{node.output}:image"))

    def filters(self, name: str, shape: Shape) -> str:
        """The weights of a fully connected layer as those of a convolution."""
        return self.constant(f"{name}:filters", np.asarray(self.constants[name]).reshape(shape))

    def attend(self, node: Node, found: Attention) -> None:
        shape = self.shapes[node.output]
        count, heads = found.sizes
        width = self.shapes[found.q.name][-1]
        attrs: dict[str, Any] = {"heads": heads, "head_dim": width, "value_dim": shape[-1], "scale": found.scale}
        inputs = []
        for key, operand in (("q", found.q), ("k", found.k), ("v", found.v)):
            image, start, step = self.heads(operand, (count, heads))
            inputs.append(image)
            attrs |= {f"{key}_start": start, f"{key}_step": step}
        if found.bias:
            inputs.append(self.bias(found.bias, shape))
        image = self.emit("HeadAttention", node.name, tuple(inputs), f"{node.output}:image", **attrs)
        tokens = _tokens(image, self.shapes[image])
        place = tokens.reshape((count, shape[-2], heads, shape[-1]))
        assert place is not None
        result = place.transpose((0, 2, 1, 3)).reshape(shape)
        assert result is not None
        self.places[node.output] = result
        self.by_heads(node, image, shape)

    def by_heads(self, node: Node, image: str, shape: Shape) -> None:
        """Prepare the value itself, (N, heads, L, D), should anything need it."""
        count, channels = self.shapes[image][:2]
        split = (count, channels // shape[-1], shape[-1], shape[-2])
        parts = Node("Reshape", f"{image}:heads", (image,), f"{image}:heads", {"shape": split})
        self.shapes[parts.output] = split
        self.pending[parts.output] = parts
        output = f"{image}:tokens" if len(shape) != 4 else node.output
        turned = Node("Transpose", node.name, (parts.output,), output, {"perm": (0, 1, 3, 2)})
        self.pending[output] = turned
        if output != node.output:
            self.shapes[output] = (split[0], split[1], split[3], split[2])
            self.pending[node.output] = Node("Reshape", f"{node.name}:shape", (output,), node.output, {"shape": shape})

    def heads(self, operand: Heads, sizes: tuple[int, int]) -> tuple[str, int, int]:
        """The image with an operand of attention, the first channel of its first head, and channels between heads."""
        count, heads = sizes
        shape = self.shapes[operand.name]
        tokens, width = (shape[-1], shape[-2]) if operand.is_turned else shape[-2:]
        place = self.place(operand.name) if len(shape) != 4 or operand.name in self.places else None
        place = place and place.reshape((count, heads, *shape[-2:]))
        if place is not None:
            found = place.transpose((0, 1, 3, 2)) if operand.is_turned else place
            pixels = prod(place.sizes[2:])
            images, by_head, by_token, by_channel = found.axes
            whole = images == of_image(place.image, place.sizes).axes[0] and by_token in (((tokens, 1),), ())
            stride = by_head[0][1] if len(by_head) == 1 else 0
            lanes = by_channel in (((width, pixels),), ()) and (heads == 1 or (stride and stride % pixels == 0))
            if whole and lanes and tokens == pixels and place.offset % pixels == 0:
                return self.plain(place.image), place.offset // pixels, stride // pixels or width
        name = self.plain(operand.name)
        if len(shape) != 4 or shape[:2] != sizes:
            name = self.reshape(name, (count, heads, *shape[-2:]))
        if not operand.is_turned:
            name = self.transpose(name, (0, 1, 3, 2))
        return self.reshape(name, (count, heads * width, *_grid(tokens))), 0, width

    def bias(self, name: str, shape: Shape) -> str:
        """What is added to the scores, as (images or 1, heads or 1, queries or 1, keys)."""
        sizes = self.shapes[name]
        name = self.plain(name)
        return self.reshape(name, (1,) * (4 - len(sizes)) + sizes) if len(sizes) < 4 else name

    def pointwise(self, node: Node) -> bool:
        """An operation on single elements, whose operands are images already."""
        shape = self.shapes[node.output]
        if not (node.kind.is_activation or node.kind.is_elementwise) or len(shape) < 3 or node.kind.constants:
            return False
        values = [name for name in node.inputs if name and name not in self.constants]
        if not any(self.shapes[name] == shape and self.is_channels_last(name) for name in values):
            return False
        images = [self.operand(name, shape) for name in node.inputs]
        if not all(images):
            return False
        return self.computed(node, self.append(replace(node.reading(images), output=f"{node.output}:image")))

    def operand(self, name: str, shape: Shape) -> str:
        """An operand of an operation on (N, ..., C), as an image that broadcasts like it; "" if there is none."""
        own = self.shapes[name]
        if own == shape:
            return self.image(name)
        full = (1,) * (len(shape) - len(own)) + own
        if name in self.constants:
            array = np.asarray(self.constants[name]).reshape(full)
            if full[:-1] != (1,) * (len(full) - 1):
                array = np.broadcast_to(array, (full[0], *shape[1:-1], full[-1]))
            sizes = (full[0], full[-1], *(_sizes(shape)[2:] if array.size > full[-1] else (1, 1)))
            turned = np.swapaxes(array.reshape(full[0], -1, full[-1]), 1, 2).reshape(sizes)
            mark = "x".join(map(str, sizes))
            return self.constant(f"{name}:image{mark}", turned)
        if len(own) == len(shape) and prod(full[1:-1]) == 1 and full[-1] in (1, shape[-1]):
            return self.image(name, (full[0], full[-1], 1, 1))
        return ""

    # Operations that move elements

    def move(self, node: Node) -> bool:
        """Describe the output; the node itself is kept only if a reader needs it."""
        place = self.place(node.inputs[0])
        if place is None:
            return False
        shape, attrs = self.shapes[node.output], node.attrs
        if node.op == "Transpose":
            found: Strided | None = place.transpose(attrs["perm"])
        elif node.op == "Slice":
            axis = attrs["axis"] % len(shape)
            start, _, step = slice(attrs["start"], attrs["end"], attrs.get("step", 1)).indices(place.shape[axis])
            found = place.slice(axis, start, shape[axis], step) if prod(shape) else None
        else:
            found = place.reshape(shape)
        if found is None:
            return False
        self.places[node.output], self.pending[node.output] = found, node
        return True

    def concatenate(self, node: Node) -> bool:
        """Tokens after tokens, or channels after channels."""
        shape = self.shapes[node.output]
        if len(shape) not in (3, 4) or not any(self.is_channels_last(name) for name in node.inputs):
            return False
        axis = node.attrs["axis"] % len(shape)
        if axis == 0:
            return False
        parts = []
        for name in node.inputs:
            own = self.shapes[name]
            parts.append(self.image(name, (own[0], own[-1], 1, own[1]) if len(shape) == 3 else None))
        to = 1 if axis == len(shape) - 1 else axis + 1 if len(shape) == 4 else 3
        return self.computed(node, self.emit("Concat", node.name, tuple(parts), f"{node.output}:image", axis=to))


def _tokens(image: str, sizes: Shape) -> Strided:
    """The pixels of an image as tokens (N, L, C)."""
    count, channels, height, width = sizes
    pixels = of_image(image, sizes).reshape((count, channels, height * width))
    assert pixels is not None
    return pixels.transpose((0, 2, 1))


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


_HANDLERS: dict[str, Callable[[_Converter, Node], bool]] = {
    "LayerNormalization": _Converter.normalise,
    "Gemm": _Converter.multiply,
    "Reshape": _Converter.move,
    "Flatten": _Converter.move,
    "Transpose": _Converter.move,
    "Slice": _Converter.move,
    "Concat": _Converter.concatenate,
}
