"""Finds the image files that paths, folders and patterns stand for, by their suffixes. It opens none."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from fastcnn.io._photo import SUFFIXES

__all__ = ["find_images", "is_hidden", "is_image"]

# Folders of macOS's archives, of Synology's drives with their thumbnails, of Windows and of Linux.
_OF_SYSTEMS = frozenset(["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"])


def find_images(patterns: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List the image files that paths, folders and patterns stand for.

    Parameters
    ----------
    patterns : str, path-like, or iterable of str or path-like
        A file is taken whatever its name. A folder stands for all images in it and its subfolders. A pattern with
        ``*``, ``?``, ``[...]`` or ``**`` stands for all images and folders that match. An image is a file with
        the suffix of one. Hidden files and folders within a folder are left out, and those that systems put there.

    Returns
    -------
    list of Path
        In the order of `patterns`, and sorted for each of them. No path occurs twice.

    Raises
    ------
    FileNotFoundError
        If one of the patterns stands for nothing; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ["b.jpg", "a.PNG", "notes.txt"]:
    ...         Path(folder, name).touch()
    ...     [path.name for path in find_images(folder)]
    ['a.PNG', 'b.jpg']
    """
    if isinstance(patterns, (str, os.PathLike)):
        patterns = [patterns]
    if not isinstance(patterns, Iterable) or getattr(patterns, "ndim", 1) == 0:
        raise TypeError(f"find_images: patterns: got {type(patterns).__name__}, expected paths or patterns")
    found: dict[Path, None] = {}
    for given in patterns:
        if not isinstance(given, (str, os.PathLike)):
            raise TypeError(f"find_images: patterns: got {type(given).__name__}, expected paths or patterns")
        pattern = os.fsdecode(given)
        if os.path.isfile(pattern):
            matches = [Path(pattern)]
        elif os.path.isdir(pattern):
            matches = _images_below(pattern)
        else:
            matches = []
            for match in glob.glob(pattern, recursive=True):
                if os.path.isdir(match):
                    matches += _images_below(match)
                elif is_image(match):
                    matches.append(Path(match))
        if not matches:
            raise FileNotFoundError(f"{pattern!r} is no file, and stands for no images")
        found.update(dict.fromkeys(sorted(matches)))
    return list(found)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: by its dot, or as archives and network drives put it there.

    Examples
    --------
    >>> is_hidden("._1.jpg"), is_hidden("__MACOSX"), is_hidden("cats")
    (True, True, False)
    """
    return name.startswith(".") or name in _OF_SYSTEMS


def is_image(path: str) -> bool:
    """Whether a file has the suffix of an image.

    Examples
    --------
    >>> is_image("a.JPG"), is_image("a.heic")
    (True, False)
    """
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _images_below(folder: str) -> list[Path]:
    images = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        images += [Path(parent, name) for name in files if is_image(name) and not is_hidden(name)]
    return images
