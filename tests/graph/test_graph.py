"""The graph: structure checks, shapes, the JSON form against hostile text."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastcnn
from fastcnn.graph.ir import Graph, Node


def relu_graph(**changes):
    parts = {
        "nodes": [Node("Relu", "relu", ("x",), "y", {})],
        "inputs": {"x": (None, 4)},
        "outputs": ["y"],
        "constants": {},
    }
    return Graph(**{**parts, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nodes": [Node("Relu", "a", ("z",), "y", {})]}, "node 'a' (Relu): input 'z' is not computed before"),
        ({"nodes": [Node("Fly", "a", ("x",), "y", {})]}, "node 'a' (Fly): unknown operation"),
        ({"nodes": [Node("Reorder", "a", ("x",), "y", {})]}, "unknown operation"),
        ({"nodes": [Node("Relu", "a", ("x",), "x", {})]}, "output 'x' exists already"),
        ({"nodes": [Node("Relu", "a", ("x",), "y", {}), Node("Relu", "a", ("y",), "z", {})]}, "another node"),
        ({"nodes": [Node("Relu", "a", ("x", "x"), "y", {})]}, "2 inputs, expected 1 to 1"),
        ({"nodes": [Node("Clip", "a", ("x",), "y", {"min": 0.0})]}, "attribute 'max' is missing"),
        ({"nodes": [Node("Relu", "a", ("x",), "y", {"slope": 1.0})]}, "unknown attribute 'slope'"),
        ({"nodes": [Node("Softmax", "a", ("x",), "y", {"axis": "last"})]}, "axis='last', expected an integer"),
        ({"outputs": ["z"]}, "output 'z' is not computed"),
        ({"outputs": []}, "no outputs"),
        ({"constants": {"x": np.zeros(1)}}, "the same name"),
    ],
)
def test_structure_is_checked(changes, message):
    with pytest.raises(ValueError) as error:
        relu_graph(**changes).validate()
    assert message in str(error.value)


def test_shape_errors_name_the_node():
    node = Node("Gemm", "head", ("x", "w"), "y", {})
    graph = relu_graph(nodes=[node], constants={"w": np.zeros((2, 5), np.float32)})
    with pytest.raises(ValueError, match=r"node 'head' \(Gemm\): weight.shape\[1\]=5, expected in_features=4"):
        graph.infer({"x": (1, 4)})
    with pytest.raises(ValueError, match="input 'x': shape=\\(1, 3\\), expected \\(None, 4\\)"):
        graph.infer({"x": (1, 3)})


def test_json_round_trip_of_every_architecture():
    for name in fastcnn.zoo.names():
        graph = fastcnn.zoo.build(name).graph()
        again = Graph.from_json(graph.to_json(), graph.constants)
        assert (again.nodes, again.inputs, again.outputs) == (graph.nodes, graph.inputs, graph.outputs)


GOOD = json.loads(relu_graph().to_json())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        '"graph"',
        json.dumps({**GOOD, "version": 2}),
        json.dumps({**GOOD, "version": "1"}),
        json.dumps({**GOOD, "more": 1}),
        json.dumps({key: GOOD[key] for key in ("version", "inputs", "outputs")}),
        json.dumps({**GOOD, "nodes": 3}),
        json.dumps({**GOOD, "nodes": [3]}),
        json.dumps({**GOOD, "nodes": [["Relu"]]}),
        json.dumps({**GOOD, "nodes": [[1, "a", ["x"], "y", {}]]}),
        json.dumps({**GOOD, "nodes": [["Relu", "a", "x", "y", {}]]}),
        json.dumps({**GOOD, "nodes": [["Relu", "a", ["x"], "y", []]]}),
        json.dumps({**GOOD, "nodes": [["Softmax", "a", ["x"], "y", {"axis": 1e99}]]}),
        json.dumps({**GOOD, "nodes": [["Softmax", "a", ["x"], "y", {"axis": True}]]}),
        json.dumps({**GOOD, "nodes": [["Pad", "a", ["x"], "y", {"pads": [2**40, 0, 0, 0], "value": 0.0}]]}),
        json.dumps({**GOOD, "inputs": {"x": [0, 4]}}),
        json.dumps({**GOOD, "inputs": {"x": "four"}}),
        json.dumps({**GOOD, "inputs": ["x"]}),
        json.dumps({**GOOD, "outputs": [1]}),
    ],
)
def test_hostile_json_gets_a_named_error(text):
    with pytest.raises(ValueError, match=r"graph|node"):
        Graph.from_json(text, {})
