"""Random changes of bytes and of JSON trees, such as damage and malice would make: what all formats share."""

from __future__ import annotations

import random
import struct
from typing import Any

NUMBERS = (-(2**63), -(2**31), -2, -1, 0, 1, 2, 3, 7, 8, 63, 64, 255, 256, 4096, 65535, 2**24, 2**31 - 1, 2**31, 2**32,
           2**40, 2**63 - 1, 2**64)  # fmt: skip
SMALL = (0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17)
OTHERS = (None, True, False, 0.5, -0.0, 1e300, "", "x", [], {}, [[]], [0] * 70)
_INTEGERS = ("<H", ">H", "<I", ">I", "<Q", ">Q")


def number(rng: random.Random) -> int:
    """A size, or what somebody may put in its place."""
    return rng.choice(SMALL if rng.random() < 0.6 else NUMBERS)


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """One change: a byte, an integer, or a piece that is missing, doubled, moved, or cut off."""
    if not content:
        return bytes([rng.randrange(256)])
    at = rng.randrange(len(content)) if rng.random() < 0.6 else rng.randrange(min(64, len(content)))
    size = rng.choice((1, 2, 4, 8, 16, rng.randrange(1, len(content) + 1)))
    match rng.randrange(8):
        case 0 | 1:
            return content[:at] + bytes([rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))]) + content[at + 1 :]
        case 2 | 3:
            form = rng.choice(_INTEGERS)
            width = struct.calcsize(form)
            return content[:at] + struct.pack(form, number(rng) % 256**width) + content[at + width :]
        case 4:
            return content[:at] + content[at + size :]
        case 5:
            return content[: at + size] + content[at : at + size] + content[at + size :]
        case 6:
            other = rng.randrange(len(content))
            return content[:at] + content[other : other + size] + content[at:]
    return content[:at]


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """All (container, key) of a tree."""
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left:
        container = left.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                left.append(container[key])
    return found


def change_tree(tree: Any, rng: random.Random, words: tuple[str, ...] = ()) -> None:
    """One change of a tree of dicts and lists, in place: a value for another, one missing or one too many."""
    places = _places(tree)
    if not places:
        return
    container, key = rng.choice(places)
    value = container[key]
    kind = rng.randrange(8)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, list):
        container.insert(key, value)
    elif kind == 2:
        other, place = rng.choice(places)
        container[key], other[place] = other[place], container[key]
    elif kind == 3:
        container[key] = rng.choice(OTHERS)
    elif isinstance(value, str):
        container[key] = rng.choice(words) if words else value[: rng.randrange(len(value) + 1)]
    elif isinstance(value, list) and value:
        value[rng.randrange(len(value))] = number(rng)
    else:
        container[key] = number(rng)
