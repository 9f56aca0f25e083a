"""A training run: what the loop works on, and callbacks see."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn.errors import FastcnnWarning
from fastcnn.network import Network
from fastcnn.training.history import History
from fastcnn.training.options import Options
from fastcnn.training.trainer import Trainer

__all__ = ["Run", "Sums", "interrupted"]


@dataclass
class Sums:
    """Of the epoch so far."""

    loss: float = 0.0
    hits: int = 0
    count: int = 0
    seconds: float = 0.0


@dataclass
class Run:
    """A training run, as callbacks see it.

    Attributes
    ----------
    model : Model
    trainer : Trainer
        While a frozen part's features are reused, it trains the rest of the network only.
    history : History
        With all epochs up to the one that has just ended.
    epoch : int
        Number of epochs done.
    loss : float
        Of the last batch.
    step : int
        Number of batches done in the epoch that is under way.
    epochs : int
        How many there will be.
    """

    model: Network
    trainer: Trainer
    history: History
    epoch: int = 0
    loss: float = float("nan")
    epochs: int = 0
    _stopped: bool = False
    _learner: Any = None
    _step: int = 0
    _counted: int = 0  # the trainer's steps that the sums hold
    _sums: Sums = field(default_factory=Sums)
    _best: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Number of batches done in the epoch that is under way."""
        return self._step

    def stop(self) -> None:
        """Let this epoch be the last; from `on_batch`, let it end here."""
        self._stopped = True

    def _result(self) -> dict[str, np.ndarray]:
        """The state of the model as training would leave it: with the moving average, where there is one."""
        return {**self.model.state_dict(), **self.trainer.averages()}

    def _sync(self) -> None:
        """Let the model have the trainer's parameters."""
        self.trainer.sync()
        if self._learner is not self.model:
            self.model.load_state_dict(self._learner.state_dict(), strict=False)
            self.model.task = self._learner.task


def interrupted(history: History, epoch: int, options: Options, stacklevel: int) -> History:
    """Note in the history, and tell, that Ctrl-C has ended the training."""
    history.interrupted = True
    if options.raises:
        raise KeyboardInterrupt
    where = f"in epoch {min(epoch + 1, options.epochs)} of {options.epochs}"
    warnings.warn(f"fit: interrupted {where}; the model is as the last step left it", FastcnnWarning, stacklevel)
    return history
