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

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from fastcnn.compiler.heads import Attention, Heads, attentions
from fastcnn.compiler.state import Options, State
from fastcnn.compiler.strided import Strided, of_image
from fastcnn.compiler.tokens import Values, grid, sizes_of, tokens
from fastcnn.graph.ir import Graph, Node, Shape
from fastcnn.kernels import _cpu

__all__ = ["channels_first", "channels_first_for_training"]


def channels_first(state: State) -> State:
    """Compute layers of tokens as layers of images, where their weights are constants."""
    if not any(_is_of_tokens(node, state) for node in state.graph.nodes):
        return state
    return _Converter(state).run()


def channels_first_for_training(graph: Graph, sizes: Mapping[str, Shape], trained: Collection[str]) -> Graph:
    """The graph with layers of tokens as layers of images, before it is differentiated.

    Parameters
    ----------
    graph : Graph
    sizes : dict
        Shape of every value.
    trained : collection of str
        The constants that training changes.
    """
    state = State(graph, sizes, Options(_cpu.vector_length()))
    has_tokens = any(_is_of_tokens(node, state) for node in graph.nodes)
    return _Converter(state, frozenset(trained)).run().graph if has_tokens else graph


def _is_of_tokens(node: Node, state: State) -> bool:
    """Whether it works on the last axis of tokens, or attends to them."""
    if node.op not in ("LayerNormalization", "Gemm", "Softmax", "Attention"):
        return False
    return len(state.shapes[node.output]) > 2


class _Converter(Values):
    """Goes through the nodes in order."""

    def __init__(self, state: State, trained: frozenset[str] | None = None) -> None:
        super().__init__(state, trained)
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
        nodes = self.state.wanted(self.nodes)
        return self.state.with_nodes(nodes, self.constants, self.shapes)

    def keep(self, node: Node) -> None:
        """Append a node that reads and writes values as they are."""
        node = node.reading(self.plain(name) for name in node.inputs)
        if node.op == "Gemm" and len(self.shapes[node.output]) > 2:
            self.multiply_rows(node)
        else:
            self.append(node)

    def multiply_rows(self, node: Node) -> None:
        """Append a fully connected layer of values with more than two axes, as one of rows."""
        x, shape = node.inputs[0], self.shapes[node.output]
        rows = self.reshape(x, (-1, self.shapes[x][-1]))
        product = self.append(replace(node.reading((rows, *node.inputs[1:])), output=f"{node.output}:rows"))
        self.emit("Reshape", f"{node.name}:unrows", (product,), node.output, shape=(-1, *shape[1:]))

    def normalise(self, node: Node) -> bool:
        shape, weights = self.shapes[node.output], node.inputs[1:]
        last = node.attrs["axis"] in (-1, len(shape) - 1)
        if len(shape) < 3 or not last or not all(name in self.constants for name in weights if name):
            return False
        x, order = self.natural(node.inputs[0])
        attrs, output = {"epsilon": node.attrs["epsilon"]}, f"{node.output}:image"
        normal = Node("ChannelNormalization", node.name, (x, *weights), output, attrs)
        return self.computed(node, self.append(normal), order)

    def multiply(self, node: Node) -> bool:
        x, weight, *bias = node.inputs
        shape = self.shapes[node.output]
        if not all(name in self.constants for name in (weight, *bias) if name):
            return False
        found = self.natural(x) if len(shape) > 2 else self.whole(x)
        if found is None or (len(shape) == 2 and prod(self.shapes[found[0]][2:]) == 1):
            return False
        image, order = found
        outs, ins = self.shapes[weight]
        filters = self.filters(weight, (outs, ins, 1, 1))
        product = self.emit("Conv", node.name, (image, filters, *bias), f"{node.output}:image")
        return self.computed(node, product, order)

    def filters(self, name: str, shape: Shape) -> str:
        """The weights of a fully connected layer as those of a convolution."""
        if name in self.trained:
            return self.reshape(name, shape)
        return self.constant(f"{name}:filters", np.asarray(self.constants[name]).reshape(shape))

    def attend(self, node: Node, found: Attention) -> None:
        shape = self.shapes[node.output]
        count, heads = self.heads_of_images(node, found)
        width = self.shapes[found.q.name][-1]
        attrs: dict[str, Any] = {"heads": heads, "head_dim": width, "value_dim": shape[-1], "scale": found.scale}
        inputs = []
        for key, operand in (("q", found.q), ("k", found.k), ("v", found.v)):
            image, start, step = self.heads(operand, (count, heads))
            inputs.append(image)
            attrs |= {f"{key}_start": start, f"{key}_step": step}
        if self.shapes[inputs[1]][2:] != self.shapes[inputs[2]][2:]:
            inputs[2] = self.reshape(inputs[2], (*self.shapes[inputs[2]][:2], *self.shapes[inputs[1]][2:]))
        bias = found.bias if found.mask is None else self.constant(f"{node.output}:mask", found.mask)
        if bias:
            wanted = _of_heads(self.shapes[bias], found.sizes, (count, heads))
            assert wanted is not None
            bias = self.plain(bias)
            inputs.append(bias if self.shapes[bias] == wanted else self.reshape(bias, wanted))
        image = self.emit("HeadAttention", node.name, tuple(inputs), f"{node.output}:image", **attrs)
        place = tokens(image, self.shapes[image]).reshape((count, shape[-2], heads, shape[-1]))
        assert place is not None
        result = place.transpose((0, 2, 1, 3)).reshape(shape)
        assert result is not None
        self.places[node.output] = result

    def heads_of_images(self, node: Node, found: Attention) -> tuple[int, int]:
        """The number of images, and of heads of each, as those of the images that the operands are parts of.

        Files have matrices of one image as a batch, or heads of several windows as those of one image.
        """
        places = [self.places.get(operand.name) for operand in (found.q, found.k, found.v)]
        counts = {0 if place is None else place.sizes[0] for place in places}
        total = prod(found.sizes)
        (count,) = counts if len(counts) == 1 else (0,)
        if not count or total % count:
            return found.sizes
        sizes = (count, total // count)
        added: Shape = self.shapes[found.bias] if found.bias else ()
        if found.mask is not None:
            added = found.mask.shape
        return found.sizes if added and _of_heads(added, found.sizes, sizes) is None else sizes

    def heads(self, operand: Heads, sizes: tuple[int, int]) -> tuple[str, int, int]:
        """The image with an operand of attention, the first channel of its first head, and channels between heads."""
        count, heads = sizes
        shape = self.shapes[operand.name]
        length, width = (shape[-1], shape[-2]) if operand.is_turned else shape[-2:]
        place = self.place(operand.name) if len(shape) != 4 or operand.name in self.places else None
        place = place and place.reshape((count, heads, *shape[-2:]))
        if place is not None:
            found = place.transpose((0, 1, 3, 2)) if operand.is_turned else place
            pixels = prod(place.sizes[2:])
            images, by_head, by_token, by_channel = found.axes
            whole = images == of_image(place.image, place.sizes).axes[0] and by_token in (((length, 1),), ())
            stride = by_head[0][1] if len(by_head) == 1 else 0
            lanes = by_channel in (((width, pixels),), ()) and (
                heads == 1 or stride >= width * pixels and stride % pixels == 0
            )
            if whole and lanes and length == pixels and place.offset % pixels == 0:
                return self.plain(place.image), place.offset // pixels, stride // pixels or width
        name = self.plain(operand.name)
        if len(shape) != 4 or shape[:2] != sizes:
            name = self.reshape(name, (count, heads, *shape[-2:]))
        if not operand.is_turned:
            name = self.transpose(name, (0, 1, 3, 2))
        return self.reshape(name, (count, heads * width, *grid(length))), 0, width

    def pointwise(self, node: Node) -> bool:
        """An operation on single elements, whose operands are images already."""
        shape = self.shapes[node.output]
        if not (node.kind.is_activation or node.kind.is_elementwise) or len(shape) < 3 or node.kind.constants:
            return False
        values = [name for name in node.inputs if name and name not in self.constants]
        if not any(self.shapes[name] == shape and self.is_channels_last(name) for name in values):
            return False
        order = self.common_order([name for name in values if self.shapes[name] == shape])
        images = [self.operand(name, shape, order) for name in node.inputs]
        if order is not None and not all(images):
            order = None
            images = [self.operand(name, shape) for name in node.inputs]
        if not all(images):
            return False
        return self.computed(node, self.append(replace(node.reading(images), output=f"{node.output}:image")), order)

    def common_order(self, names: list[str]) -> Strided | None:
        """The order of pixels that the images of all values have already; None if they differ."""
        if not all(self.is_channels_last(name) for name in names):
            return None
        orders = [self.natural(name)[1] for name in names]
        return orders[0] if len({(order.sizes, order.axes) for order in orders}) == 1 else None

    def operand(self, name: str, shape: Shape, order: Strided | None = None) -> str:
        """An operand of an operation on (N, ..., C), as an image that broadcasts like it; "" if there is none."""
        own = self.shapes[name]
        if own == shape and name not in self.constants:
            return self.natural(name)[0] if order is not None else self.image(name)
        full = (1,) * (len(shape) - len(own)) + own
        if name in self.constants:
            return self.constant_operand(name, full, shape, order)
        row = len(own) == len(shape) and prod(full[1:-1]) == 1 and full[-1] in (1, shape[-1])
        return self.image(name, (full[0], full[-1], 1, 1)) if row and order is None else ""

    def constant_operand(self, name: str, full: Shape, shape: Shape, order: Strided | None) -> str:
        """A constant, whose shape with leading ones is `full`, beside an image of (N, ..., C)."""
        if name in self.trained:
            return self.reshape(name, (1, full[-1], 1, 1)) if prod(full) == full[-1] else ""
        array, sizes = np.asarray(self.constants[name]).reshape(full), sizes_of(shape)
        if array.size == full[-1]:
            sizes = (1, full[-1], 1, 1)
        elif order is not None:
            return ""
        else:
            count = shape[0] if sizes[0] != shape[0] else full[0]
            array = np.broadcast_to(array, (count, *shape[1:-1], full[-1]))
            sizes = (1 if sizes[0] != shape[0] else count, full[-1], *sizes[2:])
        turned = np.swapaxes(array.reshape(sizes[0], -1, full[-1]), 1, 2).reshape(sizes)
        return self.constant(f"{name}:image{'x'.join(map(str, sizes))}", turned)

    def normalise_batch(self, node: Node) -> bool:
        """A batch normalisation of rows (N * L, C), which are all pixels of images."""
        x, *weights = node.inputs
        found = self.whole(x) if len(self.shapes[x]) == 2 and all(name in self.constants for name in weights) else None
        if found is None:
            return False
        image, order = found
        return self.computed(
            node, self.append(replace(node.reading((image, *weights)), output=f"{node.output}:image")), order
        )

    def reduce(self, node: Node) -> bool:
        """A reduction of tokens (N, ..., C) over all of them, or over their channels."""
        x, attrs = node.inputs[0], node.attrs
        shape = self.shapes[x]
        axes = sorted(axis % len(shape) for axis in attrs["axes"])
        over_tokens = axes == [*range(1, len(shape) - 1)]
        if len(shape) < 3 or not self.is_channels_last(x) or not (over_tokens or axes == [len(shape) - 1]):
            return False
        image = self.image(x)
        if self.shapes[image][0] != shape[0]:
            return False
        output = f"{node.output}:image"
        if over_tokens and node.op == "ReduceMean":
            return self.computed(node, self.emit("GlobalAveragePool", node.name, (image,), output))
        over = (2, 3) if over_tokens else (1,)
        return self.computed(node, self.emit(node.op, node.name, (image,), output, axes=over, keepdims=1))

    # Operations that move elements

    def move(self, node: Node) -> bool:
        """Describe the output; the node itself is kept only if a reader needs it."""
        place = self.place(node.inputs[0])
        if place is None:
            return False
        shape, attrs = self.shapes[node.output], node.attrs
        found: Strided | None = place
        if node.op == "Transpose":
            found = place.transpose(attrs["perm"])
        elif node.op == "Slice":
            axis = attrs["axis"] % len(shape)
            start, _, step = slice(attrs["start"], attrs["end"], attrs.get("step", 1)).indices(place.shape[axis])
            found = place.slice(axis, start, shape[axis], step) if prod(shape) else None
        elif node.op != "Identity":
            found = place.reshape(shape)
        if found is None:
            return False
        self.places[node.output], self.pending[node.output] = found, node
        return True

    def drop(self, node: Node) -> bool:
        """Dropout, of elements or of images: nothing happens at inference."""
        if not self.is_training:
            return self.move(replace(node, op="Identity", attrs={}))
        if len(self.shapes[node.output]) < 3 or not self.is_channels_last(node.inputs[0]):
            return False
        image = self.image(node.inputs[0])
        if self.shapes[image][0] != self.shapes[node.output][0]:
            return False
        return self.computed(node, self.append(replace(node.reading((image,)), output=f"{node.output}:image")))

    def pad(self, node: Node) -> bool:
        """A border of tokens, or of channels; none at all changes nothing."""
        shape, pads = self.shapes[node.output], node.attrs["pads"]
        if not any(pads):
            return self.move(replace(node, op="Identity", attrs={}))
        rank = len(shape)
        if rank not in (3, 4) or pads[0] or pads[rank] or not self.is_channels_last(node.inputs[0]):
            return False
        own = self.shapes[node.inputs[0]]
        image = self.image(node.inputs[0], (own[0], own[-1], 1, own[1]) if rank == 3 else None)
        before, behind = pads[:rank], pads[rank:]
        if rank == 3:
            borders = (0, before[2], 0, before[1], 0, behind[2], 0, behind[1])
        else:
            borders = (0, before[3], before[1], before[2], 0, behind[3], behind[1], behind[2])
        output, value = f"{node.output}:image", node.attrs["value"]
        return self.computed(node, self.emit("Pad", node.name, (image,), output, pads=borders, value=value))

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


def _of_heads(shape: Shape, given: tuple[int, int], sizes: tuple[int, int]) -> Shape | None:
    """The shape of what is added to scores, for other numbers of images and heads; None if they do not suit it.

    It is (images, heads, queries, keys), or 1 of some. Images take it in turns, one after the other.
    """
    images, heads, *rest = (1,) * (4 - len(shape)) + tuple(shape)
    if sizes == given or images == heads == 1:
        return (images, heads, *rest)
    if heads != given[1] or images * heads % sizes[1]:
        return None
    return (images * heads // sizes[1], sizes[1], *rest)


_HANDLERS: dict[str, Callable[[_Converter, Node], bool]] = {
    "LayerNormalization": _Converter.normalise,
    "BatchNormalization": _Converter.normalise_batch,
    "Gemm": _Converter.multiply,
    "Reshape": _Converter.move,
    "Flatten": _Converter.move,
    "Identity": _Converter.move,
    "Dropout": _Converter.drop,
    "DropPath": _Converter.drop,
    "Pad": _Converter.pad,
    "Transpose": _Converter.move,
    "Slice": _Converter.move,
    "Concat": _Converter.concatenate,
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2"), _Converter.reduce),
}
