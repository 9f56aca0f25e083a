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
    ...     def on_start(self, run):
    ...         self.losses = []
    ...     def on_epoch(self, run):
    ...         self.losses.append(run.history["loss"][-1])
    ...     def on_end(self, run):
    ...         self.losses.sort()
    >>> model = fc.Sequential(fc.Linear(1, 2, rng=0))
    >>> history = model.fit([[3], [-3]], [0, 1], epochs=500, optimizer=fc.SGD(0.1), callbacks=[Patient()])
    >>> history.epochs < 500
    True
    """

    def on_start(self, run: Run) -> None:
        """Called before the first step.

        Parameters
        ----------
        run : Run
            The training that goes on.
        """

    def on_batch(self, run: Run) -> None:
        """Called after each batch: `run.step` and `run.loss` tell of it; `run.stop()` ends the epoch here.

        Parameters
        ----------
        run : Run
            The training that goes on.
        """

    def on_epoch(self, run: Run) -> None:
        """Called after each epoch and its validation: the last of each list in `run.history` are its numbers.

        Parameters
        ----------
        run : Run
            The training that goes on.
        """

    def on_end(self, run: Run) -> None:
        """Called after the last epoch, and where the training was interrupted or has failed.

        Parameters
        ----------
        run : Run
            The training that ends.
        """
