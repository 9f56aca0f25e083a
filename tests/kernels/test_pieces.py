"""No step is deaf for long: whatever the geometry, between two looks at signals lies no more work than `LONGEST_PIECE`.
Compared is what the steps themselves tell of their work; nothing is run, and no memory touched."""

from __future__ import annotations

import numpy as np
import pytest
from convolutions import node

import fastcnn as fc
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph
from fastcnn.kernels import _step
from fastcnn.training.step import StepKind

pytestmark = pytest.mark.usefixtures("isa")

HUGE_WINDOW = {"kernel_shape": (2001, 2001), "pads": (1000,) * 4}
HUGE_FILTER = {"pads": (1000,) * 4, "strides": (1, 1), "dilations": (1, 1)}
LONG_ROW = {"pads": (0, 500, 0, 500), "strides": (1, 1), "dilations": (1, 1)}
IMAGE, ROW, WIDE = (1, 1, 3000, 3000), (1, 1, 1, 2_000_000), (1, 64, 1, 200_000)


def windows(op, **attrs):
    return op, HUGE_WINDOW | attrs


def filters(attrs, **others):
    return attrs | others


# Operation, attributes, shapes of its inputs: windows as large as images, rows, axes and batches of millions.
CASES = {
    "maxima": (*windows("MaxPool"), [IMAGE]),
    "means": (*windows("AveragePool"), [IMAGE]),
    "gradient of maxima": (*windows("MaxPoolGrad"), [IMAGE, IMAGE]),
    "gradient of means": (*windows("AveragePoolGrad", size=IMAGE[2:]), [IMAGE]),
    "maxima of a row": ("MaxPool", {"kernel_shape": (1, 3)}, [(1, 4096, 1, 20_000)]),
    "filter": ("Conv", HUGE_FILTER, [IMAGE, (1, 1, 2001, 2001)]),
    "filters": ("Conv", HUGE_FILTER, [(1, 16, 500, 500), (64, 16, 401, 401)]),
    "by the columns of pixels": ("Conv", filters(HUGE_FILTER, algorithm="im2col"), [IMAGE, (1, 1, 2001, 2001)]),
    "row": ("Conv", LONG_ROW, [ROW, (8, 1, 1, 1001)]),
    "row of vectors": ("Conv", LONG_ROW, [WIDE, (64, 64, 1, 1001)]),
    "many channels": ("Conv", {"pads": (1,) * 4}, [(1, 8192, 14, 14), (8192, 8192, 3, 3)]),
    "many channels, every second pixel": ("Conv", {"strides": (2, 2)}, [(1, 8192, 28, 28), (8192, 8192, 1, 1)]),
    "many channels by Winograd's algorithm": (
        "Conv", {"pads": (1,) * 4, "algorithm": "winograd"}, [(1, 8192, 14, 14), (8192, 8192, 3, 3)]
    ),
    "many channels, filters transformed while they are read": (
        "Conv", {"pads": (1,) * 4, "algorithm": "winograd_lean"}, [(1, 8192, 14, 14), (8192, 8192, 3, 3)]
    ),
    "depthwise": ("Conv", filters(HUGE_FILTER, group=16), [(1, 16, 3000, 3000), (16, 1, 2001, 2001)]),
    "depthwise row": ("Conv", filters(LONG_ROW, group=64), [WIDE, (64, 1, 1, 1001)]),
    "groups": ("Conv", filters(HUGE_FILTER, group=3), [(1, 6, 3000, 3000), (6, 2, 401, 401)]),
    "gradient by the image": (
        "ConvGradInput", filters(HUGE_FILTER, size=IMAGE[2:]), [IMAGE, (1, 1, 2001, 2001)]
    ),
    "depthwise gradient by the image, with strides": (
        "ConvGradInput", {"pads": (1000,) * 4, "strides": (2, 2), "group": 16, "size": (3000, 3000)},
        [(1, 16, 1500, 1500), (16, 1, 2001, 2001)],
    ),
    "gradient by the filter": (
        "ConvGradWeight", filters(HUGE_FILTER, kernel_shape=(2001, 2001)), [IMAGE, IMAGE]
    ),
    "gradient by the filters of a row": (
        "ConvGradWeight", filters(LONG_ROW, kernel_shape=(1, 1001)), [ROW, (1, 48, 1, 2_000_000)]
    ),
    "gradient by depthwise filters": (
        "ConvGradWeight", filters(HUGE_FILTER, group=16, kernel_shape=(2001, 2001)),
        [(1, 16, 3000, 3000), (1, 16, 3000, 3000)],
    ),
    "gradient by filters of groups": (
        "ConvGradWeight", filters(HUGE_FILTER, group=3, kernel_shape=(401, 401)),
        [(1, 6, 3000, 3000), (1, 6, 4600, 4600)],
    ),
    "gradient by many filters": (
        "ConvGradWeight", {"pads": (1,) * 4, "kernel_shape": (3, 3)}, [(64, 4096, 28, 28), (64, 4096, 28, 28)]
    ),
    "gradient by a bias": ("ChannelSum", {}, [(100, 4, 1000, 1000)]),
    "fully connected": ("Gemm", {}, [(256, 1_000_000), (64, 1_000_000)]),
    "fully connected, one row": ("Gemm", {}, [(1, 1_000_000), (640, 1_000_000)]),
    "gradient by fully connected weights": ("GemmGradWeight", {}, [(400_000, 96), (400_000, 256)]),
    "local response": ("LRN", {"size": 4096}, [(1, 4096, 1, 10_000)]),
    "gradient of local response": ("LRNGrad", {"size": 4096}, [(1, 4096, 1, 10_000)] * 2),
    "product of two values": ("MatMul", {}, [(64, 2_000_000), (2_000_000, 64)]),
    "product of two values, transposed": (
        "MatMul", {"trans_a": 1, "trans_b": 1}, [(2_000_000, 3), (5000, 2_000_000)]
    ),
    "attention": ("HeadAttention", {"head_dim": 64, "value_dim": 64}, [(1, 64, 1, 300_000)] * 3),
    "softmax": ("Softmax", {"axis": 1}, [(4, 20_000_000)]),
    "gradient of softmax": ("SoftmaxGrad", {"axis": 1}, [(4, 20_000_000)] * 2),
}  # fmt: skip


def steps_of(graph, shapes, **settings):
    """The steps of a plan, and how the plan calls them."""
    plan = compile_graph(graph, shapes, **settings)
    return [(make(), info.kernel) for make, info in zip(plan._makers, plan.steps, strict=True)]


def check(steps):
    for step, kernel in steps:
        assert step.longest <= _step.LONGEST_PIECE, (kernel, step.longest)


@pytest.mark.parametrize("name", CASES)
def test_operations(name):
    op, attrs, operands = CASES[name]
    shapes = {f"operand {i}": shape for i, shape in enumerate(operands)}
    check(steps_of(Graph([node(op, tuple(shapes), "y", **attrs)], shapes, ["y"], {}), shapes))


def test_several_in_bands():
    """A convolution and what reads it: both of large windows."""
    nodes = [
        node("Conv", ("x", "weight"), "conv", pads=(50,) * 4),
        node("MaxPool", ("conv",), "y", kernel_shape=(301, 301), pads=(150,) * 4),
    ]
    shapes = {"x": (1, 16, 3000, 3000)}
    weight = np.broadcast_to(np.float32(0), (16, 16, 101, 101))
    check(steps_of(Graph(nodes, shapes, ["y"], {"weight": np.array(weight)}), shapes))


def test_training():
    """Every step of a training step: batch statistics, losses, norms of gradients, updates."""
    model = fc.Sequential(
        fc.Conv2d(3, 16, 3, padding=1, rng=0), fc.BatchNorm2d(16), fc.ReLU(), fc.MaxPool2d(2), fc.Dropout(0.1),
        fc.Flatten(), fc.Linear(16 * 112 * 112, 100, rng=0),
    )  # fmt: skip
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9), clip_norm=1.0)
    for loss, gathers, applies in (
        ("CrossEntropy", False, True),
        ("LinearLoss", True, False),
        ("LinearLoss", True, True),
    ):
        plan = trainer._compile((256, 3, 224, 224), StepKind(loss, gathers, applies)).plan
        check([(make(), info.kernel) for make, info in zip(plan._makers, plan.steps, strict=True)])
