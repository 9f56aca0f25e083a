"""`strict`: steps that only NumPy computes are refused, with their names and reasons, at loading and at each call."""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn as fc
from fastcnn.graph.ir import Graph, Node
from fastcnn.model import GraphModel

X = np.random.default_rng(0).random((2, 4), np.float32)


def odd_model() -> GraphModel:
    """Kernels, and one operation that has none."""
    nodes = [Node("ai.onnx::Relu", "relu", ("x",), "r", {}), Node("ai.onnx::Sin", "sin", ("r",), "y", {})]
    model = GraphModel(Graph(nodes, {"x": (None, 4)}, ["y"], {}))
    model.input_shape = (4,)
    return model


def test_calls():
    model = odd_model()
    expected = model(X)
    model.strict = True  # plans of before are not used
    for call in (model, model.predict_proba, lambda x: fc.prepare(model, x.shape)):
        with pytest.raises(
            ValueError, match="strict: only NumPy computes sin: this operation has no kernel for these operands$"
        ):
            call(X)
    model.strict = False
    np.testing.assert_array_equal(model(X), expected)


def test_loading(tmp_path):
    path = tmp_path / "odd.safetensors"
    odd_model().save(path)
    assert not fc.load(path).strict
    with pytest.raises(fc.ModelLoadError, match=r"odd.safetensors: strict: .*sin"):
        fc.load(path, strict=True)
    fc.zoo.lenet().save(path)
    model = fc.load(path, strict=True)
    assert model.strict and model(np.zeros((1, 1, 28, 28), np.float32)).shape == (1, 10)


def test_wrong_values():
    with pytest.raises(TypeError, match=r"GraphModel.strict"):
        odd_model().strict = "yes"
