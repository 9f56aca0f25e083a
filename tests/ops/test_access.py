"""How operations say that they read and write, and what the compiler saves by knowing."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.compiler.choose import ALGORITHMS
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels import _cpu
from fastcnn.ops.access import Access
from fastcnn.ops.conv import Conv
from fastcnn.ops.decisions import ConvChoice, Decisions

VL = _cpu.vector_length()


def access(op: str, attrs: dict, *shapes: tuple[int, ...]) -> Access:
    """Of operands and an output of given shapes."""
    *names, output = [f"v{i}" for i in range(len(shapes))]
    node = Node(op, "node", tuple(names), output, attrs)
    return node.kind.access(node, dict(zip((*names, output), shapes, strict=True)), VL)


def convolution(algorithm: str, channels: int, groups: int = 1, residual: bool = False, pads: int = 1) -> Access:
    """Of 3 x 3 pixels on images of 20 x 20, as it is once its algorithm is chosen."""
    layout = next(entry.layout for entry in ALGORITHMS if entry.name == algorithm)
    decided = Decisions(choice=ConvChoice(algorithm, layout, (3, 3), (pads,) * 4))
    attrs = {**Conv.defaults, "pads": (pads,) * 4, "group": groups}
    image, weight = (1, channels, 20, 20), (channels, channels // groups, 3, 3)
    node = Node("Conv", "conv", ("x", "w", "", "r") if residual else ("x", "w"), "y", attrs, decided)
    return node.kind.access(node, {"x": image, "r": image, "w": weight, "y": image}, VL)


def test_operations_by_element_follow_images_and_write_over_what_they_read():
    image, vector = (2, 3, 4, 4), (2, 3)
    assert access("Relu", {}, image, image) == Access("follow", overwrites=(0,))
    assert access("Relu", {}, vector, vector) == Access("plain", overwrites=(0,))
    assert access("Add", {}, image, image, image) == Access("follow", overwrites=(0, 1))
    assert access("Add", {}, image, (3, 1, 1), image) == Access("plain", overwrites=(0, 1))


def test_pools_are_worth_blocks_where_vectors_are_mostly_full():
    window = {"kernel_shape": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0)}
    for channels, layout in ((VL, "blocked"), (VL // 2, "blocked"), (VL // 2 - 1, "follow")):
        found = access("MaxPool", window, (1, channels, 8, 8), (1, channels, 4, 4))
        assert found == Access(layout)


def test_parts_of_whole_blocks_alone_stay_blocked():
    for start, layout in ((VL, "follow"), (1, "plain")):
        part = {"axis": 1, "start": start, "end": 2 * VL}
        assert access("Slice", part, (1, 2 * VL, 4, 4), (1, 2 * VL - start, 4, 4)).layout == layout
        assert access("Concat", {"axis": 1}, (1, start, 4, 4), (1, 3, 4, 4), (1, start + 3, 4, 4)).layout == layout


@pytest.mark.parametrize(
    ("algorithm", "groups", "pools"), [("winograd", 1, True), ("winograd6", 1, True), ("depthwise", 2 * VL, False)]
)
def test_convolutions_that_compute_an_output_at_once_write_over_their_residual(algorithm, groups, pools):
    found = convolution(algorithm, 2 * VL, groups, residual=True)
    assert (found.layout, found.halo[:2], found.pools, found.overwrites) == ("blocked", (1, 1), pools, (3,))
    assert convolution(algorithm, 2 * VL, groups).overwrites == ()
    assert convolution("im2col", 2 * VL, residual=True).overwrites == ()


def test_direct_convolution_of_few_channels():
    few = convolution("direct", VL // 2)
    assert few.reads_narrow and not few.reads_plain
    assert convolution("direct", VL // 2, pads=0).reads_plain
    assert not convolution("direct", VL, groups=2).reads_narrow


@pytest.mark.parametrize(
    ("outs", "width", "right"),
    [(1, VL, 4), (VL // 2, VL, 4), (1, VL - 1, 5), (VL // 2 + 1, VL, None), (1, 1, None)],
)
def test_few_outputs_of_many_channels_are_vectors_of_pixels(outs, width, right):
    """A row that is shorter than a vector is read as one."""
    decided = Decisions(choice=ConvChoice("direct", "blocked", (5, 5), (4, 4, 4, 4)))
    node = Node("Conv", "conv", ("x", "w"), "y", {**Conv.defaults, "pads": (4, 4, 4, 4)}, decided)
    shapes = {"x": (1, VL, 8, width - 4), "w": (outs, VL, 5, 5), "y": (1, outs, 12, width)}
    found = node.kind.access(node, shapes, VL)
    planes = right is not None and outs <= 6
    assert (found.plain, found.halo) == (((0,), (4, 4, 4, right)) if planes else ((), (4, 4, 4, 4)))
    assert found.layout == "blocked"


@pytest.mark.parametrize(("outs", "copies"), [(2 * VL, 0), (2 * VL - 2, 1)])
def test_rows_of_whole_vectors_need_no_copy_to_be_reshaped(outs, copies):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((outs, 5)).astype(np.float32)
    nodes = [
        Node("Gemm", "gemm", ("x", "w"), "y", {}),
        Node("Reshape", "reshape", ("y",), "z", {"shape": (3, 2, outs // 2)}),
        Node("Relu", "relu", ("z",), "out", {}),
    ]
    x = rng.standard_normal((3, 5)).astype(np.float32)
    plan = compile_graph(Graph(nodes, {"x": x.shape}, ["out"], {"w": weight}), {"x": x.shape})
    assert [step.kernel for step in plan.steps].count("reorder") == copies
    expected = np.maximum(x @ weight.T, 0).reshape(3, 2, -1)
    np.testing.assert_allclose(plan.run([x])[0], expected, rtol=1e-5, atol=1e-5)
