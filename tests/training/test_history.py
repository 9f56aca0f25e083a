"""Histories and reports: numbers against scikit-learn's, as text, HTML, JSON and pictures."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support

from fastcnn.training import History
from fastcnn.training.report import report

HISTORY = {
    "loss": [0.9, 0.5, 0.4], "accuracy": [0.5, 0.7, 0.8], "validation_loss": [0.8, 0.6, float("nan")],
    "validation_accuracy": [0.6, 0.7, 0.7], "learning_rate": [0.1, 0.1, 0.01],
}  # fmt: skip


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def text_of(html):
    parser = Balanced()
    parser.feed(html)
    assert not parser.open
    return parser.text


def test_history_is_a_dict():
    history = History(HISTORY)
    assert json.loads(json.dumps(history["loss"])) == HISTORY["loss"] and history.epochs == 3
    assert history.best() == 1 and history.best("validation_accuracy") == 1 and history.best("loss") == 2
    history.add(loss=np.float32(0.25))
    assert history["loss"][-1] == 0.25 and type(history["loss"][-1]) is float
    assert len(str(history).splitlines()) == 5 and "0.25" in str(history)
    assert "validation_loss" in text_of(history._repr_html_())
    assert str(History()) == "epoch" and History().epochs == 0
    with pytest.raises(ValueError, match="best: name=.validation_loss., expected"):
        History().best()


def example(seed=0, count=200, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes - 1, count)  # of the last class there is none
    scores = rng.random((count, classes)) + 0.7 * np.eye(classes)[labels]
    return scores / scores.sum(axis=1, keepdims=True), labels


def test_report_agrees_with_scikit_learn():
    probabilities, labels = example()
    predicted = probabilities.argmax(axis=1)
    result = report(probabilities, labels, ["a", "b", "c", "<d>"])
    assert result.accuracy == np.mean(predicted == labels) and result.count == 200
    assert result.confusion == confusion_matrix(labels, predicted, labels=range(4)).tolist()
    assert result.loss == pytest.approx(log_loss(labels, probabilities, labels=range(4)))
    expected = precision_recall_fscore_support(labels, predicted, labels=range(4), zero_division=0)
    ours = np.array([(s.precision, s.recall, s.f1, s.count) for s in result.scores])
    np.testing.assert_allclose(ours, np.transpose(expected))
    assert json.loads(json.dumps(result.to_dict()))["scores"][3]["label"] == "<d>"
    assert "<d>" in text_of(result._repr_html_())


def test_worst_mistakes_are_the_most_certain_ones():
    probabilities, labels = example()
    result = report(probabilities, labels, None, [f"{i}.jpg" for i in range(200)])
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:10]
    assert [mistake.name for mistake in result.mistakes] == [f"{i}.jpg" for i in worst]
    assert [mistake.label for mistake in result.mistakes] == [str(label) for label in labels[worst]]
    assert all(mistake.predicted != mistake.label for mistake in result.mistakes)
    perfect = report(np.eye(3), np.arange(3))
    assert not perfect.mistakes and "worst" not in str(perfect) and perfect.loss == 0
    assert "confusion" not in str(report(np.eye(30), np.arange(30)))  # wider than a screen


@pytest.mark.parametrize("make", [lambda: History(HISTORY), lambda: report(*example()), History])
def test_plots(make, tmp_path, monkeypatch):
    assert make().plot(tmp_path / "a.png") is not None
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "fastcnn\[plot\]"'):
        make().plot()
