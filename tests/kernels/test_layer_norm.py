"""Normalisation of rows and of pixels, and its gradients, against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import THREADS
from memory_guard import guarded

import fastcnn
from fastcnn import functional as F
from fastcnn import ops, reference
from fastcnn.compiler.compile import compile_graph
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node

SHAPES = [(1,), (3, 7), (5, 16), (2, 3, 40), (17, 33), (1, 768), (50, 192), (2, 3, 4, 5), (3, 2000)]
IMAGES = [(1, 1, 1, 1), (2, 3, 4, 5), (1, 16, 3, 3), (2, 40, 7, 9), (3, 67, 1, 5), (1, 130, 9, 4)]


def draw(rng, shape):
    return (rng.standard_normal(shape) * 3 + 1).astype(np.float32)


def graph_of(op, x, parameters, **attrs):
    """A node between two others that may store its operands with halos and in blocks, and its weights as inputs."""
    names = ("x", *(f"p{i}" for i in range(len(parameters))))
    full = {**ops.get(op).defaults, **attrs}
    shapes = {name: array.shape for name, array in zip(names, (x, *parameters), strict=True)}
    return Graph([Node(op, "norm", names, "y", full)], shapes, ["y"], {})


def run(graph, arrays, parameters=()):
    plan = compile_graph(graph, {name: array.shape for name, array in arrays.items()}, parameters=parameters)
    shapes = graph.infer({name: array.shape for name, array in arrays.items()})
    outputs = [guarded(shapes[name]) for name in graph.outputs]
    plan.run(list(arrays.values()), outputs)
    return outputs


@pytest.mark.parametrize("threads", THREADS)
def test_layer_norm(threads, isa, poisoned):
    rng = np.random.default_rng(1)
    for shape in SHAPES:
        x = draw(rng, shape)
        for axis in range(-len(shape), 0):
            weight, bias = (draw(rng, shape[axis:]) for _ in range(2))
            with fastcnn.num_threads(threads):
                y = F.layer_norm(x, shape[axis:], weight, bias, 1e-3, out=guarded(shape))
                alone = F.layer_norm(x, shape[axis:], weight, eps=1e-3)
            expected = reference.layer_norm(x, weight, bias, axis, 1e-3)
            np.testing.assert_allclose(y, expected, rtol=2e-6, atol=3e-5)
            np.testing.assert_allclose(alone, expected - bias, rtol=2e-6, atol=3e-5)


def constant(graph, arrays):
    """The graph with its parameters as constants."""
    inputs = {"x": graph.inputs["x"]}
    return Graph(graph.nodes, inputs, graph.outputs, {name: a for name, a in arrays.items() if name != "x"})


@pytest.mark.parametrize("threads", THREADS)
def test_channel_norm(threads, isa, poisoned):
    rng = np.random.default_rng(2)
    for shape in IMAGES:
        x, weight, bias = draw(rng, shape), draw(rng, shape[1]), draw(rng, shape[1])
        expected = np.moveaxis(reference.layer_norm(np.moveaxis(x, 1, -1), weight, bias), -1, 1)
        arrays = {"x": x, "p0": weight, "p1": bias}
        graph = graph_of("ChannelNormalization", x, (weight, bias))
        with fastcnn.num_threads(threads):
            (y,) = run(constant(graph, arrays), {"x": x})
            (trained,) = run(graph, arrays)
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=3e-5)
        assert np.array_equal(y, trained)


def test_channel_norm_between_convolutions(isa, poisoned):
    """Its operand has a halo, for the other convolution that reads it, and blocks with more lanes than channels."""
    rng = np.random.default_rng(3)
    w, v, c = (rng.integers(-2, 3, s).astype(np.float32) for s in ((21, 3, 1, 1), (4, 21, 3, 3), (4, 21, 3, 3)))
    nodes = [
        Node("Conv", "a", ("x", "w"), "a", {**ops.get("Conv").defaults}),
        Node("ChannelNormalization", "n", ("a", "s"), "n", {"epsilon": 1e-5}),
        Node("Conv", "b", ("n", "v"), "b", {**ops.get("Conv").defaults, "pads": (1, 1, 1, 1)}),
        Node("Conv", "c", ("a", "c"), "d", {**ops.get("Conv").defaults, "pads": (1, 1, 1, 1)}),
        Node("Add", "e", ("b", "d"), "y", {}),
    ]
    s = rng.standard_normal(21).astype(np.float32)
    x = draw(rng, (2, 3, 6, 5))
    (y,) = run(Graph(nodes, {"x": x.shape}, ["y"], {"w": w, "v": v, "c": c, "s": s}), {"x": x})
    a = reference.conv2d(x, w)
    n = np.moveaxis(reference.layer_norm(np.moveaxis(a, 1, -1), s), -1, 1)
    expected = reference.conv2d(n, v, pads=(1,) * 4) + reference.conv2d(a, c, pads=(1,) * 4)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def gradients(op, x, parameters, g, **attrs):
    """Gradients of the sum of g * y, by x and the parameters."""
    graph = graph_of(op, x, parameters, **attrs)
    flat = [("Mul", ("y", "g"), "m", {}), ("Reshape", ("m",), "r", {"shape": (1, -1)})]
    nodes = [*graph.nodes, *(Node(op, out, ins, out, how) for op, ins, out, how in flat)]
    nodes.append(Node("LinearLoss", "l", ("r", "t"), "l", {}))
    arrays = {"x": x, **{f"p{i}": p for i, p in enumerate(parameters)}, "g": g}
    arrays["t"] = np.ones((1, x.size), np.float32)
    shapes = {name: array.shape for name, array in arrays.items()}
    wanted = [name for name in arrays if name not in ("g", "t")]
    full, grads, _ = differentiate(Graph(nodes, shapes, ["l"], {}), shapes, "l", wanted)
    outputs = [grads[name] for name in wanted]
    return run(Graph(full.nodes, shapes, outputs, {}), arrays)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("op", ["LayerNormalization", "ChannelNormalization"])
def test_gradients(op, threads, isa, poisoned):
    rng = np.random.default_rng(4)
    by_channel = op == "ChannelNormalization"
    for shape in IMAGES if by_channel else [(2, 2), (5, 16), (2, 3, 40), (130, 33), (9, 768)]:
        size = shape[1] if by_channel else shape[-1]
        x, g, weight, bias = draw(rng, shape), draw(rng, shape), draw(rng, size), draw(rng, size)
        with fastcnn.num_threads(threads):
            dx, dweight, dbias = gradients(op, x, (weight, bias), g, epsilon=0.1)
        rows, grads = (np.moveaxis(a, 1, -1) if by_channel else a for a in (x, g))
        expected = reference.layer_norm_grad(grads, rows, weight, eps=0.1)
        h = reference.layer_norm(rows, eps=0.1)
        np.testing.assert_allclose(np.moveaxis(dx, 1, -1) if by_channel else dx, expected, rtol=1e-5, atol=1e-4)
        axes = tuple(range(len(shape) - 1))
        np.testing.assert_allclose(dweight, (grads * h).sum(axis=axes), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(dbias, grads.sum(axis=axes, dtype=np.float64), rtol=1e-5, atol=1e-4)


def test_gradients_of_rows_of_several_axes(isa):
    rng = np.random.default_rng(5)
    x, g, weight, bias = (draw(rng, s) for s in ((3, 4, 5), (3, 4, 5), (4, 5), (4, 5)))
    dx, dweight, dbias = gradients("LayerNormalization", x, (weight, bias), g, axis=1)
    h = reference.layer_norm(x, axis=1)
    np.testing.assert_allclose(dx, reference.layer_norm_grad(g, x, weight, 1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dweight, (g * h).sum(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dbias, g.sum(axis=0), rtol=1e-5, atol=1e-5)


def test_a_row_has_the_same_bits_wherever_it_stands(isa):
    rng = np.random.default_rng(6)
    for length in (5, 16, 41, 2000):
        x, weight = draw(rng, (37, length)), draw(rng, length)
        alone = np.concatenate([F.layer_norm(row[None], length, weight) for row in x])
        for threads in THREADS:
            with fastcnn.num_threads(threads):
                assert np.array_equal(F.layer_norm(x, length, weight), alone)


def test_special_values(isa):
    """A NaN or an infinity makes NaN of its own row only."""
    x = np.ones((5, 35), np.float32)
    x[1, 34], x[2, 0], x[3, 17] = np.nan, np.inf, -np.inf
    x[:, 1] = 2
    y = F.layer_norm(x, 35)
    assert np.isnan(y[1:4]).all() and np.isfinite(y[[0, 4]]).all()
    large = np.full((2, 64), 1e4, np.float32) + np.arange(64, dtype=np.float32) / 64
    np.testing.assert_allclose(F.layer_norm(large, 64), reference.layer_norm(large), atol=2e-3)


def test_what_does_not_fit_is_named():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"layer_norm: weight.shape=\(3,\), expected \(4,\)|normalized_shape=\(4,\)"):
        F.layer_norm(x, 4, np.ones(3, np.float32))
    with pytest.raises(ValueError, match=r"layer_norm: weight.shape=\(4,\), expected \(3,\) \(x.shape=\(2, 3\)\)"):
        F.layer_norm(x, 4)
    with pytest.raises(ValueError, match=r"layer_norm: axis=-3, expected an axis of x"):
        F.layer_norm(x, (1, 2, 3))
    with pytest.raises(ValueError, match="layer_norm: eps=-1.0, expected a number >= 0"):
        F.layer_norm(x, 3, eps=-1)
