"""How folders of photos are laid out: parts to train, validate and test with; and what in them is no photo."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fastcnn.io._find import is_hidden, is_image

__all__ = ["PARTS", "LeftOut", "common_folders", "folders_of", "left_out", "part_of", "parts_of"]

# The names of folders that are parts of a data set.
PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_NAMED = 3  # files of each kind in a message


def parts_of(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the parts of a folder that is divided into train, val and test, by "train", "validation" and "test".

    A folder is divided if all of its sub-folders are parts, one of them is to train with, and each has sub-folders.

    Raises
    ------
    ValueError
        If one is to train with, and has sub-folders alone, but another is no part: its classes would go unseen.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["train/cat", "train/dog", "val/cat", "val/dog"]:
    ...         Path(folder, name).mkdir(parents=True)
    ...     {part: path.name for part, path in parts_of(folder).items()}
    {'train': 'train', 'validation': 'val'}
    """
    folders = folders_of(Path(folder)) if os.path.isdir(folder) else []
    found = {PARTS[path.name.lower()]: path for path in folders if path.name.lower() in PARTS}
    others = [path.name for path in folders if path.name.lower() not in PARTS]
    if others and "train" in found and _has_folders_alone(found["train"]):
        raise ValueError(
            f"{folder}: {found['train'].name} has sub-folders, as a part has, but {others[0]} is no part: expected "
            f"train, val and test alone, or {found['train']}"
        )
    is_divided = len(found) == len(folders) > 1 and "train" in found
    return found if is_divided and all(map(folders_of, found.values())) else {}


def _has_folders_alone(folder: Path) -> bool:
    return bool(folders_of(folder)) and not any(is_image(path.name) for path in folder.iterdir())


def part_of(folder: str | os.PathLike[str], wanted: Sequence[str]) -> Path:
    """Return the first of some parts that a folder has; the folder itself, where it is not divided.

    Raises
    ------
    ValueError
        If it is divided, but has none of them.
    """
    parts = parts_of(folder)
    if not parts:
        return Path(folder)
    for part in wanted:
        if part in parts:
            return parts[part]
    raise ValueError(f"{folder}: has {', '.join(path.name for path in parts.values())}, expected a part {wanted[0]!r}")


def folders_of(folder: Path) -> list[Path]:
    """Return the sub-folders of a folder, sorted; hidden ones do not count."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def common_folders(folder: Path) -> list[str]:
    """Return the names of sub-folders that all classes have, where they have nothing else: they may be the classes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"]:
    ...         Path(folder, name).mkdir(parents=True)
    ...     common_folders(Path(folder))
    ['cat', 'dog']
    """
    classes = folders_of(folder)
    inside = {tuple(path.name for path in folders_of(each)) for each in classes if _has_folders_alone(each)}
    is_same = len(inside) == 1 and len(classes) > 1 and all(map(_has_folders_alone, classes))
    return list(inside.pop()) if is_same else []


class LeftOut(list[str]):
    """Paths below a folder that are not taken for photos; as text, how many of each kind there are, and which."""

    def __str__(self) -> str:
        kinds = Counter(map(_kind, self))
        told = []
        for kind, count in kinds.most_common():
            names = [path.rstrip("/") for path in self if _kind(path) == kind]
            told.append(f"{count} {kind} ({', '.join(names[:_NAMED])}{', …' * (count > _NAMED)})")
        return "; ".join(told)


def _kind(path: str) -> str:
    if path.endswith("/"):
        return "linked folders"
    if "/" not in path and is_image(path):
        return "in no class"
    return os.path.splitext(path)[1].lower() or "without a suffix"


def left_out(folder: str | os.PathLike[str], is_class: bool = False) -> LeftOut:
    """List what a folder of classes, or of one class, holds beside its photos.

    These are other files in classes, linked folders in them, which are not gone into, and photos that are in no class.
    Hidden ones do not count.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "cat").mkdir()
    ...     for name in ["a.jpg", "b.heic", "c.heic", "d"]:
    ...         Path(folder, "cat", name).touch()
    ...     print(left_out(folder))
    2 .heic (cat/b.heic, cat/c.heic); 1 without a suffix (cat/d)
    """
    found: list[str] = []
    root = os.fspath(folder)
    for parent, folders, files in os.walk(root):
        is_root = not is_class and parent == root
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        inside = os.path.relpath(parent, root)
        for name in sorted(files):
            is_photo = is_image(name)
            if not is_hidden(name) and (is_photo if is_root else not is_photo):
                found.append(os.path.normpath(os.path.join(inside, name)).replace(os.sep, "/"))
        links = [name for name in folders if os.path.islink(os.path.join(parent, name)) and not is_root]
        found += [f"{inside}/{name}/".replace(os.sep, "/") for name in links]
    return LeftOut(found)
