"""One class, several labels, or yes and no: what a network learns, tells, and is examined on."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

import fastcnn as fc
from fastcnn.cli import main
from fastcnn.graph.ir import Graph, Node
from fastcnn.model import GraphModel
from fastcnn.training.label_report import LabelReport

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 6)).astype(np.float32)
TRUTH = (RNG.standard_normal((6, 3)).T @ X.T).T > 0  # three labels, each told apart by a plane
LABELS = ["bright", "large", "round"]


def network(outputs, *end):
    return fc.Sequential(fc.Linear(6, 16, rng=0), fc.ReLU(), fc.Linear(16, outputs, rng=1), *end)


@pytest.mark.parametrize("end", [[], [fc.Sigmoid()], [fc.Sigmoid(), fc.Flatten()]])
def test_several_labels_end_to_end(end, tmp_path):
    model = network(3, *end)
    names = [[label for label, has in zip(LABELS, row, strict=True) if has] for row in TRUTH]
    history = model.fit(
        X, names, 60, validation=(X, TRUTH.astype(int)), optimizer=fc.Adam(0.02), loss="binary_cross_entropy"
    )
    assert history["accuracy"][-1] > 0.85 and history["validation_accuracy"][-1] > 0.85
    assert history["validation_loss"][-1] < 0.2
    assert (model.task, model.classes) == ("multi_label", LABELS)
    probabilities = model.predict_proba(X)
    scores = model(X)
    np.testing.assert_allclose(probabilities, scores if end else fc.functional.sigmoid(scores), rtol=1e-6)
    assert (model.predict(X) == TRUTH).all(axis=1).mean() > 0.85
    for suffix in ("safetensors", "onnx"):
        model.save(tmp_path / f"m.{suffix}")
        again = fc.load(tmp_path / f"m.{suffix}")
        assert (again.task, again.classes) == ("multi_label", LABELS)
        np.testing.assert_allclose(again.predict_proba(X), probabilities, rtol=1e-5)
    report = model.evaluate(X, names)
    assert isinstance(report, LabelReport) and report.accuracy == history["validation_accuracy"][-1]
    assert report.loss == pytest.approx(history["validation_loss"][-1], rel=1e-4)
    assert [sum(row) for row in report.confusion] == [200] * 3
    assert [score.count for score in report.scores] == TRUTH.sum(axis=0).tolist()
    assert "all labels right" in str(report) and report.to_dict()["accuracy"] == report.accuracy


@pytest.mark.parametrize("end", [[], [fc.Sigmoid()]])
def test_a_single_output_end_to_end(end, tmp_path):
    model = network(1, *end)
    names = np.where(TRUTH[:, 0], "yes", "no")
    history = model.fit(X, names, 40, validation=0.2, optimizer=fc.Adam(0.02), loss="binary_cross_entropy")
    assert history["accuracy"][-1] > 0.9 and history["validation_accuracy"][-1] > 0.8
    assert (model.task, model.classes) == ("binary", ["no", "yes"])
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (200, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert (model.predict(X) == names).mean() > 0.9
    for y in (names, TRUTH[:, 0].astype(int), TRUTH[:, :1].astype(float)):
        report = model.evaluate(X, y)
        assert report.accuracy == (model.predict(X) == names).mean() and np.sum(report.confusion) == 200
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "m.safetensors").predict(X), model.predict(X))


def test_a_network_of_general_operations_is_validated_by_the_scores_before_its_softmax():
    nodes = [
        Node("Gemm", "m", ("x", "w"), "s", {}),
        Node("ai.onnx::Softmax", "p", ("s",), "y", {"axis": -1}),
    ]
    weight = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    model = GraphModel(Graph(nodes, {"x": (None, 6)}, ["y"], {"w": weight}))
    y = np.arange(200) % 4
    history = model.fit(X, y, 1, 200, validation=(X, y), optimizer=fc.SGD(0.0))
    expected = -np.log(model.predict_proba(X)[np.arange(200), y]).mean()
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert history["validation_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_what_goes_into_a_last_softmax_is_trained():
    y = (X @ np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)).argmax(axis=1)
    losses, histories = [], []
    for end in ([], [fc.Softmax()]):
        model = network(4, *end)
        trainer = fc.Trainer(model, fc.SGD(0.5))
        losses.append([trainer.step(X, y) for _ in range(100)])
        histories.append(model.fit(X, y, 2, validation=0.2))
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
        assert model.task == "single_label"
    assert losses[0] == losses[1] and losses[0][-1] < 0.3
    np.testing.assert_allclose(histories[0]["validation_loss"], histories[1]["validation_loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("end", "loss", "wanted"),
    [(fc.Softmax(), "binary_cross_entropy", "cross_entropy"), (fc.Sigmoid(), "cross_entropy", "binary_cross_entropy")],
)
def test_a_last_function_of_another_loss_is_told(end, loss, wanted):
    with pytest.warns(fc.FastcnnWarning, match=f"ends in a .*, but {loss} takes scores: .*loss='{wanted}'"):
        network(3, end).fit(X, TRUTH.argmax(axis=1), 1, loss=loss)


def test_without_a_told_task_the_last_layer_tells():
    model = network(3, fc.Sigmoid())
    np.testing.assert_array_equal(model.predict_proba(X), model(X))
    assert model.predict(X).tolist() == model(X).argmax(axis=1).tolist()
    single = network(1, fc.Sigmoid())
    np.testing.assert_array_equal(single.predict_proba(X)[:, 1:], single(X))
    with pytest.raises(ValueError, match=r"or set Sequential\.task = 'binary'"):
        network(1).predict_proba(X)
    with pytest.raises(ValueError, match="task='regression', expected one of single_label, multi_label, binary"):
        model.task = "regression"


def test_a_task_follows_the_last_training():
    model = network(3)
    model.fit(X, TRUTH.astype(float), 1, loss="binary_cross_entropy")
    assert model.task == "multi_label"
    model[0].freeze()  # features are reused: another network is trained
    model.fit(X, TRUTH.argmax(axis=1), 2)
    assert model.task == "single_label"
    np.testing.assert_allclose(model.predict_proba(X), fc.functional.softmax(model(X)), rtol=1e-6)
    with pytest.raises(ValueError, match="evaluate: expected inputs with the number or name of one class each"):
        model.evaluate(X, TRUTH.astype(float))


@pytest.mark.parametrize("outputs", [1, 2])
def test_the_command_line_takes_every_task(outputs, tmp_path, capsys):
    """Dark and light photos, told apart by one output, or by one for each label."""
    for k, name in enumerate(("dark", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            pixels = np.random.default_rng(i).integers(0, 90, (8, 8, 3), dtype=np.uint8) + np.uint8(150 * k)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    model = fc.Sequential(fc.GlobalAvgPool2d(), fc.Flatten(), fc.Linear(3, outputs, rng=0))
    model.input_shape = (3, 8, 8)
    loss = "binary_cross_entropy"
    model.fit(tmp_path / "photos", epochs=40, loss=loss, optimizer=fc.Adam(0.1))
    model.save(tmp_path / "m.safetensors")
    for command in (["classify", str(tmp_path / "photos" / "light" / "0.png")], ["evaluate", str(tmp_path / "photos")]):
        assert main([*command, "--model", str(tmp_path / "m.safetensors")]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].endswith("%  light") and "accuracy 100.0 % of 8" in told[4 - outputs]
    assert main(["info", str(tmp_path / "m.safetensors")]) == 0
    assert f"task: {'binary' if outputs == 1 else 'multi label'}\n" in capsys.readouterr().out


def test_labels_that_a_loss_cannot_mean_are_refused():
    with pytest.raises(ValueError, match="CrossEntropy: one score, whose softmax is always 1"):
        network(1).fit(X, np.zeros(200, int), 1)
    with pytest.raises(ValueError, match="BinaryCrossEntropy: y from 0 to 2, expected 0 to 1"):
        network(1).fit(X, np.arange(200) % 3, 1, loss="binary_cross_entropy")
    with pytest.raises(ValueError, match="y has the class 'blue', expected one of bright, large, round"):
        model = network(3)
        model.classes = LABELS
        model.fit(X, [["blue"]] * 200, 1, loss="binary_cross_entropy")


def test_no_warning_where_the_end_suits_the_loss():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(3, fc.Softmax()).fit(X, TRUTH.argmax(axis=1), 1)
        network(3, fc.Softmax()).fit(X, TRUTH.argmax(axis=1), 1, loss="mse")
