"""What people read: notebooks' HTML, titles and axes of pictures, and why kernels were not taken."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

import fastcnn as fc
from fastcnn.cli import main
from fastcnn.training import History
from fastcnn.training.report import report

X = np.random.default_rng(0).random((6, 1, 28, 28), np.float32)


def shown():
    model = fc.zoo.lenet(num_classes=2, rng=0)
    plain = fc.Sequential(fc.Linear(2, 2))
    odd = fc.Sequential(fc.Linear(2, 2))
    odd.input_shape = (1, 3, 3)
    return {
        "model": (model, "conv1"),
        "model without a shape": (plain, "Linear(in_features=2"),
        "model whose shape does not fit": (odd, "Linear(in_features=2"),
        "summary": (model.summary(), "parameters"),
        "profile": (model.profile(X, 1), "GFLOP/s"),
        "estimator": (fc.ImageClassifier(epochs=3), "ImageClassifier(epochs=3)"),
        "report": (report(np.eye(2), np.array([0, 1]), ["<b>", "c"]), "&lt;b&gt;"),
        "history": (History(loss=[1.0]), "<th>loss</th>"),
    }


@pytest.mark.parametrize("name", list(shown()))
def test_notebooks_show_html(name):
    thing, text = shown()[name]
    assert text in thing._repr_html_() and "<b>" not in thing._repr_html_()


@pytest.mark.parametrize("epochs", [1, 2, 3, 30])
def test_epochs_are_whole_numbers_on_the_axis(epochs):
    history = History(loss=[1.0] * epochs, accuracy=[0.5] * epochs, learning_rate=[0.1] * epochs)
    figure = history.plot()
    figure.canvas.draw()
    assert [axes.get_title() for axes in figure.axes] == ["Loss", "Accuracy", "Learning rate"]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks and all(tick == int(tick) for tick in ticks)


def test_a_confusion_matrix_names_true_and_predicted_labels():
    found = report(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]), ["cat", "dog"])
    figure = found.plot()
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted label", "true label")
    assert axes.get_title() == "Confusion matrix: accuracy 50.0 % of 2"
    assert "true dog, predicted cat" in str(found)


def test_a_verbose_summary_tells_why_kernels_were_not_taken(capsys):
    model = fc.zoo.lenet(num_classes=2)
    reasons = next(row.reasons for row in model.summary().rows if row.name == "conv1")
    text = str(model.summary(verbose=True))
    assert reasons and all(f"  not {name}: {reason}" in text for name, reason in reasons.items())
    assert "not taken" not in str(model.summary())
    assert "none: no layer" in str(fc.Sequential(fc.ReLU()).summary((3,), verbose=True))
    assert main(["info", "lenet", "--verbose"]) == 0
    assert "  not winograd: " in capsys.readouterr().out
