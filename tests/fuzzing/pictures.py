"""Changes of images: of the chunks of PNG, whose checksums then hold, of JPEG's segments, of fields and bytes."""

from __future__ import annotations

import random
import struct
import zlib

from fuzzing.changes import changed_bytes, number

_PNG = b"\x89PNG\r\n\x1a\n"


def changed_image(content: bytes, rng: random.Random) -> bytes:
    """An image with one change, in most cases one that leaves its container intact."""
    if rng.random() < 0.7:
        if content.startswith(_PNG):
            return _changed_png(content, rng)
        if content.startswith(b"\xff\xd8"):
            return _changed_jpeg(content, rng)
    return changed_bytes(content, rng)


def _changed_png(content: bytes, rng: random.Random) -> bytes:
    chunks = []
    at = len(_PNG)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return changed_bytes(content, rng)
    i = rng.randrange(len(chunks))
    kind, data = chunks[i]
    match rng.randrange(5):
        case 0:
            chunks.insert(i, rng.choice(chunks))
        case 1:
            del chunks[i]
        case 2 if kind == b"IDAT":
            chunks[i] = (kind, zlib.compress(changed_bytes(_inflated(data), rng) * rng.choice((1, 1, 100))))
        case 3 if kind == b"IHDR":
            chunks[i] = (kind, struct.pack(">II", number(rng) % 2**32, number(rng) % 2**32) + data[8:])
        case _:
            chunks[i] = (kind, changed_bytes(data, rng))
    return _PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def _changed_jpeg(content: bytes, rng: random.Random) -> bytes:
    """Another, doubled or missing segment in front of the scan, its length put right."""
    segments = []
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segments.append((content[at + 1], content[at + 4 : at + 2 + length]))
        at += 2 + max(2, length)
    if not segments:
        return changed_bytes(content, rng)
    i = rng.randrange(len(segments))
    match rng.randrange(4):
        case 0:
            segments.insert(i, rng.choice(segments))
        case 1:
            del segments[i]
        case 2:
            segments[i] = (rng.randrange(0xC0, 0x100), segments[i][1])
        case _:
            segments[i] = (segments[i][0], changed_bytes(segments[i][1], rng)[:65533])
    packed = (bytes([0xFF, kind]) + struct.pack(">H", len(data) + 2) + data for kind, data in segments)
    return content[:2] + b"".join(packed) + content[at:]
