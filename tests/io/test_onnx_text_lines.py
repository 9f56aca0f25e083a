"""Classifiers of text lines from ONNX files: convolutions, then a recurrent network over the columns of an image."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_builders as build
import pytest
from onnx import helper
from recurrent_cases import GATES, definition

import fastcnn as fc
from fastcnn.errors import ModelLoadError
from fastcnn.onnx_model import load_onnx

CHANNELS, HIDDEN = 6, 5


def weights(name):
    rng, gates = np.random.default_rng(len(name)), GATES[name]
    shapes = {
        "conv": (CHANNELS, 1, 8, 3),
        "w": (2, gates * HIDDEN, CHANNELS),
        "r": (2, gates * HIDDEN, HIDDEN),
        "b": (2, 2 * gates * HIDDEN),
        "fc": (2 * HIDDEN, 7),
    }
    return {key: rng.standard_normal(shape).astype(np.float32) * 0.4 for key, shape in shapes.items()}


def reader(name, **attrs):
    """Images (N, 1, 8, 20) to the scores of 7 letters for each of 18 columns (18, N, 7), as CTC takes them."""
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"], "conv"),
        helper.make_node("Relu", ["a"], ["features"], "relu"),
        helper.make_node("Squeeze", ["features", "two"], ["columns"], "squeeze"),
        helper.make_node("Transpose", ["columns"], ["sequence"], "turn", perm=[2, 0, 1]),
        helper.make_node(
            name, ["sequence", "w", "r", "b"], ["both"], "rnn", direction="bidirectional", hidden_size=HIDDEN, **attrs
        ),
        helper.make_node("Transpose", ["both"], ["last"], "back", perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["last", "shape"], ["joined"], "join"),
        helper.make_node("MatMul", ["joined", "fc"], ["scores"], "fc"),
        helper.make_node("Transpose", ["scores"], ["y"], "batch", perm=[1, 0, 2]),
    ]
    constants = {**weights(name), "two": np.array([2]), "shape": np.array([0, 0, -1])}
    tensors = [build.tensor(key, array) for key, array in constants.items()]
    return build.model(nodes, [build.value("x", ["N", 1, 8, 20])], [build.value("y", ["N", 18, 7])], tensors)


@pytest.mark.parametrize(("name", "attrs"), [("LSTM", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})])
def test_text_lines_are_read(name, attrs, tmp_path):
    model, w = load_onnx(reader(name, **attrs).SerializeToString()), weights(name)
    x = np.random.default_rng(9).standard_normal((3, 1, 8, 20)).astype(np.float32)
    features = np.maximum(fc.functional.conv2d(x.astype(np.float64), w["conv"]), 0)[:, :, 0].transpose(2, 0, 1)
    inputs = [features, w["w"], w["r"], w["b"], None, None]
    settings = {"direction": "bidirectional", "layout": 0, "clip": None, "output": 0, "input_forget": 0, **attrs}
    both = definition(name, inputs, settings)
    expected = both.transpose(2, 0, 1, 3).reshape(3, 18, -1) @ w["fc"]
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model(x[:1]), expected[:1], rtol=1e-4, atol=1e-5)
    assert {"w", "r", "b"} <= set(model.state_dict())
    model.save(tmp_path / "net.safetensors")
    assert (fc.load(tmp_path / "net.safetensors")(x) == model(x)).all()
    model.export_onnx(tmp_path / "again.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "again.onnx"), full_check=True)
    assert (fc.load(tmp_path / "again.onnx")(x) == model(x)).all()


def test_activations_of_a_recurrent_network_are_saved(tmp_path):
    """They are a list of texts."""
    model = load_onnx(reader("GRU", activations=["HardSigmoid", "Softsign"] * 2).SerializeToString())
    x = np.random.default_rng(9).standard_normal((2, 1, 8, 20)).astype(np.float32)
    model.save(tmp_path / "net.safetensors")
    model.export_onnx(tmp_path / "again.onnx")
    for name in ("net.safetensors", "again.onnx"):
        assert (fc.load(tmp_path / name)(x) == model(x)).all()


def test_an_unknown_activation_is_refused_with_the_file():
    content = reader("RNN", activations=["Sin", "Tanh"]).SerializeToString()
    with pytest.raises(ModelLoadError, match=r"'rnn' .*activation 'Sin', expected one of relu, tanh"):
        load_onnx(content)
