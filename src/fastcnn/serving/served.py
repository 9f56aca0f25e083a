"""A model that is served: loaded, measured, and loaded again when its file is replaced."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import loading
from fastcnn.io.preprocess import Pixels, Preprocess
from fastcnn.model import Model
from fastcnn.serving.batcher import Batcher
from fastcnn.serving.calibration import batch_sizes, measured, useful_sizes
from fastcnn.serving.lanes import Lanes
from fastcnn.serving.metrics import Metrics
from fastcnn.serving.settings import Settings

__all__ = ["ModelFile", "Served", "Version"]

_logger = logging.getLogger("fastcnn.serving")


@dataclass(frozen=True)
class ModelFile:
    """A file, and how it becomes a model that takes photos.

    Attributes
    ----------
    path : str
    load : callable
        Called with the path, again whenever the file is replaced.
    """

    path: str
    load: Callable[[str], Model]


class Version:
    """One state of a model, with what was measured of it."""

    def __init__(self, model: Model, number: int, settings: Settings, lanes: Lanes) -> None:
        preprocess = model.preprocess
        if not isinstance(preprocess, Preprocess):
            raise ValueError(
                "the model does not tell how photos become inputs: set model.preprocess (on the command line --mean, "
                "--std and --size)"
            )
        self.model, self.preprocess, self.number = model, preprocess, number
        self._lanes = lanes
        self._takes_pixels = model._takes_pixels(preprocess)
        model.state_dict()  # reads what lies in a file, which may be replaced
        photo = np.zeros((*preprocess.size, preprocess.channels), np.uint8)  # type: ignore[misc]

        def run(size: int) -> None:
            with lanes.all():
                self.probabilities([photo] * size, 1)

        self.seconds = measured(run, batch_sizes(min(settings.max_batch, settings.queue)))
        self.sizes = useful_sizes(self.seconds)

    def probabilities(self, photos: Sequence[np.ndarray], lanes: int) -> np.ndarray:
        """Return a row for each photo, as `Preprocess.pixels` gives it, computed in some lanes."""
        batch: Any = Pixels(np.stack(photos), self.preprocess)
        if not self._takes_pixels:
            batch = batch.numbers()
        return self.model.predict_proba(batch, len(photos), num_threads=self._lanes.threads_of(lanes))

    @property
    def seconds_each(self) -> float:
        """Seconds that an image takes in the best batch, where all lanes are at work."""
        return min(self.seconds[size] / size for size in self.sizes) / self._lanes.count


class Served:
    """A model under a name, in its current version.

    Parameters
    ----------
    name : str
    source : Model, path or ModelFile
        A file is loaded again when it is replaced.
    settings : Settings
    metrics : Metrics
    lanes : Lanes
        In which batches run.
    """

    def __init__(
        self,
        name: str,
        source: Model | ModelFile | str | os.PathLike[str],
        settings: Settings,
        metrics: Metrics,
        lanes: Lanes,
    ) -> None:
        self.name, self._settings, self._metrics, self._lanes = name, settings, metrics, lanes
        self._load = source.load if isinstance(source, ModelFile) else loading.load
        path = source.path if isinstance(source, ModelFile) else source
        self.path = None if isinstance(path, Model) else Path(path)
        self._seen = self._stamp()
        model = source if isinstance(source, Model) else self._loaded()
        try:
            self.version = Version(model, 1, settings, lanes)
        except ValueError as error:
            raise ValueError(f"serving: {name}: {error}") from error
        self.batcher = Batcher(self._run, lambda version: version.sizes, settings.max_wait_ms / 1000, lanes)

    def _loaded(self) -> Model:
        assert self.path is not None
        model = self._load(str(self.path))
        # How many others ask at the same moment is chance, and must not decide about the last digits.
        model.reproducible = True
        return model

    def _stamp(self) -> object:
        """What changes when the file does; None where there is none."""
        if self.path is None:
            return None
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns

    def reload_if_changed(self) -> bool:
        """Load the file again if it has been replaced; return whether it has.

        A file that is no model, or one that photos cannot be given to, changes nothing: the old model goes on.
        """
        stamp = self._stamp()
        if stamp is None or stamp == self._seen:
            return False
        self._seen = stamp
        try:
            version = Version(self._loaded(), self.version.number + 1, self._settings, self._lanes)
        except Exception as error:  # whatever a file may hold, the service goes on
            self._metrics.reloads.add(1, self.name, "failed")
            _logger.warning("%s: %s is not taken over: %s", self.name, self.path, error)
            return False
        self.version = version
        self._metrics.reloads.add(1, self.name, "done")
        _logger.info("%s: %s was loaded again", self.name, self.path)
        return True

    def _run(self, version: Version, photos: Sequence[np.ndarray], lanes: int) -> np.ndarray:
        with self._metrics.inference.timed(self.name):
            rows = version.probabilities(photos, lanes)
        self._metrics.batches.observe(len(photos), self.name)
        return rows

    def described(self) -> dict[str, Any]:
        """What ``GET /v1/model`` answers."""
        version, model = self.version, self.version.model
        return {
            "name": self.name,
            "version": version.number,
            "classes": model.classes,
            "task": model.task,
            "input_shape": None if model.input_shape is None else list(model.input_shape),
            "parameters": int(sum(array.size for _, array in model.named_parameters())),
            "preprocess": version.preprocess.to_dict(),
            "batches": {
                "sizes": version.sizes,
                "seconds": {str(size): seconds for size, seconds in version.seconds.items()},
            },
        }
