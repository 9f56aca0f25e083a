"""The history of a training: loss and accuracy of each epoch, as `Model.fit` returns them."""

from __future__ import annotations

import html
import os
from typing import Any

from fastcnn._arguments import as_choice
from fastcnn._figure import drawn
from fastcnn._table import Columns

__all__ = ["History"]

_TITLES = {"loss": "Loss", "accuracy": "Accuracy", "learning_rate": "Learning rate"}
_PANELS = (("loss", "validation_loss"), ("accuracy", "validation_accuracy"), ("learning_rate",))


class History(dict[str, list[float]]):
    """A dict of lists with one number for each epoch, ready for JSON.

    Every training has ``loss``, ``learning_rate``, ``seconds`` and ``images_per_second``. Classifiers add ``accuracy``,
    validation data add ``validation_loss`` and ``validation_accuracy``. The loss is the mean over the epoch's inputs,
    each measured before the step that learns from it. The learning rate is that of the last step.

    Attributes
    ----------
    interrupted : bool
        Whether Ctrl-C ended the training.

    Examples
    --------
    >>> history = History(loss=[0.9, 0.4, 0.5])
    >>> history["loss"][-1], history.epochs, history.best("loss")
    (0.5, 3, 1)
    >>> print(history)
    epoch  loss
        1   0.9
        2   0.4
        3   0.5
    """

    interrupted: bool = False

    @property
    def epochs(self) -> int:
        """Number of epochs done."""
        return max((len(values) for values in self.values()), default=0)

    def add(self, **values: float) -> None:
        """Append the numbers of one epoch.

        Parameters
        ----------
        **values : float
            By name, as ``loss=0.5``.

        Examples
        --------
        >>> history = History()
        >>> history.add(loss=0.9)
        >>> history["loss"]
        [0.9]
        """
        for name, value in values.items():
            self.setdefault(name, []).append(float(value))

    def best(self, name: str = "validation_loss") -> int:
        """Return the first epoch, counted from 0, with the lowest loss or the highest accuracy.

        Parameters
        ----------
        name : str
            Of the numbers.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If the history has no numbers of that name.

        Examples
        --------
        >>> History(validation_loss=[0.9, 0.4, 0.5]).best()
        1
        """
        as_choice(name, "best: name", [known for known, values in self.items() if values])
        signs = -1.0 if name.endswith("accuracy") else 1.0
        values = [signs * value if value == value else float("inf") for value in self[name]]
        return values.index(min(values))

    def _cells(self) -> list[list[str]]:
        rows = [["epoch", *self]]
        for epoch in range(self.epochs):
            rows.append([str(epoch + 1), *(f"{v[epoch]:.4g}" if epoch < len(v) else "" for v in self.values())])
        return rows

    def __str__(self) -> str:
        rows = self._cells()
        return "\n".join(map(Columns.around(rows).line, rows))

    def _repr_html_(self) -> str:
        head, *body = self._cells()
        lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
        lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
        return "<table>" + "".join(lines) + "</table>"

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw loss, accuracy and learning rate over the epochs.

        Parameters
        ----------
        path : path-like, optional
            Image to write; the suffix (.png, .svg, .pdf) names the format.

        Returns
        -------
        matplotlib.figure.Figure
            Notebooks show it.

        Raises
        ------
        ImportError
            Without matplotlib, which ``pip install "fastcnn[plot]"`` brings.

        Examples
        --------
        >>> len(History(loss=[0.9, 0.4, 0.5]).plot().axes)
        1
        """
        return drawn("History.plot", (4 * max(len(self._panels()), 1), 3), self._draw, path)

    def _panels(self) -> list[tuple[str, ...]]:
        return [names for names in _PANELS if any(name in self for name in names)]

    def _draw(self, figure: Any) -> None:
        panels = self._panels()
        for axes, names in zip(figure.subplots(1, max(len(panels), 1), squeeze=False)[0], panels, strict=False):
            for name in (name for name in names if name in self):
                axes.plot(range(1, len(self[name]) + 1), self[name], marker=".", label=name.replace("_", " "))
            axes.set(xlabel="epoch", title=_TITLES[names[0]])
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)  # half an epoch has no value
            axes.legend()
