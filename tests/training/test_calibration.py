"""Top-5 accuracy and calibration in reports: as numbers, text, JSON and pages."""

from __future__ import annotations

import json

import numpy as np
import pytest
from photo_folders import make_photos, train

from fastcnn.cli import main
from fastcnn.training.calibration import calibration_of
from fastcnn.training.label_report import report_of_labels
from fastcnn.training.report import Report, report

RNG = np.random.default_rng(0)


def expected_error(confidence, is_right, bins=15):
    """Guo et al. (2017), equations 2 and 3, word by word."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            total += inside.sum() / len(confidence) * abs(is_right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("power", [0.5, 1, 3])
def test_the_error_is_that_of_the_paper(power):
    confidence = RNG.random(5000)
    is_right = RNG.random(5000) < confidence**power
    found = calibration_of(confidence, is_right)
    assert found.error == pytest.approx(expected_error(confidence, is_right), rel=1e-9)
    assert sum(b.count for b in found.bins) == 5000 and len(found.bins) == 15
    for b in found.bins:
        inside = (confidence > b.low) & (confidence <= b.high)
        assert (b.count, b.accuracy) == (inside.sum(), pytest.approx(is_right[inside].mean()))
        assert b.confidence == pytest.approx(confidence[inside].mean())
    told = str(found).splitlines()
    assert ("too sure" in told[0], "not sure enough" in told[0]) == (power > 1, power < 1) and len(told) == 17


@pytest.mark.parametrize("value", [0.0, 1 / 15, np.float32(0.2), np.float32(0.8), 1.0])
def test_a_limit_belongs_to_the_bin_below(value):
    (only,) = calibration_of(np.array([value]), np.array([True])).bins
    assert only.low <= value <= only.high + 1e-6 and (value == 0 or only.high == pytest.approx(value))


@pytest.mark.parametrize("classes", [5, 6, 30])
def test_top_5_where_there_are_more_classes(classes):
    scores = np.round(RNG.random((9000, classes)), 1)  # with many equal ones
    labels = RNG.integers(0, classes, 9000)
    found = report(scores / scores.sum(axis=1, keepdims=True), labels)
    assert ("top-5 accuracy" in str(found)) == (classes > 5)
    if classes == 5:
        assert found.top5_accuracy is None and json.loads(json.dumps(found.to_dict()))["top5_accuracy"] is None
        return
    best = np.argsort(-scores / scores.sum(axis=1, keepdims=True), axis=1, kind="stable")[:, :5]
    expected = (best == labels[:, None]).any(axis=1).mean()
    assert found.top5_accuracy == pytest.approx(expected) and found.accuracy < expected < 1
    assert f"% of 9000, top-5 accuracy {100 * expected:.1f} %, loss" in str(found)


def test_labels_are_calibrated_by_what_is_said_of_each():
    probabilities, truth = RNG.random((400, 3)), RNG.random((400, 3)) < 0.5
    found = report_of_labels(probabilities, truth)
    confidence = np.maximum(probabilities, 1 - probabilities).ravel()
    error = expected_error(confidence, ((probabilities > 0.5) == truth).ravel())
    assert found.calibration.error == pytest.approx(error) and found.top5_accuracy is None
    assert f"expected calibration error {100 * error:.1f} %" in str(found)


def test_a_report_shows_its_reliability_diagram(tmp_path):
    found = report(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), np.array([0, 1, 1]))
    again = json.loads(json.dumps(found.to_dict()))["calibration"]
    assert again["error"] == pytest.approx(0.4)
    assert [round(b["confidence"], 3) for b in again["bins"]] == [0.7, 0.8, 0.9]
    assert [b["accuracy"] for b in again["bins"]] == [1, 0, 1]
    page = found._repr_html_()
    assert page.count("<rect") == 3 and "calibration error 40.0 %" in page and "Reliability diagram" in page
    figure = found.plot_calibration(tmp_path / "c.png")
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("confidence", "accuracy") and (tmp_path / "c.png").exists()
    bare = Report(1, 1.0, 0.0, found.scores, found.confusion, [])
    assert "calibration" not in str(bare) and "<svg" not in bare._repr_html_()


def test_the_command_writes_it_as_text_json_and_page(tmp_path, capsys):
    photos, model, page = make_photos(tmp_path / "<photos>", 6), str(tmp_path / "m"), tmp_path / "report.html"
    assert main(train(photos, model)) == 0
    capsys.readouterr()
    command = ["evaluate", "--model", model, str(photos)]
    assert main([*command, "--page", str(page)]) == 0
    assert "expected calibration error" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "<svg" in text and "confusion matrix" in text and "&lt;photos&gt;" in text and "<photos>" not in text
    assert "src=" not in text and "href=" not in text
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sum(b["count"] for b in told["calibration"]["bins"]) == 12
    assert main([*command, "--page", str(tmp_path / "no" / "r.html")]) == 2
    assert "there is no folder" in capsys.readouterr().err
