"""Models from graphs learn: gradients of the operations that only they have, and the way there and back."""

from __future__ import annotations

import json

import numpy as np
import onnx_builders as build
import pytest
from training import network_of_pytorch
from training.networks import gradients, numeric, with_loss

import fastcnn as fc
from fastcnn.graph.ir import Graph, Node
from fastcnn.loading import GraphModel
from fastcnn.ops import get


def chained(steps):
    """Nodes of (operation, input, weight or "", attributes), each named as its operation, and by a number."""
    nodes, seen = [], {}
    for op, source, weight, attrs in steps:
        seen[op] = seen.get(op, 0) + 1
        name = f"{op}{seen[op]}" if seen[op] > 1 else op
        inputs = (source, weight) if weight else (source,)
        nodes.append(Node(op, name, inputs, name, {**get(op).defaults, **attrs}))
    return nodes


def shuffled():
    """Two grouped convolutions with a channel shuffle between them, and a part of their channels."""
    rng = np.random.default_rng(0)
    constants = {
        name: rng.standard_normal(shape).astype(np.float32) / 3
        for name, shape in (("a", (6, 3, 3, 3)), ("b", (8, 6, 1, 1)), ("c", (5, 45)))
    }
    steps = [
        ("Conv", "x", "a", {"group": 1}),
        ("Reshape", "Conv", "", {"shape": (0, 2, 3, -1)}),
        ("Transpose", "Reshape", "", {"perm": (0, 2, 1, 3)}),
        ("Reshape", "Transpose", "", {"shape": (-1, 6, 3, 3)}),
        ("Conv", "Reshape2", "b", {}),
        ("Slice", "Conv2", "", {"axis": 1, "start": 2, "end": 7}),
        ("Flatten", "Slice", "", {}),
        ("Gemm", "Flatten", "c", {}),
    ]
    return Graph(chained(steps), {"x": (None, 3, 5, 5)}, ["Gemm"], constants)


def normalised():
    """Two convolutions, each with a local response normalisation behind it, of an odd and of an even window."""
    rng = np.random.default_rng(2)
    constants = {
        name: rng.standard_normal(shape).astype(np.float32) / 3
        for name, shape in (("a", (11, 3, 3, 3)), ("b", (21, 11, 1, 1)), ("c", (5, 189)))
    }
    steps = [
        ("Conv", "x", "a", {}),
        ("LRN", "Conv", "", {"size": 5, "alpha": 0.9, "beta": 0.75, "bias": 1.0}),
        ("Relu", "LRN", "", {}),
        ("Conv", "Relu", "b", {}),
        ("LRN", "Conv2", "", {"size": 4, "alpha": 0.7, "beta": 0.6}),
        ("Flatten", "LRN2", "", {}),
        ("Gemm", "Flatten", "c", {}),
    ]
    return Graph(chained(steps), {"x": (None, 3, 5, 5)}, ["Gemm"], constants)


def between_depth_and_space():
    """Channels that become pixels, and pixels that become channels."""
    rng = np.random.default_rng(3)
    constants = {
        name: rng.standard_normal(shape).astype(np.float32) / 3
        for name, shape in (("a", (8, 3, 2, 2)), ("b", (4, 2, 1, 1)), ("c", (5, 256)))
    }
    steps = [
        ("Conv", "x", "a", {}),
        ("DepthToSpace", "Conv", "", {"blocksize": 2, "mode": "CRD"}),
        ("Conv", "DepthToSpace", "b", {}),
        ("SpaceToDepth", "Conv2", "", {"blocksize": 4, "mode": "DCR"}),
        ("Flatten", "SpaceToDepth", "", {}),
        ("Gemm", "Flatten", "c", {}),
    ]
    return Graph(chained(steps), {"x": (None, 3, 5, 5)}, ["Gemm"], constants)


def batch(n=4):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 3, 5, 5)).astype(np.float32), rng.integers(0, 5, n)


@pytest.mark.parametrize("network", [shuffled, normalised, between_depth_and_space])
def test_one_step_follows_the_definitions(network, isa, poisoned):
    graph, (x, y) = network(), batch()
    model = GraphModel(graph, frozenset())
    model.input_shape = (3, 5, 5)
    before = {name: np.array(array) for name, array in model.state_dict().items()}
    loss = fc.Trainer(model, fc.SGD(1.0)).step(x, y)
    learning = with_loss(network(), "CrossEntropy", (4, 5))
    learning.inputs["x"] = x.shape
    values = {"x": x, "target": np.eye(5)[y] / 4}
    expected_loss, expected = gradients(learning, values, "loss")
    assert abs(loss - expected_loss) <= 1e-6 * abs(expected_loss)
    for name, after in model.state_dict().items():
        assert np.abs(before[name] - after - expected[name]).max() <= 2e-6 * (1 + np.abs(after).max()), name
        index = tuple(size // 2 for size in after.shape)
        assert abs(expected[name][index] - numeric(learning, values, name, index, 1e-5)) <= 1e-6


def test_local_response_normalisation_learns_with_the_same_bits_for_any_threads(isa):
    trained, (x, y) = [], batch(8)
    for threads in (1, 2, 3):
        model = GraphModel(normalised(), frozenset())
        model.input_shape = (3, 5, 5)
        with fc.num_threads(threads):
            trainer = fc.Trainer(model, fc.SGD(0.02, momentum=0.9))
            losses = [trainer.step(x, y) for _ in range(20)]
        assert losses[-1] < 0.2 * losses[0]
        trained.append((losses, model.state_dict()))
    for losses, state in trained[1:]:
        assert losses == trained[0][0]
        assert all(np.array_equal(state[name], array) for name, array in trained[0][1].items())


def test_a_file_from_elsewhere_is_tuned_and_goes_back(tmp_path):
    pytest.importorskip("onnx")
    source = fc.Sequential(
        fc.Conv2d(3, 8, 3, padding=1, rng=0), fc.ReLU(), fc.MaxPool2d(2), fc.Flatten(), fc.Linear(32, 5, rng=1)
    )
    source.input_shape = (3, 5, 5)
    source.export_onnx(tmp_path / "source.onnx")
    model, (x, y) = fc.load(tmp_path / "source.onnx"), batch(8)
    trainer = fc.Trainer(model, fc.SGD(0.1, momentum=0.9))
    losses = [trainer.step(x, y) for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    model.export_onnx(tmp_path / "tuned.onnx")
    np.testing.assert_array_equal(fc.load(tmp_path / "tuned.onnx")(x), model(x))


def test_a_network_from_pytorch_is_tuned_as_there_and_goes_back(tmp_path):
    """Residual, batch and local response normalisation included: the outputs, the losses of 20 steps and the tuned
    outputs are PyTorch's; the file that is written gives the same here and in another engine."""
    pytest.importorskip("onnx")
    expected = json.loads(network_of_pytorch.NUMBERS.read_text())
    model, (training, images) = fc.load(network_of_pytorch.NETWORK), network_of_pytorch.batches()
    ops = [row.op for row in model.summary().rows]
    assert {"Conv", "BatchNormalization", "Relu", "MaxPool", "Add", "LRN", "Gemm"} <= set(ops)
    np.testing.assert_allclose(model(images), expected["outputs"], rtol=1e-5, atol=1e-5)
    trainer = fc.Trainer(model, fc.SGD(network_of_pytorch.RATE, momentum=network_of_pytorch.MOMENTUM))
    losses = [trainer.step(x, y) for x, y in training]
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-4)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    outputs = model(images)
    np.testing.assert_allclose(outputs, expected["trained"], rtol=1e-4, atol=1e-4)
    model.export_onnx(tmp_path / "tuned.onnx")
    np.testing.assert_allclose(fc.load(tmp_path / "tuned.onnx")(images), outputs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(build.in_another_engine(tmp_path / "tuned.onnx", images), outputs, rtol=1e-5, atol=1e-5)
