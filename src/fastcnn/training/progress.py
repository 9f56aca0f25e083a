"""Progress of an epoch, or of another walk through the data, on stderr: tqdm's bar, or a line without tqdm."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

__all__ = ["Progress"]


class Progress:
    """A bar of images, where wanted and possible.

    Parameters
    ----------
    title : str
    count : int or None
        Images in all, if known.
    wanted : bool or None
        None stands for "if stderr is a terminal".

    Examples
    --------
    >>> with Progress("epoch 1/2", 100, wanted=False) as progress:
    ...     progress.update(32, loss=0.5)
    """

    def __init__(self, title: str, count: int | None, wanted: bool | None) -> None:
        self._title = title
        self._bar: Any = None
        self._wanted = sys.stderr.isatty() if wanted is None else wanted
        if self._wanted:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=count, desc=title, unit=" images", file=sys.stderr, mininterval=0.2)

    def update(self, count: int, **numbers: float) -> None:
        """Tell that so many more images are done, and the latest numbers."""
        if self._bar is not None:
            if numbers:
                self._bar.set_postfix(_short(numbers), refresh=False)
            self._bar.update(count)

    def show(self, **numbers: float) -> None:
        """Tell the numbers of the whole epoch."""
        if self._bar is not None:
            self._bar.set_postfix(_short(numbers))
        elif self._wanted:
            print(self._title, *(f"{name}={text}" for name, text in _short(numbers).items()), file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def _short(numbers: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.4f}" for name, value in numbers.items()}
