"""Puts a complete new file in the place of an old one, so that a kill at any moment leaves one of the two.

What is in the file is left to the caller.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file such that its name always stands for the whole old or the whole new content.

    The content goes to a temporary file in the same folder, which is flushed to the disk and then renamed.
    Links are followed; permissions of the old file are kept.

    Parameters
    ----------
    path : str or path-like
        The file, which need not exist; its folder must.
    content : bytes
        All of the new content.

    Raises
    ------
    OSError
        If the file cannot be written, with `path` as its filename: the old one is untouched (unless only
        the last step failed, the flush of the folder), and no temporary file remains.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "note")
    ...     replace_file(path, b"new")
    ...     path.read_bytes(), os.listdir(folder)
    (b'new', ['note'])
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file, nothing can take its place", os.fspath(path))
    temporary = target.with_name(f".{os.urandom(8).hex()}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                if target.exists():
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(target.parent)
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
