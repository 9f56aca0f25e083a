"""Operations that come with ONNX files, and what folding makes of chains of them, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import ops
from fastcnn.compiler.plan import compile_graph
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.budget import MAX_BYTES, Budget


def random_case(rng):
    """An operation, its attributes, and the shape of its input."""
    shape = tuple(int(rng.integers(1, most)) for most in (3, 30, 8, 8))
    kind = rng.choice(["LRN", "Transpose", "Slice", "Reshape"])
    if kind == "LRN":
        beta = float(rng.choice([0.75, 0.5, 1.0, 0.6]))
        return kind, {"size": int(rng.integers(1, 2 * shape[1] + 2)), "alpha": 0.3, "beta": beta, "bias": 1.5}, shape
    if kind == "Transpose":
        rank = int(rng.integers(2, 5))
        return kind, {"perm": tuple(int(axis) for axis in rng.permutation(rank))}, shape[:rank]
    if kind == "Slice":
        axis = int(rng.integers(4))
        start = int(rng.integers(shape[axis]))
        return kind, {"axis": axis, "start": start, "end": int(rng.integers(start + 1, shape[axis] + 1))}, shape
    order = [(0, -1), (0, shape[2], -1), (-1, shape[3]), (0, 1, -1, shape[1])]
    return kind, {"shape": order[int(rng.integers(4))]}, shape


def run(graph, x):
    """The result, which must be the same for any number of threads."""
    plan = compile_graph(graph, {"x": x.shape})
    results = []
    for threads in (1, 2, 3):
        with fastcnn.num_threads(threads):
            results.append(plan.run([x])[0])
    assert all((result == results[0]).all() for result in results)
    return results[0]


@pytest.mark.parametrize("blocked", [False, True])
def test_they_agree_with_their_definitions(blocked, isa, poisoned, budget):
    """On plain inputs, and on what a convolution leaves in blocks."""
    rng = np.random.default_rng(17)
    for _ in range(budget(60, 2_000)):
        op, attrs, shape = random_case(rng)
        x = rng.standard_normal(shape).astype(np.float32)
        node = Node(op, "node", ("a" if blocked and len(shape) == 4 else "x",), "y", attrs)
        graph = Graph([node], {"x": (None, *shape[1:])}, ["y"], {})
        before = x
        if blocked and len(shape) == 4:
            weight = rng.standard_normal((shape[1], shape[1], 1, 1)).astype(np.float32)
            conv = Node("Conv", "conv", ("x", "w"), "a", ops.get("Conv").defaults)
            graph = Graph([conv, node], graph.inputs, ["y"], {"w": weight})
            before = ops.get("Conv").reference(conv.attrs, [x, weight])
        graph.validate()
        np.testing.assert_allclose(run(graph, x), ops.get(op).reference(attrs, [before]), rtol=1e-4, atol=1e-4)


def test_shapes_that_do_not_fit_are_told():
    for op, attrs, message in [
        ("LRN", {"size": 0}, "size=0, expected 1 to"),
        ("Transpose", {"perm": (0, 0, 1, 2)}, "perm="),
        ("Slice", {"axis": 7}, "axis=7"),
        ("Reshape", {"shape": (5, -1)}, "expected a shape of 48 elements"),
    ]:
        full = {**ops.get(op).defaults, **attrs}
        with pytest.raises(ValueError, match=message):
            ops.get(op).infer(full, [(2, 4, 3, 2)])


def chain(rng, channels, with_conv):
    """Convolution or not, then products and sums by channel and batch normalisations, in random order."""
    constants, nodes, value = {}, [], "x"

    def constant(*shape):
        name = f"c{len(constants)}"
        constants[name] = (rng.random(shape) + 0.5).astype(np.float32)
        return name

    if with_conv:
        nodes.append(Node("Conv", "conv", ("x", constant(channels, channels, 1, 1)), "v", ops.get("Conv").defaults))
        value = "v"
    for i in range(int(rng.integers(1, 6))):
        op = str(rng.choice(["Mul", "Add", "BatchNormalization"]))
        shape = ((channels, 1, 1), (1, channels, 1, 1))[int(rng.integers(2))]
        inputs = (
            (value, constant(*shape))
            if op != "BatchNormalization"
            else (value, *[constant(channels) for _ in range(4)])
        )
        inputs = inputs[::-1] if op != "BatchNormalization" and rng.random() < 0.3 else inputs
        nodes.append(Node(op, f"n{i}", inputs, f"v{i}", ops.get(op).defaults))
        value = f"v{i}"
    return Graph(nodes, {"x": (None, channels, 5, 4)}, [value], constants)


@pytest.mark.parametrize("with_conv", [False, True])
def test_chains_by_channel_become_one_step(with_conv, isa, budget):
    rng = np.random.default_rng(23)
    for _ in range(budget(20, 500)):
        graph = chain(rng, int(rng.integers(2, 20)), with_conv)
        x = rng.standard_normal((2, *graph.inputs["x"][1:])).astype(np.float32)
        values = {**graph.constants, "x": x}
        for node in graph.nodes:
            values[node.output] = ops.get(node.op).reference(node.attrs, [values[name] for name in node.inputs])
        np.testing.assert_allclose(run(graph, x), values[graph.outputs[0]], rtol=1e-4, atol=1e-4)
        kernels = [step.kernel for step in compile_graph(graph, {"x": x.shape}).steps if step.kernel != "reorder"]
        assert kernels == [kernels[0]] and (kernels[0] != "affine" or not with_conv)


def test_constants_that_widen_or_are_no_channels_stay():
    rng = np.random.default_rng(5)
    for shape, constant in (((2, 1, 4, 4), (3, 1, 1)), ((2, 3, 3, 3), (3, 3)), ((2, 3, 4, 4), (1, 1, 1))):
        values = rng.standard_normal(constant).astype(np.float32)
        x = rng.standard_normal(shape).astype(np.float32)
        graph = Graph([Node("Mul", "m", ("x", "c"), "y", {})], {"x": (None, *shape[1:])}, ["y"], {"c": values})
        np.testing.assert_allclose(run(graph, x), x * values, rtol=1e-6)


def test_a_gate_by_its_own_sigmoid_is_a_swish():
    nodes = [Node("Sigmoid", "s", ("x",), "g", {}), Node("Mul", "m", ("x", "g"), "y", {})]
    graph = Graph(nodes, {"x": (None, 5)}, ["y"], {})
    x = np.linspace(-9, 9, 10, dtype=np.float32).reshape(2, 5)
    assert [step.kernel for step in compile_graph(graph, {"x": x.shape}).steps] == ["swish"]
    np.testing.assert_allclose(run(graph, x), x / (1 + np.exp(-x)), rtol=1e-5)
    both = Graph(nodes, {"x": (None, 5)}, ["y", "g"], {})
    assert [step.kernel for step in compile_graph(both, {"x": x.shape}).steps] == ["sigmoid", "mul"]


@pytest.mark.parametrize("size", [1, 3])
def test_statistics_that_make_no_sense_fold_without_warnings(size):
    """Negative and vanishing variances, scales that overflow: NaN and infinity, as everywhere, and nothing printed."""
    weight = np.ones((4, 3, size, size), np.float32)
    weight[:, 1] = 0
    constants = {
        "w": weight,
        "g": np.array([1, 1, 3e38, 1]),
        "b": np.zeros(4),
        "m": np.zeros(4),
        "v": np.array([-1, 0, 1e-9, 1]),
        "s": np.array([1, 1, 1, np.inf]).reshape(4, 1, 1),
    }
    nodes = [
        Node("Conv", "conv", ("x", "w"), "a", ops.get("Conv").defaults),
        Node("BatchNormalization", "norm", ("a", "g", "b", "m", "v"), "c", {"epsilon": 0.0}),
        Node("Mul", "mul", ("c", "s"), "y", {}),
    ]
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    for outputs in (["c"], ["y"]):
        graph = Graph(nodes[: 2 + (outputs == ["y"])], {"x": (None, 3, 6, 6)}, outputs, constants)
        result = compile_graph(graph, {"x": (1, 3, 6, 6)}).run([np.ones((1, 3, 6, 6), np.float32)])[0]
        assert not np.isfinite(result[:, :3]).any()
        assert np.isfinite(result[:, 3]).all() == (outputs == ["c"])


@pytest.mark.parametrize(
    ("op", "shape", "attrs"),
    [
        ("AveragePool", (1, 1, 60_000), {"kernel_shape": (60_000,)}),
        ("GlobalAveragePool", (1, 2, 500, 40, 5), {}),
        ("ReduceMean", (200_000, 3), {"keepdims": 0}),
    ],
)
def test_means_without_a_kernel_lose_no_digits(op, shape, attrs):
    x = np.full(shape, 0.1, np.float32)
    axes = [np.array([0])] if op == "ReduceMean" else []
    y = ops.get(f"ai.onnx::{op}").evaluate(attrs, [x, *axes], Budget(MAX_BYTES))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, np.float32(0.1), rtol=1e-6)


def test_the_sigmoid_of_numpy_does_not_overflow():
    x = np.float32([-np.inf, -88.8, -1, 0, 90, np.inf, np.nan])
    y = ops.get("ai.onnx::Sigmoid").evaluate({}, [x], Budget(MAX_BYTES))
    np.testing.assert_allclose(y, [0, 2.7205e-39, 0.26894142, 0.5, 1, 1, np.nan], rtol=1e-3)
    assert y.dtype == np.float32
