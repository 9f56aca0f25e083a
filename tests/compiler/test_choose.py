"""Choosing: the fastest algorithm that can, the reasons against the others, and what a pass puts into the graph."""

from __future__ import annotations

from dataclasses import replace

import pytest
from convolutions import node

from fastcnn.compiler.choose import ARITHMETIC, Problem, algorithm_names, choose, choose_algorithms
from fastcnn.compiler.state import Options, State
from fastcnn.graph.ir import Graph


def test_choice_and_reasons():
    dense = Problem(16, 16, 1, (3, 3), (1, 1), (1, 1), vl=8, size=(6, 6))
    large = Problem(64, 64, 1, (3, 3), (1, 1), (1, 1), vl=8, size=(56, 56))
    assert choose(large)[0].name == "winograd"
    entry, reasons = choose(replace(large, packed_ahead=False))
    assert entry.name == "direct" and reasons["winograd"].startswith("estimated at")
    deep = Problem(512, 512, 1, (3, 3), (1, 1), (1, 1), vl=16, size=(7, 7))
    assert choose(deep)[0].name == "winograd_lean"  # its filters are smaller
    assert choose(replace(deep, images=8))[0].name == "winograd"
    assert choose(replace(deep, images=16))[0].seconds(replace(deep, images=16)) < choose(deep)[0].seconds(deep)
    cut = Problem(12, 12, 2, (3, 3), (1, 1), (1, 1), vl=8, size=(6, 6))
    entry, reasons = choose(cut)
    assert entry.name == "direct" and reasons["winograd"] == "2 groups: it takes one"
    with pytest.raises(ValueError, match="algorithm='winograd' cannot compute this layer: 2 groups"):
        choose(cut, "winograd")
    # Three vectors of eight for twelve channels: the first block is of both groups.
    assert entry.seconds(cut) == pytest.approx(2 * cut.operations / ARITHMETIC[cut.vl])
    assert reasons["im2col"].endswith("only where it is asked for")
    with pytest.raises(ValueError, match="algorithm='fft', expected one of auto, depthwise, direct, winograd"):
        choose(dense, "fft")
    depthwise = Problem(8, 8, 8, (3, 3), (1, 1), (1, 1), vl=8, size=(6, 6))
    for name in algorithm_names()[1:]:
        assert choose(depthwise if name in ("depthwise", "im2col") else dense, name)[0].name == name


def chosen(*nodes, vl=8, **options):
    """The choices of convolutions of images of 16 x 16 x 16 with filters of 16 x 16 x 3 x 3, in a graph."""
    inputs = {"x": (1, 16, 16, 16), "w": (16, 16, 3, 3)}
    graph = Graph(list(nodes), inputs, [nodes[-1].output], {})
    state = choose_algorithms(State(graph, graph.infer(inputs), Options(vl, **options)))
    assert [made.attrs for made in state.graph.nodes] == [made.attrs for made in nodes]  # the author's stay
    return [made.decided.choice for made in state.graph.nodes]


def test_the_pass_tells_algorithm_kernel_and_actual_padding():
    (found,) = chosen(node("Conv", ("x", "w"), "y", auto_pad="SAME_UPPER", strides=(2, 2), algorithm="direct"))
    assert (found.algorithm, found.layout, found.kernel, found.pads) == ("direct", "blocked", (3, 3), (0, 0, 1, 1))
    assert found.problem == "16 to 16 channels, 3x3, stride 2x2, dilation 1x1, groups 1, output 8x8, blocks of 8"
    assert found.reasons["winograd2"] == "algorithm='direct' was asked for"


def test_layers_that_are_the_same_are_chosen_once_and_others_are_not():
    same = {"pads": (1, 1, 1, 1)}
    nodes = [
        node("Conv", ("x", "w"), "a", **same),
        node("Conv", ("a", "w"), "b", **same),
        node("Conv", ("b", "w"), "c", algorithm="im2col", **same),
        node("Relu", ("c",), "y"),
    ]
    first, second, third, none = chosen(*nodes)
    assert first == second and first.reasons is second.reasons and none is None
    assert third.algorithm == "im2col" and third.layout == "plain"
    tuned, *_ = chosen(*nodes, tuning={first.problem: "direct"})
    assert tuned.algorithm == "direct" and tuned.reasons["winograd"] == "tuning has found direct faster"


def test_a_forced_algorithm_that_cannot_names_its_node():
    wrong = node("Conv", ("x", "w"), "y", dilations=(2, 2), algorithm="winograd")
    with pytest.raises(ValueError, match=r"node 'y' \(Conv\): algorithm='winograd' cannot compute this layer"):
        chosen(wrong)
    with pytest.raises(ValueError, match="^algorithm='winograd' cannot"):  # an eager call has no node
        chosen(replace(wrong, name=""))
