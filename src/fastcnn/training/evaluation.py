"""Examining a model on data whose classes, or labels, are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn._progress import Progress
from fastcnn.network import Network
from fastcnn.training.data import Dataset
from fastcnn.training.label_report import report_of_labels
from fastcnn.training.predictions import predictions
from fastcnn.training.prepare import prepare
from fastcnn.training.report import Report, report

__all__ = ["evaluate"]


def evaluate(
    model: Network, x: Any, y: Any, batch_size: int, workers: int | None = None, progress: bool | None = None
) -> Report:
    """Compare predictions with what is known; see `Model.evaluate`."""
    data = prepare(model, x, y, adopt=False, parts=("test", "validation"))
    several = model.task == "multi_label"
    if not isinstance(data, Dataset) or (data.targets.ndim == 2 and data.targets.shape[1] > 1 and not several):
        raise ValueError("evaluate: expected inputs with the number or name of one class each")
    probabilities = []
    with Progress("evaluating", len(data), progress) as bar:
        for part in predictions(model, data, batch_size, workers):
            probabilities.append(part)
            bar.update(len(part))
    names = [data.source.name(index) for index in data.indices.tolist()]
    if several and data.targets.ndim == 2:
        return report_of_labels(np.concatenate(probabilities), data.labels > 0.5, model.classes, names)
    return report(np.concatenate(probabilities), data.labels.ravel().astype(np.int64), model.classes, names)
