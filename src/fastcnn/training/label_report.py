"""How well a network does that gives each input any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.training.calibration import calibration_of
from fastcnn.training.report import MOST_MISTAKES, Mistake, Report, mean_surprise, scores_of_classes, share

__all__ = ["LabelReport", "report_of_labels"]


@dataclass(frozen=True)
class LabelReport(Report):
    """A `Report` of independent labels, each given where its probability is above one half.

    Attributes
    ----------
    accuracy : float
        Share of the inputs all of whose labels are right.
    loss : float
        Mean binary cross-entropy.
    confusion : list of list of int
        For each label the numbers of true negatives, false positives, false negatives and true positives.
    mistakes : list of Mistake
        Labels given or left out wrongly, most certain first.
    top5_accuracy : None
    calibration : Calibration
        Of each label of each input; the confidence is the probability that it is given, or is not.
    """

    def __str__(self) -> str:
        _, table = self._score_table("label")
        lines = [f"all labels right {100 * self.accuracy:.1f} % of {self.count}, loss {self.loss:.4g}", "", *table]
        return "\n".join([*lines, *self._calibration_lines(), *self._mistake_lines()])

    def _draw(self, figure: Any) -> None:
        axes = figure.add_subplot()
        places = np.arange(len(self.scores))
        axes.barh(places - 0.2, [s.precision for s in self.scores], 0.4, label="precision")
        axes.barh(places + 0.2, [s.recall for s in self.scores], 0.4, label="recall")
        axes.set_yticks(places, [s.label for s in self.scores])
        axes.set(xlim=(0, 1), title=f"all labels right: {100 * self.accuracy:.1f} % of {self.count}")
        axes.legend()


def report_of_labels(
    probabilities: np.ndarray, truth: np.ndarray, classes: Sequence[str] | None = None, names: Sequence[str] = ()
) -> LabelReport:
    """Compare probabilities of labels with the truth.

    Parameters
    ----------
    probabilities : ndarray (N, labels)
    truth : ndarray (N, labels) of bool
    classes : sequence of str, optional
        Names of the labels.
    names : sequence of str, optional
        What the inputs are called; their numbers by default.

    Returns
    -------
    LabelReport

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.2], [0.8, 0.7]])
    >>> print(report_of_labels(probabilities, np.array([[True, False], [False, True]]), ["cat", "dog"]))
    all labels right 50.0 % of 2, loss 0.5737
    <BLANKLINE>
    label  precision  recall     f1  count
    cat       50.0 %   100 %  0.667      1
    dog      100.0 %   100 %  1.000      1
    <BLANKLINE>
    expected calibration error 25.0 %
     confidence    mean  accuracy  count
    67 to  73 %  70.0 %   100.0 %      1
    73 to  80 %  80.0 %    50.0 %      2
    87 to  93 %  90.0 %   100.0 %      1
    <BLANKLINE>
    worst mistakes
     80.0 %  1: true not cat, predicted cat
    """
    count, number = probabilities.shape
    classes = [str(i) for i in range(number)] if classes is None else list(classes)
    given = probabilities > 0.5
    both, taken, true = (given & truth).sum(axis=0), given.sum(axis=0), truth.sum(axis=0)
    scores = scores_of_classes(classes, both, taken, true)
    table = np.stack([count - taken - true + both, taken - both, true - both, both], axis=1)
    certainty = np.where(given, probabilities, 1 - probabilities)
    rows, labels = np.nonzero(given != truth)
    worst = np.argsort(-certainty[rows, labels], kind="stable")[:MOST_MISTAKES]
    mistakes = []
    for i, k in zip(rows[worst].tolist(), labels[worst].tolist(), strict=True):
        without, with_it = f"not {classes[k]}", classes[k]
        label, predicted = (without, with_it) if given[i, k] else (with_it, without)
        mistakes.append(Mistake(names[i] if len(names) else str(i), label, predicted, float(certainty[i, k])))
    loss = mean_surprise(np.where(truth, probabilities, 1 - probabilities))
    accuracy = share((given == truth).all(axis=1).sum(), count)
    calibration = calibration_of(certainty.ravel(), (given == truth).ravel())
    return LabelReport(count, accuracy, loss, scores, table.tolist(), mistakes, None, calibration)
