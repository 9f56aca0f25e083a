"""Finds photos that cannot be read, all of them at once, before anything is learned from the others.

What is found in a folder beyond that is photo_check.py's.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fastcnn._arguments import as_choice
from fastcnn._progress import Progress
from fastcnn.errors import FastcnnWarning, ImageError
from fastcnn.io._load import examine_file
from fastcnn.training.data import Dataset
from fastcnn.training.folders import PhotoSource
from fastcnn.training.loader import read_ahead
from fastcnn.training.options import ON_ERROR
from fastcnn.training.prepare import is_paths

__all__ = ["ON_ERROR", "Unreadable", "as_unreadable", "describe_unreadable", "readable", "screened", "why_unreadable"]

MOST_SKIPPED = 0.1  # of all photos; more of them points to a wrong folder or a broken disk
_LINES, _LISTED, _WIDTH = 20, 8, 76  # of a screen of 24 lines of 80 letters


class Unreadable(NamedTuple):
    """A photo that cannot be read."""

    path: str
    reason: str


def why_unreadable(path: str) -> Unreadable | None:
    """Tell why a photo cannot be read; None where it can."""
    try:
        examine_file(path)
    except (ImageError, OSError) as error:
        return as_unreadable(path, error)
    return None


def as_unreadable(path: str, error: ImageError | OSError) -> Unreadable:
    """A photo, and what reading it has raised."""
    text = str(error.strerror or error) if isinstance(error, OSError) else str(error)
    return Unreadable(path, text.removeprefix(f"{path}: "))


def screened(
    data: Dataset, on_error: str = "skip", progress: bool | None = False, classes: Sequence[str] | None = None
) -> tuple[Dataset, list[Unreadable]]:
    """Leave out the photos that cannot be read.

    Parameters
    ----------
    data : Dataset
        Other data than photos in files are returned as they are.
    on_error : {"skip", "stop"}
    progress : bool, optional
        As for `Progress`.
    classes : sequence of str, optional
        Names of the classes, for messages.

    Returns
    -------
    tuple of Dataset and list of Unreadable

    Raises
    ------
    ImageError
        If a photo cannot be read and `on_error` is "stop". Or if more than a tenth of the photos cannot be read, or a
        class has none left. The message lists them.
    """
    as_choice(on_error, "on_error", ON_ERROR)
    if not isinstance(data.source, PhotoSource) or data.source.is_screened or not is_paths(data.source.photos):
        return data, []
    names = [data.source.name(index) for index in data.indices.tolist()]
    found: list[Unreadable] = []
    good = np.ones(len(names), bool)
    with Progress("examining", len(names), progress, "photos") as bar:
        for number, why in enumerate(read_ahead(lambda i, _: why_unreadable(names[i]), range(len(names)), 2)):
            if why is not None:
                found.append(why)
                good[number] = False
            bar.update(1)
    if found and on_error == "stop":
        raise ImageError(describe_unreadable(found, len(names)))
    if len(found) > MOST_SKIPPED * len(names):
        limit = f"; at most {MOST_SKIPPED:.0%} are left out"
        raise ImageError(describe_unreadable(found, len(names), limit))
    source = copy(data.source)
    source.is_screened = True
    kept = replace(data.subset(np.flatnonzero(good)), source=source)
    if (lost := np.setdiff1d(_present(data.labels), _present(kept.labels))).size:
        name = int(lost[0]) if classes is None else classes[lost[0]]
        raise ImageError(describe_unreadable(found, len(names), f"; none is left of class {name!r}"))
    return kept, found


def readable(
    data: Dataset, on_error: str = "skip", progress: bool | None = False, classes: Sequence[str] | None = None
) -> Dataset:
    """Return what `screened` keeps, and warn of what it leaves out."""
    kept, found = screened(data, on_error, progress, classes)
    if found:
        text = describe_unreadable(found, len(data), " and are left out")
        warnings.warn(text, FastcnnWarning, stacklevel=4)
    return kept


def _present(labels: np.ndarray) -> np.ndarray:
    """Return the numbers of the classes, or of the labels, that some photo has."""
    present: np.ndarray = np.unique(labels) if labels.ndim == 1 else np.flatnonzero((labels > 0).any(axis=0))
    return present


def describe_unreadable(found: Sequence[Unreadable], count: int, then: str = "") -> str:
    """Return a list of photos that fits a screen: each with its reason while they are few, else their names.

    Examples
    --------
    >>> print(describe_unreadable([Unreadable("pets/cat/1.jpg", "empty")], 40))
    1 of 40 photos cannot be read:
      pets/cat/1.jpg: empty
    """
    head = f"{len(found)} of {count} photos cannot be read{then}:"
    if len(found) <= _LISTED:
        pairs = [(path.replace("\n", "\\n"), " ".join(reason.split())[:_WIDTH]) for path, reason in found]
        return "\n".join([head, *(f"  {path}: {reason}" for path, reason in pairs)])
    folder = os.path.commonpath([os.path.dirname(path) for path, _ in found])
    lines = _filled([os.path.relpath(path, folder or None).replace("\n", "\\n") for path, _ in found])
    more = [f"… {len(lines) - _LINES} lines more: fastcnn check --json lists all"] if len(lines) > _LINES else []
    return "\n".join([head, f"  below {folder or '.'}:", *(f"  {line}" for line in [*lines[:_LINES], *more])])


def _filled(names: Sequence[str]) -> list[str]:
    """Return lines of names, none of which is broken."""
    lines = [names[0]]
    for name in names[1:]:
        if len(lines[-1]) + len(name) + 2 > _WIDTH:
            lines.append(name)
        else:
            lines[-1] += f", {name}"
    return lines
