"""How much inputs count in the loss: by themselves, and by their class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastcnn._arguments import as_float, as_real_array
from fastcnn.training.data import Dataset

__all__ = ["balanced", "class_weights", "weights_of_classes", "with_weights"]


def balanced(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return weights with which each class counts the same: scikit-learn's "balanced", inputs / (classes * count).

    Classes without inputs do not count as classes.

    Examples
    --------
    >>> balanced(np.array([0, 0, 0, 1]), 2)
    array([0.66666667, 2.        ])
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights: np.ndarray = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return weights


def class_weights(
    given: Any, classes: int, names: Sequence[str] | None, labels: np.ndarray | None = None
) -> np.ndarray:
    """Return the weight of each class.

    Parameters
    ----------
    given : "balanced", dict or sequence
        A dict is by number or name; classes that it has not weigh 1. A sequence has a weight for each class.
    classes : int
    names : sequence of str or None
    labels : ndarray (N,) of int, optional
        Which "balanced" needs.

    Raises
    ------
    ValueError, TypeError
        Naming what does not fit.

    Examples
    --------
    >>> class_weights({"dog": 3}, 2, ["cat", "dog"])
    array([1., 3.])
    """
    if isinstance(given, str):
        if given != "balanced":
            raise ValueError(f"class_weight={given!r}, expected 'balanced', a dict or a sequence of numbers")
        if labels is None:
            raise ValueError("class_weight='balanced', but an iterable does not tell its labels: give numbers")
        return balanced(labels, classes)
    if isinstance(given, Mapping):
        weights = np.ones(classes)
        known: dict[Any, int] = {name: i for i, name in enumerate(names or ())}
        known |= {i: i for i in range(classes)}
        for name, weight in given.items():
            if name not in known:
                expected = ", ".join((names or list(map(str, range(classes))))[:10])
                raise ValueError(f"class_weight has the class {name!r}, expected one of {expected}")
            weights[known[name]] = as_float(weight, f"class_weight[{name!r}]")
    else:
        weights = as_real_array(given, "class_weight").astype(np.float64)
        if weights.shape != (classes,):
            raise ValueError(f"class_weight.shape={weights.shape}, expected ({classes},), one number for each class")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("class_weight: expected numbers >= 0, not all of them zero")
    return weights


def weights_of_classes(targets: np.ndarray, weights: np.ndarray, others: np.ndarray | None) -> np.ndarray:
    """Return the weights of inputs by their classes, times others."""
    if targets.ndim != 1:
        raise ValueError("class_weight: expected the number or name of one class for each input, or sample_weight")
    of_inputs: np.ndarray = weights[targets]
    return of_inputs if others is None else of_inputs * others


def with_weights(
    data: Dataset, sample_weight: Any, class_weight: Any, classes: int, names: Sequence[str] | None
) -> Dataset:
    """Return the same data set, whose inputs count as told.

    Examples
    --------
    >>> with_weights(Dataset.of(np.zeros((3, 1)), [0, 1, 1]), [1, 2, 3], {1: 10}, 2, None).weights
    array([ 1., 20., 30.])
    """
    weights = None
    if sample_weight is not None:
        weights = as_real_array(sample_weight, "sample_weight").astype(np.float64)
        if weights.shape != (len(data.targets),):
            raise ValueError(f"sample_weight.shape={weights.shape}, expected ({len(data.targets)},), as inputs")
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ValueError("sample_weight: expected numbers >= 0, not all of them zero")
    if class_weight is not None:
        labels = data.labels if data.targets.ndim == 1 else None
        if labels is None and isinstance(class_weight, str):
            raise ValueError("class_weight='balanced': expected the number or name of one class for each input")
        weights = weights_of_classes(data.targets, class_weights(class_weight, classes, names, labels), weights)
    return data if weights is None else replace(data, weights=weights)
