"""Fusing: what finishes a producer's output becomes part of it, where nobody else reads that output."""

from __future__ import annotations

import pytest
from convolutions import node
from random_graphs import residual_graph

from fastcnn.compiler.choose import choose_algorithms
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.fuse import fuse, fuse_pools
from fastcnn.compiler.state import Options, State
from fastcnn.graph.ir import Graph
from fastcnn.ops.decisions import Finish


def test_a_residual_block_is_one_convolution():
    plan = compile_graph(residual_graph(), {"x": (1, 16, 6, 6)})
    (conv,) = [step for step in plan.steps if step.kernel != "reorder"]
    assert (conv.name, conv.fused) == ("conv", ("sum", "relu"))
    assert "not depthwise" in conv.reasons["depthwise"]


INPUTS = {"x": (1, 16, 8, 8), "r": (1, 16, 8, 8), "w": (16, 16, 3, 3), "c": (16, 1, 1)}


def state_of(*nodes, outputs=()):
    graph = Graph(list(nodes), INPUTS, [*outputs, nodes[-1].output], {})
    return State(graph, graph.infer(INPUTS), Options(vl=8))


def conv(*inputs, output="a", **attrs):
    return node("Conv", inputs or ("x", "w"), output, pads=(1, 1, 1, 1), **attrs)


def test_residual_and_activation_are_inside_and_the_node_stands_where_the_last_stood():
    late = node("Relu", ("r",), "s")
    state = fuse(state_of(conv(), late, node("Add", ("s", "a"), "b"), node("Relu", ("b",), "y")))
    first, second = state.graph.nodes
    assert first == late and (second.op, second.name, second.output) == ("Conv", "a", "y")
    assert second.inputs == ("x", "w", "", "s") and second.decided.fused == ("b", "y")
    assert second.decided.finish == Finish(("Relu", {})) and second.attrs == conv().attrs
    assert state.operations == sum(state.work.values()) == 16 * 8 * 8 * (2 * 16 * 9 + 1)


def test_of_two_producers_the_later_one_takes_the_sum_in():
    state = fuse(state_of(conv(), conv("r", "w", output="b"), node("Add", ("a", "b"), "y")))
    assert [(made.name, made.inputs) for made in state.graph.nodes] == [
        ("a", ("x", "w")),
        ("b", ("r", "w", "", "a")),
    ]


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        (
            [conv(), node("Relu", ("a",), "b"), node("Add", ("a", "b"), "y")],
            (),
        ),  # it is read twice
        ([conv(), node("Relu", ("a",), "y")], ("a",)),  # it is an output
        ([conv(), node("Add", ("a", "a"), "y")], ()),  # twice the same
        ([conv(), node("Add", ("a", "c"), "y")], ()),  # broadcast
        ([node("MaxPool", ("x",), "a", kernel_shape=(2, 2)), node("Relu", ("a",), "y")], ()),  # takes no activation
    ],
)
def test_what_others_need_stays(nodes, outputs):
    before = state_of(*nodes, outputs=outputs)
    assert fuse(before).graph is before.graph


@pytest.mark.parametrize(
    ("window", "algorithm", "inside"),
    [
        ({}, "winograd", True),
        ({}, "winograd2", True),
        ({}, "direct", False),  # of 16 channels
        ({"strides": (1, 1)}, "winograd", False),
        ({"pads": (1, 1, 1, 1)}, "winograd", False),
        ({"kernel_shape": (3, 3)}, "winograd", False),
    ],
)
def test_maxima_are_inside_where_patches_are_computed_as_a_whole(window, algorithm, inside):
    pool = node("MaxPool", ("b",), "y", **{"kernel_shape": (2, 2), "strides": (2, 2), **window})
    state = choose_algorithms(fuse(state_of(conv(algorithm=algorithm), node("Relu", ("a",), "b"), pool)))
    after = fuse_pools(state)
    if not inside:
        assert after is state
        return
    (made,) = after.graph.nodes
    assert made.output == "y" and made.decided.finish == Finish(("Relu", {}), pool=True)
    assert made.decided.fused == ("b", "y") and after.shapes["y"] == (1, 16, 4, 4)
