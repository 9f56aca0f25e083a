"""Operators of files that become a few operations with kernels: no step of them is NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import ops
from fastcnn.compiler import ahead
from fastcnn.compiler.network import compile_network
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.budget import MAX_BYTES, Budget

RNG = np.random.default_rng(0)


def computed(op, attrs, x, *constants):
    """The output of one operator of x and constants, and the kernels that compute it."""
    given = {f"c{i}": array for i, array in enumerate(constants)}
    graph = Graph([Node(f"ai.onnx::{op}", "y", ("x", *given), "y", attrs)], {"x": (None, *x.shape[1:])}, ["y"], given)
    compiled = compile_network(graph, {"x": x.shape})
    expected = ops.get(f"ai.onnx::{op}").evaluate(attrs, [x, *constants], Budget(MAX_BYTES))
    np.testing.assert_allclose(compiled.plan.run([x])[0], expected, rtol=1e-4, atol=1e-5)
    return {step.kernel for step in compiled.plan.steps}


def random_numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [(0, 0, 1, 1, 0, 0, 1, 1), (0, 0, 2, 0, 0, 0, 1, 3), (0, 0, 0, 0, 0, 0, 0, 0)])
def test_borders_of_elements(mode, pads):
    assert "numpy" not in computed("Pad", {"mode": mode}, random_numbers(2, 5, 6, 7), np.array(pads))


def test_wide_borders_stay_in_numpy():
    pads = np.array([0, 0, 9, 0, 0, 0, 9, 0])
    assert "numpy" in computed("Pad", {"mode": "reflect"}, random_numbers(2, 3, 12, 4), pads)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("axis", [2, 3, -1])
@pytest.mark.parametrize("turned", [False, True])
def test_windows_of_an_axis(stride, axis, turned):
    places = np.arange(7)[:, None] + stride * np.arange(9)
    kernels = computed("Gather", {"axis": axis}, random_numbers(2, 3, 40, 40), places.T if turned else places)
    assert "numpy" not in kernels


def test_tables_without_an_order_stay_in_numpy():
    assert "numpy" in computed("Gather", {"axis": 1}, random_numbers(2, 9), np.array([[3, 1, 2], [0, 5, 4]]))


@pytest.mark.parametrize(
    "equation",
    [
        "bghid,bghjd->bghij",
        "bghij,bghjd->bghid",
        "b g i d, b g j d -> b g j i",
        "gbid,bgdj->bgij",
        "bdi,bdj->bij",
        "bid,jd->bij",
    ],
)
def test_products_that_einsum_names(equation):
    sizes = {"b": 2, "g": 3, "h": 2, "i": 5, "j": 4, "d": 6}
    first, second = equation.replace(" ", "").split("->")[0].split(",")
    arrays = [random_numbers(*(sizes[letter] for letter in letters)) for letters in (first, second)]
    kernels = computed("Einsum", {"equation": equation}, *arrays)
    assert ("numpy" in kernels) == (equation == "bid,jd->bij")


@pytest.mark.parametrize("equation", ["bij,bij->bij", "bij,bji->b", "bii,bij->bij", "bij,bkl->bijkl"])
def test_other_sums_of_einsum_stay_in_numpy(equation):
    sizes = {"b": 2, "i": 5, "j": 5, "k": 3, "l": 4}
    first, second = equation.split("->")[0].split(",")
    arrays = [random_numbers(*(sizes[letter] for letter in letters)) for letters in (first, second)]
    assert "numpy" in computed("Einsum", {"equation": equation}, *arrays)


def test_a_transposed_weight_is_one_array_for_all_shapes():
    nodes = [Node("ai.onnx::MatMul", "y", ("x", "w"), "y", {})]
    graph = Graph(nodes, {"x": (None, 4)}, ["y"], {"w": random_numbers(4, 3)})
    first, second = ahead._at_probes(graph, MAX_BYTES)
    (name,) = first.graph.constants
    assert first.graph.constants[name] is second.graph.constants[name]
    np.testing.assert_array_equal(first.graph.constants[name], graph.constants["w"].T)
