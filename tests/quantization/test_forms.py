"""Quantised ONNX files of other tools: QDQ, QOperator and dynamic become one form, and compute the same."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.compiler.network import compile_network
from fastcnn.compiler.qdq import qdq_form
from fastcnn.graph.ir import Graph, Node
from fastcnn.model import GraphModel
from fastcnn.ops import GENERAL
from fastcnn.ops.budget import Budget

RNG = np.random.default_rng(3)


class Build:
    """A graph of general operations, and what each computes by itself."""

    def __init__(self, shape):
        self.nodes, self.constants, self.shape = [], {}, shape

    def add(self, op, *inputs, **attrs):
        name = f"v{len(self.nodes)}"
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(Node(GENERAL + op, name, tuple(names), name, attrs))
        return name

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def graph(self, output):
        return Graph(self.nodes, {"x": (None, *self.shape)}, [output], self.constants)


def evaluate(graph, x):
    values = {**graph.constants, "x": x}
    for node in graph.nodes:
        values[node.output] = node.kind.evaluate(node.attrs, [values[name] for name in node.inputs], Budget())
    return values[graph.outputs[0]]


def f(value):
    return np.float32(value)


def byte(*shape):
    return RNG.integers(-127, 128, shape).astype(np.int8)


def qlinear(each, bias):
    """A convolution, a pool, and a product of matrices, between integers."""
    g = Build((3, 9, 9))
    scale = RNG.uniform(0.002, 0.01, 8).astype(np.float32) if each else f(0.00513)
    zero = np.zeros(8, np.int8) if each else np.int8(0)
    more = [RNG.integers(-500, 500, 8).astype(np.int32)] if bias else []
    x = g.add("QuantizeLinear", "x", f(0.02), np.uint8(120))
    y = g.add(
        "QLinearConv",
        x,
        f(0.02),
        np.uint8(120),
        byte(8, 3, 3, 3),
        scale,
        zero,
        f(0.05),
        np.uint8(90),
        *more,
        pads=(1,) * 4,
    )
    y = g.add("Flatten", g.add("MaxPool", y, kernel_shape=(3, 3), strides=(3, 3)), axis=1)
    b_scale = RNG.uniform(0.002, 0.01, 5).astype(np.float32) if each else f(0.01)
    b_zero = np.zeros(5, np.int8) if each else np.int8(3)
    y = g.add("QLinearMatMul", y, f(0.05), np.uint8(90), byte(72, 5), b_scale, b_zero, f(0.1), np.uint8(128))
    return g.graph(g.add("DequantizeLinear", y, f(0.1), np.uint8(128)))


def dynamic(is_conv):
    """What dynamic quantisation writes: scales are found anew for each input."""
    g = Build((3, 9, 9) if is_conv else (6, 10))
    parts = [g.add("DynamicQuantizeLinear", "x", output=i) for i in range(3)]
    weight = byte(4, 3, 3, 3) if is_conv else byte(10, 7)
    whole = g.add("ConvInteger" if is_conv else "MatMulInteger", parts[0], weight, parts[2], np.int8(2))
    factor = g.add("Mul", f(0.01) if is_conv else RNG.uniform(0.01, 0.02, 7).astype(np.float32), parts[1])
    return g.graph(g.add("Add", g.add("Mul", g.add("Cast", whole, to=1), factor), f(0.5)))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_operators_on_integers_take_the_one_form(each, bias):
    graph = qlinear(each, bias)
    found = qdq_form(graph)
    kinds = [node.op.removeprefix(GENERAL) for node in found.nodes]
    assert {*kinds} == {"QuantizeLinear", "DequantizeLinear", "Conv", "MaxPool", "Flatten", "MatMul"}
    x = RNG.standard_normal((4, 3, 9, 9)).astype(np.float32)
    expected = evaluate(graph, x)
    for got in (evaluate(found, x), GraphModel(found)(x)):
        steps = np.abs(got - expected) / 0.1
        assert steps.max() < 1.001 and steps.mean() < 0.05  # a step of the last value, where halves are rounded


@pytest.mark.parametrize("is_conv", [False, True])
def test_dynamic_quantisation_takes_the_one_form(is_conv):
    graph = dynamic(is_conv)
    found = qdq_form(graph)
    kinds = [node.op.removeprefix(GENERAL) for node in found.nodes]
    assert ("Conv" if is_conv else "MatMul") in kinds and not any(kind.endswith("Integer") for kind in kinds)
    x = RNG.standard_normal((4, *graph.inputs["x"][1:])).astype(np.float32)
    np.testing.assert_allclose(evaluate(found, x), evaluate(graph, x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(GraphModel(found)(x), evaluate(graph, x), rtol=1e-4, atol=1e-4)


VALUES = {
    "both signs": lambda shape: RNG.standard_normal(shape),
    "positive": lambda shape: RNG.uniform(3, 5, shape),
    "negative": lambda shape: RNG.uniform(-5, -3, shape),
    "zeros": np.zeros,
    "tiny": lambda shape: RNG.standard_normal(shape) * 1e-20,
    "huge": lambda shape: RNG.standard_normal(shape) * 1e30,
}


@pytest.mark.parametrize("shape", [(2, 19, 7, 6), (3, 5, 11), (4, 33)])
@pytest.mark.parametrize("name", VALUES)
def test_dynamic_quantisation_has_kernels(name, shape):
    """They give the bits of the definition."""
    g = Build(shape[1:])
    graph = g.graph(g.add("DequantizeLinear", *(g.add("DynamicQuantizeLinear", "x", output=i) for i in range(3))))
    x = VALUES[name](shape).astype(np.float32)
    compiled = compile_network(graph, {"x": shape})
    assert "numpy" not in {step.kernel for step in compiled.plan.steps}
    np.testing.assert_array_equal(compiled.plan.run([x])[0], evaluate(graph, x))


def test_bytes_of_one_value_with_the_scale_of_another_stay():
    g = Build((5,))
    first = [g.add("DynamicQuantizeLinear", "x", output=i) for i in range(3)]
    second = [g.add("DynamicQuantizeLinear", g.add("Mul", "x", f(2)), output=i) for i in range(3)]
    graph = g.graph(g.add("DequantizeLinear", first[0], second[1], first[2]))
    x = RNG.standard_normal((3, 5)).astype(np.float32)
    np.testing.assert_array_equal(GraphModel(graph)(x), evaluate(graph, x))


def test_what_has_other_scales_stays():
    g = Build((3, 9, 9))
    zeros = np.array([0, 1, 2, 3], np.uint8)
    weight = RNG.integers(0, 255, (4, 3, 3, 3)).astype(np.uint8)
    x = g.add("QuantizeLinear", "x", f(0.02), np.uint8(120))
    scale = g.add("ReduceMax", "x", keepdims=0)
    y = g.add("QLinearConv", x, scale, np.uint8(120), weight, f(0.1), np.uint8(3), f(0.05), np.uint8(90))
    graph = g.graph(g.add("Cast", y, to=1))
    assert [node.op for node in qdq_form(graph).nodes] == [node.op for node in graph.nodes]
    h = Build((4, 6))
    whole = h.add(
        "MatMulInteger", h.add("QuantizeLinear", "x", f(0.02), np.uint8(120)), byte(6, 4), np.uint8(120), np.int8(1)
    )
    graph = h.graph(h.add("Mul", h.add("Cast", whole, to=1), f(0.5)))
    assert qdq_form(graph).nodes == graph.nodes
    k = Build((4, 3))
    dynamic_parts = [k.add("DynamicQuantizeLinear", "x", output=i) for i in range(3)]
    whole = k.add(
        "MatMulInteger", dynamic_parts[0], RNG.integers(0, 255, (6, 4)).astype(np.uint8), dynamic_parts[2], zeros
    )
    graph = k.graph(k.add("Mul", k.add("Cast", whole, to=1), k.add("Mul", dynamic_parts[1], f(0.5))))
    assert qdq_form(graph).nodes == graph.nodes  # zero points of several numbers, one scale


def test_graphs_without_integers_are_not_touched():
    g = Build((4,))
    graph = g.graph(g.add("Mul", "x", f(2)))
    assert qdq_form(graph) is graph
