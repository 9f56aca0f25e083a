"""What `fastcnn train --log` writes while it goes on: a line of JSON for whatever happens, for programs that watch."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any

from fastcnn._progress import watched
from fastcnn.training.callbacks import Callback
from fastcnn.training.data import Dataset
from fastcnn.training.run import Run

__all__ = ["Log", "logging_to"]

_PAUSE = 0.2  # seconds between lines of the same kind, at least: who looks on sees no more


class Log(Callback):
    """Writes lines; a callback of `Model.fit`.

    Parameters
    ----------
    file : FileIO, or None
        None stands for no log.

    Notes
    -----
    The key "event" names what happens. "photos" has the names of those to learn from, and of those to examine. "walk"
    counts what is read before and after training. "start", "step" and "epoch" are training's. "end" has the report.
    """

    def __init__(self, file: FileIO | None) -> None:
        self._file = file
        self._last: dict[str, float] = {}
        self._images = self._steps = 0
        self._start = self._first = 0.0

    def write(self, event: str, **values: Any) -> None:
        """Append a line, at once: whoever watches has it, also if the process is killed. A full disk stops nothing."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            line = json.dumps({"event": event, "time": round(time.time(), 3), **values}) + "\n"
            self._file.write(line.encode())

    def photos(self, classes: list[str], learn: Dataset, validate: Dataset, batch_size: int) -> None:
        """Tell which photos are learned from, and which examine what was learned."""
        self._images, self._steps = len(learn), -(-len(learn) // batch_size)
        self.write("photos", classes=classes, training=_names(learn), validation=_names(validate))

    def on_walk(self, title: str, done: int, count: int | None) -> None:
        """Tell of a walk through data."""
        if not title.startswith("epoch") and (done == count or self._is_time(title)):
            self.write("walk", title=title, done=done, count=count)

    def on_start(self, run: Run) -> None:
        self._start, self._first = time.monotonic(), run.epoch * self._steps + run.step
        self.write("start", epoch=run.epoch, epochs=run.epochs, steps=self._steps, history=dict(run.history))

    def on_batch(self, run: Run) -> None:
        if not self._is_time("step"):
            return
        done = run.epoch * self._steps + run.step
        pace = (done - self._first) / max(time.monotonic() - self._start, 1e-9)  # steps a second
        self.write(
            "step",
            epoch=run.epoch,
            step=run.step,
            loss=run.loss,
            images_per_second=pace * self._images / self._steps,
            seconds_left=(run.epochs * self._steps - done) / max(pace, 1e-9),
        )

    def on_epoch(self, run: Run) -> None:
        numbers = {name: values[-1] for name, values in run.history.items() if len(values) == run.history.epochs}
        self.write("epoch", epoch=run.epoch, epochs=run.epochs, **numbers)

    def _is_time(self, kind: str) -> bool:
        now = time.monotonic()
        if now - self._last.get(kind, -_PAUSE) < _PAUSE:
            return False
        self._last[kind] = now
        return True


def _names(data: Dataset) -> list[str]:
    return [data.source.name(index) for index in data.indices.tolist()]


@contextmanager
def logging_to(path: str | None) -> Iterator[Log]:
    """Yield a log that is appended to a file, and sees all walks through data."""
    if path is None:
        yield Log(None)
        return
    with open(path, "ab", buffering=0) as file:
        log = Log(file)
        with watched(log.on_walk):
            yield log
