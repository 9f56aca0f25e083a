"""What is wrong with the photos of a project, by their ids. training/photo_check.py finds it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastcnn._progress import watched
from fastcnn.errors import ImageError
from fastcnn.io._load import examine_file
from fastcnn.studio.jobs import Tell
from fastcnn.studio.listing import Listing
from fastcnn.studio.project import Project
from fastcnn.training.data import split
from fastcnn.training.loader import read_ahead
from fastcnn.training.photo_check import FolderReport, check_folder

__all__ = ["checked"]

_COLOURLESS = 6  # mean difference between red, green and blue, of 255: below, a photo looks grey
_SHARE = 0.2  # that `fastcnn train` keeps back where the folder is not divided


def checked(project: Project, listing: Listing, tell: Tell) -> dict[str, Any]:
    """Return the faults of a project's photos, each with the ids of photos.

    Duplicates across training and validation are also found where `fastcnn train` will divide the folder itself.
    """
    if not listing.photos:
        return {"count": 0, "faults": []}
    with watched(lambda title, done, count: tell(done, count or 0)):
        report = check_folder(project.root)
    grey = _grey(project, listing, tell)
    by_path = {str(project.root / photo.path): key for key, photo in listing.photos.items()}

    def ids(paths: Iterable[str]) -> list[str]:
        return [by_path[path] for path in paths if path in by_path]

    def groups(found: Sequence[Sequence[str]]) -> list[list[str]]:
        return [group for group in (ids(paths) for paths in found) if len(group) > 1]

    faults = [
        _fault("broken", [[key] for key in ids(photo.path for photo in report.broken)]),
        _fault("contradictions", groups(report.contradictions)),
        _fault("leaks", groups(report.leaks) or _leaks(listing, groups(report.duplicates + report.near_duplicates))),
        _fault("duplicates", groups(report.duplicates)),
        _fault("near", groups(report.near_duplicates)),
        _fault("tiny", [[key] for key in ids(report.tiny)]),
        _fault("grey", [[key] for key in grey]),
    ]
    reasons = {by_path[photo.path]: photo.reason for photo in report.broken if photo.path in by_path}
    return {
        "count": len(listing.photos),
        "faults": [fault for fault in faults if fault["groups"]],
        "reasons": reasons,
        "unbalanced": _unbalanced(report),
        "few": [label for label in listing.classes if listing.counts[label] < 10],
        "left_out": report.others,
    }


def _fault(kind: str, groups: list[list[str]]) -> dict[str, Any]:
    return {"kind": kind, "groups": groups}


def _unbalanced(report: FolderReport) -> float:
    return max(report.unbalanced.values(), default=0.0)


def _leaks(listing: Listing, groups: list[list[str]]) -> list[list[str]]:
    """Groups whose copies the usual split puts on both sides."""
    photos = listing.photos
    if not groups or any(photo.part for photo in photos.values()) or len(set(listing.counts)) < 2:
        return []
    labels = np.array([listing.classes.index(photo.label) for photo in photos.values()])
    keys = list(photos)
    kept_back = {keys[i] for i in split(labels, _SHARE, 0)[1].tolist()}
    return [group for group in groups if 0 < len(kept_back.intersection(group)) < len(group)]


def _grey(project: Project, listing: Listing, tell: Tell) -> list[str]:
    """Photos without colour, where most have colours."""
    photos = list(listing.photos.values())

    def look(number: int, _: object) -> bool | None:
        try:
            pixels = examine_file(project.file(photos[number])).thumbnail.astype(np.int16)
        except (ImageError, OSError):
            return None
        return bool((pixels.max(axis=2) - pixels.min(axis=2)).mean() < _COLOURLESS)

    found = []
    for done, is_grey in enumerate(read_ahead(look, range(len(photos)), 2), 1):
        if is_grey:
            found.append(photos[done - 1].id)
        tell(done, len(photos))
    return found if len(found) <= len(photos) // 2 else []
