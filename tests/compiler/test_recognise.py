"""What files spell out becomes one operation, in every order of factors; what is something else stays."""

from __future__ import annotations

from itertools import permutations
from math import pi, sqrt

import numpy as np
import pytest
from definitions import evaluate

from fastcnn import ops
from fastcnn.compiler.compile import stages
from fastcnn.compiler.state import Options, State
from fastcnn.graph.ir import Graph, Node

X = (2, 3, 4, 5)


class Spelled:
    """A graph of x, node by node."""

    def __init__(self, shape=X):
        self.nodes, self.constants, self.shape = [], {}, shape

    def add(self, op, *inputs, **attrs):
        output = f"v{len(self.nodes)}"
        self.nodes.append(Node(op, output, inputs, output, {**ops.get(op).defaults, **attrs}))
        return output

    def number(self, value, shape=()):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.full(shape, value, np.float32)
        return name

    def recognised(self, output):
        graph = Graph(self.nodes, {"x": self.shape}, [output], self.constants)
        for name, state in stages(State(graph, graph.infer({"x": self.shape}), Options(8))):
            if name == "recognise":
                x = np.random.default_rng(0).standard_normal(self.shape).astype(np.float32)
                wanted, got = evaluate(graph, x=x)[output], evaluate(state.graph, x=x)[output]
                np.testing.assert_allclose(got, wanted, atol=1e-6)
                return [(node.op, node.attrs.get("approximate", "")) for node in state.graph.nodes]
        raise AssertionError("no such pass")


ROOT_HALF = sqrt(0.5)


def with_erf(net, scale=ROOT_HALF, one=1.0):
    return net.add("Add", net.add("Erf", net.add("Mul", "x", net.number(scale))), net.number(one, (1,)))


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("inner", [True, False])
def test_gelu_in_every_order_of_its_factors(order, inner):
    net = Spelled()
    factors = ["x", with_erf(net), net.number(0.5)]
    a, b, c = (factors[i] for i in order)
    y = net.add("Mul", net.add("Mul", a, b), c) if inner else net.add("Mul", a, net.add("Mul", b, c))
    assert net.recognised(y) == [("Gelu", "none")]


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("power", [True, False])
def test_gelu_with_tanh(square, power):
    net = Spelled()
    if power:
        raised = net.add("Mul", "x", "x") if square else net.add("Mul", net.add("Mul", "x", "x"), "x")
    else:
        raised = net.add("Mul", "x", net.add("Mul", net.number(1.0), "x"))
        raised = raised if square else net.add("Mul", "x", raised)
    cubic = net.add("Mul", raised, net.number(0.044715))
    inside = net.add("Mul", "x", net.add("Add", net.number(1.0), cubic)) if square else net.add("Add", "x", cubic)
    gate = net.add("Add", net.add("Tanh", net.add("Mul", net.number(sqrt(2 / pi)), inside)), net.number(1.0))
    assert net.recognised(net.add("Mul", net.add("Mul", "x", net.number(0.5)), gate)) == [("Gelu", "tanh")]


@pytest.mark.parametrize("change", [{"scale": 0.8}, {"one": 1.5}])
def test_what_only_resembles_gelu_stays(change):
    net = Spelled()
    y = net.add("Mul", net.add("Mul", "x", with_erf(net, **change)), net.number(0.5))
    assert "Gelu" not in [op for op, _ in net.recognised(y)]


def test_swish_is_recognised_unless_others_read_the_gate():
    net = Spelled()
    gate = net.add("Sigmoid", "x")
    product = net.add("Mul", gate, "x")
    assert [op for op, _ in net.recognised(product)] == ["Swish"]
    both = net.add("Add", product, gate)
    assert "Swish" not in [op for op, _ in net.recognised(both)]


@pytest.mark.parametrize("groups", [1, 3])
def test_groups_that_are_normalised_as_instances(groups):
    net = Spelled()
    net.constants |= {"w": np.arange(1, groups + 1, dtype=np.float32), "b": np.ones(groups, np.float32)}
    apart = net.add("Reshape", "x", shape=(2, groups, -1))
    norm = net.add("InstanceNormalization", apart, "w", "b")
    assert [op for op, _ in net.recognised(net.add("Reshape", norm, shape=X))] == ["GroupNormalization"]


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_squares_of_pixels_that_become_channels_and_back(mode):
    to_depth = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    net = Spelled((2, 3, 4, 6))
    apart = net.add("Reshape", "x", shape=(0, 3, 2, 2, 3, 2))
    y = net.add("Reshape", net.add("Transpose", apart, perm=to_depth), shape=(-1, 12, 2, 3))
    assert net.recognised(y) == [("SpaceToDepth", "")]
    to_space = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    net = Spelled((2, 12, 2, 3))
    apart = net.add("Reshape", "x", shape=(0, 2, 2, 3, 2, 3) if mode == "DCR" else (0, 3, 2, 2, 2, 3))
    y = net.add("Reshape", net.add("Transpose", apart, perm=to_space), shape=(-1, 3, 4, 6))
    assert net.recognised(y) == [("DepthToSpace", "")]


def test_rectangles_and_other_reshapes_behind_them_stay():
    net = Spelled((2, 3, 4, 6))
    apart = net.add("Reshape", "x", shape=(0, 3, 2, 2, 2, 3))
    y = net.add("Reshape", net.add("Transpose", apart, perm=(0, 3, 5, 1, 2, 4)), shape=(-1, 18, 2, 2))
    assert len(net.recognised(y)) == 3
    net = Spelled((2, 3, 4, 6))
    apart = net.add("Reshape", "x", shape=(0, 3, 2, 2, 3, 2))
    y = net.add("Reshape", net.add("Transpose", apart, perm=(0, 3, 5, 1, 2, 4)), shape=(-1, 12, 6))
    assert len(net.recognised(y)) == 3
    net = Spelled((2, 3, 4, 4))
    apart = net.add("Reshape", "x", shape=(0, 6, 1, 4, 1, 2))
    y = net.add("Reshape", net.add("Transpose", apart, perm=(0, 3, 5, 1, 2, 4)), shape=(-1, 48, 1, 1))
    assert len(net.recognised(y)) == 3
