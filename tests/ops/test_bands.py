"""Bands: a convolution and what reads it as one step. Bits are compared in compiler/test_slices.py and
kernels/test_extreme_geometry.py; here is what the operation tells of itself."""

from __future__ import annotations

import pytest
from convolutions import node

from fastcnn.ops.bands import Bands, reader_rows
from fastcnn.ops.decisions import ConvChoice
from fastcnn.ops.node import Node

CONV = ConvChoice("direct", "blocked", (3, 3), (1, 1, 1, 1))
SHAPES = {"x": (2, 3, 9, 9), "w": (16, 3, 3, 3), "b": (16,), "d": (16, 1, 3, 3), "a": (2, 16, 9, 9), "y": (2, 16, 5, 5)}


def convolution():
    return node("Conv", ("x", "w", "b"), "a", pads=(1, 1, 1, 1)).deciding(choice=CONV)


def depthwise(**window):
    made = node("Conv", ("a", "d"), "y", group=16, strides=(2, 2), pads=(1, 1, 1, 1), **window)
    return made.deciding(choice=ConvChoice("depthwise", "blocked", (3, 3), (1, 1, 1, 1)))


def pooling(**window):
    return node("MaxPool", ("a",), "y", **{"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), **window})


def in_bands(reader):
    inputs = ("x", "w", "b", *reader.inputs[1:])
    return Node("InBands", "bands", inputs, "y", {"bands": Bands(convolution(), reader, SHAPES["a"])})


@pytest.mark.parametrize("reader", [depthwise(), pooling()], ids=["depthwise", "pool"])
def test_its_work_is_that_of_both(reader):
    both = in_bands(reader)
    parts = (convolution(), reader)
    expected = sum(
        part.kind.flops(part.attrs, [SHAPES[name] for name in part.inputs], SHAPES[part.output]) for part in parts
    )
    assert both.kind.flops(both.attrs, [SHAPES[name] for name in both.inputs], SHAPES["y"]) == expected > 0


@pytest.mark.parametrize("reader", [depthwise(), pooling()], ids=["depthwise", "pool"])
def test_it_reads_as_its_convolution_and_writes_blocks(reader):
    both, conv = in_bands(reader), convolution()
    access, alone = (made.kind.access(made, SHAPES, 16) for made in (both, conv))
    assert access.layout == "blocked" and not access.writes_plain and not access.overwrites
    assert (access.halo, access.reads_narrow, access.reads_plain) == (alone.halo, True, alone.reads_plain)


@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        (depthwise(), (3, 2, (1, 1, 1, 1))),
        (pooling(), (3, 2, (1, 1, 1, 1))),
        (pooling(kernel_shape=(2, 5), strides=(3, 1), pads=(0, 2, 1, 2)), (2, 3, (0, 2, 1, 2))),
        (pooling(dilations=(2, 1), pads=(0, 0, 0, 0)), (5, 2, (0, 0, 0, 0))),
        (pooling(kernel_shape=(2, 2), auto_pad="SAME_UPPER", pads=(0, 0, 0, 0)), (2, 2, (0, 0, 1, 1))),
    ],
)
def test_rows_under_a_window(reader, expected):
    assert reader_rows(reader, SHAPES["a"][1:]) == expected
