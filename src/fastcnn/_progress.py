"""Progress of a walk through data, on stderr: on a terminal a bar, elsewhere, as in notebooks and logs, lines.

The one helper of all commands and methods. The bar is tqdm's where that is installed; NumPy is the only package that
fastcnn needs, and a line that counts is enough without tqdm.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["Pace", "Progress", "as_clock", "walk", "watched"]

_Item = TypeVar("_Item")
_Watcher = Callable[[str, int, "int | None"], None]
_watchers: list[_Watcher] = []


class Pace:
    """Tells how long a run of several walks, such as epochs, goes on.

    Parameters
    ----------
    total : float
        Walks of the run.
    done : float
        Walks done before this run, which cost it no time.
    now : callable
        The time in seconds.

    Examples
    --------
    >>> times = iter([100.0, 130.0])
    >>> Pace(5, 1, now=lambda: next(times)).left(3.0)
    30.0
    """

    def __init__(self, total: float, done: float = 0, now: Callable[[], float] = time.monotonic) -> None:
        self._total, self._begun, self._now = total, done, now
        self._start = now()

    def left(self, done: float) -> float | None:
        """Return the seconds that are left after `done` walks; None while nobody can tell."""
        walked = done - self._begun
        return (self._now() - self._start) / walked * max(self._total - done, 0) if walked > 0 else None


class Progress:
    """What is done, where wanted.

    Parameters
    ----------
    title : str
    count : int or None
        Of what is to be done, if known.
    wanted : bool or None
        None stands for "on a terminal, or where lines are asked for".
    unit : str
        What is counted.
    lines : bool
        Whether a line at the end is worth it off a terminal, as for an epoch.
    pace : Pace, optional
        Of the run that this is a part of; it tells the time that the run has left.
    walks : float
        How many walks of that run are done.

    Notes
    -----
    On a terminal the plain line counts, each time written over the last. Elsewhere it comes once, at the end.

    Examples
    --------
    >>> with Progress("epoch 1/2", 100, wanted=False) as progress:
    ...     progress.update(32, loss=0.5)
    """

    def __init__(
        self,
        title: str,
        count: int | None,
        wanted: bool | None,
        unit: str = "images",
        *,
        lines: bool = False,
        pace: Pace | None = None,
        walks: float = 0,
    ) -> None:
        self._title, self._count, self._unit = title, count, unit
        self._pace, self._walks = pace, walks
        self._bar: Any = None
        self._done, self._line, self._longest = 0, title, 0
        is_open = sys.stderr is not None and not sys.stderr.closed
        self._on_terminal = wanted is not False and is_open and sys.stderr.isatty()
        self._wanted = is_open and (self._on_terminal or lines if wanted is None else wanted)
        if self._on_terminal:
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(total=count, desc=title, unit=f" {unit}", file=sys.stderr, mininterval=0.2)

    def update(self, count: int, **numbers: float) -> None:
        """Tell that `count` more are done, and the latest numbers."""
        self._done += count
        for watcher in _watchers:
            watcher(self._title, self._done, self._count)
        if self._bar is not None:
            texts = {**_short(numbers), **self._left()}
            if texts:
                self._bar.set_postfix(texts, refresh=False)
            self._bar.update(count)
        elif self._wanted:
            of_all = "" if self._count is None else f" of {self._count}"
            self._write(f"{self._done}{of_all} {self._unit}", {**_short(numbers), **self._left()})

    def show(self, **numbers: float) -> None:
        """Tell the numbers of the finished walk."""
        self._walks, self._done = self._walks + (1 if self._pace else 0), 0
        texts = {**_short(numbers), **self._left()}
        if self._bar is not None:
            self._bar.set_postfix(texts)
        elif self._wanted:
            self._write("", texts)

    def _left(self) -> dict[str, str]:
        """What is left of the run, as a number to show."""
        if self._pace is None:
            return {}
        part = self._done / self._count if self._count else 0
        seconds = self._pace.left(self._walks + part)
        return {} if seconds is None else {"left": as_clock(seconds)}

    def _write(self, what: str, texts: dict[str, str]) -> None:
        parts = [self._title, what, *(f"{name}={text}" for name, text in texts.items())]
        self._line = " ".join(part for part in parts if part)
        if self._on_terminal:
            self._longest = max(self._longest, len(self._line))
            _print("\r" + self._line.ljust(self._longest), end="")

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._wanted:
            _print("" if self._on_terminal else self._line)


@contextlib.contextmanager
def watched(watcher: _Watcher) -> Iterator[None]:
    """Within it, a function is told of all walks: their title, how much is done, and of how much, if that is known.

    Examples
    --------
    >>> with watched(print), Progress("reading", 5, wanted=False) as progress:
    ...     progress.update(2)
    reading 2 5
    """
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def walk(items: Sequence[_Item], title: str, wanted: bool | None, unit: str) -> Iterator[_Item]:
    """The items, each of which is done when the next one is asked for.

    Examples
    --------
    >>> list(walk("abc", "reading", False, "letters"))
    ['a', 'b', 'c']
    """
    with Progress(title, len(items), wanted, unit) as progress:
        for item in items:
            yield item
            progress.update(1)


def as_clock(seconds: float) -> str:
    """Return a time as minutes and seconds, or with hours.

    Examples
    --------
    >>> as_clock(75.2), as_clock(7384)
    ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _short(numbers: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.4f}" for name, value in numbers.items()}


def _print(text: str, end: str = "\n") -> None:
    """Print on stderr; a log on a full disk stops nothing."""
    with contextlib.suppress(OSError):
        print(text, end=end, file=sys.stderr, flush=True)
