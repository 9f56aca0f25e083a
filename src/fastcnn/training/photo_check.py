"""What is wrong with a folder of photos: broken, double, leaking from training into validation, tiny, out of balance.

Reading a photo is io/'s, finding the same ones alike.py's, showing them cli/check.py's.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fastcnn._names import readable
from fastcnn._progress import Progress
from fastcnn.errors import ImageError
from fastcnn.io._find import is_hidden
from fastcnn.io._load import examine_file
from fastcnn.io._photo import SUFFIXES, Facts
from fastcnn.training.alike import Alike, contents_of, groups_of
from fastcnn.training.layouts import PARTS, folders_of
from fastcnn.training.loader import read_ahead
from fastcnn.training.screen import Unreadable, as_unreadable

__all__ = ["FolderReport", "check_folder", "move_aside"]

TINY = 32  # pixels of the shorter side
BALANCE = 4.0  # photos of the largest class per photo of the smallest, at most
_USUAL_MODES = ("RGB", "L")


class Photo(NamedTuple):
    """A file, and where it stands."""

    path: str
    part: str
    label: str


@dataclass(frozen=True)
class FolderReport:
    """What `check_folder` finds.

    Attributes
    ----------
    folder : str
    counts : dict of str to dict of str to int
        Photos of each class, of each part: "training", "validation", "test", or "" where the folder has no parts.
    broken : list of Unreadable
        Photos that cannot be read, and why.
    duplicates : list of list of str
        Groups of files with the same content.
    near_duplicates : list of list of str
        Groups of photos that look the same: resized, or saved again.
    leaks : list of list of str
        Those groups of both kinds that stand in more than one part: what is validated was learned.
    contradictions : list of list of str
        Those groups of files with the same content that stand in more than one class of a part.
    tiny : list of str
        Photos whose shorter side is below 32 pixels.
    modes : dict of str to int
        Photos whose pixels are neither RGB nor grey, by Pillow's mode.
    rotated : int
        Photos that are turned as EXIF says, when they are read.
    others : dict of str to int
        Files that are left out, by suffix.
    redundant : list of str
        Copies that `move_aside` takes away, so that one of each content is left, or none where classes contradict.
    """

    folder: str
    counts: dict[str, dict[str, int]]
    broken: list[Unreadable]
    duplicates: list[list[str]]
    near_duplicates: list[list[str]]
    leaks: list[list[str]]
    contradictions: list[list[str]]
    tiny: list[str]
    modes: dict[str, int]
    rotated: int
    others: dict[str, int]
    redundant: list[str]

    @property
    def count(self) -> int:
        """Number of photos."""
        return sum(sum(classes.values()) for classes in self.counts.values())

    @property
    def unbalanced(self) -> dict[str, float]:
        """How many times the photos of the smallest class the largest has, in parts where that is too many."""
        found = {}
        for part, classes in self.counts.items():
            smallest, largest = min(classes.values(), default=0), max(classes.values(), default=0)
            if largest > BALANCE * smallest:
                found[part] = largest / max(smallest, 1)
        return found

    @property
    def has_faults(self) -> bool:
        """Whether something is broken, double or leaking; the rest may be as it should."""
        return bool(self.broken or self.duplicates or self.leaks)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, strings, lists and dicts, for `json.dump`."""
        found = asdict(self)
        found["broken"] = [photo._asdict() for photo in self.broken]
        return {**found, "count": self.count, "unbalanced": self.unbalanced, "has_faults": self.has_faults}


def check_folder(
    folder: str | os.PathLike[str],
    validation: str | os.PathLike[str] | None = None,
    progress: bool | None = False,
) -> FolderReport:
    """Look at every photo of a folder.

    Parameters
    ----------
    folder : path-like
        With a sub-folder for each class, or with parts ``train``, ``val`` and ``test`` that have these, or just photos.
    validation : path-like, optional
        A second folder of classes, with which a model is validated.
    progress : bool, optional
        As for `Progress`.

    Raises
    ------
    NotADirectoryError, ValueError
        If the folder does not exist, or has no photo.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 40)).save(f"{folder}/a.png")
    ...     Image.new("RGB", (40, 40)).save(f"{folder}/b.png")
    ...     report = check_folder(folder)
    >>> len(report.duplicates), report.count, report.has_faults
    (1, 2, True)
    """
    roots = [(folder, None if validation is None else "training")]
    if validation is not None:
        roots.append((validation, "validation"))
    photos: list[Photo] = []
    others: Counter[str] = Counter()
    counts: dict[str, dict[str, int]] = {}
    for root, part in roots:
        _collect(Path(root), part, photos, counts, others)
    if not photos:
        raise ValueError(f"{os.fspath(folder)}: no photos")
    facts: list[Facts | Unreadable] = []
    with Progress("examining", len(photos), progress, "photos") as bar:
        for found in read_ahead(lambda i, _: _look(photos[i].path), range(len(photos)), 2):
            facts.append(found)
            bar.update(1)
    return _report(os.fspath(folder), photos, facts, counts, dict(others))


def _collect(
    root: Path, part: str | None, photos: list[Photo], counts: dict[str, dict[str, int]], others: Counter[str]
) -> None:
    """Note what is below a folder; links to folders are followed once."""
    if not root.is_dir():
        raise NotADirectoryError(f"{root}: expected a folder of photos")
    children = folders_of(root)
    has_parts = part is None and bool(children) and all(path.name.lower() in PARTS for path in children)
    if has_parts:
        for child in children:
            name = PARTS[child.name.lower()]
            _collect(child, "training" if name == "train" else name, photos, counts, others)
        return
    classes = counts.setdefault(part or "", {readable(path.name): 0 for path in children})
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        inside = Path(parent).relative_to(root).parts
        label = readable(inside[0]) if inside else ""
        for name in sorted(name for name in files if not is_hidden(name)):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES:
                classes[label] = classes.get(label, 0) + 1
                photos.append(Photo(os.path.join(parent, name), part or "", label))
            else:
                others[suffix or "without a suffix"] += 1


def _look(path: str) -> Facts | Unreadable:
    try:
        return examine_file(path)
    except (ImageError, OSError) as error:
        return as_unreadable(path, error)


def _report(
    folder: str,
    photos: Sequence[Photo],
    facts: Sequence[Facts | Unreadable],
    counts: dict[str, dict[str, int]],
    others: dict[str, int],
) -> FolderReport:
    good = [(photo, found) for photo, found in zip(photos, facts, strict=True) if isinstance(found, Facts)]
    contents = contents_of([photo.path for photo, _ in good])
    same = groups_of(contents)
    looks = Alike([found.thumbnail for _, found in good]).groups()
    alike = [group for group in looks if len({contents[i] for i in group}) > 1]
    leaks = [group for group in _merged([*same, *looks]) if len({good[i][0].part for i in group}) > 1]
    contradictions = [group for group in same if _contradicts([good[i][0] for i in group])]

    def named(groups: Iterable[Sequence[int]]) -> list[list[str]]:
        return [[good[i][0].path for i in group] for group in groups]

    return FolderReport(
        folder=folder,
        counts=counts,
        broken=[found for found in facts if isinstance(found, Unreadable)],
        duplicates=named(same),
        near_duplicates=named(alike),
        leaks=named(leaks),
        contradictions=named(contradictions),
        tiny=[photo.path for photo, found in good if min(found.width, found.height) < TINY],
        modes=dict(Counter(found.mode for _, found in good if found.mode not in _USUAL_MODES)),
        rotated=sum(found.orientation != 1 for _, found in good),
        others=others,
        redundant=[path for group in same for path in _redundant([good[i][0] for i in group])],
    )


def _merged(groups: Iterable[Sequence[int]]) -> list[list[int]]:
    """Groups, without those that are part of another one."""
    listed = sorted(map(set, groups), key=len, reverse=True)
    kept: list[set[int]] = []
    for group in listed:
        if not any(group <= other for other in kept):
            kept.append(group)
    return [sorted(group) for group in kept]


def _contradicts(copies: Sequence[Photo]) -> bool:
    return len({photo.label for photo in copies}) > 1


def _redundant(copies: Sequence[Photo]) -> list[str]:
    """Copies that are one too many: all where their classes differ, as nobody knows which is right; else all but one.

    The one that stays is of the part that is examined, if there is one: fewer photos to learn from spoil no figure.
    """
    if _contradicts(copies):
        return [photo.path for photo in copies]
    keep = next((photo for photo in copies if photo.part not in ("", "training")), copies[0])
    return [photo.path for photo in copies if photo != keep]


def move_aside(report: FolderReport, roots: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """Move broken and redundant photos out of their folders, into one beside it whose name ends in "-aside".

    Parameters
    ----------
    report : FolderReport
    roots : iterable of path-like
        The folders that were checked.

    Returns
    -------
    dict of str to str
        Where each file is now; nothing is deleted, and nothing written over.

    Raises
    ------
    OSError
        If a file cannot be moved.
    """
    moved = {}
    places = [Path(os.path.abspath(root)) for root in roots]
    for name in [*(photo.path for photo in report.broken), *report.redundant]:
        path = Path(os.path.abspath(name))
        root = next(place for place in places if place in path.parents)
        target = root.with_name(f"{root.name}-aside") / path.relative_to(root)
        number = 1
        while target.exists():
            number += 1
            target = target.with_name(f"{path.stem} ({number}){path.suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, target)
        moved[name] = str(target)
    return moved
