"""Folding: what can be computed before any input is known, and what disappears into other nodes."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import run

from fastcnn import ops
from fastcnn.compiler.compile import compile_graph
from fastcnn.compiler.fold import drop_repeated_relu, fold
from fastcnn.compiler.state import Options, State
from fastcnn.graph.ir import Graph, Node
from fastcnn.ops.budget import Budget


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


def folded(nodes, outputs, constants=(), budget=None, **inputs):
    """The graph after folding; nodes are (operation, output, inputs...), with default attributes."""
    made = [Node(op, output, tuple(names), output, dict(ops.get(op).defaults)) for op, output, *names in nodes]
    graph = Graph(made, inputs or {"x": (2, 3, 4, 4)}, outputs, dict(constants))
    return fold(State(graph, graph.infer(graph.inputs), Options(vl=8, budget=budget))).graph


def described(graph):
    return [(node.op, node.output, *node.inputs) for node in graph.nodes]


def test_what_passes_values_on_vanishes_unless_it_is_an_output():
    chain = [("Dropout", "a", "x"), ("Identity", "b", "a"), ("Relu", "c", "b"), ("Identity", "d", "c")]
    assert described(folded(chain, ["c"])) == [("Relu", "c", "x")]
    assert described(folded(chain, ["b", "d"])) == [("Identity", "b", "x"), ("Relu", "c", "b"), ("Identity", "d", "c")]


def test_a_relu_of_what_is_positive_vanishes_unless_it_is_an_output():
    chain = [("Relu", "a", "x"), ("MaxPool", "b", "a"), ("Relu", "c", "b"), ("Relu", "d", "c"), ("Tanh", "e", "d")]
    assert described(folded(chain, ["e"])) == [("Relu", "a", "x"), ("MaxPool", "b", "a"), ("Tanh", "e", "b")]
    assert described(folded(chain, ["c", "e"]))[2:] == [("Relu", "c", "b"), ("Tanh", "e", "c")]
    graph = Graph([Node("Tanh", "y", ("x",), "y", {})], {"x": (2,)}, ["y"], {})
    assert drop_repeated_relu(graph) is graph


def test_constant_subgraphs_become_constants():
    constants = {"a": np.float32([1, 2]), "b": np.float32([3, 5])}
    nodes = [("Add", "c", "a", "b"), ("Mul", "d", "c", "b"), ("Add", "y", "x", "d")]
    graph = folded(nodes, ["y"], constants, x=(4, 2))
    assert described(graph) == [("Add", "y", "x", "d")]
    assert {name: array.tolist() for name, array in graph.constants.items()} == {"d": [12.0, 35.0]}


def test_constants_are_computed_within_the_budget():
    constants = {"a": np.ones((64, 64), np.float32)}
    nodes = [("Add", "c", "a", "a"), ("Add", "y", "x", "c")]
    with pytest.raises(ValueError, match=r"node 'c' \(Add\), of constants: .*max_bytes"):
        folded(nodes, ["y"], constants, Budget(1000), x=(64, 64))
    assert described(folded(nodes, ["y"], constants, Budget(1 << 24), x=(64, 64))) == [("Add", "y", "x", "c")]


def test_a_normalisation_scales_the_filters_and_leaves_the_convolution_its_name():
    rng = np.random.default_rng(0)
    constants = {name: rng.random(8).astype(np.float32) + 0.5 for name in ("g", "b", "m", "v")}
    constants["w"] = rng.random((8, 3, 1, 1)).astype(np.float32)
    nodes = [("Conv", "a", "x", "w"), ("BatchNormalization", "y", "a", "g", "b", "m", "v")]
    (conv,) = folded(nodes, ["y"], constants).nodes
    assert (conv.op, conv.name, conv.output, conv.inputs[:2]) == ("Conv", "a", "y", ("x", "w"))
    scale = constants["g"] / np.sqrt(constants["v"].astype(np.float64) + 1e-5)
    assert conv.decided.scale.norm == "y"
    np.testing.assert_allclose(conv.decided.scale.factors, scale, rtol=1e-6)
    both = folded(nodes, ["a", "y"], constants)  # who reads the convolution itself gets it
    assert [node.op for node in both.nodes] == ["Conv", "BatchNormalization"]


def test_a_graph_in_which_nothing_folds_is_given_back():
    graph = Graph([Node("Relu", "y", ("x",), "y", {})], {"x": (2, 3)}, ["y"], {})
    state = State(graph, graph.infer({"x": (2, 3)}), Options(vl=8))
    assert fold(state) is state
