"""Callbacks: what a training run calls while it goes on. Files for its numbers are loggers.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastcnn.training.run import Run

__all__ = ["Callback"]


class Callback:
    """Base of callbacks that want more than the end of each epoch; each method does nothing by default.

    Any object with one of its methods will do as well. Plain functions are called after each epoch.

    Examples
    --------
    >>> import fastcnn as fc
    >>> class Patient(Callback):
    ...     def on_batch(self, run):
    ...         if run.loss < 0.5:
    ...             run.stop()
    >>> model = fc.Sequential(fc.Linear(1, 2, rng=0))
    >>> history = model.fit([[3], [-3]], [0, 1], epochs=500, optimizer=fc.SGD(0.1), callbacks=[Patient()])
    >>> history.epochs < 500
    True
    """

    def on_start(self, run: Run) -> None:
        """Before the first step."""

    def on_batch(self, run: Run) -> None:
        """After each batch: `run.step` and `run.loss` tell of it; `run.stop()` ends the epoch here."""

    def on_epoch(self, run: Run) -> None:
        """After each epoch and its validation: the last of each list in `run.history` are its numbers."""

    def on_end(self, run: Run) -> None:
        """After the last epoch, and where the training was interrupted or has failed."""
