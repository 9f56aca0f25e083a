"""What shape rules share: checks of sizes and images, and the geometry of windows (convolution, pooling).

`Op.infer` alone validates shapes, for eager calls and for graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from fastcnn.kernels.view import NO_HALO
from fastcnn.ops.node import Attrs, Shape, Shapes

# No address space holds more elements. Larger shapes are refused before anything is computed with them.
MAX_ELEMENTS = 2**48


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
    if len(values) != count or min(values) < least:
        raise ValueError(f"{name}={tuple(values)}, expected {count} integers >= {least}")


def resolve_pads(attrs: Attrs, size: Sequence[int], kernel: Sequence[int]) -> tuple[int, int, int, int]:
    """Padding at top, left, bottom, right, for an image of (height, width) `size`.

    SAME_UPPER and SAME_LOWER give ceil(size / stride) outputs. An odd pixel of padding goes to the end for SAME_UPPER,
    to the start for SAME_LOWER (ONNX operator specification, Conv, auto_pad).

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


def window_output(attrs: Attrs, shape: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
    """Height and width after sliding a window over an image of shape (N, C, H, W).

    Raises
    ------
    ValueError
        Naming strides, dilations or padding that make no sense, or a kernel that does not fit.
    """
    strides, dilations = attrs["strides"], attrs.get("dilations", (1, 1))
    check_pair("kernel_size", kernel, 1)
    check_pair("stride", strides, 1)
    check_pair("dilation", dilations, 1)
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise ValueError(f"auto_pad={attrs['auto_pad']!r}, expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    check_pair("padding", attrs["pads"], 0, 4)
    pads = resolve_pads(attrs, shape[2:], kernel)
    sizes = []
    for axis, stride in enumerate(strides):
        extent = dilations[axis] * (kernel[axis] - 1) + 1
        padded = shape[2 + axis] + pads[axis] + pads[2 + axis]
        size = (padded - extent) // stride + 1
        if attrs.get("ceil_mode"):
            # One more window, if it starts inside the image or the padding before it (PyTorch's rule).
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
