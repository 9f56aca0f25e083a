"""Losses: what a step minimises. Each checks labels and makes the matrix of targets that its kernel takes; the formulas
of the kernels, on scores and targets alone, are `fastcnn.reference`'s."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastcnn._arguments import as_array, as_choice, as_pair, as_real_array, as_share

__all__ = ["MSE", "BinaryCrossEntropy", "CrossEntropy", "Loss", "loss_of"]


class Loss:
    """Base of all losses.

    Attributes
    ----------
    op : str
        The operation of the training graph, from (scores, target) to a number.
    """

    op: str

    def target(self, y: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
        """The float32 matrix that the operation takes, for labels `y` of scores of a `shape` (N, classes)."""
        raise TypeError(f"{type(self).__name__} has no target method: use CrossEntropy, MSE or BinaryCrossEntropy")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if value is not None)
        return f"{type(self).__name__}({settings})"


class CrossEntropy(Loss):
    """Softmax cross-entropy of scores, mean over the batch; as PyTorch's ``CrossEntropyLoss``.

    Labels are integers (N,), or probabilities (N, classes). With weights w and smoothing e, for K classes::

        q = (1 - e) * t + e / K                       t: one-hot labels, or the probabilities
        loss = sum over n, k of -w[k] * q[n, k] * log softmax(scores)[n, k] / count

    where count is the sum of the labels' weights, or N for probabilities.

    Parameters
    ----------
    label_smoothing : float
        From 0 to 1 (Szegedy et al., https://arxiv.org/abs/1512.00567, section 7).
    class_weights : array_like (classes,), optional
        How much each class counts.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> CrossEntropy().target([1, 0], (2, 2))
    array([[0. , 0.5],
           [0.5, 0. ]], dtype=float32)
    """

    op = "CrossEntropy"

    def __init__(self, label_smoothing: float = 0.0, class_weights: ArrayLike | None = None) -> None:
        self.label_smoothing = as_share(label_smoothing, "CrossEntropy: label_smoothing")
        self.class_weights = None
        if class_weights is not None:
            self.class_weights = as_real_array(class_weights, "CrossEntropy: class_weights").astype(np.float64)
        if self.class_weights is not None and (self.class_weights.ndim != 1 or not (self.class_weights >= 0).all()):
            raise ValueError(f"CrossEntropy: class_weights={class_weights!r}, expected one number >= 0 for each class")

    def target(self, y: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
        """The coefficients of -log softmax: (N, classes) float32."""
        shape = rows, classes = as_pair(shape, "CrossEntropy: shape", 0)
        labels = as_array(y, "CrossEntropy: y")
        weights = self.class_weights
        if classes == 1:
            raise ValueError(
                "CrossEntropy: one score, whose softmax is always 1: expected two or more, or BinaryCrossEntropy"
            )
        if weights is not None and len(weights) != classes:
            raise ValueError(f"CrossEntropy: class_weights has {len(weights)} numbers, expected {classes}")
        if labels.ndim == 1:
            labels = _checked_labels(labels, rows, classes)
            count = float(rows) if weights is None else float(weights[labels].sum())
            share = np.full(shape, self.label_smoothing / classes)
            share[np.arange(rows), labels] += 1 - self.label_smoothing
        else:
            labels = _checked_matrix(labels, shape, "CrossEntropy")
            count = float(rows)
            share = (1 - self.label_smoothing) * labels + self.label_smoothing / classes
        if weights is not None:
            share *= weights
        with np.errstate(all="ignore"):  # no label counts: NaN, as PyTorch's
            return (share / count).astype(np.float32)


class MSE(Loss):
    """Mean of the squared differences of scores and targets; integer labels stand for one-hot rows.

    Examples
    --------
    >>> MSE().target([[0.5, 2]], (1, 2))
    array([[0.5, 2. ]], dtype=float32)
    """

    op = "MeanSquaredError"

    def target(self, y: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
        """The values that scores should have: (N, classes) float32."""
        return _rows(y, shape, "MSE")


class BinaryCrossEntropy(Loss):
    """Cross-entropy of independent yes-or-no scores before their sigmoid, mean over all; as PyTorch's
    ``BCEWithLogitsLoss``. Labels are (N, classes), or (N,) of 0 and 1 for a single score.

    Examples
    --------
    >>> BinaryCrossEntropy().target([1, 0], (2, 1))
    array([[1.],
           [0.]], dtype=float32)
    """

    op = "BinaryCrossEntropy"

    def target(self, y: ArrayLike, shape: tuple[int, int]) -> np.ndarray:
        """The probability of "yes" for each score: (N, classes) float32."""
        rows = _rows(y, shape, "BinaryCrossEntropy")
        if rows.size and not (rows.min() >= 0 and rows.max() <= 1):
            raise ValueError(f"BinaryCrossEntropy: y from {rows.min():g} to {rows.max():g}, expected 0 to 1")
        return rows


_NAMES = {"cross_entropy": CrossEntropy, "mse": MSE, "binary_cross_entropy": BinaryCrossEntropy}


def loss_of(loss: str | Loss) -> Loss:
    """A loss by name, or itself."""
    if isinstance(loss, Loss):
        return loss
    named: Loss = _NAMES[as_choice(loss, "loss", _NAMES, ", or a Loss")]()
    return named


def _rows(y: ArrayLike, shape: tuple[int, int], name: str) -> np.ndarray:
    shape = as_pair(shape, f"{name}: shape", 0)
    values = as_array(y, f"{name}: y")
    if values.ndim == 1 and shape[1] == 1:
        values = values[:, None]
    elif values.ndim == 1:
        values = np.eye(shape[1])[_checked_labels(values, *shape)]
    return _checked_matrix(values, shape, name).astype(np.float32)


def _checked_labels(labels: np.ndarray, rows: int, classes: int) -> np.ndarray:
    if labels.dtype.kind not in "iub":
        raise TypeError(f"y.dtype={labels.dtype}, expected integer labels (N,), or probabilities (N, {classes})")
    if len(labels) != rows:
        raise ValueError(f"y has {len(labels)} labels, expected {rows}, one for each input")
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise ValueError(f"y: labels from {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    return labels.astype(np.intp, copy=False)


def _checked_matrix(values: np.ndarray, shape: tuple[int, int], name: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name}: y.dtype={values.dtype}, expected real numbers")
    if values.shape != shape:
        raise ValueError(f"{name}: y.shape={values.shape}, expected {shape}, as the scores")
    return values
