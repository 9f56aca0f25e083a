"""PyTorch checkpoints for tests, assembled opcode by opcode: only hostile ones need more than PyTorch writes."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

import numpy as np


class Code(bytes):
    """Opcodes that push one value."""


def code_of(value: object) -> Code:
    """Return the opcodes that push a value."""
    match value:
        case Code():
            return value
        case None | True | False:
            return Code({None: b"N", True: b"\x88", False: b"\x89"}[value])
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return Code(b"\x8a" + bytes([len(data)]) + data)
        case str():
            data = value.encode("utf-8", "surrogatepass")
            return Code(b"X" + struct.pack("<I", len(data)) + data)
        case tuple():
            return Code(b"(" + b"".join(map(code_of, value)) + b"t")
        case list():
            return Code(b"](" + b"".join(map(code_of, value)) + b"e")
        case dict():
            pairs = b"".join(code_of(key) + code_of(item) for key, item in value.items())
            return Code(b"}(" + pairs + b"u")
    raise TypeError(type(value))


def named(module: str, name: str) -> Code:
    return Code(f"c{module}\n{name}\n".encode())


def call(function: Code, *arguments: object) -> Code:
    return Code(function + code_of(arguments) + b"R")


def storage(count: object = 6, kind: str = "FloatStorage", key: object = "0", *view: object) -> Code:
    return Code(code_of(("storage", named("torch", kind), key, "cpu", count, *view)) + b"Q")


REBUILD = named("torch._utils", "_rebuild_tensor_v2")
ORDERED = named("collections", "OrderedDict")


def tensor(
    source: object = None,
    offset: object = 0,
    shape: object = (2, 3),
    strides: object = (3, 1),
    function: Code = REBUILD,
) -> Code:
    return call(function, storage() if source is None else source, offset, shape, strides, False, call(ORDERED))


def pickled(value: object) -> bytes:
    return b"\x80\x02" + code_of(value) + b"."


NUMBERS = {"0": np.arange(6, dtype=np.float32)}


def zipped(
    root: object,
    storages: Mapping[str, np.ndarray] = NUMBERS,
    byteorder: bytes | None = b"little",
    folder: str = "net/",
    others: Mapping[str, bytes] = {},
    method: int = zipfile.ZIP_STORED,
) -> bytes:
    """Return a checkpoint in the zip format."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(folder + "data.pkl", pickled(root))
        if byteorder is not None:
            archive.writestr(folder + "byteorder", byteorder)
        for key, numbers in storages.items():
            archive.writestr(f"{folder}data/{key}", numbers.tobytes())
        for name, content in others.items():
            archive.writestr(name, content)
    return file.getvalue()


def flat(
    root: object,
    storages: Mapping[str, np.ndarray] = NUMBERS,
    keys: object = None,
    magic: object = 0x1950A86A20F9469CFC6C,
    version: object = 1001,
) -> bytes:
    """Return a checkpoint in the flat format."""
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    pickles = [magic, version, facts, root, list(storages) if keys is None else keys]
    data = (struct.pack("<q", numbers.size) + numbers.tobytes() for numbers in storages.values())
    return b"".join(map(pickled, pickles)) + b"".join(data)
