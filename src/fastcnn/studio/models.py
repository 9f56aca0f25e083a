"""The models of a project's runs, in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from fastcnn._web import Refused
from fastcnn.studio.runs import Run

if TYPE_CHECKING:
    from fastcnn.model import Model

__all__ = ["Models"]

_KEPT = 3


class Models:
    """The models of runs, loaded when they are first asked for."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run: Run) -> tuple[Model, str]:
        """Return a run's model, and a stamp that differs where the model does.

        Raises
        ------
        Refused
            With status 409, if it has none yet.
        """
        path = run.model_path
        if path is None:
            raise Refused(409, "run: has no model yet: it is saved when the training ends")
        status = path.stat()
        stamp = f"{run.id} {path.name} {status.st_mtime_ns} {status.st_size}"
        with self._lock:
            if stamp not in self._models:
                from fastcnn.loading import load  # slow to import: the page comes first

                self._models[stamp] = load(path)
                if len(self._models) > _KEPT:
                    self._models.popitem(last=False)
            self._models.move_to_end(stamp)
            return self._models[stamp], stamp
