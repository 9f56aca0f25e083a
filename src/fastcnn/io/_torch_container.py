"""The containers of PyTorch checkpoints: the places of the pickle and the storages in the zip format and the flat one.

zip (PyTorch 1.6 and newer), uncompressed, all below one folder:
    <folder>/data.pkl, <folder>/byteorder ("little" or "big"; absent: little), <folder>/data/<key>
flat (older):
    Five pickles: magic number, version 1001, facts about the system, the object, the list of storage keys.
    Then for each key the number of elements (int64) and the elements, all little-endian.

_torch_tensor.py knows what the pickle may hold, _unpickler.py reads it.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Callable
from struct import error as StructError
from typing import IO, BinaryIO, NamedTuple, cast

from fastcnn.errors import ModelLoadError
from fastcnn.io._torch_tensor import ALLOWED, Storage, StorageTable
from fastcnn.io._unpickler import MAX_PICKLE_BYTES, DataUnpickler
from fastcnn.ops.budget import Budget, Cost

__all__ = ["Checkpoint", "is_flat", "is_zip", "open_flat", "open_zip"]

_ZIP_START = b"PK\x03\x04"
_PICKLE_START = b"\x80"  # of every pickle of protocol 2 or newer
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_VERSION = 1001

# zipfile reads all of a directory at once. This limit has room for some 80 000 storages.
_MAX_READ = 8 << 20
_DIRECTORY_GROWTH = 16  # the most bytes of objects for a byte of the directory
_CHUNK = 1 << 20
_UNSAFE_NAME = re.compile(r"^/|^[A-Za-z]:|\\|(^|/)\.\.(/|$)")
_ENCRYPTED = 0x1
# Exceptions of the zipfile module for damaged files. It documents only the first.
_ZIP_ERRORS = (
    zipfile.BadZipFile, EOFError, OverflowError, RuntimeError, ValueError, StructError,
    zlib.error,
)  # fmt: skip


class Checkpoint(NamedTuple):
    """An opened checkpoint. The tensors of its object have no elements yet: `read_into` reads those of a storage."""

    root: object
    byte_order: str
    read_into: Callable[[Storage, memoryview], None]


def is_zip(start: bytes) -> bool:
    """Return whether a file with these first bytes is a zip archive."""
    return start.startswith(_ZIP_START)


def is_flat(start: bytes) -> bool:
    """Return whether a file with these first bytes is a pickle, as a checkpoint in the flat format is."""
    return start.startswith(_PICKLE_START)


def open_flat(file: BinaryIO, size: int, budget: Budget) -> Checkpoint:
    """Read all but the elements of a checkpoint of `size` bytes in the flat format."""
    file.seek(0)
    storages = StorageTable()
    content = file.read(min(size, MAX_PICKLE_BYTES, budget.bytes))
    pickles = DataUnpickler(content, ALLOWED, storages.persistent_load, budget)
    magic_number = pickles.load()
    if type(magic_number) is not int or magic_number != _MAGIC_NUMBER:
        raise ModelLoadError("a pickle, but without PyTorch's magic number: not a checkpoint")
    version = pickles.load()
    if type(version) is not int or version != _VERSION:
        raise ModelLoadError(f"format version is not {_VERSION}")
    pickles.load()
    root = pickles.load()
    starts = _locate_flat(file, size, storages, pickles)

    def read_into(storage: Storage, out: memoryview) -> None:
        file.seek(starts[storage.key])
        _fill(file, out)

    return Checkpoint(root, "<", read_into)


def _locate_flat(file: BinaryIO, size: int, storages: StorageTable, pickles: DataUnpickler) -> dict[str, int]:
    """Return where the elements of each storage start. All storages must fill the file exactly."""
    keys = pickles.load()
    position = pickles.position
    if type(keys) is not list:
        raise ModelLoadError("list of storage keys is not a list")
    starts: dict[str, int] = {}
    for key in keys:
        if type(key) is not str or key not in storages or key in starts:
            raise ModelLoadError("list of storage keys names an unknown storage, or one twice")
        storage = storages[key]
        file.seek(position)
        count = int.from_bytes(file.read(8), "little", signed=True)
        starts[key] = position + 8
        position = starts[key] + storage.nbytes
        if position > size:
            raise ModelLoadError(f"truncated: storage {key!r} ends at byte {position} of {size}")
        if count != storage.count:
            raise ModelLoadError(f"storage {key!r} has {count} elements, expected {storage.count}")
    if len(starts) < len(storages):
        raise ModelLoadError("list of storage keys is incomplete")
    if position != size:
        raise ModelLoadError(f"{size - position} bytes left over behind the last storage")
    return starts


def _fill(file: IO[bytes], out: memoryview) -> None:
    """Fill `out` from an open file, a piece at a time."""
    for start in range(0, len(out), _CHUNK):
        piece = out[start : start + _CHUNK]
        data = file.read(len(piece))
        if len(data) != len(piece):
            raise ModelLoadError("truncated: file ends within a storage")
        piece[:] = data


def open_zip(file: BinaryIO, size: int, budget: Budget) -> Checkpoint:
    """Read all but the elements of a checkpoint of `size` bytes in the zip format."""
    bounded = _BoundedFile(file, size, budget)
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], bounded))
        bounded.budget = None
        folder = _folder(archive.namelist())
        entries = _entries(archive)
        storages = StorageTable()
        data = _read_small(archive, entries[folder + "data.pkl"], MAX_PICKLE_BYTES)
        root = DataUnpickler(data, ALLOWED, storages.persistent_load, budget).load()
        byte_order = _byte_order(archive, entries.get(folder + "byteorder"))
    except ModelLoadError:
        raise
    except _ZIP_ERRORS as error:
        raise ModelLoadError(f"damaged zip archive: {error}") from error
    for storage in storages.values():
        entry = entries.get(f"{folder}data/{storage.key}")
        if entry is None:
            raise ModelLoadError(f"storage {storage.key!r} is missing from the archive")
        if entry.file_size != storage.nbytes:
            raise ModelLoadError(f"storage {storage.key!r} has {entry.file_size} bytes, expected {storage.nbytes}")

    def read_into(storage: Storage, out: memoryview) -> None:
        try:
            _read_entry(archive, entries[f"{folder}data/{storage.key}"], out)
        except ModelLoadError:
            raise
        except _ZIP_ERRORS as error:
            raise ModelLoadError(f"storage {storage.key!r} is damaged: {error}") from error

    return Checkpoint(root, byte_order, read_into)


class _BoundedFile:
    """The methods of a file that zipfile uses, with limits to what a damaged directory makes it read. As long as there
    is a budget, a read takes the memory of a directory from it."""

    def __init__(self, file: BinaryIO, size: int, budget: Budget) -> None:
        self._file = file
        self._size = size
        self.tell = file.tell
        self.budget: Budget | None = budget

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._file.tell(), io.SEEK_END: self._size}[whence]
        if not 0 <= start + offset <= self._size:
            raise ModelLoadError("damaged zip archive: it refers to a place outside the file")
        return self._file.seek(start + offset)

    def read(self, count: int = -1) -> bytes:
        rest = self._size - self._file.tell()
        count = rest if count < 0 else min(count, rest)
        if count > _MAX_READ:
            raise ModelLoadError(f"zip archive has a directory of more than {_MAX_READ} bytes")
        if self.budget is not None:
            self.budget.require(Cost(_DIRECTORY_GROWTH * count, 0), "zip archive: its directory")
        return self._file.read(count)


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's entries by name. Entries that torch.save does not write are refused."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename
        if _UNSAFE_NAME.search(entry.orig_filename) or "\0" in entry.orig_filename:
            raise ModelLoadError(f"zip archive has an entry with the unsafe name {name[:80]!r}")
        if name in entries:
            raise ModelLoadError(f"zip archive has two entries named {name[:80]!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ModelLoadError(f"zip archive has the compressed entry {name[:80]!r}, expected none")
        if entry.flag_bits & _ENCRYPTED:
            raise ModelLoadError(f"zip archive has the encrypted entry {name[:80]!r}")
        entries[name] = entry
    return entries


def _folder(names: list[str]) -> str:
    """Return the folder of data.pkl, with a slash at its end unless it is the archive itself."""
    found = [name for name in names if name.rpartition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise ModelLoadError(f"zip archive with {len(found)} entries data.pkl, expected 1: not a checkpoint")
    folder = found[0].removesuffix("data.pkl")
    if folder + "constants.pkl" in names:
        raise ModelLoadError("a TorchScript program, expected a state_dict saved by torch.save")
    return folder


def _byte_order(archive: zipfile.ZipFile, entry: zipfile.ZipInfo | None) -> str:
    if entry is None:
        return "<"
    content = _read_small(archive, entry, len("little"))
    orders = {b"little": "<", b"big": ">"}
    if content not in orders:
        raise ModelLoadError(f"byteorder is {content!r}, expected b'little' or b'big'")
    return orders[content]


def _read_small(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    if entry.file_size > limit:
        raise ModelLoadError(f"{entry.filename[:80]!r} has {entry.file_size} bytes, expected at most {limit}")
    content = bytearray(entry.file_size)
    _read_entry(archive, entry, memoryview(content))
    return bytes(content)


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, out: memoryview) -> None:
    with archive.open(entry) as file:
        _fill(file, out)
        file.read(1)  # zipfile compares the checksum at the end of an entry
