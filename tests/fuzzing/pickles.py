"""Changes of PyTorch checkpoints: of the opcodes of their pickles, of the archive's entries, and of the bytes."""

from __future__ import annotations

import io
import pickletools
import random
import zipfile
from struct import pack

from checkpoints import Code, code_of, named
from fuzzing.changes import changed_bytes, number

_GLOBALS = (
    ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor"), ("torch", "FloatStorage"),
    ("torch._utils", "_rebuild_parameter"), ("torch", "Size"), ("torch", "BFloat16Storage"), ("torch", "BoolStorage"),
    ("collections", "OrderedDict"), ("builtins", "eval"), ("os", "system"),
)  # fmt: skip
_PLAIN = (b"(", b"t", b"]", b"}", b")", b"a", b"e", b"s", b"u", b"N", b"\x88", b"R", b"b", b"Q", b"\x85", b"\x86",
          b"\x87", b"\x94", b"0", b"2", b"\x81", b"c", b"\x93", b".")  # fmt: skip
_STRINGS = ("storage", "state_dict", "model", "0", "1", "cpu", "", "x" * 300)


def changed_checkpoint(content: bytes, rng: random.Random) -> bytes:
    """A checkpoint of either format with one change; in most cases of its pickle."""
    kind = rng.randrange(5)
    if kind == 0:
        return changed_bytes(content, rng)
    try:
        if content.startswith(b"PK"):
            return _changed_archive(content, rng, within_pickle=kind > 1)
        return _changed_pickles(content, rng)
    except Exception:  # it is too damaged for Python's own readers
        return changed_bytes(content, rng)


def _changed_archive(content: bytes, rng: random.Random, within_pickle: bool) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    at = rng.randrange(len(entries))
    if within_pickle:
        at = next(i for i, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
        entries[at] = (entries[at][0], _changed_pickles(entries[at][1], rng))
    else:
        name, data = entries[at]
        match rng.randrange(5):
            case 0:
                entries.pop(at)
            case 1:
                entries.append((rng.choice(entries)[0], data))
            case 2:
                entries[at] = (rng.choice(("../" + name, "/" + name, name + "\0", name * 50, "constants.pkl")), data)
            case _:
                entries[at] = (name, changed_bytes(data, rng))
    file = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.05 else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo(name or "x"), data, method)
    return file.getvalue()


def _changed_pickles(content: bytes, rng: random.Random) -> bytes:
    """Pickles, one after the other, with an opcode that is changed, moved, missing or new."""
    steps, end = _steps(content)
    at = rng.randrange(len(steps))
    match rng.randrange(6):
        case 0:
            del steps[at]
        case 1:
            steps.insert(at, steps[rng.randrange(len(steps))])
        case 2:
            other = rng.randrange(len(steps))
            steps[at], steps[other] = steps[other], steps[at]
        case 3:
            steps.insert(at, _new_step(rng))
        case 4:
            begin = rng.randrange(len(steps))
            steps[at:at] = steps[begin : begin + rng.randrange(1, 12)] * rng.choice((1, 1, 2, 50))
        case _:
            integers = [i for i, step in enumerate(steps) if step[:1] in (b"\x8a", b"K", b"M", b"J")]
            if integers:
                steps[rng.choice(integers)] = code_of(number(rng))
    return b"".join(steps) + content[end:]


def _steps(content: bytes) -> tuple[list[bytes], int]:
    """All opcodes with their arguments, and where the last pickle ends."""
    steps: list[bytes] = []
    end = 0
    while content[end : end + 1] == b"\x80":
        starts = [position for _, _, position in pickletools.genops(content[end:]) if position is not None]
        stop = starts[-1] + 1
        steps += [content[end + a : end + b] for a, b in zip(starts, [*starts[1:], stop], strict=True)]
        end += stop
    return steps, end


def _new_step(rng: random.Random) -> bytes:
    match rng.randrange(6):
        case 0:
            return code_of(number(rng))
        case 1:
            return code_of(rng.choice(_STRINGS))
        case 2:
            return named(*rng.choice(_GLOBALS))
        case 3:
            return rng.choice((b"h", b"q")) + bytes([rng.randrange(256)])
        case 4:
            return Code(rng.choice((b"r", b"j", b"X", b"U", b"B")) + pack("<I", number(rng) % 2**32))
    return rng.choice(_PLAIN)
