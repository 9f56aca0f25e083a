"""What was done to a project, so that it can be undone, also after a kill: movements, written before they are made."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcnn._replace import replacing

__all__ = ["Entry", "Journal"]

_KEPT = 200  # entries


@dataclass(frozen=True)
class Entry:
    """One thing that was done.

    Attributes
    ----------
    batch : str
        Entries of one batch are undone at once.
    what : str
        For people, such as "moved 3 photos to cat".
    moves : list of (str or None, str)
        Paths relative to the project, before and after; None for what was not there before.
    """

    batch: str
    what: str
    moves: list[tuple[str | None, str]]


class Journal:
    """The entries of a project, in a file of lines.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries = self._read()
        self._lines = len(self._entries)

    def _read(self) -> list[Entry]:
        try:
            lines = self._path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines[-_KEPT:]:
            with contextlib.suppress(ValueError, TypeError, KeyError):  # a kill cut the line
                found.append(_as_entry(json.loads(line)))
        return found

    @property
    def last(self) -> list[Entry]:
        """The entries that would be undone next, the newest first."""
        if not self._entries:
            return []
        batch = self._entries[-1].batch
        return [entry for entry in reversed(self._entries) if entry.batch == batch]

    def add(self, entry: Entry) -> None:
        """Write an entry to the disk, before what it tells is done."""
        self._entries = [*self._entries, entry][-_KEPT:]
        self._lines += 1
        if self._lines > 2 * _KEPT:
            self._write()
            return
        with self._path.open("ab") as file:
            file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())

    def forget(self, batch: str) -> None:
        """Take a batch out, after it was undone."""
        self._entries = [entry for entry in self._entries if entry.batch != batch]
        self._write()

    def _write(self) -> None:
        with replacing(self._path) as file:
            file.write(b"".join(map(_line, self._entries)))
        self._lines = len(self._entries)


def _line(entry: Entry) -> bytes:
    return json.dumps({"batch": entry.batch, "what": entry.what, "moves": entry.moves}).encode() + b"\n"


def _as_entry(value: dict[str, Any]) -> Entry:
    moves = [(None if before is None else str(before), str(after)) for before, after in value["moves"]]
    return Entry(str(value["batch"]), str(value["what"]), moves)
