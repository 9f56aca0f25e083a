"""Prepared computations: what the functions and models compute, into arrays of the caller, without allocating."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

import fastcnn as fc
from fastcnn import functional as F
from fastcnn.compiler import eager
from fastcnn.graph.ir import Graph, Node
from fastcnn.model import GraphModel

rng = np.random.default_rng(0)
X = rng.standard_normal((2, 6, 13, 11), np.float32)
W = rng.standard_normal((20, 6, 3, 3), np.float32)
G = F.conv2d(X, W)
FUNCTIONS = {
    "fused": (lambda x: F.relu(F.conv2d(x, W[:, :, :1, :1])), X),
    "weights of every call": (lambda x, w: F.conv2d(x, w), X, W),
    "gradient": (lambda g, w: F.conv2d_grad_input(g, w, (13, 11)), G, W),
    "gradient by weights": (lambda x, g: F.conv2d_grad_weight(x, g, (3, 3)), X, G),
    "rows": (lambda a, b: F.linear(a, b), X[0, 0], W[:11, 0, 0, :1] * np.ones((1, 11), np.float32)),
    "the input itself": (lambda x: x, X),
    "sums": (lambda a, b: F.add(a, b), X, X + 1),
    "softmax": (lambda x: F.softmax(x, dim=1), X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(isa, name):
    function, *inputs = FUNCTIONS[name]
    prepared = fc.prepare(function, *[array.shape for array in inputs])
    out = np.full(prepared.output_shape, np.nan, np.float32)
    assert prepared(*inputs, out=out) is out
    expected = function(*inputs)  # where Winograd's algorithm is prepared, with its rounding errors
    np.testing.assert_allclose(out, expected, rtol=0, atol=5e-6 * np.abs(expected).max())
    np.testing.assert_array_equal(prepared(*[array.astype(np.float64) for array in inputs]), out)


def test_operations_are_fused():
    prepared = fc.prepare(FUNCTIONS["fused"][0], X.shape)
    assert "direct" in prepared.kernels and "relu" not in prepared.kernels and prepared.arena_bytes > 0


@pytest.mark.parametrize("batch", [1, 70])
def test_models(batch):
    """A prepared model keeps its weights, also where the model learns on; `out` of a model takes part in no cache."""
    model = fc.zoo.lenet()
    x = rng.random((batch, *model.input_shape), np.float32)
    prepared, before = fc.prepare(model, x.shape), model(x)
    out = np.empty_like(before)
    for _ in range(3):
        assert model(x, out=out) is out
        np.testing.assert_array_equal(out, before)
        out[...] = 0
    probable = model.predict_proba(x)
    assert model.predict_proba(x, out=out) is out
    np.testing.assert_array_equal(out, probable)
    model[-1].bias = model[-1].bias + 1
    np.testing.assert_array_equal(prepared(x), before)
    assert not np.array_equal(model(x, out=out), before)


@pytest.mark.parametrize("numbers", ["float32", "bfloat16", "int8"])
def test_no_memory_is_allocated(numbers):
    """In the steady state nothing stays, and nothing of an array's size is taken meanwhile."""
    model = fc.zoo.lenet()
    x = rng.random((8, *model.input_shape), np.float32)
    model = model.quantize(x) if numbers == "int8" else model.astype(numbers)
    prepared = fc.prepare(model, x.shape)
    out = np.empty((8, 10), np.float32)
    for call in (lambda: model(x, out=out), lambda: prepared(x, out=out)):
        for _ in range(10):
            call()
        tracemalloc.start()
        try:
            call()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            for _ in range(100):
                call()
            after, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after == before and peak - before < 2000, (before, after, peak)  # argument tuples and lists


def test_probabilities_leave_nothing():
    """Python keeps some tuples for later ones; a collection gives them back. Objects have 16 bytes or more."""
    model = fc.zoo.lenet()
    x = rng.random((32, *model.input_shape), np.float32)
    out, arena = np.empty((32, 10), np.float32), fc.prepare(model, x.shape).arena_bytes
    eager._idle.clear()  # a table of many plans is made anew now and then
    for _ in range(10):
        model.predict_proba(x, out=out)
    tracemalloc.start()
    try:
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for _ in range(100):
            model.predict_proba(x, out=out)
        _, peak = tracemalloc.get_traced_memory()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100 * 16 and peak - before < arena / 4, (before, after, peak, arena)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda out: out[:, :9], "shape"),
        (lambda out: out.astype(np.float64), "dtype"),
        (lambda out: np.empty((10, 8), np.float32).T, "C-contiguous"),
        (lambda out: [0.0], "expected an ndarray"),
    ],
)
def test_bad_out(change, words):
    model = fc.zoo.lenet()
    x = np.zeros((8, *model.input_shape), np.float32)
    prepared = fc.prepare(model, x.shape)
    out = change(np.empty((8, 10), np.float32))
    model(x)
    for call in (model, model.predict_proba, prepared):
        with pytest.raises((ValueError, TypeError), match=words):
            call(x, out=out)


def test_out_in_the_input():
    memory = np.zeros(100, np.float32)
    model = fc.Sequential(fc.Linear(10, 10))
    x, out = memory[:50].reshape(5, 10), memory[40:90].reshape(5, 10)
    model(x)
    for call in (model, fc.prepare(model, (5, 10))):
        with pytest.raises(ValueError, match="overlaps an input"):
            call(x, out=out)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fc.prepare(F.relu), "got no shape"),
        (lambda: fc.prepare(F.relu, (2, 0)), r"input_shapes\[0\]=0"),
        (lambda: fc.prepare(fc.zoo.lenet(), (1, 1, 28, 28), (1,)), "takes one input"),
        (lambda: fc.prepare(lambda x: 3, (1, 2)), "returned int"),
        (lambda: fc.prepare(F.add, (1, 2)), "add: missing a required argument: .*, expected a function of 1 array"),
        (lambda: fc.prepare(lambda x: F.relu(x) if x > 0 else x, (1, 2)), "cannot look at numbers"),
        (lambda: fc.prepare(F.relu, (1, 2))(np.ones((1, 2)), np.ones(1)), "got 2 inputs, expected 1"),
        (lambda: fc.prepare(F.relu, (1, 2))(np.ones((2, 2))), r"has shape \(2, 2\), expected \(1, 2\)"),
        (lambda: fc.prepare(F.relu, (1, 2))(["a", "b"]), "expected a real number type"),
    ],
)
def test_errors(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def test_networks_with_steps_in_numpy():
    graph = Graph([Node("ai.onnx::Sin", "sin", ("x",), "y", {})], {"x": (None, 4)}, ["y"], {})
    model = GraphModel(graph)
    x, out = rng.random((2, 4), np.float32), np.empty((2, 4), np.float32)
    np.testing.assert_array_equal(model(x, out=out), model(x))
    np.testing.assert_array_equal(fc.prepare(model, (2, 4))(x), out)
    graph.nodes[0] = Node("ai.onnx::NonZero", "places", ("x",), "y", {})
    with pytest.raises(ValueError, match="runs as several plans, as a shape depends on values"):
        fc.prepare(GraphModel(graph), (2, 4))
