"""The report of an evaluation: accuracy, scores of each class, confusion matrix, worst mistakes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn._figure import drawn
from fastcnn._table import Columns, as_html
from fastcnn.training.calibration import Calibration, calibration_of

__all__ = ["MOST_MISTAKES", "ClassScore", "Mistake", "Report", "mean_surprise", "report", "scores_of_classes", "share"]

MOST_MISTAKES = 10
_AT_A_TIME = 4096  # inputs that are ranked
_WIDEST_TABLE = 20  # classes whose confusion matrix fits on a screen


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised.

    Attributes
    ----------
    label : str
    precision : float
        Share of the predictions of this class that are right; 0 where there are none.
    recall : float
        Share of the inputs of this class that are predicted as it; 0 where there are none.
    f1 : float
        Harmonic mean of precision and recall.
    count : int
        Inputs of this class.
    """

    label: str
    precision: float
    recall: float
    f1: float
    count: int


@dataclass(frozen=True)
class Mistake:
    """An input whose predicted label is not its true label.

    Attributes
    ----------
    name : str
        File of the input, or its number.
    label, predicted : str
        The true and the predicted label.
    probability : float
        Of the predicted class.
    """

    name: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Report:
    """What `Model.evaluate` returns; ``print`` shows it as text.

    Parameters
    ----------
    count : int
        Number of inputs.
    accuracy : float
        Share of the inputs whose predicted label is the true label.
    loss : float
        Mean cross-entropy.
    scores : list of ClassScore
    confusion : list of list of int
        ``confusion[i][j]`` is the number of inputs with true label i and predicted label j.
    mistakes : list of Mistake
        The ten mistakes with the highest probability, the highest first.
    top5_accuracy : float, or None
        Share of the inputs whose true label is among the five most probable; None of five classes or fewer.
    calibration : Calibration, or None
        Whether predictions are right as often as their probability says.

    Examples
    --------
    >>> import fastcnn as fc
    >>> model = fc.Sequential(fc.Linear(1, 2))
    >>> model[0].weight, model[0].bias = [[-1], [1]], [0, 0]
    >>> report = model.evaluate([[-3], [3], [4]], [0, 1, 0])
    >>> report.confusion, report.to_dict()["count"]
    ([[1, 1], [0, 1]], 3)
    >>> len(report.plot().axes), len(report.plot_calibration().axes)
    (1, 1)
    """

    count: int
    accuracy: float
    loss: float
    scores: list[ClassScore]
    confusion: list[list[int]]
    mistakes: list[Mistake]
    top5_accuracy: float | None = None
    calibration: Calibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain numbers, strings, lists and dicts, for `json.dump`.

        Returns
        -------
        dict
        """
        from dataclasses import asdict

        return asdict(self)

    def __str__(self) -> str:
        columns, table = self._score_table("class")
        top5 = "" if self.top5_accuracy is None else f"top-5 accuracy {100 * self.top5_accuracy:.1f} %, "
        lines = [f"accuracy {100 * self.accuracy:.1f} % of {self.count}, {top5}loss {self.loss:.4g}", "", *table]
        if len(self.scores) <= _WIDEST_TABLE:
            lines += ["", *self._confusion_lines(columns.widths[0])]
        return "\n".join([*lines, *self._calibration_lines(), *self._mistake_lines()])

    def _calibration_lines(self) -> list[str]:
        return [] if self.calibration is None else ["", *str(self.calibration).splitlines()]

    def _score_table(self, title: str) -> tuple[Columns, list[str]]:
        rows = [(title, "precision", "recall", "   f1", "count")]
        rows += [
            (s.label, f"{100 * s.precision:.1f} %", f"{100 * s.recall:.0f} %", f"{s.f1:.3f}", str(s.count))
            for s in self.scores
        ]
        columns = Columns.around(rows, left={0})
        return columns, [columns.line(row) for row in rows]

    def _mistake_lines(self) -> list[str]:
        if not self.mistakes:
            return []
        told = [
            f"{100 * m.probability:5.1f} %  {m.name}: true {m.label}, predicted {m.predicted}" for m in self.mistakes
        ]
        return ["", "worst mistakes", *told]

    def _confusion_lines(self, width: int) -> list[str]:
        classes = range(1, len(self.scores) + 1)
        cell = max(3, *(len(str(number)) for row in self.confusion for number in row))
        columns = Columns([3, width, *(cell for _ in classes)], left={1}, gap=" ")
        lines = [
            "confusion matrix: rows are true labels, columns are predicted labels",
            columns.line(["", "", *map(str, classes)]),
        ]
        for i, score, row in zip(classes, self.scores, self.confusion, strict=True):
            lines.append(columns.line([str(i), score.label, *(str(n or ".") for n in row)]))
        return lines

    def _repr_html_(self) -> str:
        return as_html(self) + ("" if self.calibration is None else self.calibration._repr_html_())

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the confusion matrix.

        Parameters
        ----------
        path : path-like, optional
            Image to write; the suffix (.png, .svg, .pdf) names the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib, which ``pip install "fastcnn[plot]"`` brings.
        """
        side = 3 + 0.4 * len(self.scores)
        return drawn("Report.plot", (side, side), self._draw, path)

    def plot_calibration(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the reliability diagram: the accuracy of predictions, by their confidence.

        Parameters
        ----------
        path : path-like, optional
            Image to write; the suffix (.png, .svg, .pdf) names the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib, which ``pip install "fastcnn[plot]"`` brings.
        """
        calibration = self.calibration or Calibration(0.0, [])
        return drawn("Report.plot_calibration", (4, 4), calibration.draw, path)

    def _draw(self, figure: Any) -> None:
        labels = [score.label for score in self.scores]
        axes = figure.add_subplot()
        matrix = np.array(self.confusion)
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(labels) <= _WIDEST_TABLE:
            for (i, j), number in np.ndenumerate(matrix):
                axes.text(j, i, str(number), ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black")
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_yticks(range(len(labels)), labels)
        title = f"Confusion matrix: accuracy {100 * self.accuracy:.1f} % of {self.count}"
        axes.set(xlabel="predicted label", ylabel="true label", title=title)


def report(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str] | None = None, names: Sequence[str] = ()
) -> Report:
    """Compare predicted labels with true labels.

    Parameters
    ----------
    probabilities : ndarray (N, classes)
    labels : ndarray (N,) of int
        True labels, as numbers of the classes.
    classes : sequence of str, optional
        Names of the classes.
    names : sequence of str, optional
        Names of the inputs; by default their numbers.

    Returns
    -------
    Report

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    >>> print(report(probabilities, np.array([0, 1, 1]), ["cat", "dog"]))
    accuracy 66.7 % of 3, loss 0.6905
    <BLANKLINE>
    class  precision  recall     f1  count
    cat       50.0 %   100 %  0.667      1
    dog      100.0 %    50 %  0.667      2
    <BLANKLINE>
    confusion matrix: rows are true labels, columns are predicted labels
                1   2
      1 cat     1   .
      2 dog     1   1
    <BLANKLINE>
    expected calibration error 40.0 %
     confidence    mean  accuracy  count
    67 to  73 %  70.0 %   100.0 %      1
    73 to  80 %  80.0 %     0.0 %      1
    87 to  93 %  90.0 %   100.0 %      1
    <BLANKLINE>
    worst mistakes
     80.0 %  1: true dog, predicted cat
    """
    count, number = probabilities.shape
    classes = [str(i) for i in range(number)] if classes is None else list(classes)
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((number, number), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    hits = confusion.diagonal()
    scores = scores_of_classes(classes, hits, confusion.sum(axis=0), confusion.sum(axis=1))
    certainty = probabilities[np.arange(count), predicted]
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-certainty[wrong], kind="stable")][:MOST_MISTAKES]
    mistakes = [
        Mistake(names[i] if len(names) else str(i), classes[labels[i]], classes[predicted[i]], float(certainty[i]))
        for i in wrong.tolist()
    ]
    loss = mean_surprise(probabilities[np.arange(count), labels])
    top5 = _top_accuracy(probabilities, labels, 5) if number > 5 else None
    calibration = calibration_of(certainty, predicted == labels)
    return Report(count, share(hits.sum(), count), loss, scores, confusion.tolist(), mistakes, top5, calibration)


def _top_accuracy(probabilities: np.ndarray, labels: np.ndarray, top: int) -> float:
    """Return the share of the inputs whose label is among the `top` most probable; of equal ones the first count."""
    hits = 0
    for start in range(0, len(labels), _AT_A_TIME):
        rows, own = probabilities[start : start + _AT_A_TIME], labels[start : start + _AT_A_TIME, None]
        likely = np.take_along_axis(rows, own, axis=1)
        before = (rows > likely) | ((rows == likely) & (np.arange(rows.shape[1]) < own))
        hits += int((before.sum(axis=1) < top).sum())
    return share(hits, len(labels))


def scores_of_classes(
    classes: Sequence[str], hits: np.ndarray, predicted: np.ndarray, true: np.ndarray
) -> list[ClassScore]:
    """Return the score of each class, from its numbers of right predictions, of predictions and of inputs."""
    return [
        ClassScore(label, share(hit, given), share(hit, count), share(2 * hit, given + count), int(count))
        for label, hit, given, count in zip(classes, hits, predicted, true, strict=True)
    ]


def mean_surprise(probabilities: np.ndarray) -> float:
    """Return the mean of -log of the probabilities that the true labels had; of 0, as of the smallest float32."""
    return float(-np.log(np.maximum(probabilities.astype(np.float64), np.finfo(np.float32).tiny)).mean())


def share(part: float, total: float) -> float:
    """Return part / total, 0 of nothing.

    Examples
    --------
    >>> share(1, 4), share(0, 0)
    (0.25, 0.0)
    """
    return float(part / total) if total else 0.0
