"""The learning-rate finder: steps at growing rates, until the loss explodes.

Smith, "Cyclical Learning Rates for Training Neural Networks", 2017.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from fastcnn._arguments import as_float, as_int
from fastcnn._figure import drawn
from fastcnn.network import Network
from fastcnn.training.begin import without_unreadable
from fastcnn.training.data import Dataset
from fastcnn.training.loader import Batches
from fastcnn.training.optimizers import Adam
from fastcnn.training.options import Options
from fastcnn.training.prepare import outputs_of, prepare
from fastcnn.training.trainer import Trainer

__all__ = ["RateSearch", "find_rate"]

_KEPT = 0.9  # of the smoothed loss, from step to step
_EXPLODED = 4.0  # times the lowest smoothed loss


@dataclass(frozen=True)
class RateSearch:
    """What `Model.find_learning_rate` returns.

    Attributes
    ----------
    rates : list of float
        Of each step.
    losses : list of float
        Smoothed: an exponential moving average, without the bias of its beginning.
    suggestion : float
        The rate at which the loss falls fastest, as the logarithm of the rate grows.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the losses over the rates.

        Parameters
        ----------
        path : path-like, optional
            Of an image to write; the suffix (.png, .svg, .pdf) tells the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib, which ``pip install "fastcnn[plot]"`` brings.
        """
        return drawn("RateSearch.plot", (5, 3), self._draw, path)

    def _draw(self, figure: Any) -> None:
        axes = figure.add_subplot()
        axes.plot(self.rates, self.losses)
        axes.axvline(self.suggestion, linestyle="--", label=f"suggestion {self.suggestion:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)", title="Loss at growing learning rates")
        axes.legend()


def find_rate(
    model: Network,
    x: Any,
    y: Any,
    batch_size: int,
    how: tuple[Any, Any, Any],
    rates: tuple[float, float, int],
    seed: int,
) -> RateSearch:
    """Find a learning rate; see `Model.find_learning_rate`.

    Parameters
    ----------
    how : tuple
        Optimizer, loss, augmentation.
    rates : tuple
        The first, the last, and how many.
    """
    optimizer, loss, augment = how
    options = Options(batch_size=batch_size, optimizer=optimizer, loss=loss, augment=augment, seed=seed)
    low, high = (
        as_float(rate, f"find_learning_rate: {name}") for rate, name in zip(rates, ("low", "high"), strict=False)
    )
    steps = as_int(rates[2], "find_learning_rate: steps", 2)
    if not 0 < low < high:
        raise ValueError(f"find_learning_rate: low={low}, high={high}, expected 0 < low < high")
    copied = copy.deepcopy(model)
    data = without_unreadable(copied, prepare(copied, x, y), options)
    trainer = Trainer(copied, options.optimizer or Adam(), options.loss, seed=seed)
    batches: Any = data
    if isinstance(data, Dataset):
        outputs = outputs_of(copied, data.source.shape)
        batches = Batches(data, batch_size, outputs, augment=options.augment, seed=seed)  # type: ignore[arg-type]
    tried: list[float] = []
    losses: list[float] = []  # smoothed
    mean = 0.0
    for epoch in range(steps):
        for batch in islice(batches.epoch(epoch), steps - len(tried)):
            rate = low * (high / low) ** (len(tried) / (steps - 1))
            trainer.learning_rate = rate
            value = trainer.step(batch.x, batch.y, sample_weight=batch.weights)
            if not np.isfinite(value):
                return _search(tried, losses)
            mean = _KEPT * mean + (1 - _KEPT) * value
            tried.append(rate)
            losses.append(mean / (1 - _KEPT ** len(tried)))
            if losses[-1] > _EXPLODED * min(losses):
                return _search(tried, losses)
        if len(tried) == steps:
            break
    return _search(tried, losses)


def _search(rates: list[float], losses: list[float]) -> RateSearch:
    if len(rates) < 2:
        raise FloatingPointError("find_learning_rate: no finite loss in the first steps, expected a smaller low")
    slopes = np.gradient(losses, np.log(rates))
    return RateSearch(rates, losses, float(rates[int(np.argmin(slopes))]))
