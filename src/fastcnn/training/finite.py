"""Why a loss is not finite: inputs, weights of classes, the network's own weights, or the learning rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fastcnn._names import listed
from fastcnn.training.history import History
from fastcnn.training.loader import Batch
from fastcnn.training.losses import CrossEntropy, Loss

__all__ = ["LossNotFinite", "not_finite", "why_not_finite"]

_PART = 1 << 16  # values
_LARGE = 1e3  # inputs beyond it, in size, are probably not scaled


class LossNotFinite(FloatingPointError):
    """Training has come to a loss or to weights that are not finite.

    Attributes
    ----------
    history : History
        The epochs before.
    """

    def __init__(self, message: str, history: History) -> None:
        super().__init__(message)
        self.history = history


def not_finite(state: Mapping[str, np.ndarray]) -> list[str]:
    """Return the names of the arrays that are not finite.

    Examples
    --------
    >>> not_finite({"a": np.ones(2), "b": np.array([1, np.inf])})
    ['b']
    """
    return [name for name, array in state.items() if not _is_finite(array)]


def _is_finite(array: np.ndarray) -> bool:
    """Whether all values are finite. Parts are asked one by one: their answers stay in the cache."""
    flat = array.reshape(-1)
    return all(np.isfinite(flat[i : i + _PART]).all() for i in range(0, flat.size, _PART))


def why_not_finite(
    batch: Batch, loss: Loss, outputs: int, before: Mapping[str, np.ndarray], learning_rate: float
) -> str:
    """Return the likely cause of a loss that is not finite.

    Parameters
    ----------
    batch : Batch
    loss : Loss
    outputs : int
        Of the network.
    before : mapping of str to ndarray
        The network's weights when all was well.
    learning_rate : float

    Examples
    --------
    >>> weighted = CrossEntropy(class_weights=[0, 1])
    >>> why_not_finite(Batch(np.ones((2, 3)), np.array([0, 0])), weighted, 2, {}, 0.1)
    'class_weights are 0 for all classes of the batch: 0'
    """
    bad = ~np.isfinite(batch.x.reshape(len(batch.x), -1)).all(axis=1)
    if bad.any():
        return f"{bad.sum()} of the {len(bad)} inputs of the batch have values that are not finite"
    if not np.isfinite(loss.target(batch.y, (len(batch.x), outputs))).all():
        if isinstance(loss, CrossEntropy) and loss.class_weights is not None and batch.y.ndim == 1:
            return f"class_weights are 0 for all classes of the batch: {listed(np.unique(batch.y))}"
        return "the targets of the batch are not finite"
    if names := not_finite(before):
        return f"the network's weights were not finite before: {listed(names, 3)}"
    rate = f"learning_rate={learning_rate:.3g} is too high"
    largest = float(np.abs(batch.x).max())
    if largest > _LARGE:
        return f"inputs reach {largest:.3g}, expected about 1; or {rate}"
    return rate
