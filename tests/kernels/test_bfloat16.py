"""Convolution in bfloat16: products of rounded numbers, sums in float32, against float64 sums of the same products.

A machine without these products says so; everything that asks for them then computes in float32.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import ops, reference
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.ir import Graph, Node
from fastcnn.kernels import _conv_bf16
from fastcnn.kernels._conv_bf16 import round_to_bf16

SINGLE = 2.0**-24  # the largest relative error of a float32


def rounded(array):
    return (round_to_bf16(array).astype(np.uint32) << 16).view(np.float32)


def layer(weight, bias, shape, algorithm="bfloat16", activation=None, residual=False, **attrs):
    """The graph of a convolution, with an activation and a residual behind it."""
    pads = (weight.shape[2] // 2,) * 4
    conv = {**ops.get("Conv").defaults, "pads": pads, "algorithm": algorithm, **attrs}
    nodes = [Node("Conv", "conv", ("x", "w", "b"), "y", conv)]
    inputs = {"x": (None, *shape)}
    if residual:
        inputs["r"] = (None, len(weight), *residual)
        nodes.append(Node("Add", "add", ("y", "r"), "sum", {}))
    if activation:
        nodes.append(Node(activation, "act", (nodes[-1].output,), "z", ops.get(activation).defaults))
    return Graph(nodes, inputs, [nodes[-1].output], {"w": weight, "b": bias})


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def check(x, weight, bias, threads=1, **attrs):
    graph = layer(weight, bias, x.shape[1:], **attrs)
    plan = compile_graph(graph, {"x": x.shape})
    assert "bfloat16" in [step.kernel for step in plan.steps]
    with fc.num_threads(threads):
        (got,) = plan.run([x])
    window = [attrs.get(key, (1, 1)) for key in ("strides", "dilations")]
    pads = attrs.get("pads", (weight.shape[2] // 2,) * 4)
    terms = np.abs(rounded(x)), np.abs(rounded(weight))
    expected = reference.conv2d(rounded(x), rounded(weight), bias, window[0], pads, window[1])
    bound = reference.conv2d(*terms, np.abs(bias), window[0], pads, window[1]) * SINGLE * (weight[0].size + 2)
    assert np.all(np.abs(got - expected) <= bound)
    return got


CASES = [
    ((2, 16, 9, 7), (32, 16, 1, 1), {}),
    ((1, 33, 9, 7), (40, 33, 1, 1), {}),
    ((2, 24, 14, 15), (17, 24, 3, 3), {"strides": (2, 2)}),
    ((1, 64, 20, 20), (64, 64, 3, 3), {}),
    ((1, 40, 9, 11), (70, 40, 5, 5), {"strides": (2, 1)}),
    ((1, 32, 12, 13), (16, 32, 3, 3), {"dilations": (2, 3), "pads": (2, 3, 1, 0)}),
    ((3, 50, 57, 55), (32, 50, 1, 1), {"strides": (2, 2)}),
    ((5, 48, 1, 1), (33, 48, 1, 1), {}),
    ((1, 300, 30, 31), (33, 300, 3, 3), {}),
]


@pytest.mark.parametrize("shape, filters, attrs", CASES)
def test_sums_of_rounded_products(poisoned, shape, filters, attrs):
    x, weight, bias = random(*shape), random(*filters), random(filters[0])
    if not _conv_bf16.available():
        with pytest.raises(ValueError, match="no products in bfloat16"):
            compile_graph(layer(weight, bias, shape[1:], **attrs), {"x": shape})
        return
    first = check(x, weight, bias, **attrs)
    for threads in (2, 3):
        np.testing.assert_array_equal(check(x, weight, bias, threads, **attrs), first)
    alone = [check(x[i : i + 1], weight, bias, **attrs)[0] for i in range(len(x))]
    np.testing.assert_array_equal(alone, first)


@pytest.mark.parametrize("activation", ["Relu", "Clip", "Sigmoid", "HardSwish", "Swish"])
@pytest.mark.parametrize("residual", [False, True])
def test_epilogues_are_those_of_the_layers_behind(activation, residual):
    x, weight, bias = random(2, 32, 9, 10), random(48, 32, 1, 1), random(48)
    r = random(2, 48, 9, 10, seed=1)
    graph = layer(weight, bias, x.shape[1:], "auto", activation, residual and r.shape[2:])
    shapes = {"x": x.shape, **({"r": r.shape} if residual else {})}
    plan = compile_graph(graph, shapes, bfloat16=True)
    (got,) = plan.run([x, r] if residual else [x])
    wanted = "bfloat16" if _conv_bf16.available() else "direct"
    assert [step.kernel for step in plan.steps if step.problem] == [wanted]
    exact = reference.conv2d(x, weight, bias) + (r if residual else 0)
    expected = ops.get(activation).reference(ops.get(activation).defaults, [exact])
    np.testing.assert_allclose(got, expected, rtol=0.02, atol=0.15)


def test_it_is_chosen_where_it_may_be_and_is_faster():
    weight = random(256, 256, 1, 1)
    graph = layer(weight, random(256), (256, 28, 28), "auto")
    (step,) = [s for s in compile_graph(graph, {"x": (1, 256, 28, 28)}).steps if s.problem]
    assert step.kernel == "direct"
    assert "bfloat16" not in step.reasons
    if _conv_bf16.available():
        (step,) = [s for s in compile_graph(graph, {"x": (1, 256, 28, 28)}, bfloat16=True).steps if s.problem]
        assert step.kernel == "bfloat16"


def test_infinity_and_nan_come_through():
    if not _conv_bf16.available():
        return
    x = np.ones((1, 16, 2, 2), np.float32)
    x[0, 3, 0, 0], x[0, 5, 1, 1] = np.inf, np.nan
    plan = compile_graph(
        layer(np.ones((16, 16, 1, 1), np.float32), np.zeros(16, np.float32), (16, 2, 2)), {"x": x.shape}
    )
    (got,) = plan.run([x])
    assert np.all(got[0, :, 0, 0] == np.inf) and np.all(np.isnan(got[0, :, 1, 1])) and np.all(got[0, :, 0, 1] == 16)


def test_rounding_is_to_nearest_half_to_even():
    numbers = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -(1 + 2**-8), 3.4e38, -np.inf], np.float32)
    np.testing.assert_array_equal(
        rounded(numbers), np.array([1, 1 + 2**-6, 1 + 2**-7, -1, np.inf, -np.inf], np.float32)
    )
    assert np.isnan(rounded(np.array([np.nan], np.float32)))[0]


@pytest.mark.parametrize("batch", [1, 2, 17])
@pytest.mark.parametrize("activation", [None, "Relu", "Tanh"])
def test_fully_connected(poisoned, batch, activation):
    x, weight, bias = random(batch, 48), random(37, 48), random(37)
    nodes = [Node("Gemm", "fc", ("x", "w", "b"), "y", {})]
    if activation:
        nodes.append(Node(activation, "act", ("y",), "z", {}))
    graph = Graph(nodes, {"x": (None, 48)}, [nodes[-1].output], {"w": weight, "b": bias})
    plan = compile_graph(graph, {"x": x.shape}, bfloat16=True)
    (got,) = plan.run([x])
    if not _conv_bf16.available():
        return
    assert plan.steps[0].kernel == "bfloat16"
    exact = reference.linear(rounded(x), rounded(weight), bias)
    expected = exact if activation is None else ops.get(activation).reference({}, [exact])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_rows_of_flattened_images(poisoned):
    """The blocks of images are rows in another order."""
    weight, bias = random(10, 32 * 9), random(10)
    nodes = [
        Node("Relu", "relu", ("x",), "a", {}),
        Node("Conv", "conv", ("a", "k", "c"), "b", {**ops.get("Conv").defaults}),
        Node("Flatten", "flat", ("b",), "f", {"axis": 1}),
        Node("Gemm", "fc", ("f", "w", "d"), "y", {}),
    ]
    constants = {"k": random(32, 32, 1, 1), "c": random(32), "w": weight, "d": bias}
    graph = Graph(nodes, {"x": (None, 32, 3, 3)}, ["y"], constants)
    x = random(2, 32, 3, 3)
    plain, short = (compile_graph(graph, {"x": x.shape}, bfloat16=b).run([x])[0] for b in (False, True))
    np.testing.assert_allclose(short, plain, rtol=0.03, atol=1.0)
