"""Sums of convolutions of one value become one convolution, with the results of the definitions."""

from __future__ import annotations

import numpy as np
import pytest
from definitions import evaluate

from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node


class Net:
    """A graph of one image; constants are made as they are asked for."""

    def __init__(self, channels=8, size=(9, 7)):
        self.rng, self.nodes, self.constants = np.random.default_rng(channels), [], {}
        self.shape = (2, channels, *size)

    def constant(self, *shape, low=-0.5):
        name = f"c{len(self.constants)}"
        self.constants[name] = self.rng.uniform(low, 0.7, shape).astype(np.float32)
        return name

    def add(self, op, *inputs, **attrs):
        output = f"v{len(self.nodes)}"
        self.nodes.append(Node(op, f"n{len(self.nodes)}", inputs, output, {**ops.get(op).defaults, **attrs}))
        return output

    def conv(self, x, outs, kernel, bias=True, group=1, **attrs):
        channels = self.shape[1]
        attrs = {"pads": (kernel // 2,) * 4, "group": group, **attrs}
        weight = self.constant(outs, channels // group, kernel, kernel)
        return self.add("Conv", x, weight, *([self.constant(outs)] if bias else []), **attrs)

    def norm(self, x, channels):
        return self.add(
            "BatchNormalization", x, *[self.constant(channels) for _ in range(3)], self.constant(channels, low=0.2)
        )

    def check(self, output, convolutions, extra=()):
        graph = Graph(self.nodes, {"x": self.shape}, [output, *extra], self.constants)
        x = self.rng.standard_normal(self.shape).astype(np.float32)
        plan = compile_graph(graph, graph.inputs)
        wanted = evaluate(graph, x=x)[output]
        np.testing.assert_allclose(plan.run([x])[0], wanted, rtol=0, atol=4e-6 * np.abs(wanted).max())
        assert sum(step.operations > wanted.size for step in plan.steps if step.kernel != "reorder") == convolutions


@pytest.mark.parametrize("group", [1, 8, 2])
def test_a_block_of_branches_is_one_convolution(isa, group):
    net = Net()
    total = net.add("Add", net.norm(net.conv("x", 8, 3, group=group), 8), net.norm(net.conv("x", 8, 1, group=group), 8))
    total = net.add("Add", net.norm("x", 8), total)
    net.check(net.add("Relu", net.norm(total, 8)), 1)


def test_a_difference_and_the_value_itself_are_branches(isa):
    net = Net()
    mixed = net.add("Sub", net.norm(net.conv("x", 8, 3, group=8), 8), net.norm("x", 8))
    net.check(net.add("Add", "x", net.add("Mul", mixed, net.constant(1, 8, 1, 1))), 1)


def test_a_number_that_is_added_moves_into_the_bias(isa):
    net = Net()
    net.constants["zero"] = np.float32(0.25).reshape(())
    net.check(net.add("Add", net.add("Add", net.conv("x", 8, 3), "zero"), net.conv("x", 8, 1)), 1)


@pytest.mark.parametrize(
    ("second", "count"),
    [
        ({"strides": (1, 1), "kernel": 1}, 1),
        ({"kernel": 1, "pads": (1, 1, 1, 1), "strides": (2, 2)}, 2),  # it begins at another pixel
        ({"kernel": 3, "dilations": (2, 2), "pads": (2, 2, 2, 2)}, 2),
        ({"kernel": 5}, 1),
        ({"kernel": 1, "group": 2}, 2),
    ],
)
def test_only_convolutions_that_fit_are_merged(isa, second, count):
    net = Net(size=(9, 9))
    strides = second.get("strides", (1, 1))
    first = net.conv("x", 8, 3, strides=strides) if strides == (1, 1) else net.conv("x", 8, 3, strides=(2, 2))
    other = net.conv("x", 8, **second)
    shapes = [(9, 9), (9, 9)] if strides == (1, 1) else [(5, 5), (6, 6)]
    if shapes[0] != shapes[1]:
        pytest.raises(
            ValueError,
            compile_graph,
            Graph([*net.nodes, Node("Add", "s", (first, other), "s", {})], {"x": net.shape}, ["s"], net.constants),
            {"x": net.shape},
        )
        return
    net.check(net.add("Add", first, other), count)


def test_a_branch_that_others_read_stays(isa):
    net = Net()
    first = net.conv("x", 8, 3)
    net.check(net.add("Add", first, net.conv("x", 8, 1)), 2, extra=(first,))


def test_weights_that_change_are_not_merged(isa):
    net = Net()
    output = net.add("Add", net.conv("x", 8, 3, bias=False), net.conv("x", 8, 1, bias=False))
    arrays = {name: net.constants.pop(name) for name in ("c0", "c1")}
    graph = Graph(net.nodes, {"x": net.shape, **{k: v.shape for k, v in arrays.items()}}, [output], {})
    x = net.rng.standard_normal(net.shape).astype(np.float32)
    (got,) = compile_graph(graph, graph.inputs).run([x, *arrays.values()])
    np.testing.assert_allclose(got, evaluate(graph, x=x, **arrays)[output], atol=1e-5)
