"""Opens regular files for reading, and nothing else: opening a named pipe may wait for ever, a device has no end."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from fastcnn._arguments import as_path
from fastcnn._system import NO_WAIT

__all__ = ["NotRegularFileError", "open_regular"]

_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


class NotRegularFileError(OSError):
    """A path stands for a folder, a named pipe, a socket or a device; `strerror` says which."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading. Links are followed.

    Raises
    ------
    NotRegularFileError
        If the path is not a regular file.
    OSError
        If it cannot be opened, such as FileNotFoundError.
    TypeError, ValueError
        If `path` is no path.

    Examples
    --------
    >>> open_regular(os.sep)
    Traceback (most recent call last):
    fastcnn.io._regular.NotRegularFileError: [Errno 21] a folder, expected a regular file: '/'
    """
    name = as_path(path, "path")
    # The first check avoids opening a device, which may have effects. The second one, in _open, knows the open file.
    _refuse_others(os.stat(name), name)
    return open(name, "rb", opener=_open)


def _open(name: str, flags: int) -> int:
    descriptor = os.open(name, flags | NO_WAIT)
    try:
        _refuse_others(os.fstat(descriptor), name)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_others(status: os.stat_result, name: str) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((text for is_kind, text in _KINDS if is_kind(status.st_mode)), "no file")
    number = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
    raise NotRegularFileError(number, f"{kind}, expected a regular file", name)
