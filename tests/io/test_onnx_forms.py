"""Forms of ONNX files: channels last, several outputs, a last softmax, scales by channel; and exports of them."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx_builders as build
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from photo_folders import make_photos

import fastcnn as fc
from fastcnn.cli import main
from fastcnn.io.image import Preprocess, find_images
from fastcnn.training import Trainer

rng = np.random.default_rng(0)
W = rng.standard_normal((8, 3, 3, 3), np.float32)
V = 0.1 * rng.standard_normal((8, 2), np.float32)


def saved(path, nodes, shape, outputs=("y",), opset=17, **tensors):
    """Nodes are (operation, inputs, outputs, attributes)."""
    made = [helper.make_node(op, inputs, names, names[0], **attrs) for op, inputs, names, attrs in nodes]
    given = [build.tensor(name, array) for name, array in tensors.items()]
    values = [build.value(name, None) for name in outputs]
    onnx.save(build.model(made, [build.value("x", shape)], values, given, opset), path)
    return path


def channels_last(path, activation, shape=("N", 32, 48, 3)):
    nodes = [
        ("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "w"], ["c"], {}),
        (activation, ["c"], ["e"], {}),
        ("GlobalAveragePool", ["e"], ["p"], {}),
        ("Flatten", ["p"], ["f"], {}),
        ("MatMul", ["f", "v"], ["y"], {}),
    ]
    return saved(path, nodes, shape, w=W, v=V)


@pytest.mark.parametrize("activation", ["Relu", "Sin"])
@pytest.mark.parametrize("shape", [("N", 32, 48, 3), (1, 32, 48, 3), ("N", "H", "W", 3)])
def test_networks_with_channels_last_take_photos(activation, shape, tmp_path):
    model = fc.load(channels_last(tmp_path / "n.onnx", activation, shape))
    model.preprocess = Preprocess((32, 48))
    photos = list(rng.integers(0, 256, (6, 40, 50, 3), np.uint8))
    x = np.concatenate([model.preprocess(photo) for photo in photos])
    expected = model.predict_proba(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    np.testing.assert_array_equal(model.predict_proba(x), expected)
    best = model.classify(photos[1])
    assert [entry.index for entry in best] == expected[1].argsort()[::-1].tolist()
    assert best[0].probability == pytest.approx(expected[1].max())
    report = model.evaluate(photos, expected.argmax(1))
    assert report.accuracy == 1


def test_they_learn_from_photos_and_keep_their_shape(tmp_path):
    model = fc.load(channels_last(tmp_path / "n.onnx", "Relu"))
    model.preprocess = Preprocess((32, 48))
    photos = list(rng.integers(0, 256, (6, 40, 50, 3), np.uint8))
    history = model.fit(photos, np.arange(6) % 2, epochs=3, progress=False)
    assert history["loss"][-1] < history["loss"][0] and model.input_shape == (32, 48, 3)
    model.save(tmp_path / "n.safetensors")
    assert fc.load(tmp_path / "n.safetensors").classify(photos[0]) == model.classify(photos[0])


def test_commands_take_networks_with_channels_last(tmp_path, capsys):
    path, photos = channels_last(tmp_path / "n.onnx", "Relu"), make_photos(tmp_path / "photos", 3)
    labels = tmp_path / "labels.txt"
    labels.write_text("left side\nright side\n")
    options = ["--model", str(path), "--labels", str(labels), "--mean", "0.5", "--std", "0.5"]
    assert main(["classify", *options, "--json", str(photos)]) == 0
    model = fc.load(path)
    model.classes, model.preprocess = (
        ["left side", "right side"],
        Preprocess((32, 48), mean=(127.5,) * 3, std=(127.5,) * 3),
    )
    found = {entry["path"]: entry["predictions"][0] for entry in json.loads(capsys.readouterr().out)}
    for photo in find_images(photos):
        (best,) = model.classify(photo, 1)
        assert found[str(photo)]["label"] == best.label
        assert found[str(photo)]["probability"] == pytest.approx(best.probability, rel=1e-5)
    assert main(["evaluate", *options, "--json", str(photos)]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == model.evaluate(photos).accuracy


def test_one_of_several_outputs(tmp_path, capsys):
    nodes = [("Conv", ["x", "w"], ["c"], {}), ("Sin", ["c"], ["y"], {})]
    path, x = saved(tmp_path / "n.onnx", nodes, ["N", 3, 8, 8], ("y", "c"), w=W), rng.random((2, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(fc.load(path, output="y")(x), np.sin(fc.load(path, output="c")(x)))
    with pytest.raises(fc.ModelLoadError, match=r"2 outputs \(y, c\): choose one by output='y' .*--output"):
        fc.load(path)
    with pytest.raises(fc.ModelLoadError, match="output='z', expected one of y, c"):
        fc.load(path, output="z")
    target = tmp_path / "n.safetensors"
    assert main(["convert", str(path), str(target), "--output", "c"]) == 0
    np.testing.assert_array_equal(
        fc.load(target, output=fc.load(target).graph().outputs[0])(x), fc.load(path, output="c")(x)
    )
    with pytest.raises(fc.ModelLoadError, match="output='z', expected .*, its only output"):
        fc.load(target, output="z")
    assert main(["info", str(path), "--output", "y"]) == 0
    assert "numpy" in capsys.readouterr().out
    assert main(["info", "lenet", "--output", "y"]) == 2
    assert "lenet is a network of the zoo" in capsys.readouterr().err


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("activation", ["Relu", "Sin"])
def test_a_last_softmax_is_part_of_the_loss(softmax, activation, tmp_path):
    """The softmax of a softmax has hardly any gradient."""
    x, data = rng.standard_normal((64, 4), np.float32), np.random.default_rng(1)
    y = (x @ data.standard_normal((4, 4))).argmax(1)
    nodes = [(activation, ["x"], ["a"], {}), ("MatMul", ["a", "v"], ["y"], {})]
    if softmax:
        nodes = [*nodes[:1], ("MatMul", ["a", "v"], ["s"], {}), ("Softmax", ["s"], ["y"], {"axis": -1})]
    weights = {"v": np.zeros((4, 4), np.float32)}
    model = fc.load(saved(tmp_path / "n.onnx", nodes, ["N", 4], **weights))
    trainer = Trainer(model, fc.training.SGD(1.0))
    losses = [trainer.step(x, y) for _ in range(100)]
    plain = fc.Sequential(fc.Linear(4, 4, bias=False))
    plain[0].weight = np.zeros((4, 4), np.float32)
    reference = Trainer(plain, fc.training.SGD(1.0))
    changed = np.maximum(x, 0) if activation == "Relu" else np.sin(x)
    expected = [reference.step(changed, y) for _ in range(100)]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_a_scale_for_each_channel_of_large_weights(tmp_path):
    nodes = [("DequantizeLinear", ["q", "s"], ["w"], {"axis": 0}), ("Conv", ["x", "w"], ["y"], {})]
    scales = np.ones(512, np.float32)
    path = saved(tmp_path / "n.onnx", nodes, [1, 256, 7, 7], q=np.ones((512, 256, 1, 1), np.int8), s=scales)
    assert (fc.load(path, max_bytes=64 << 20)(np.ones((1, 256, 7, 7), np.float32)) == 256).all()


@pytest.mark.parametrize("output", ["y", "m"])
def test_batch_normalisation_in_training_mode(output, tmp_path):
    """Some readers refuse it with one output, and compute other values where two of three are left unread."""
    nodes = [("BatchNormalization", ["x", "a", "b", "m0", "v0"], ["y", "m", "s"], {"training_mode": 1})]
    constants = {name: rng.uniform(0.5, 2, 3).astype(np.float32) for name in ("a", "b", "m0", "v0")}
    path = saved(tmp_path / "n.onnx", nodes, [4, 3, 8, 8], ("y", "m"), opset=15, **constants)
    model = fc.load(path, output=output)
    model.export_onnx(tmp_path / "o.onnx")
    written = [node for node in onnx.load(tmp_path / "o.onnx").graph.node if node.op_type == "BatchNormalization"]
    assert [len(node.output) for node in written] == ([] if output == "y" else [3])
    x = rng.standard_normal((4, 3, 8, 8), np.float32)
    (expected,) = ReferenceEvaluator(str(path)).run([output], {"x": x})
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    (again,) = ReferenceEvaluator(str(tmp_path / "o.onnx")).run(None, {"x": x})
    np.testing.assert_allclose(again, expected, rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "n.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "n.safetensors")(x), model(x))


@pytest.mark.parametrize("rank", [4, 5])
def test_ties_of_nearest_neighbours_go_where_pytorch_has_them(rank, tmp_path):
    """PyTorch writes the scale as a float, and computes floor(i * float32(26 / 44)): 12, not 13, for i = 22."""
    for length, size, place, expected in ((26, 64, 32, 13), (26, 44, 22, 12), (28, 46, 23, 13)):
        scales = np.array([1] * (rank - 1) + [size / length], np.float32)
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        shape = [1] * (rank - 1) + [length]
        model = fc.load(saved(tmp_path / "n.onnx", [("Resize", ["x", "", "s"], ["y"], how)], shape, s=scales))
        y = model(np.arange(length, dtype=np.float32).reshape(shape))
        step = np.float32(length / size)
        np.testing.assert_array_equal(y.ravel(), np.floor(np.arange(size, dtype=np.float32) * step))
        assert y.ravel()[place] == expected
