"""Progress of a walk through data, on stderr: tqdm's bar, or without tqdm a plain line."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["Progress", "walk"]

_Item = TypeVar("_Item")


class Progress:
    """What is done, where wanted.

    Parameters
    ----------
    title : str
    count : int or None
        Of what is to be done, if known.
    wanted : bool or None
        None stands for "if stderr is a terminal".
    unit : str
        What is counted.

    Notes
    -----
    On a terminal the plain line counts, each time written over the last. Elsewhere it comes once, at the end.

    Examples
    --------
    >>> with Progress("epoch 1/2", 100, wanted=False) as progress:
    ...     progress.update(32, loss=0.5)
    """

    def __init__(self, title: str, count: int | None, wanted: bool | None, unit: str = "images") -> None:
        self._title, self._count, self._unit = title, count, unit
        self._bar: Any = None
        self._done, self._line, self._longest = 0, title, 0
        self._on_terminal = wanted is not False and sys.stderr.isatty()
        self._wanted = self._on_terminal if wanted is None else wanted
        if self._wanted:
            with contextlib.suppress(ImportError):
                from tqdm import tqdm

                self._bar = tqdm(total=count, desc=title, unit=f" {unit}", file=sys.stderr, mininterval=0.2)

    def update(self, count: int, **numbers: float) -> None:
        """Tell that so many more are done, and the latest numbers."""
        self._done += count
        if self._bar is not None:
            if numbers:
                self._bar.set_postfix(_short(numbers), refresh=False)
            self._bar.update(count)
        elif self._wanted:
            of_all = "" if self._count is None else f" of {self._count}"
            self._write(f"{self._done}{of_all} {self._unit}", numbers)

    def show(self, **numbers: float) -> None:
        """Tell the numbers of the whole walk."""
        if self._bar is not None:
            self._bar.set_postfix(_short(numbers))
        elif self._wanted:
            self._write("", numbers)

    def _write(self, what: str, numbers: dict[str, float]) -> None:
        parts = [self._title, what, *(f"{name}={text}" for name, text in _short(numbers).items())]
        self._line = " ".join(part for part in parts if part)
        if self._on_terminal:
            self._longest = max(self._longest, len(self._line))
            print("\r" + self._line.ljust(self._longest), end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._wanted:
            print("" if self._on_terminal else self._line, file=sys.stderr)


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


def _short(numbers: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.4f}" for name, value in numbers.items()}
