"""The `onnx` package's own tests, of every operator that is imported; the page of the documents that tells so; and its
light models with random weights against float64."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_backend
import onnx_builders as build
import pytest

import fastcnn
from fastcnn import ops
from fastcnn.io.onnx_import import read_onnx
from fastcnn.ops.budget import Budget

LIGHT = onnx_backend.DATA / "light"
PUSH, NIGHTLY = (
    ("squeezenet", "shufflenet"),
    (
        "bvlc_alexnet",
        "densenet121",
        "inception_v1",
        "inception_v2",
        "resnet50",
        "vgg19",
        "zfnet512",
    ),
)


def test_all_claimed_operators_pass_and_the_page_tells_what_does_not():
    passed, skipped, failures = onnx_backend.run_all()
    assert not failures, "\n".join(failures)
    assert passed > 1000
    text = onnx_backend.PAGE.read_text(encoding="utf-8")
    if f"with onnx {onnx.__version__}." in text:
        assert text == onnx_backend.page(skipped, passed), "run python tests/onnx_backend.py"


def float64(graph, x):
    """The graph's outputs in float64: every operation by its definition in NumPy."""
    values = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in graph.constants.items()
    }
    values |= dict.fromkeys(graph.inputs, x.astype(np.float64))
    for node in graph.nodes:
        inputs = [values[name] if name else None for name in node.inputs]
        values[node.output] = ops.get(node.op).evaluate(node.attrs, inputs, Budget(1 << 32))
    return [values[name] for name in graph.outputs]


@pytest.mark.parametrize("name", PUSH + NIGHTLY)
def test_light_models_agree_with_float64(name, tmp_path, request):
    if name in NIGHTLY and not request.config.getoption("--nightly"):
        pytest.skip("large: with --nightly")
    model = build.with_random_weights(onnx.load(LIGHT / f"light_{name}.onnx"))
    if model.graph.node[-1].op_type == "Softmax":  # which would hide differences
        model.graph.output[0].name = model.graph.node[-1].input[0]
        del model.graph.node[-1]
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    loaded = fastcnn.load(path)
    x = np.random.default_rng(1).random((2, *loaded.input_shape), np.float32)[: 1 if name in NIGHTLY else 2]
    got = loaded(x)
    (first,) = float64(read_onnx(path).graph, x[:1])
    scale = np.abs(first).max()
    assert np.abs(got[:1].reshape(first.shape) - first).max() <= 1e-4 * scale
    kernels = {step.kernel for step in loaded.profile(x[:1], 1).steps}
    assert "numpy" not in kernels
