"""Quantised graphs: operations between DequantizeLinear and QuantizeLinear become operations on bytes.

NumPy computes the same graphs in float32, with each value rounded to its scale. Both round a number between two steps
to the nearest; where float32 cannot tell which is nearer, they may differ by a step.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.compiler.general import compile_general
from fastcnn.compiler.network import compile_network
from fastcnn.compiler.resolve import resolve
from fastcnn.compiler.state import Options, State
from fastcnn.compiler.use_bytes import use_bytes
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops import GENERAL
from fastcnn.ops.budget import Budget


class Net:
    """Builds a quantised graph: each value has a scale and a zero point."""

    def __init__(self, shape, kind=np.uint8, seed=0):
        self.rng, self.kind, self.shape = np.random.default_rng(seed), kind, shape
        self.nodes, self.constants, self.quanta = [], {}, {}
        self.x = self.quantised("x", 1 / 64, 128 if kind == np.uint8 else 0)

    def node(self, op, *inputs, **attrs):
        name = f"v{len(self.nodes)}"
        self.nodes.append(Node(GENERAL + op, name, inputs, name, attrs))
        return name

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def quantised(self, name, scale, zero):
        """A value as bytes and back."""
        parts = self.constant(np.float32(scale)), self.constant(np.array(zero, self.kind))
        self.quanta[name] = scale
        return self.node("DequantizeLinear", self.node("QuantizeLinear", name, *parts), *parts)

    def zero(self):
        low, high = (0, 200) if self.kind == np.uint8 else (-128, 90)
        return int(self.rng.integers(low, high))

    def weight(self, *shape, axis=0, each=True):
        q = self.rng.integers(-127, 128, shape).astype(np.int8)
        scale = self.rng.uniform(0.5, 2, shape[axis]).astype(np.float32) / 500 if each else np.float32(1 / 400)
        parts = self.constant(q), self.constant(scale)
        return self.node("DequantizeLinear", *parts, self.constant(np.zeros_like(scale, np.int8)), axis=axis)

    def conv(self, x, channels, outs, size, relu=True, group=1, bias=True, **attrs):
        parts = [x, self.weight(outs, channels // group, size, size)]
        if bias:
            parts.append(self.constant(self.rng.standard_normal(outs).astype(np.float32)))
        pads = (size // 2,) * 4
        y = self.node("Conv", *parts, group=group, **{"pads": pads, "strides": (1, 1), **attrs})
        y = self.node("Relu", y) if relu else y
        lowest = 0 if self.kind == np.uint8 else -128
        return self.quantised(y, 1 / 16, lowest if relu else self.zero())

    def graph(self, output):
        return Graph(self.nodes, {"x": (None, *self.shape)}, [output], self.constants)


def in_bytes(graph, x):
    """The output in bytes, and the kernels of its steps."""
    compiled = compile_network(graph, {"x": x.shape})
    return compiled.plan.run([x])[0], [step.kernel for step in compiled.plan.steps]


def in_numpy(graph, x):
    """The same, each operation by itself."""
    values = {"x": x, **graph.constants}
    for node in graph.nodes:
        inputs = [values[name] for name in node.inputs]
        values[node.output] = node.kind.evaluate({**node.kind.defaults, **node.attrs}, inputs, Budget())
    return values[graph.outputs[0]]


def check(net, output, kernels, batch=2, steps=1):
    """Compare both, which may differ by some steps of the last scale."""
    graph = net.graph(output)
    x = net.rng.uniform(-2, 2, (batch, *net.shape)).astype(np.float32)
    got, names = in_bytes(graph, x)
    expected = in_numpy(graph, x)
    quantum = net.quanta[next(reversed(net.quanta))]
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= steps * quantum * 1.001
    assert np.mean(np.abs(got - expected) > 0.5 * quantum) < 0.02
    assert [name for name in names if name in ("numpy",)] == []
    assert {name for name in names if name != "reorder"} == set(kernels), names


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("channels, outs, size", [(3, 20, 3), (3, 16, 7), (1, 8, 5), (20, 33, 1), (48, 24, 3)])
def test_convolution(isa, kind, channels, outs, size):
    net = Net((channels, 13, 11), kind)
    check(net, net.conv(net.x, channels, outs, size), {"quantize", "int8", "dequantize"})


@pytest.mark.parametrize(
    "attrs", [{"strides": (2, 2)}, {"dilations": (2, 2), "pads": (2, 2, 2, 2)}, {"pads": (0, 1, 2, 0)}]
)
def test_windows(isa, attrs):
    net = Net((24, 14, 15))
    check(net, net.conv(net.x, 24, 40, 3, relu=False, **attrs), {"quantize", "int8", "dequantize"})


@pytest.mark.parametrize("size, strides, group, outs", [(3, 1, 40, 40), (5, 2, 40, 40), (3, 1, 5, 40), (3, 2, 2, 64)])
def test_groups(isa, size, strides, group, outs):
    net = Net((40, 15, 17))
    y = net.conv(net.x, 40, outs, size, group=group, strides=(strides, strides))
    check(net, y, {"quantize", "int8", "dequantize"})


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_a_residual_block(isa, kind):
    net = Net((3, 16, 16), kind)
    a = net.conv(net.x, 3, 32, 3, strides=(2, 2))
    b = net.conv(net.conv(a, 32, 32, 3), 32, 32, 3, relu=False)
    y = net.quantised(net.node("Relu", net.node("Add", b, a)), 1 / 8, 0 if kind == np.uint8 else -128)
    check(net, y, {"quantize", "int8", "dequantize"}, steps=2)


@pytest.mark.parametrize("relu", [True, False])
def test_a_residual_of_a_convolution_that_is_not_rounded(isa, relu):
    """The sum is rounded once."""
    net = Net((16, 12, 12))
    a = net.conv(net.x, 16, 32, 3)
    parts = net.conv(a, 32, 32, 3), net.weight(32, 32, 1, 1), net.constant(np.ones(32, np.float32))
    total = net.node("Add", net.node("Conv", *parts), a)
    y = net.quantised(net.node("Relu", total) if relu else total, 1 / 8, 0 if relu else 77)
    check(net, y, {"quantize", "int8", "dequantize"}, steps=2)


def test_concatenation_of_other_scales_has_tables_in_its_convolutions(isa):
    net = Net((16, 9, 9))
    a, b = net.conv(net.x, 16, 32, 1), net.conv(net.x, 16, 16, 3)
    y = net.quantised(net.node("Concat", a, b, axis=1), 1 / 12, 3)
    check(net, y, {"quantize", "int8", "dequantize"})


def test_classifier(isa):
    """Pools, global mean and fully connected layers."""
    net = Net((3, 18, 18))
    a = net.conv(net.x, 3, 24, 3)
    pooled = net.node("MaxPool", a, kernel_shape=(2, 2), strides=(2, 2))
    a = net.conv(net.quantised(pooled, 1 / 16, 0), 24, 40, 3)
    mean = net.quantised(net.node("GlobalAveragePool", a), 1 / 32, 0)
    flat = net.quantised(net.node("Flatten", mean), 1 / 32, 0)
    y = net.node("Gemm", flat, net.weight(10, 40), net.constant(np.ones(10, np.float32)), transB=1)
    check(net, net.quantised(y, 1 / 16, 100), {"quantize", "int8", "int8 pool", "dequantize"}, steps=2)


def test_fully_connected_layers_of_images(isa):
    net = Net((8, 5, 5))
    flat = net.quantised(net.node("Flatten", net.conv(net.x, 8, 16, 3)), 1 / 16, 0)
    hidden = net.node("Relu", net.node("MatMul", flat, net.weight(400, 33, axis=1)))
    y = net.node("Gemm", net.quantised(hidden, 1 / 4, 0), net.weight(7, 33), transB=1)
    graph = net.graph(y)
    x = net.rng.uniform(-2, 2, (3, 8, 5, 5)).astype(np.float32)
    got, names = in_bytes(graph, x)
    assert set(names) - {"reorder"} == {"quantize", "int8"}  # the last layer writes float32
    np.testing.assert_allclose(got, in_numpy(graph, x), rtol=0, atol=0.02)


@pytest.mark.parametrize("op", ["Sigmoid", "HardSwish", "Tanh", "Relu"])
def test_functions_are_tables(isa, op):
    net = Net((16, 6, 7))
    a = net.conv(net.x, 16, 32, 1, relu=False)
    check(net, net.quantised(net.node(op, a), 1 / 50, 10), {"quantize", "int8", "dequantize"})


def test_sums_of_what_others_read_are_steps(isa):
    """Both values are read twice, so that no convolution can take the sum."""
    net = Net((16, 8, 8))
    a, b = net.conv(net.x, 16, 32, 1), net.conv(net.x, 16, 32, 3)
    total = net.quantised(net.node("Add", a, b), 1 / 8, 9)
    y = net.quantised(net.node("Concat", total, a, b, axis=1), 1 / 8, 9)
    check(net, y, {"quantize", "int8", "int8 pairs", "int8 table", "dequantize"}, steps=2)


def test_squeeze_and_excite(isa):
    net = Net((16, 8, 8))
    a = net.conv(net.x, 16, 32, 3)
    gate = net.quantised(
        net.node(
            "Sigmoid", net.conv(net.quantised(net.node("GlobalAveragePool", a), 1 / 32, 0), 32, 32, 1, relu=False)
        ),
        1 / 256,
        0,
    )
    y = net.quantised(net.node("Mul", a, gate), 1 / 20, 5)
    check(net, y, {"quantize", "int8", "int8 pool", "int8 pairs", "dequantize"}, steps=2)


def test_what_has_no_form_in_bytes_is_computed_in_floats(isa):
    net = Net((16, 8, 8))
    a = net.conv(net.x, 16, 16, 3)
    gelu = net.quantised(net.node("Softmax", a, axis=1), 1 / 256, 0)
    graph = net.graph(net.conv(gelu, 16, 8, 1))
    x = net.rng.uniform(-2, 2, (2, 16, 8, 8)).astype(np.float32)
    got, names = in_bytes(graph, x)
    assert names.count("int8") == 2 and "softmax" in " ".join(names)
    assert np.abs(got - in_numpy(graph, x)).max() <= 2 / 16


def test_bytes_that_others_read_stay_with_numpy():
    """A graph whose output is quantised, or whose bytes are added up, has the types that ONNX tells."""
    net = Net((8, 4, 4))
    q = net.node("QuantizeLinear", net.conv(net.x, 8, 8, 1), net.constant(np.float32(0.1)), net.constant(np.uint8(3)))
    net.node("Cast", q, to=1)
    graph = net.graph(net.nodes[-1].output)
    x = net.rng.uniform(-2, 2, (2, 8, 4, 4)).astype(np.float32)
    got, names = in_bytes(graph, x)
    np.testing.assert_array_equal(got, in_numpy(graph, x))
    assert "numpy" in names


def test_weights_of_other_forms_become_floats(isa):
    """Weights with a zero point of their own, or with a scale for each input channel."""
    net = Net((8, 6, 6))
    q = net.constant(net.rng.integers(0, 256, (8, 8, 3, 3)).astype(np.uint8))
    weight = net.node("DequantizeLinear", q, net.constant(np.float32(0.01)), net.constant(np.uint8(7)))
    graph = net.graph(net.quantised(net.node("Conv", net.x, weight, pads=(1,) * 4), 1 / 4, 100))
    x = net.rng.uniform(-2, 2, (2, 8, 6, 6)).astype(np.float32)
    got, names = in_bytes(graph, x)
    assert "int8" not in names and "numpy" not in names
    assert np.abs(got - in_numpy(graph, x)).max() <= 1.001 / 4


def test_shapes_and_names_of_what_a_graph_becomes():
    net = Net((3, 16, 16))
    graph = net.graph(net.conv(net.x, 3, 8, 3))
    resolved = resolve(graph, {"x": (1, 3, 16, 16)}, keeps_bytes=True).graph
    state = State(resolved, resolved.infer({"x": (1, 3, 16, 16)}), Options(16))
    assert [node.op for node in use_bytes(state).graph.nodes] == ["Int8Quantize", "Int8Conv", "Int8Dequantize"]
    assert "Int8Conv" not in {node.op for node in resolve(graph, {"x": (1, 3, 16, 16)}).graph.nodes}
    assert compile_general(graph, {"x": (1, 3, 16, 16)}).output_shape == (1, 8, 16, 16)


def test_sums_that_could_leave_32_bits_are_floats(isa):
    """More than 32,896 products of the largest bytes and weights."""
    net = Net((1, 182, 182))
    y = net.node("Conv", net.x, net.weight(8, 1, 182, 182))
    graph = net.graph(net.quantised(y, 1, 100))
    x = net.rng.uniform(-2, 2, (1, 1, 182, 182)).astype(np.float32)
    assert "int8" not in in_bytes(graph, x)[1]
