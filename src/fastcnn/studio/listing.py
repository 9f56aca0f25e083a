"""What a project's folder holds: photos by class and part. project.py changes it.

Links are left out: they lead out of the folder, which is all that the page may see.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fastcnn._names import readable
from fastcnn.io._find import is_hidden, is_image
from fastcnn.training.layouts import parts_of

__all__ = ["Listing", "Photo", "key_of", "listing_of", "places_of"]


class Photo(NamedTuple):
    """A photo of a project.

    Attributes
    ----------
    id : str
        Stands for the path in requests.
    path : str
        Relative to the project, with slashes.
    label : str
        Of its class.
    part : str
        "train", "validation" or "test"; "" where the folder is not divided.
    bytes : int
    time : int
        When it was changed last, in nanoseconds.
    """

    id: str
    path: str
    label: str
    part: str
    bytes: int
    time: int


@dataclass(frozen=True)
class Listing:
    """All photos of a project at one time.

    Attributes
    ----------
    photos : dict of str to Photo
        By their ids, in the order of paths.
    classes : list of str
        Also those without photos.
    version : str
        Differs where anything in the listing does.
    links, others : int
        Links, and files that are no photos: both are left out.
    """

    photos: dict[str, Photo]
    classes: list[str]
    version: str
    links: int
    others: int

    @property
    def counts(self) -> Counter[str]:
        """Photos of each class."""
        return Counter(photo.label for photo in self.photos.values())


def key_of(path: str) -> str:
    """Return the id of the photo at a path relative to the project.

    Examples
    --------
    >>> key_of("cat/1.jpg")
    '32018dafbde900d2'
    """
    return hashlib.blake2b(os.fsencode(path), digest_size=8).hexdigest()


def places_of(root: Path) -> dict[str, Path]:
    """Return the folders that hold classes, by part; the project's own where it is not divided."""
    try:
        return dict(parts_of(root)) or {"": root}
    except ValueError:  # a part beside other folders: to all eyes these are classes
        return {"": root}


def listing_of(root: Path) -> Listing:
    """Read a project's folder."""
    photos: dict[str, Photo] = {}
    classes: dict[str, None] = {}
    seen: Counter[str] = Counter()
    for part, place in places_of(root).items():
        for folder in _folders(place, seen):
            label = readable(folder.name)
            classes[label] = None
            for entry in _files(folder.path, seen):
                path = os.path.relpath(entry.path, root).replace(os.sep, "/")
                status = entry.stat(follow_symlinks=False)
                key = key_of(path)
                photos[key] = Photo(key, path, label, part, status.st_size, status.st_mtime_ns)
    digest = hashlib.blake2b(repr(list(classes)).encode("utf-8", "surrogatepass"), digest_size=8)
    for photo in photos.values():
        digest.update(f"{photo.id} {photo.bytes} {photo.time};".encode())
    return Listing(photos, sorted(classes), digest.hexdigest(), seen["links"], seen["others"])


def _folders(place: str | Path, seen: Counter[str]) -> list[os.DirEntry[str]]:
    found = []
    for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
        if is_hidden(entry.name):
            continue
        if entry.is_symlink():
            seen["links"] += 1
        elif entry.is_dir(follow_symlinks=False):
            found.append(entry)
    return found


def _files(folder: str, seen: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """The photos in a folder and below it."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if is_hidden(entry.name):
            continue
        if entry.is_symlink():
            seen["links"] += 1
        elif entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path, seen)
        elif entry.is_file(follow_symlinks=False) and is_image(entry.name):
            yield entry
        else:
            seen["others"] += 1
