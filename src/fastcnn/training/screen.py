"""Finds photos that cannot be read, all of them at once, before anything is learned from the others.

The others are decoded as training wants them, and kept in the cache that it reads from: a photo of 12 megapixels is
never decoded twice. What else is found in a folder is photo_check.py's.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from fastcnn._arguments import as_choice
from fastcnn._progress import Progress
from fastcnn.errors import FastcnnWarning, ImageError
from fastcnn.training.augment import Augment
from fastcnn.training.data import Dataset, split
from fastcnn.training.folders import PhotoSource, crop_of, with_cache
from fastcnn.training.loader import read_ahead
from fastcnn.training.options import ON_ERROR
from fastcnn.training.prepare import is_paths

__all__ = ["ON_ERROR", "Unreadable", "Use", "as_unreadable", "describe_unreadable", "readable", "screened"]

MOST_SKIPPED = 0.1  # of all photos; more of them points to a wrong folder or a broken disk
_LINES, _LISTED, _WIDTH = 20, 8, 76  # of a screen of 24 lines of 80 letters


class Unreadable(NamedTuple):
    """A photo that cannot be read."""

    path: str
    reason: str


class Use(NamedTuple):
    """What photos are read for.

    Attributes
    ----------
    augment : Augment, optional
        Of the photos to learn from.
    validation : float, optional
        The share of the photos that `split` takes to validate with.
    seed : int
        Of `split`.
    """

    augment: Augment | None = None
    validation: float | None = None
    seed: int = 0

    def crops(self, labels: np.ndarray) -> np.ndarray:
        """Return what `crop_of` tells of each photo. If photos are left out, a few photos will have another use."""
        crops = np.full(len(labels), crop_of(self.augment))
        if self.validation is not None:
            crops[split(labels, self.validation, self.seed)[1]] = crop_of(None)
        return crops


def as_unreadable(path: str, error: ImageError | OSError) -> Unreadable:
    """A photo, and what reading it has raised."""
    text = str(error.strerror or error) if isinstance(error, OSError) else str(error)
    return Unreadable(path, text.removeprefix(f"{path}: "))


def screened(
    data: Dataset,
    on_error: str = "skip",
    progress: bool | None = False,
    classes: Sequence[str] | None = None,
    use: Use = Use(),  # noqa: B008 - it cannot change
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
    use : Use
        The photos are kept as this needs them.

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
    source, count = copy(cast(PhotoSource, with_cache(data).source)), len(data)
    found, good = _tried(data, source, use, progress)
    if found and on_error == "stop":
        raise ImageError(describe_unreadable(found, count))
    if len(found) > MOST_SKIPPED * count:
        limit = f"; at most {MOST_SKIPPED:.0%} are left out"
        raise ImageError(describe_unreadable(found, count, limit))
    source.is_screened = True
    kept = replace(data.subset(np.flatnonzero(good)), source=source)
    if (lost := np.setdiff1d(_present(data.labels), _present(kept.labels))).size:
        name = int(lost[0]) if classes is None else classes[lost[0]]
        raise ImageError(describe_unreadable(found, count, f"; none is left of class {name!r}"))
    return kept, found


def _tried(data: Dataset, source: PhotoSource, use: Use, progress: bool | None) -> tuple[list[Unreadable], np.ndarray]:
    """Read each photo, and return those that cannot be read, and which of all can."""
    indices, crops = data.indices.tolist(), use.crops(data.labels).tolist()
    found: list[Unreadable] = []
    good = np.ones(len(indices), bool)

    def why_unreadable(number: int, _: object) -> Unreadable | None:
        try:
            source.try_to_read(indices[number], crops[number])
        except (ImageError, OSError) as error:
            return as_unreadable(source.name(indices[number]), error)
        return None

    with Progress("examining", len(indices), progress, "photos") as bar:
        for number, why in enumerate(read_ahead(why_unreadable, range(len(indices)), 2)):
            if why is not None:
                found.append(why)
                good[number] = False
            bar.update(1)
    return found, good


def readable(
    data: Dataset,
    on_error: str = "skip",
    progress: bool | None = False,
    classes: Sequence[str] | None = None,
    use: Use = Use(),  # noqa: B008 - it cannot change
) -> Dataset:
    """Return what `screened` keeps, and warn of what it leaves out."""
    kept, found = screened(data, on_error, progress, classes, use)
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
