"""Replaces a file by a complete new one. A process that is killed at any moment leaves one of the two."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fastcnn._arguments import as_path
from fastcnn._system import NO_LINK, NO_WAIT, flush_folder, has_locks, lock

__all__ = ["check_writable", "replacing"]

_TEMPORARY = re.compile(r"\.fastcnn-[0-9a-f]{16}\.tmp")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Yield a file to write to, which replaces `path` when the block ends without an error.

    It is a temporary file in the same folder, which is flushed to the disk and then renamed. Links are followed.
    Permissions of the old file are kept. Temporary files that killed processes have left in the folder are removed: a
    process locks its file while it writes, and the lock ends with the process.

    Parameters
    ----------
    path : str or path-like
        The file, which need not exist; its folder must.

    Raises
    ------
    OSError
        If the file cannot be written; its filename is `path`. The old file is untouched, unless only the last step
        failed, which flushes the folder. No temporary file remains.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "note")
    ...     with replacing(path) as file:
    ...         count = file.write(b"new")
    ...     path.read_bytes(), os.listdir(folder)
    (b'new', ['note'])
    """
    name = as_path(path, "path")
    try:
        target = Path(os.path.realpath(name))
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "not a regular file, nothing can take its place")
        _remove_leftovers(target.parent)
        with _temporary_file(target.parent) as (file, temporary):
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not has_locks():
                file.close()  # there is nothing to keep, and Windows renames no open file
            os.replace(temporary, target)
        flush_folder(target.parent)
    except OSError as error:
        # A new error: one that had two filenames would print both, "None" included.
        raise OSError(error.errno, error.strerror or str(error), name) from error


@contextmanager
def _temporary_file(folder: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new, locked file and its path. If it still has that name at the end, it is removed."""
    while True:
        path = folder / f".fastcnn-{os.urandom(8).hex()}.tmp"
        try:
            with path.open("xb") as file:
                with contextlib.suppress(OSError):  # without locks, no process removes files of others
                    lock(file, wait=True)
                if os.fstat(file.fileno()).st_nlink:  # else another process removed it before it was locked
                    yield file, path
                    return
        finally:
            path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files that no process writes to any more. Without locks nobody knows which these are."""
    if not has_locks():
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):
                _remove_unless_locked(folder / name)


def _remove_unless_locked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | NO_WAIT | NO_LINK)
    try:
        lock(descriptor, wait=False)
        path.unlink()
    finally:
        os.close(descriptor)


class _OnTrial(Exception):
    """Ends a trial write before it replaces anything."""


def check_writable(path: str | os.PathLike[str], what: str) -> None:
    """Write a temporary file where `path` shall stand, and remove it: before work that would otherwise be lost.

    Parameters
    ----------
    path : str or path-like
    what : str
        Name of the argument, for errors.

    Raises
    ------
    OSError
        If the folder is missing or cannot be written to, or if something else than a file has the name.
    """
    if os.path.isdir(path):
        raise IsADirectoryError(f"{what} {path}: a folder, expected the name of a file")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{what} {path}: there is no folder {Path(path).parent}")
    try:
        with replacing(path):
            raise _OnTrial
    except _OnTrial:
        pass
    except OSError as error:
        raise OSError(f"{what} {path}: cannot be written: {error.strerror}") from error
    _check_name(path, what)


def _check_name(path: str | os.PathLike[str], what: str) -> None:
    """Look the name up: the trial has written under another one."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OSError(f"{what}: no file can have this name: {error.strerror}") from error
