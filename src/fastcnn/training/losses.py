"""Losses: what a step minimises. Each checks the labels and makes the matrix of targets that its kernel reads.

`fastcnn.reference` defines the kernels' formulas, on scores and targets alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import ops
from fastcnn._arguments import as_array, as_choice, as_float, as_pair, as_real_array, as_share

__all__ = ["MSE", "BinaryCrossEntropy", "CrossEntropy", "FunctionLoss", "Loss", "loss_of"]


class Loss:
    """Base of all losses.

    Attributes
    ----------
    op : str
        The operation of the training graph, from (scores, target) to a number.

    Examples
    --------
    >>> import numpy as np
    >>> class Twice(MSE):
    ...     def target(self, y, shape, weights=None):
    ...         return 2 * super().target(y, shape, weights)
    >>> Twice().value(np.float32([[2.0, 4.0]]), [[1.0, 2.0]])
    0.0
    """

    op: str

    def target(self, y: ArrayLike, shape: tuple[int, int], weights: ArrayLike | None = None) -> np.ndarray:
        """Return what the operation compares the scores with.

        Parameters
        ----------
        y : array_like
            Labels as the loss takes them: integers (N,), or (N, classes).
        shape : pair of int
            Of the scores: (N, classes).
        weights : array_like (N,), optional
            What each input counts.

        Returns
        -------
        ndarray (N, classes), float32

        Raises
        ------
        TypeError, ValueError
            If labels or weights do not fit.
        """
        raise TypeError(f"{type(self).__name__} has no target method: use CrossEntropy, MSE or BinaryCrossEntropy")

    def needs_scores(self, weights: ArrayLike | None) -> bool:
        """Tell whether the gradient is computed outside of the compiled step, by `value_and_gradient`.

        Parameters
        ----------
        weights : array_like (N,), or None
            What each input counts.

        Returns
        -------
        bool

        Examples
        --------
        >>> MSE().needs_scores(None), MSE().needs_scores([1, 2])
        (False, True)
        """
        return weights is not None

    def count(self, y: ArrayLike, weights: ArrayLike | None = None) -> float:
        """Tell what the mean divides by: how much a batch weighs beside others.

        Parameters
        ----------
        y : array_like
            Labels, as for `target`.
        weights : array_like (N,), optional
            What each input counts.

        Returns
        -------
        float

        Examples
        --------
        >>> MSE().count([0, 1]), MSE().count([0, 1], [0.5, 2.0])
        (2.0, 2.5)
        """
        return float(len(as_array(y, "y")) if weights is None else as_array(weights, "sample_weight").sum())

    def value(self, scores: np.ndarray, y: ArrayLike, weights: ArrayLike | None = None) -> float:
        """Compute the loss.

        Parameters
        ----------
        scores : ndarray (N, classes), float32
        y : array_like
            Labels, as for `target`.
        weights : array_like (N,), optional
            What each input counts.

        Returns
        -------
        float

        Examples
        --------
        >>> MSE().value(np.float32([[1, 2]]), [[0, 0]])
        2.5
        """
        if self.needs_scores(weights):
            return self.value_and_gradient(scores, y, weights)[0]
        target = self.target(y, (scores.shape[0], scores.shape[1]), weights)
        return float(ops.get(self.op).reference({}, [scores, target])[0])

    def value_and_gradient(
        self, scores: np.ndarray, y: ArrayLike, weights: ArrayLike | None = None
    ) -> tuple[float, np.ndarray]:
        """Compute the loss, the mean of the rows' losses by their weights, and its gradient by the scores.

        Parameters
        ----------
        scores : ndarray (N, classes), float32
        y : array_like
            Labels, as for `target`.
        weights : array_like (N,), optional
            What each input counts.

        Returns
        -------
        float
        ndarray (N, classes), float64

        Examples
        --------
        >>> MSE().value_and_gradient(np.float32([[1, 2]]), [[0, 0]])
        (2.5, array([[1., 2.]]))
        """
        shape = scores.shape[0], scores.shape[1]
        target = self.target(y, shape)
        share = _shares(weights, shape[0])
        rows = [ops.get(self.op).reference({}, [scores[i : i + 1], target[i : i + 1]])[0] for i in range(shape[0])]
        gradient = ops.get(f"{self.op}Grad").reference({}, [scores, target])
        return float(share @ np.array(rows, np.float64)), gradient * (share * shape[0])[:, None]

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if value is not None)
        return f"{type(self).__name__}({settings})"


class CrossEntropy(Loss):
    """Softmax cross-entropy of scores, mean over the batch; as PyTorch's ``CrossEntropyLoss``.

    Labels are integers (N,), or probabilities (N, classes). With weights w and smoothing e, for K classes::

        q = (1 - e) * t + e / K                       t: one-hot labels, or the probabilities
        loss = sum over n, k of -w[k] * q[n, k] * log softmax(scores)[n, k] / count

    where count is the sum of the labels' weights, or N if labels are probabilities. Weights of inputs multiply their
    rows and their shares of count.

    Parameters
    ----------
    label_smoothing : float
        From 0 to 1 (Szegedy et al., https://arxiv.org/abs/1512.00567, section 7).
    class_weights : array_like (classes,), optional
        Weight of each class.

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
        weights = self.class_weights
        if weights is not None and (weights.ndim != 1 or not ((weights >= 0) & (weights < np.inf)).all()):
            raise ValueError(
                f"CrossEntropy: class_weights={class_weights!r}, expected one finite number >= 0 for each class"
            )

    def needs_scores(self, weights: ArrayLike | None) -> bool:
        return False

    def count(self, y: ArrayLike, weights: ArrayLike | None = None) -> float:
        labels = as_array(y, "CrossEntropy: y")
        if self.class_weights is None or labels.ndim != 1:
            return super().count(y, weights)
        of_labels = self.class_weights[labels]
        return float((of_labels if weights is None else of_labels * as_array(weights, "sample_weight")).sum())

    def target(self, y: ArrayLike, shape: tuple[int, int], weights: ArrayLike | None = None) -> np.ndarray:
        shape = rows, classes = as_pair(shape, "CrossEntropy: shape", 0)
        labels = as_array(y, "CrossEntropy: y")
        of_classes = self.class_weights
        if classes == 1:
            raise ValueError(
                "CrossEntropy: one score, whose softmax is always 1: expected two or more, or BinaryCrossEntropy"
            )
        if of_classes is not None and len(of_classes) != classes:
            raise ValueError(f"CrossEntropy: class_weights has {len(of_classes)} numbers, expected {classes}")
        of_rows = np.ones(rows) if weights is None else _checked_weights(weights, rows)
        if labels.ndim == 1:
            labels = _checked_labels(labels, rows, classes)
            count = float((of_rows if of_classes is None else of_rows * of_classes[labels]).sum())
            share = np.full(shape, self.label_smoothing / classes)
            share[np.arange(rows), labels] += 1 - self.label_smoothing
        else:
            labels = _checked_matrix(labels, shape, "CrossEntropy")
            count = float(of_rows.sum())
            share = (1 - self.label_smoothing) * labels + self.label_smoothing / classes
        if of_classes is not None:
            share *= of_classes
        if weights is not None:
            share *= of_rows[:, None]
        with np.errstate(all="ignore"):  # all weights are zero: NaN, as in PyTorch
            return (share / count).astype(np.float32)


class MSE(Loss):
    """Mean of the squared differences of scores and targets; integer labels stand for one-hot rows.

    Examples
    --------
    >>> MSE().target([[0.5, 2]], (1, 2))
    array([[0.5, 2. ]], dtype=float32)
    """

    op = "MeanSquaredError"

    def target(self, y: ArrayLike, shape: tuple[int, int], weights: ArrayLike | None = None) -> np.ndarray:
        return _rows(y, shape, "MSE")


class BinaryCrossEntropy(Loss):
    """Cross-entropy of independent binary scores before their sigmoid, mean over all; as PyTorch's
    ``BCEWithLogitsLoss``.

    Labels are (N, classes), or (N,) of 0 and 1 for a single score.

    Examples
    --------
    >>> BinaryCrossEntropy().target([1, 0], (2, 1))
    array([[1.],
           [0.]], dtype=float32)
    """

    op = "BinaryCrossEntropy"

    def target(self, y: ArrayLike, shape: tuple[int, int], weights: ArrayLike | None = None) -> np.ndarray:
        rows = _rows(y, shape, "BinaryCrossEntropy")
        if rows.size and not (rows.min() >= 0 and rows.max() <= 1):
            raise ValueError(f"BinaryCrossEntropy: y from {rows.min():g} to {rows.max():g}, expected 0 to 1")
        return rows


_NAMES = {"cross_entropy": CrossEntropy, "mse": MSE, "binary_cross_entropy": BinaryCrossEntropy}


class FunctionLoss(Loss):
    """A loss that is a plain function of scores and labels.

    Parameters
    ----------
    function : function
        Gets a `Value` (N, classes) and the labels as they were given. It returns the loss, or one for each input, whose
        mean counts. It may use NumPy's functions, `Value`'s methods and arithmetic, which yield the gradient. Or it
        gets an array and returns a pair: a number, and its gradient with respect to the scores.

    Examples
    --------
    >>> loss = FunctionLoss(lambda scores, y: ((scores - y) ** 2).mean())
    >>> loss.value_and_gradient(np.float32([[1, 2]]), np.float32([[0, 0]]))
    (2.5, array([[1., 2.]]))
    """

    op = "LinearLoss"

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def needs_scores(self, weights: ArrayLike | None) -> bool:
        return True

    def value_and_gradient(
        self, scores: np.ndarray, y: ArrayLike, weights: ArrayLike | None = None
    ) -> tuple[float, np.ndarray]:
        from fastcnn.training.values import Value

        name = getattr(self.function, "__name__", "loss")
        given = Value(np.array(scores, np.float64))
        result = self.function(given, y)
        if isinstance(result, tuple) and len(result) == 2:
            if weights is not None:
                raise ValueError(f"loss: {name} returns its own gradient, expected losses of inputs, to be weighted")
            return _checked_pair(result, name, scores.shape)
        if not isinstance(result, Value):
            raise TypeError(
                f"loss: {name} returned {type(result).__name__}, expected what it has computed of the scores, or a "
                "pair (loss, gradient)"
            )
        if result.shape == (len(scores),):
            result = (result * _shares(weights, len(scores))).sum()
        elif result.shape != () or weights is not None:
            wanted = "one loss for each input" if weights is not None else "a number, or one for each input"
            raise ValueError(f"loss: {name} returned shape {result.shape}, expected {wanted}")
        return float(result.data), result.gradient_by(given)


def loss_of(loss: str | Loss | Callable[..., Any]) -> Loss:
    """Return the loss of a name or a function; a loss itself is returned as it is."""
    if isinstance(loss, Loss):
        return loss
    if callable(loss) and not isinstance(loss, type):
        return FunctionLoss(loss)
    named: Loss = _NAMES[as_choice(loss, "loss", _NAMES, ", a Loss, or a function of scores and labels")]()
    return named


def _checked_pair(result: tuple[Any, Any], name: str, shape: tuple[int, ...]) -> tuple[float, np.ndarray]:
    gradient = as_real_array(result[1], f"loss: gradient of {name}")
    if gradient.shape != shape:
        raise ValueError(f"loss: {name} returned a gradient of shape {gradient.shape}, expected {shape}")
    return as_float(result[0], f"loss: value of {name}"), gradient


def _checked_weights(weights: ArrayLike, rows: int) -> np.ndarray:
    checked = as_real_array(weights, "sample_weight").astype(np.float64)
    if checked.shape != (rows,) or not (checked >= 0).all():
        raise ValueError(f"sample_weight.shape={checked.shape}, expected one number >= 0 for each of {rows} inputs")
    return checked


def _shares(weights: ArrayLike | None, rows: int) -> np.ndarray:
    """What each row counts in the mean."""
    if weights is None:
        return np.full(rows, 1 / rows)
    checked = _checked_weights(weights, rows)
    with np.errstate(all="ignore"):  # no input counts: NaN, as for labels that do not
        shares: np.ndarray = checked / checked.sum()
    return shares


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
        raise ValueError(f"{name}: y.shape={values.shape}, expected {shape}, the shape of the scores")
    return values
