"""Cross-validation: a model trained anew for each part of the data, and examined on that part."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn._arguments import as_int, as_seed
from fastcnn._table import Columns
from fastcnn.network import Network
from fastcnn.training.begin import fit, without_unreadable
from fastcnn.training.data import SPLIT, Dataset, random_of
from fastcnn.training.examine import examine
from fastcnn.training.options import Options
from fastcnn.training.prepare import prepare
from fastcnn.training.report import Report

__all__ = ["Folds", "cross_validate", "folds_of"]


@dataclass(frozen=True)
class Folds:
    """What `Model.cross_validate` returns; ``print`` shows it as text.

    Attributes
    ----------
    reports : list of Report
        On each part.

    Examples
    --------
    >>> from fastcnn.training.report import report
    >>> parts = [report(np.array([[0.9, 0.1], [1 - p, p]]), np.array([0, 1])) for p in (0.2, 0.9)]
    >>> print(Folds(parts))
    part  inputs  accuracy    loss
       1       2    50.0 %  0.8574
       2       2   100.0 %  0.1054
    accuracy 75.0 % (± 35.4)
    """

    reports: list[Report]

    @property
    def accuracies(self) -> list[float]:
        """The accuracy on each part."""
        return [report.accuracy for report in self.reports]

    @property
    def accuracy(self) -> float:
        """Their mean."""
        return float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float:
        """Their standard deviation, from one part to another."""
        return float(np.std(self.accuracies, ddof=1))

    def __str__(self) -> str:
        rows = [("part", "inputs", "accuracy", "loss")]
        rows += [
            (str(i), str(report.count), f"{100 * report.accuracy:.1f} %", f"{report.loss:.4g}")
            for i, report in enumerate(self.reports, 1)
        ]
        lines = [Columns.around(rows).line(row) for row in rows]
        return "\n".join([*lines, f"accuracy {100 * self.accuracy:.1f} % (± {100 * self.deviation:.1f})"])


def folds_of(labels: np.ndarray, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions to learn from and to validate with, for each part; all parts have the same size.

    Parameters
    ----------
    labels : ndarray
        (N,) numbers of classes, of which each part has the same shares, as nearly as it goes; others do not matter.
    count : int
        From 2 to N.
    seed : int

    Examples
    --------
    >>> [validate.tolist() for _, validate in folds_of(np.array([0, 0, 1, 1]), 2, 0)]
    [[0, 2], [1, 3]]
    """
    count = as_int(count, "cross_validate: folds", 2)
    if count > len(labels):
        raise ValueError(f"cross_validate: folds={count} of {len(labels)} inputs, expected at most as many")
    rng = random_of(as_seed(seed, "cross_validate: seed"), SPLIT)
    order = rng.permutation(len(labels))
    if labels.ndim == 1:
        order = order[np.argsort(labels[order], kind="stable")]
    part = np.empty(len(labels), np.int64)
    part[order] = np.arange(len(labels)) % count  # neighbours, of one class, go to different parts
    for i in range(count):
        yield np.flatnonzero(part != i), np.flatnonzero(part == i)


def cross_validate(
    model: Network, x: Any, y: Any, folds: int, seed: int, settings: Mapping[str, Any] | None = None
) -> Folds:
    """Train and examine a copy of the model for each part; see `Model.cross_validate`."""
    options = Options(seed=seed, **(settings or {}))
    if options.validation is not None or options.checkpoint is not None:
        raise ValueError("cross_validate: validation and checkpoint are not for several trainings")
    first = copy.deepcopy(model)
    data = prepare(first, x, y)
    if not isinstance(data, Dataset):
        raise ValueError("cross_validate: x is an iterable of batches, expected inputs that can be divided")
    data = without_unreadable(first, data, options)
    reports = []
    for learn, validate in folds_of(data.labels, folds, seed):
        trained = copy.deepcopy(first)
        fit(trained, data.subset(learn), None, options)
        reports.append(examine(trained, data.subset(validate), None, options.batch_size, options.workers))
    return Folds(reports)
