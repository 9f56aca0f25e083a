"""Opens files for reading, and only regular ones: a named pipe would be waited for, a device has no end.

What is in a file is left to the formats.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from fastcnn._arguments import as_path

__all__ = ["NotRegularFileError", "open_regular"]

_KINDS = (
    (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip


class NotRegularFileError(OSError):
    """A path stands for a folder, a named pipe, a socket or a device; `strerror` tells which."""


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading; links are followed.

    Raises
    ------
    NotRegularFileError
        If there is something else under that name.
    OSError
        If it cannot be opened, as FileNotFoundError.
    TypeError, ValueError
        If `path` is no path.

    Examples
    --------
    >>> open_regular(os.sep)
    Traceback (most recent call last):
    fastcnn.io._regular.NotRegularFileError: [Errno 21] a folder, expected a regular file: '/'
    """
    name = as_path(path, "path")
    # The first look keeps a device from being opened, which may already do something; the second is certain.
    _refuse_others(os.stat(name), name)
    return open(name, "rb", opener=_open)


def _open(name: str, flags: int) -> int:
    descriptor = os.open(name, flags | os.O_NONBLOCK)
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
