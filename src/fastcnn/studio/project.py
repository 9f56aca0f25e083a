"""A project: a folder with a sub-folder of photos for each class, which `fastcnn train` takes as it is.

The studio's own state lies in its folder ``.fastcnn``. Nothing is deleted: what goes, goes to ``.fastcnn/trash``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from fastcnn._system import has_locks, lock
from fastcnn._web import Refused, Upload, inside, safe_name, safe_stem
from fastcnn.io._find import is_hidden
from fastcnn.studio.journal import Entry, Journal
from fastcnn.studio.listing import Listing, Photo, listing_of, places_of
from fastcnn.training.layouts import PARTS

__all__ = ["STATE", "Project"]

STATE = ".fastcnn"
_MOST_CLASSES = 1000
_GLANCE = 2.0  # seconds in which the folder is not read again to find a photo


class Project:
    """The photos of a folder, and what is done to them. One process at a time has a project.

    Parameters
    ----------
    root : path-like
        Made where it does not exist.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    ValueError
        If another process has the project.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     project = Project(folder)
    ...     name = project.create_class("cat")
    ...     project.listing().classes, project.undo()
    ...     project.close()
    (['cat'], 'made class cat')
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(os.path.realpath(root))
        self.root.mkdir(parents=True, exist_ok=True)
        self.state = inside(self.root, STATE)
        self.state.mkdir(exist_ok=True)
        for name in ("trash", "runs", "thumbs", "incoming"):
            inside(self.state, name).mkdir(exist_ok=True)
        self._lock = threading.RLock()
        self._file = self._locked()
        (self.state / ".gitignore").write_text("*\n", encoding="utf-8")
        self._journal = Journal(self.state / "journal.jsonl")
        self._seen: tuple[float, Listing] | None = None

    def _locked(self) -> int:
        descriptor = os.open(self.state / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        if has_locks():
            try:
                lock(descriptor, wait=False)
            except OSError as error:
                os.close(descriptor)
                raise ValueError(f"{self.root}: is open in another studio; close that one first") from error
        return descriptor

    def close(self) -> None:
        """Let other processes have the project."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # -- looking --------------------------------------------------------------------------------------

    def listing(self, max_age: float = 0.0) -> Listing:
        """Return what the folder holds now; with `max_age`, what it held that many seconds ago at the earliest.

        What this project itself has changed is always in it.
        """
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen[0] >= max_age:
                self._seen = time.monotonic(), listing_of(self.root)
            return self._seen[1]

    def photo(self, key: str) -> Photo:
        """Return the photo that an id stands for.

        Raises
        ------
        Refused
            With status 404 if there is none.
        """
        found = self.listing(_GLANCE).photos.get(key) or self.listing().photos.get(key)
        if found is None:
            raise Refused(404, "photo: there is none of this id any more")
        return found

    def file(self, photo: Photo) -> Path:
        """Return the path of a photo, none of whose parts is a link."""
        return inside(self.root, *photo.path.split("/"))

    def undoable(self) -> str:
        """What would be undone, in words; "" where there is nothing."""
        with self._lock:
            last = self._journal.last
            return f"{last[0].what}, {len(last)} times" if len(last) > 1 else last[0].what if last else ""

    def check_version(self, given: str | None) -> None:
        """Refuse a change that was decided on by looking at another state of the folder: of another tab, say.

        Raises
        ------
        Refused
            With status 412.
        """
        if given is None or given.strip('"') != self.listing().version:
            raise Refused(412, "the photos have changed meanwhile, in another window or on the disk: look again")

    # -- changing -------------------------------------------------------------------------------------

    def create_class(self, given: object) -> str:
        """Make a class without photos, and return its name."""
        name = self._new_class(given)
        with self._lock:
            if name in self.listing().classes:
                raise Refused(409, f"class {name!r}: there is one of that name")
            path = self._folder_of(name)
            self._do(Entry(_new_key(), f"made class {name}", [(None, path)]))
            (self.root / path).mkdir()
        return name

    def _new_class(self, given: object) -> str:
        name = safe_name(given, "class")
        if name.lower() in PARTS:
            raise Refused(400, f"class {name!r}: is the name of a part of a data set, expected that of a class")
        if len(self.listing().classes) >= _MOST_CLASSES:
            raise Refused(400, f"classes: there are {_MOST_CLASSES} already")
        return name

    def _folder_of(self, label: str) -> str:
        """The folder of a class to learn from, relative to the project."""
        places = places_of(self.root)
        place = places.get("train", places.get("", self.root))
        inside(self.root, *place.relative_to(self.root).parts, label)
        return (place.relative_to(self.root) / label).as_posix()

    def rename_class(self, old: str, given: object) -> str:
        """Give a class another name, and return it."""
        with self._lock:
            listing = self.listing()
            self._known(listing, old)
            name = self._new_class(given)
            if name in listing.classes:
                raise Refused(409, f"class {name!r}: there is one of that name")
            self._do(Entry(_new_key(), f"renamed {old} to {name}", self._folder_moves(old, name)), moves=True)
        return name

    def _folder_moves(self, old: str, new: str) -> list[tuple[str | None, str]]:
        moves: list[tuple[str | None, str]] = []
        for place in places_of(self.root).values():
            below = place.relative_to(self.root)
            if (place / old).is_dir():
                inside(self.root, *below.parts, old)
                moves.append(((below / old).as_posix(), (below / new).as_posix()))
        return moves

    def remove_class(self, label: str) -> None:
        """Take a class and its photos away."""
        with self._lock:
            self._known(self.listing(), label)
            moves = [(before, self._in_trash(before)) for before, _ in self._folder_moves(label, label) if before]
            self._do(Entry(_new_key(), f"took class {label} away", [*moves]), moves=True)

    def add(self, label: str, name: str, upload: Upload, batch: str = "") -> str:
        """Keep a photo, and return its path relative to the project.

        Parameters
        ----------
        label : str
            A class that exists.
        name : str
            As the client calls the file: no more than a hint.
        upload : Upload
        batch : str
            Photos of one batch are undone at once.
        """
        temporary = self.state / "incoming" / f"{_new_key()}.tmp"
        try:
            with open(temporary, "xb") as file:
                file.write(upload.content)
                file.flush()
                os.fsync(file.fileno())
            with self._lock:
                folder = self._folder_of(label)
                if is_hidden(label) or not (self.root / folder).is_dir():  # a class may be in other parts alone
                    self._known(self.listing(), label)
                    (self.root / folder).mkdir(exist_ok=True)
                path = self._free(f"{folder}/{safe_stem(name)}{upload.suffix}")
                self._do(Entry(batch or _new_key(), f"added a photo to {label}", [(None, path)]))
                os.rename(temporary, self.root / path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def move(self, keys: Iterable[str], label: str) -> int:
        """Move photos to a class, and return how many were not there yet."""
        with self._lock:
            listing = self.listing()
            self._known(listing, label)
            taken: set[str] = set()
            moves: list[tuple[str | None, str]] = []
            for photo in self._photos(listing, keys):
                if photo.label == label:
                    continue
                place = places_of(self.root).get(photo.part, self.root).relative_to(self.root)
                inside(self.root, *place.parts, label)
                path = self._free((place / label / photo.path.rpartition("/")[2]).as_posix(), taken)
                taken.add(path)
                moves.append((photo.path, path))
            if moves:
                self._do(Entry(_new_key(), f"moved {_counted(len(moves))} to {label}", moves), moves=True)
        return len(moves)

    def remove(self, keys: Iterable[str]) -> int:
        """Take photos away, and return how many."""
        with self._lock:
            photos = self._photos(self.listing(), keys)
            moves: list[tuple[str | None, str]] = [(photo.path, self._in_trash(photo.path)) for photo in photos]
            if moves:
                self._do(Entry(_new_key(), f"took {_counted(len(moves))} away", moves), moves=True)
        return len(moves)

    def undo(self) -> str:
        """Take back what was done last, and return what that was; "" where there is nothing."""
        with self._lock:
            told, last, self._seen = self.undoable(), self._journal.last, None
            for entry in last:
                for before, after in reversed(entry.moves):
                    self._take_back(before, after)
            if last:
                self._journal.forget(last[0].batch)
        return told

    def _take_back(self, before: str | None, after: str) -> None:
        """Undo a movement, as far as it was made and others have not changed it since."""
        source = inside(self.root, *after.split("/"))
        if not os.path.lexists(source):
            return
        target = self._free(self._in_trash(after) if before is None else before)
        place = inside(self.root, *target.split("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, place)

    # -- parts of changes -----------------------------------------------------------------------------

    def _do(self, entry: Entry, moves: bool = False) -> None:
        """Note what is about to be done; with `moves`, do it."""
        self._journal.add(entry)
        self._seen = None
        for before, after in entry.moves if moves else ():
            assert before is not None
            source, target = (inside(self.root, *path.split("/")) for path in (before, after))
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(source, target)

    def _known(self, listing: Listing, label: object) -> None:
        if label not in listing.classes:
            raise Refused(404, f"class {str(label)[:60]!r}: there is none of that name")

    def _photos(self, listing: Listing, keys: Iterable[str]) -> list[Photo]:
        wanted = list(dict.fromkeys(keys))
        if any(key not in listing.photos for key in wanted):
            raise Refused(404, "photos: some are not there any more: look again")
        return [listing.photos[key] for key in wanted]

    def _in_trash(self, path: str) -> str:
        return f"{STATE}/trash/{_new_key()}/{path}"

    def _free(self, path: str, taken: Iterable[str] = ()) -> str:
        """A path like this one, with a number where there is a file already."""
        stem, dot, suffix = path.rpartition(".")
        if not dot or "/" in suffix:
            stem, dot, suffix = path, "", ""
        number, free = 1, path
        while free in taken or os.path.lexists(self.root / free):
            number += 1
            free = f"{stem} ({number}){dot}{suffix}"
        return free


def _new_key() -> str:
    return os.urandom(8).hex()


def _counted(count: int) -> str:
    return "1 photo" if count == 1 else f"{count} photos"
