"""What every operation tells of itself, and what sliding windows (convolution, pooling) share.

`infer` is the one place where shapes are validated: eager calls and graphs come through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastcnn.kernels.view import NO_HALO

if TYPE_CHECKING:
    from fastcnn.compiler.lower import Lowering
    from fastcnn.graph.ir import Graph, Node

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]
Attrs = Mapping[str, Any]

# More elements than any address space holds: refused before anything is computed with them.
MAX_ELEMENTS = 2**48


class Backward(Protocol):
    """What `Op.gradient` sees: where backward nodes go (see graph/autodiff.py)."""

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """Append a node, and give the name of its output."""

    def needs(self, name: str) -> bool:
        """Whether a value's gradient is wanted."""

    def shape(self, name: str) -> Shape:
        """The shape of a value."""


class Op:
    """An operation; subclasses are registered by their `OPS` lists.

    Attributes
    ----------
    name : str
        ONNX's.
    defaults : dict
        Every attribute with its default value; the type of the default is the attribute's.
    arguments : tuple of str
        Names of the inputs, for messages.
    required : int
        How many of them must be present.
    variadic : bool
        Whether any number of inputs may come.
    layout : {"plain", "blocked", "follow", "vectors", "parameter"}
        How values are stored that it reads and writes: see compiler/layout.py.
    constants : tuple of int
        Inputs that are packed ahead, or in training stored as parameters: weights.
    """

    name: str
    defaults: Mapping[str, Any] = {}
    arguments: tuple[str, ...] = ("x",)
    required: int = 1
    variadic: bool = False
    layout: str = "plain"
    constants: tuple[int, ...] = ()
    is_activation: bool = False  # may be fused into its producer
    takes_activation: bool = False  # may take in the activation after it
    is_elementwise: bool = False  # reads for each element of its output the same ones of its inputs
    is_alias: bool = False  # its output is its input's memory
    pads_rows: bool = False  # stores whole vectors at the end of a row
    is_internal: bool = False  # made by the compiler, refused in graphs
    packs: bool = False  # its output is stored as a parameter
    updates: bool = False  # writes over its first input, wherever that is

    def check(self, attrs: Attrs, inputs: Sequence[str]) -> None:
        """Check names and types of attributes, and the number of inputs."""
        for key, value in attrs.items():
            if key not in self.defaults:
                raise ValueError(f"unknown attribute {key!r}; known are {', '.join(self.defaults) or 'none'}")
            _check_type(key, value, self.defaults[key])
        for key in self.defaults:
            if key not in attrs:
                raise ValueError(f"attribute {key!r} is missing")
        most = None if self.variadic else len(self.arguments)
        if len(inputs) < self.required or (most is not None and len(inputs) > most) or "" in inputs[: self.required]:
            expected = f"at least {self.required}" if most is None else f"{self.required} to {most}"
            raise ValueError(f"{len(inputs)} inputs, expected {expected}")

    def infer(self, attrs: Attrs, shapes: Shapes) -> Shape:
        """The output's shape, or ValueError naming the argument, what came and what was expected."""
        raise AssertionError(f"{type(self).__name__} has no shape rule")

    def reference(self, attrs: Attrs, inputs: Sequence[np.ndarray | None]) -> np.ndarray:
        """The result in float64, by `fastcnn.reference`."""
        raise AssertionError(f"{type(self).__name__} has no definition")

    def flops(self, attrs: Attrs, shapes: Shapes, output: Shape) -> int:
        """Floating point operations; a multiply-add counts two. By default one for each element."""
        return prod(output)

    def gradient(self, node: Node, grad: str, back: Backward) -> Sequence[str | None]:
        """Append the backward nodes for the gradient `grad` of the output; the gradients of the inputs, None for those
        that have none or whose gradient is not needed."""
        raise AssertionError(f"{type(self).__name__} has no gradient")

    def expand(self, node: Node, shapes: Mapping[str, Shape]) -> list[Node]:
        """The nodes that compute it, the last one its output: itself, or simpler ones."""
        return [node]

    def layout_for(self, node: Node, shapes: Sequence[Shape], vl: int) -> str:
        """`layout`, where it depends on the node."""
        return self.layout

    def order(
        self, node: Node, index: int, shapes: Mapping[str, Shape], lanes: Mapping[str, int], vl: int
    ) -> dict[str, Any] | None:
        """Attributes of PackWeights for the parameter `index`; None where the kernel reads it as it is."""
        return None

    def can_block(self, node: Node, shapes: Sequence[Shape], vl: int) -> bool:
        """Whether it can follow blocked inputs; `shapes` are the operands' and the output's."""
        return all(len(shape) == 4 for shape in shapes)

    def may_write_over(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> Sequence[int]:
        """Inputs each element of which is read for the same one of the output alone, before that is written."""
        return range(len(node.inputs)) if self.is_elementwise else ()

    def halo(self, node: Node, shapes: Sequence[Shape]) -> tuple[int, int, int, int]:
        """Zeros it reads around its first input: top, left, bottom, right."""
        return NO_HALO

    def reads_few(self, node: Node) -> bool:
        """Whether images of few channels are read as one block of these."""
        return False

    def reads_plain(self, node: Node, shapes: Sequence[Shape], vl: int) -> bool:
        """Whether a blocked operation reads its first operand as it is where that is plain."""
        return False

    def writes_plain(self, node: Node, shapes: Mapping[str, Shape], vl: int) -> bool:
        """Whether a blocked operation can write its output plain, too."""
        return False

    def pools(self, node: Node, graph: Graph, shapes: Mapping[str, Shape], vl: int) -> bool:
        """Whether its kernel can take maxima of 2 x 2 outputs (`pool` in its attributes)."""
        return False

    def writes_plain_output(self, shape: Shape, vl: int) -> bool:
        """Whether it can write a plain value straight into the caller's gapless array."""
        return True

    def lower(self, node: Node, ctx: Lowering) -> None:
        """Emit the kernel steps of a node."""
        raise AssertionError(f"{type(self).__name__} has no kernel")


def _check_type(key: str, value: Any, default: Any) -> None:
    if isinstance(default, tuple):
        if not isinstance(value, tuple) or not all(type(item) is int and abs(item) < 2**31 for item in value):
            raise ValueError(f"{key}={value!r}, expected a list of integers")
    elif isinstance(default, float):
        if type(value) not in (int, float):
            raise ValueError(f"{key}={value!r}, expected a number")
    elif isinstance(default, int):
        if type(value) is not int or abs(value) >= 2**31:
            raise ValueError(f"{key}={value!r}, expected an integer")
    elif type(value) is not type(default):
        raise ValueError(f"{key}={value!r}, expected a {type(default).__name__}")


def check_size(shape: Shape) -> Shape:
    """The shape, unless no memory could hold it."""
    if prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"output shape {shape} has {prod(shape)} elements, expected at most {MAX_ELEMENTS}")
    return shape


def images(shapes: Shapes, name: str = "x") -> tuple[int, int, int, int]:
    """The shape of the first input, which must be (N, C, H, W)."""
    shape = shapes[0]
    if shape is None or len(shape) != 4:
        raise ValueError(f"{name}.shape={shape}, expected 4 dimensions (N, C, H, W)")
    return shape[0], shape[1], shape[2], shape[3]


def check_pair(name: str, values: Sequence[int], least: int, count: int = 2) -> None:
    """Check `count` integers of at least `least`."""
    if len(values) != count or any(value < least for value in values):
        raise ValueError(f"{name}={tuple(values)}, expected {count} integers >= {least}")


def resolve_pads(attrs: Attrs, size: Sequence[int], kernel: Sequence[int]) -> tuple[int, int, int, int]:
    """Padding at top, left, bottom, right, for an image of (height, width) `size`.

    SAME_UPPER gives ceil(size / stride) outputs, and puts an odd pixel at the end; SAME_LOWER at the start (ONNX
    operator specification, Conv, auto_pad).

    Examples
    --------
    >>> attrs = {"auto_pad": "SAME_UPPER", "strides": (2, 2)}
    >>> resolve_pads(attrs, (224, 224), (3, 3))
    (0, 0, 1, 1)
    """
    auto = attrs.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        top, left, bottom, right = attrs["pads"] if auto == "NOTSET" else NO_HALO
        return top, left, bottom, right
    before, after = [], []
    dilations = attrs.get("dilations", (1, 1))
    for length, taps, stride, dilation in zip(size, kernel, attrs["strides"], dilations, strict=True):
        outputs = -(-length // stride)
        total = max(0, (outputs - 1) * stride + (taps - 1) * dilation + 1 - length)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return before[0], before[1], after[0], after[1]


def window_output(
    attrs: Attrs, shape: Sequence[int], kernel: Sequence[int]
) -> tuple[int, int]:
    """Height and width after sliding a window over an image of shape (N, C, H, W).

    Raises
    ------
    ValueError
        Naming strides, dilations or padding that make no sense, or a kernel that does not fit.
    """
    dilations = attrs.get("dilations", (1, 1))
    check_pair("kernel_size", kernel, 1)
    check_pair("stride", attrs["strides"], 1)
    check_pair("dilation", dilations, 1)
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad={attrs['auto_pad']!r}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    check_pair("padding", attrs["pads"], 0, 4)
    pads = resolve_pads(attrs, shape[2:], kernel)
    sizes = []
    for axis in range(2):
        extent = dilations[axis] * (kernel[axis] - 1) + 1
        padded = shape[2 + axis] + pads[axis] + pads[2 + axis]
        stride = attrs["strides"][axis]
        size = (padded - extent) // stride + 1
        if attrs.get("ceil_mode"):
            # One more window where it still starts inside the image or its left padding (PyTorch's rule).
            size = -(-(padded - extent) // stride) + 1
            if (size - 1) * stride >= shape[2 + axis] + pads[axis]:
                size -= 1
        if size < 1:
            raise ValueError(
                f"kernel_size={tuple(kernel)} with dilation={tuple(dilations)} covers {extent} pixels, expected at "
                f"most the padded {('height', 'width')[axis]} {padded} (x.shape={tuple(shape)}, padding={pads})"
            )
        sizes.append(size)
    return sizes[0], sizes[1]
