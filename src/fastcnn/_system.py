"""What files are asked of the system: reading and writing at a place, memory of their own, locks, and folders on the
disk. Some systems lack some of it, Windows most: there each has another way, or nothing to do."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import BinaryIO

from fastcnn._forks import Guard

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["BINARY", "NO_LINK", "NO_WAIT", "flush_folder", "has_locks", "lock", "map_memory", "read_into", "write_at"]

# Flags of os.open: no line ends are translated, no link is followed, a named pipe does not wait for its other end.
BINARY = getattr(os, "O_BINARY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)

_moving = Guard()  # of files' positions, which are moved where a file can only be read and written there


def read_into(descriptor: int, room: memoryview, offset: int) -> int:
    """Read bytes of a file that begin at `offset`. Other threads may read the same file.

    Returns
    -------
    int
        How many bytes were read: 0 at the end of the file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     written = write_at(file.fileno(), memoryview(b"abcd"), 0)
    ...     room = bytearray(2)
    ...     read_into(file.fileno(), memoryview(room), 1), bytes(room)
    (2, b'bc')
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [room], offset)
    if hasattr(os, "pread"):
        content = os.pread(descriptor, len(room), offset)
    else:
        with _moving.lock:
            os.lseek(descriptor, offset, os.SEEK_SET)
            content = os.read(descriptor, len(room))
    room[: len(content)] = content
    return len(content)


def write_at(descriptor: int, content: memoryview, offset: int) -> int:
    """Write bytes to a file from `offset` on, as `read_into` reads them. Returns how many were written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, content, offset)
    with _moving.lock:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, content)


def map_memory(size: int) -> mmap.mmap:
    """Take memory that returns to the system with the object. A forked child gets a copy.

    Raises
    ------
    OSError, OverflowError
        If there is too little.
    """
    if hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)  # nothing is forked there


def has_locks() -> bool:
    """Whether processes can lock files against each other here."""
    return fcntl is not None


def lock(file: BinaryIO | int, wait: bool) -> None:
    """Lock an open file until it is closed.

    Raises
    ------
    OSError
        If it cannot be locked; without `wait`, also if another process has locked it.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no locks of files")
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def flush_folder(folder: Path) -> None:
    """Write the names of a folder's files to the disk. Windows opens no folders, and has its own way to keep names."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
