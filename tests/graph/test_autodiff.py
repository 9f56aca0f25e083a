"""Automatic differentiation: gradients against difference quotients, and what is appended for them."""

from __future__ import annotations

import numpy as np
from training.networks import Everything, batch, gradients, numeric, with_loss

from fastcnn import ops
from fastcnn.graph.autodiff import differentiate
from fastcnn.graph.ir import Graph, Node

RNG = np.random.default_rng(0)


def test_autodiff_agrees_with_differences():
    model, (x, y) = Everything(), batch(n=3, size=12)
    model.bn.freeze()
    graph = with_loss(model.graph((3, 12, 12)), "CrossEntropy", (3, 5))
    frozen = {name: graph.constants.pop(name) for name in list(graph.constants) if name.startswith("bn.")}
    graph.inputs |= {name: array.shape for name, array in frozen.items()}
    values = {"x": x, "target": np.eye(5)[y] / 3, **frozen}
    _, grads = gradients(graph, values, "loss")
    for name, grad in grads.items():
        index = tuple(int(RNG.integers(size)) for size in grad.shape)
        assert abs(grad[index] - numeric(graph, values, name, index, 1e-5)) <= 1e-7 + 1e-5 * abs(grad[index]), name


def node(op, output, *inputs):
    return Node(op, output, inputs, output, dict(ops.get(op).defaults))


def two_layers():
    """loss((tanh(x a) b) with target t), and a branch that the loss does not see."""
    nodes = [
        node("Gemm", "h", "x", "a"),
        node("Tanh", "u", "h"),
        node("Gemm", "y", "u", "b"),
        node("Gemm", "other", "u", "c"),
        node("MeanSquaredError", "l", "y", "t"),
    ]
    shapes = {"x": (8, 3), "a": (4, 3), "b": (2, 4), "c": (5, 4), "t": (8, 2)}
    return Graph(nodes, shapes, ["l"], {}), shapes


def appended(wanted):
    graph, shapes = two_layers()
    backward, grads, known = differentiate(graph, shapes, "l", wanted)
    assert backward.nodes[: len(graph.nodes)] == graph.nodes
    assert known == backward.infer(shapes)  # what it tells is what would be inferred
    assert {name: known[grad] for name, grad in grads.items()} == {name: shapes[name] for name in grads}
    return [made.op for made in backward.nodes[len(graph.nodes) :]], set(grads)


def test_nothing_is_computed_below_what_is_wanted():
    assert appended({"b"}) == (["MeanSquaredErrorGrad", "GemmGradWeight"], {"b"})
    operations, found = appended({"a"})
    assert found == {"a"} and operations.count("GemmGradWeight") == 1
    assert {"GemmGradInput", "TanhGrad"} <= set(operations)


def test_what_the_loss_does_not_depend_on_has_no_gradient():
    operations, found = appended({"a", "b", "c"})
    assert found == {"a", "b"} and operations.count("GemmGradWeight") == 2
    assert appended({"c"}) == ([], set())


def test_a_value_that_is_read_twice_gets_the_sum():
    nodes = [node("Gemm", "h", "x", "a"), node("Add", "y", "h", "h"), node("MeanSquaredError", "l", "y", "t")]
    shapes = {"x": (8, 3), "a": (2, 3), "t": (8, 2)}
    backward, grads, _ = differentiate(Graph(nodes, shapes, ["l"], {}), shapes, "l", {"a"})
    assert [made.op for made in backward.nodes[3:]] == ["MeanSquaredErrorGrad", "Add", "GemmGradWeight"]
    assert backward.nodes[-1].output == grads["a"]


def test_shapes_that_are_known_are_not_inferred_again():
    """The loss's operand has a shape that no rule would give: it is taken as it is told."""
    graph, shapes = two_layers()
    known = {**graph.infer(shapes), "other": (1, 2, 3)}
    assert differentiate(graph, known, "l", {"b"})[2]["other"] == (1, 2, 3)
