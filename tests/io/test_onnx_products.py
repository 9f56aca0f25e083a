"""ONNX files with products of two computed matrices: kernels compute them, and they are written again."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_builders as build
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import fastcnn as fc
from fastcnn.compiler.network import is_resolved
from fastcnn.graph.ir import Graph, Node
from fastcnn.model import GraphModel
from fastcnn.onnx_model import load_onnx

RNG = np.random.default_rng(0)
X = RNG.integers(-4, 5, (3, 2, 6, 5)).astype(np.float32)


def file_of(nodes, *tensors, shape=("N", 2, 6, 5), rank=4):
    """A model of nodes that read x and tensors, and write y."""
    given = [build.tensor(f"t{i}", array) for i, array in enumerate(tensors)]
    return build.model(nodes, [build.value("x", list(shape))], [build.value("y", [None] * rank)], given)


def evaluate(proto, x):
    return ReferenceEvaluator(proto).run(None, {"x": x})[0]


FILES = {
    "of a value with itself, transposed": file_of(
        [
            helper.make_node("Transpose", ["x"], ["t"], "turn", perm=[0, 1, 3, 2]),
            helper.make_node("MatMul", ["x", "t"], ["y"], "product"),
        ]
    ),
    "of more axes than the other": file_of(
        [
            helper.make_node("ReduceMean", ["x"], ["m"], "mean", axes=[2, 3], keepdims=1),
            helper.make_node("MatMul", ["m", "t0"], ["y"], "product"),
        ],
        RNG.integers(-4, 5, (2, 1, 7)).astype(np.float32),
    ),
    "with a constant before": file_of(
        [helper.make_node("MatMul", ["t0", "x"], ["y"], "product")], RNG.integers(-4, 5, (2, 3, 6)).astype(np.float32)
    ),
    "as Gemm, with a sum": file_of(
        [
            helper.make_node("Flatten", ["x"], ["f"], "rows"),
            helper.make_node("Gemm", ["f", "f", "t0"], ["y"], "product", transA=1, alpha=0.5),
        ],
        RNG.integers(-4, 5, 60).astype(np.float32),
        rank=2,
    ),
    "as Gemm, transposed": file_of(
        [
            helper.make_node("Flatten", ["x"], ["f"], "rows"),
            helper.make_node("Gemm", ["f", "f"], ["y"], "product", transB=1),
        ],
        rank=2,
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_products_have_kernels_and_are_written_again(name, tmp_path):
    proto = FILES[name]
    expected = evaluate(proto, X)
    model = load_onnx(proto.SerializeToString())
    assert np.array_equal(model(X), expected)
    assert is_resolved(model.graph()) and "MatMul" in [node.op for node in model.graph().nodes]
    model.export_onnx(tmp_path / "again.onnx")
    assert np.array_equal(evaluate(onnx.load(tmp_path / "again.onnx"), X), expected)


@pytest.mark.parametrize("flags", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_what_matmul_has_none_for_is_written_as_other_operators(flags, tmp_path):
    attrs = {"trans_a": flags[0], "trans_b": flags[1], "scale": 0.5}
    square = X[..., :5, :]
    graph = Graph([Node("MatMul", "p", ("x", "x"), "y", attrs)], {"x": (None, 2, 5, 5)}, ["y"], {})
    model = GraphModel(graph)
    model.input_shape = (2, 5, 5)
    model.export_onnx(tmp_path / "net.onnx")
    left, right = (square.swapaxes(2, 3) if flag else square for flag in flags)
    assert np.array_equal(model(square), 0.5 * (left @ right))
    assert np.array_equal(evaluate(onnx.load(tmp_path / "net.onnx"), square), model(square))
    assert np.array_equal(fc.load(tmp_path / "net.onnx")(square), model(square))
