"""Random convolutions and pools, for the tests of kernels: odd sizes, extreme geometry, every parameter, integers that
leave no rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastcnn import functional, ops, reference
from fastcnn.compiler.choose import ALGORITHMS, Algorithm, Problem
from fastcnn.graph.ir import Node
from fastcnn.kernels import _cpu


@dataclass(frozen=True)
class Case:
    """One convolution with its arrays."""

    x: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int

    def run(self, algorithm: str, out: np.ndarray | None = None) -> np.ndarray:
        return functional.conv2d(
            self.x, self.weight, self.bias, self.stride, self.pads, self.dilation, self.groups, algorithm, out
        )

    def expected(self) -> np.ndarray:
        return reference.conv2d(self.x, self.weight, self.bias, self.stride, self.pads, self.dilation, self.groups)

    def algorithms(self) -> list[str]:
        """The exact ones that take this case on the instruction set in use."""
        found = able(self.x.shape, self.weight.shape, self.groups, self.stride, self.dilation)
        return [entry.name for entry in found if not entry.error]

    def terms(self) -> int:
        """Products in one output."""
        return int(np.prod(self.weight.shape[1:]))


def able(
    x: Sequence[int], weight: Sequence[int], groups: int, stride: tuple[int, int], dilation: tuple[int, int]
) -> list[Algorithm]:
    """The algorithms that compute a convolution of the given shapes on the instruction set in use."""
    problem = Problem(
        x[1], weight[0], groups, (weight[2], weight[3]), stride, dilation, _cpu.vector_length(), (1, 1), False
    )
    return [entry for entry in ALGORITHMS if not entry.why_not(problem)]


def node(op: str, inputs: tuple[str, ...], output: str, **attrs: Any) -> Node:
    """A node with the default of every attribute that is not given."""
    return Node(op, output, inputs, output, {**ops.get(op).defaults, **attrs})


def any_algorithm(nodes: Sequence[Node], shapes: Mapping[str, tuple[int, ...]], rng: np.random.Generator) -> list[Node]:
    """The nodes, every convolution among them with one of the algorithms that compute it."""
    chosen = []
    for each in nodes:
        if each.op == "Conv":
            places = (shapes[name] for name in each.inputs[:2])
            entries = able(*places, *(each.attrs[key] for key in ("group", "strides", "dilations")))
            each = replace(each, attrs={**each.attrs, "algorithm": str(rng.choice([entry.name for entry in entries]))})
        chosen.append(each)
    return chosen


def random_case(rng: np.random.Generator, integers: bool) -> Case:
    """A small convolution; kernels from 1 x 1 to 11 x 11, any groups, padding on each side."""
    kind = rng.choice(["dense", "grouped", "depthwise", "large kernel", "wide"], p=[0.45, 0.15, 0.2, 0.1, 0.1])
    groups, ins, outs = 1, int(rng.integers(1, 40)), int(rng.integers(1, 40))
    largest, longest = 5, 20
    if kind == "grouped":
        groups = int(rng.integers(2, 5))
        unit = int(rng.choice([1, 5, 8, 16]))  # full blocks sometimes
        ins, outs = unit * int(rng.integers(1, 4)) * groups, unit * int(rng.integers(1, 4)) * groups
    elif kind == "depthwise":
        groups = ins = outs = max(2, ins)
    elif kind == "large kernel":
        ins, outs, largest = int(rng.integers(1, 9)), int(rng.integers(1, 20)), 11
    elif kind == "wide":
        ins, outs, largest, longest = int(rng.integers(1, 70)), int(rng.integers(1, 90)), 3, 9
    kernel = tuple(int(k) for k in rng.integers(1, largest + 1, 2))
    stride = tuple(int(s) for s in rng.choice([1, 1, 1, 2, 2, 3, 4], 2))
    dilation = tuple(int(d) for d in rng.choice([1, 1, 1, 2, 3], 2))
    pads = tuple(int(p) for p in rng.integers(0, [k + 1 for k in kernel] * 2))
    batch = int(rng.integers(1, 4))
    least = [max(1, d * (k - 1) + 1 - a - b) for d, k, a, b in zip(dilation, kernel, pads[:2], pads[2:], strict=True)]
    size = [int(rng.integers(low, low + longest)) for low in least]
    x_shape, w_shape = (batch, ins, *size), (outs, ins // groups, *kernel)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        # 70 * 9 products of at most 127 * 127 stay below 2^24.
        values = rng.integers(-127, 128, shape) if integers else rng.standard_normal(shape)
        return values.astype(np.float32)

    bias = draw((outs,)) if rng.random() < 0.6 else None
    return Case(draw(x_shape), draw(w_shape), bias, stride, pads, dilation, groups)


def extreme_axis(rng: np.random.Generator, taps: int, most_padding: int) -> tuple[int, int, int, int, int]:
    """Size, stride, padding before and after, and dilation of one axis. Windows may lie wholly in the padding, strides
    and dilation lead beyond the image, which may be a single pixel."""
    size = int(rng.choice([1, 1, 2, 3, 7]))
    dilation = int(rng.choice([1, 1, 1, 2, size, size + 1]))
    extent = dilation * (taps - 1) + 1
    far = [0, 0, 1, extent - 1, extent, extent + 1, extent + size, 2 * extent + 3]
    before, after = (min(most_padding, int(pad)) for pad in rng.choice(far, 2))
    while size + before + after < extent:
        size += 1
    room = size + before + after - extent
    stride = int(rng.choice([1, 1, 2, 3, size, extent, size + extent, max(1, room), room + 1, 9999]))
    return size, stride, before, after, dilation


def extreme_case(rng: np.random.Generator, most: int = 9) -> Case:
    """A small convolution of integers up to `most` with `extreme_axis` in both directions."""
    kernel = (3, 3) if rng.random() < 0.3 else tuple(int(k) for k in rng.integers(1, 5, 2))
    axes = [extreme_axis(rng, taps, 99) for taps in kernel]
    if rng.random() < 0.25:  # alike in both, so that Winograd's algorithms have cases of stride 2
        axes[1] = axes[0] if kernel[0] == kernel[1] else axes[1]
    (height, width), stride, before, after, dilation = zip(*axes, strict=True)
    kind = rng.choice(["dense", "grouped", "depthwise"], p=[0.5, 0.2, 0.3])
    few = [1, 2, 3, 4, 7, 8, 16, 17, 33]
    ins, outs, groups = (*(int(c) for c in rng.choice(few, 2)), 1)
    if kind == "grouped":
        groups = int(rng.integers(2, 4))
        ins, outs = groups * min(ins, 16), groups * min(outs, 16)
    elif kind == "depthwise":
        groups = ins = outs = max(2, ins)
    x_shape, w_shape = (int(rng.integers(1, 4)), ins, height, width), (outs, ins // groups, *kernel)
    x, weight, bias = (rng.integers(-most, most + 1, s).astype(np.float32) for s in (x_shape, w_shape, (outs,)))
    return Case(x, weight, bias if rng.random() < 0.5 else None, stride, (*before, *after), dilation, groups)


@dataclass(frozen=True)
class PoolCase:
    """One pool with its array."""

    x: np.ndarray
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    ceil_mode: bool


def extreme_pool(rng: np.random.Generator) -> PoolCase:
    """A small pool of integers with `extreme_axis` in both directions, and the padding that pools may have."""
    kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
    axes = [extreme_axis(rng, taps, taps // 2) for taps in kernel]
    size, stride, before, after, dilation = zip(*axes, strict=True)
    shape = (int(rng.integers(1, 4)), int(rng.choice([1, 2, 3, 7, 8, 16, 17, 33])), *size)
    x = rng.integers(-9, 10, shape).astype(np.float32)
    return PoolCase(x, kernel, stride, (*before, *after), dilation, bool(rng.integers(2)))
