"""Reads the log of a training (`fastcnn train --log`) while it is written, and folds it into what a page shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["RunLog"]

_MOST_BYTES = 256 << 20


def _nothing(name: str) -> None:
    """Stands for NaN and infinity, which no browser reads."""


class RunLog:
    """The log of a run.

    Parameters
    ----------
    path : Path
        Of a file that need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.photos: dict[str, Any] = {}
        self.history: dict[str, list[float]] = {}
        self.epochs = self.steps = 0
        self.step: dict[str, Any] = {}
        self.walk: dict[str, Any] = {}
        self.end: dict[str, Any] = {}

    def read(self) -> None:
        """Take in the lines that are complete by now. A line that a kill has cut is left out."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.splitlines():
            try:
                event = json.loads(line, parse_constant=_nothing)
            except ValueError:
                continue
            if isinstance(event, dict):
                self._take(str(event.pop("event", "")), event)

    def _take(self, kind: str, event: dict[str, Any]) -> None:
        event.pop("time", None)
        if kind == "photos":
            self.photos, self.end, self.step = event, {}, {}
        elif kind == "walk":
            self.walk = event
        elif kind == "start":
            self.epochs, self.steps, self.history = event["epochs"], event["steps"], event["history"]
            self.walk = {}
        elif kind == "step":
            self.step = event
        elif kind == "epoch":
            self.step.pop("step", None)
            for name, value in event.items():
                if name not in ("epoch", "epochs"):
                    self.history.setdefault(name, []).append(value)
        elif kind == "end":
            self.end, self.step, self.walk = event, {}, {}

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return max(map(len, self.history.values()), default=0)
