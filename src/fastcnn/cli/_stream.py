"""Photos as they come: names from arguments and stdin, decoded ahead by threads, in batches of what is ready.

What becomes of the batches is classify.py's.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from fastcnn.errors import ImageError
from fastcnn.io.image import find_images

__all__ = ["BATCH", "Names", "Photo", "batches"]

BATCH = 16
_WORKERS = 2
_STDIN = 0


class Photo(NamedTuple):
    """A photo, ready for the network, or why it is not."""

    path: str
    content: Any
    error: str | None = None


class Names:
    """The photos that arguments stand for, each once; "-" stands for names on stdin, one a line.

    Parameters
    ----------
    patterns : sequence of str
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.known: int | None = None if "-" in patterns else 0
        self._patterns = deque(patterns)
        self._found: deque[Photo] = deque()
        self._seen: set[str] = set()
        self._lines = _Lines()
        if self.known is not None:
            while self._patterns:
                self._add(self._patterns.popleft())
            self.known = len(self._found)

    def next(self, wait: bool) -> Photo | None:
        """Return the next one, without content yet; None where there is none, or not yet and nobody waits."""
        while not self._found and self._patterns:
            if self._patterns[0] != "-":
                self._add(self._patterns.popleft())
                continue
            line = self._lines.next(wait)
            if line is not None:
                self._add(line)
            elif self._lines.ended:
                self._patterns.popleft()
            else:
                return None
        return self._found.popleft() if self._found else None

    def _add(self, pattern: str) -> None:
        try:
            paths = [os.fspath(path) for path in find_images([pattern])]
        except (FileNotFoundError, ValueError) as error:
            self._found.append(Photo(pattern, None, str(error)))
            return
        self._found.extend(Photo(path, None) for path in paths if path not in self._seen)
        self._seen.update(paths)


class _Lines:
    """Lines of stdin, read from its descriptor: a line that was read but not used is not hidden in a buffer."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""
        self._whole: deque[bytes] = deque()

    def next(self, wait: bool) -> str | None:
        """Return the next line that is not empty; None at the end, or where there is none yet and nobody waits."""
        while True:
            while self._whole:
                if line := self._whole.popleft().rstrip(b"\r"):
                    return os.fsdecode(line)
            if self.ended or not (wait or select.select([_STDIN], [], [], 0)[0]):
                return None
            content = os.read(_STDIN, 1 << 16)
            self.ended = not content
            *whole, self._rest = (self._rest + content).split(b"\n") if content else [self._rest, b""]
            self._whole.extend(whole)


def batches(names: Names, load: Callable[[str], Any]) -> Iterator[list[Photo]]:
    """Yield photos in the order of their names, as soon as they are decoded, in groups of 1, 2, 4, 8 or 16.

    Parameters
    ----------
    names : Names
    load : callable
        Makes content of a path, in a thread; an ImageError or OSError that it raises becomes the photo's error.
    """
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="fastcnn-photos")
    pending: deque[Future[Photo]] = deque()
    try:
        while True:
            while len(pending) < 2 * BATCH and (photo := names.next(wait=not pending)) is not None:
                pending.append(pool.submit(_loaded, photo, load))
            if not pending:
                return
            pending[0].result()
            ready = next((i for i, future in enumerate(pending) if not future.done()), len(pending))
            yield [pending.popleft().result() for _ in range(_size(ready))]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _size(ready: int) -> int:
    """Return the size of the next group: few sizes, as the network is compiled for each."""
    return min(BATCH, 1 << (ready.bit_length() - 1))


def _loaded(photo: Photo, load: Callable[[str], Any]) -> Photo:
    if photo.error is not None:
        return photo
    try:
        return Photo(photo.path, load(photo.path))
    except (ImageError, OSError) as error:
        return Photo(photo.path, None, str(error))
