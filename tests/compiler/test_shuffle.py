"""Shuffles of channels between convolutions: what is left out changes nothing, and what has to stay stays."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from definitions import evaluate

import fastcnn
from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node

# Channels, groups, stride, the sizes that stay behind the channels in the middle of the shuffle.
CASES = [(12, 3, 1, (7, 9)), (20, 2, 2, (63,)), (34, 2, 1, (7, 9)), (48, 4, 2, (7, 9)), (136, 4, 1, (63,))]


def unit(channels, groups, stride, rest, depthwise=True, extra=(), parameters=False, summand=False):
    """A ShuffleNet unit of an image of 7 x 9: Conv, Tanh, shuffle, depthwise Conv with norm, Conv, sum, Relu."""
    rng = np.random.default_rng(channels)
    ins = channels // groups

    def numbers(*shape):
        return rng.uniform(-0.5, 1.0, shape).astype(np.float32)

    constants = {
        "a": numbers(channels, ins, 1, 1),
        "b": numbers(channels),
        "d": numbers(channels, 1, 3, 3),
        "e": numbers(channels),
        "k": numbers(1, channels, 7, 9),
        "c": numbers(channels, ins, 3, 3),
        **{f"n{i}": numbers(channels) + (i == 3) for i in range(4)},
    }
    steps = [
        ("Conv", ("x", "a", "b"), "v", {"group": groups}),
        ("Tanh", ("v",), "w", {}),
        ("Reshape", ("w",), "s1", {"shape": (1, groups, ins, *rest)}),
        ("Transpose", ("s1",), "s2", {"perm": (0, 2, 1, *range(3, 3 + len(rest)))}),
        ("Reshape", ("s2",), "s3", {"shape": (1, channels, 7, 9)}),
    ]
    if depthwise:
        steps += [
            ("Conv", ("s3", "d", "e"), "y", {"group": channels, "strides": (stride, stride), "pads": (1,) * 4}),
            ("Add", ("y", "k"), "z", {}) if summand else ("BatchNormalization", ("y", "n0", "n1", "n2", "n3"), "z", {}),
        ]
    steps += [("Conv", ("z" if depthwise else "s3", "c"), "q", {"group": groups, "pads": (1,) * 4})]
    if stride == 1:
        steps += [("Add", ("q", "x"), "r", {}), ("Relu", ("r",), "t", {})]
    nodes = [Node(op, output, inputs, output, {**ops.get(op).defaults, **attrs}) for op, inputs, output, attrs in steps]
    inputs = {"x": (1, channels, 7, 9), **({"d": constants.pop("d").shape} if parameters else {})}
    return Graph(nodes, inputs, [nodes[-1].output, *extra], constants)


def check(graph, *shuffles):
    """Right results, the same for any number of threads; with the expected number of transposes."""
    rng = np.random.default_rng(0)
    x = {name: rng.standard_normal(shape, np.float32) for name, shape in graph.inputs.items()}
    plan = compile_graph(graph, graph.inputs)
    assert [step.name for step in plan.steps if step.kernel == "transpose"] == list(shuffles)
    results = []
    for threads in THREADS:
        with fastcnn.num_threads(threads):
            results.append(plan.run(list(x.values())))
    values = evaluate(graph, **x)
    for i, name in enumerate(graph.outputs):
        np.testing.assert_allclose(results[0][i], values[name], rtol=1e-4, atol=1e-4)
        assert all(np.array_equal(result[i], results[0][i]) for result in results)
    return plan


@pytest.mark.parametrize("depthwise", [True, False])
@pytest.mark.parametrize(("channels", "groups", "stride", "rest"), CASES)
def test_convolutions_look_shuffled_channels_up(channels, groups, stride, rest, depthwise, isa, poisoned):
    plan = check(unit(channels, groups, stride if depthwise else 1, rest, depthwise))
    assert [step.kernel for step in plan.steps].count("reorder") <= 2  # of the network's input and output
    assert {"s1", "s2", "s3"} <= set(plan.steps[-2 if plan.steps[-1].kernel == "reorder" else -1].fused)


def test_shuffles_that_others_read_stay(isa):
    for extra in ("s3", "s2"):
        check(unit(12, 3, 1, (7, 9), extra=(extra,)), "s2")
    check(unit(12, 3, 1, (7, 9), extra=("w",)))  # what is before it may be read


def test_filters_that_change_keep_their_order(isa):
    check(unit(12, 3, 1, (7, 9), parameters=True), "s2")


def test_a_summand_keeps_its_order(isa):
    check(unit(12, 3, 1, (7, 9), summand=True), "s2")


def test_one_group_reads_no_other_order(isa):
    check(unit(7, 1, 1, (7, 9), depthwise=False), "s2")


def test_other_transposes_stay(isa):
    graph = unit(12, 3, 1, (9, 7))
    for node in graph.nodes:
        if node.op == "Transpose":
            node.attrs["perm"] = (0, 2, 1, 4, 3)
    check(graph, "s2")
