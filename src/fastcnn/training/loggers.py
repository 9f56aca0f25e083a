"""Callbacks that write a run's numbers: as CSV and JSON lines, and to TensorBoard and MLflow where installed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcnn._arguments import as_path
from fastcnn.training.callbacks import Callback

if TYPE_CHECKING:
    from fastcnn.training.run import Run

__all__ = ["CSVLogger", "JSONLinesLogger", "MLflowLogger", "TensorBoardLogger"]


def _numbers(run: Run) -> dict[str, float]:
    """The numbers of the epoch that has just ended."""
    return {name: values[-1] for name, values in run.history.items() if len(values) == run.history.epochs}


class CSVLogger(Callback):
    """Writes a line for each epoch to a CSV file, which begins with the names.

    Parameters
    ----------
    path : path-like
        Written anew by each run.

    Examples
    --------
    >>> import tempfile
    >>> import fastcnn as fc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "log.csv")
    ...     history = fc.Sequential(fc.Linear(1, 2)).fit([[1], [2]], [0, 1], epochs=2, callbacks=[CSVLogger(path)])
    ...     path.read_text().splitlines()[0]
    'epoch,loss,accuracy,learning_rate,seconds,images_per_second'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(as_path(path, "CSVLogger: path"))
        self._names: list[str] = []

    def on_start(self, run: Run) -> None:
        self.path.write_text("", encoding="utf-8")
        self._names = []

    def on_epoch(self, run: Run) -> None:
        numbers: Mapping[str, float] = {"epoch": run.epoch, **_numbers(run)}
        with self.path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._names or list(numbers), extrasaction="ignore", lineterminator="\n")
            if not self._names:
                writer.writeheader()
                self._names = list(numbers)
            writer.writerow(dict(numbers))


class JSONLinesLogger(Callback):
    """Writes an object for each epoch, on a line of its own, to a file.

    Parameters
    ----------
    path : path-like
        Lines are appended: runs that follow each other can share it.

    Examples
    --------
    >>> import tempfile
    >>> import fastcnn as fc
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "log.jsonl")
    ...     history = fc.Sequential(fc.Linear(1, 2)).fit([[1]], [0], epochs=2, callbacks=[JSONLinesLogger(path)])
    ...     [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
    [1, 2]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(as_path(path, "JSONLinesLogger: path"))

    def on_start(self, run: Run) -> None:
        self.path.open("a", encoding="utf-8").close()

    def on_epoch(self, run: Run) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": run.epoch, **_numbers(run)}) + "\n")


class TensorBoardLogger(Callback):
    """Writes scalars for TensorBoard, by PyTorch's SummaryWriter or tensorboardX's.

    Parameters
    ----------
    folder : path-like
        Of the run.

    Raises
    ------
    ImportError
        If neither is installed.

    Examples
    --------
    >>> issubclass(TensorBoardLogger, Callback)
    True
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._writer: Any = _summary_writer()(os.fspath(folder))

    def on_epoch(self, run: Run) -> None:
        for name, value in _numbers(run).items():
            self._writer.add_scalar(name, value, run.epoch)

    def on_end(self, run: Run) -> None:
        self._writer.flush()


class MLflowLogger(Callback):
    """Logs metrics and settings to the MLflow run that is active, or to a new one.

    Raises
    ------
    ImportError
        If mlflow is not installed.

    Examples
    --------
    >>> issubclass(MLflowLogger, Callback)
    True
    """

    def __init__(self) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise ImportError("MLflowLogger needs mlflow: pip install mlflow", name="mlflow") from error
        self._mlflow: Any = mlflow

    def on_start(self, run: Run) -> None:
        trainer = run.trainer
        settings = {"optimizer": repr(trainer.optimizer), "loss": repr(trainer.loss), "epochs": run.epochs}
        self._mlflow.log_params(settings)

    def on_epoch(self, run: Run) -> None:
        self._mlflow.log_metrics(_numbers(run), step=run.epoch)


def _summary_writer() -> Any:
    from importlib import import_module

    for name in ("torch.utils.tensorboard", "tensorboardX"):
        try:
            return import_module(name).SummaryWriter
        except ImportError:
            continue
    raise ImportError("TensorBoardLogger needs tensorboardX, or PyTorch and tensorboard: pip install tensorboardX")
