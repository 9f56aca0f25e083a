"""Names that a browser gives, as names of files and folders: none of them leads anywhere else.

A name is one part of a path on every system. Links are not followed.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from pathlib import Path

from fastcnn._web.policy import Refused

__all__ = ["inside", "safe_name", "safe_stem"]

_LONGEST = 100  # bytes: systems take 255, and numbers and suffixes are added
# Devices of Windows, whatever their suffix.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
_SEPARATING = frozenset('/\\:*?"<>|')


def safe_name(given: object, what: str) -> str:
    """Return a name that can be that of a file or folder on every system, in Unicode's composed form.

    Parameters
    ----------
    given : object
        What a client has sent.
    what : str
        What is named, for the message.

    Raises
    ------
    Refused
        With status 400, if no file could have that name.

    Examples
    --------
    >>> safe_name(" Golden retriever ", "class")
    'Golden retriever'
    """
    if not isinstance(given, str):
        raise Refused(400, f"{what}: expected a name")
    name = unicodedata.normalize("NFC", given).strip()
    why = _fault(name)
    if why:
        shown = "".join(letter if letter.isprintable() else "�" for letter in name[:40])
        raise Refused(400, f"{what} {shown!r}: {why}")
    return name


def _fault(name: str) -> str:
    """Why a name is none; "" where it is one."""
    if not name:
        return "is empty, expected a name"
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST:
        return f"is too long, expected {_LONGEST} bytes at most"
    if name[0] == "." or name[-1] == ".":
        return "begins or ends with a dot"
    if _SEPARATING & set(name):
        return 'holds one of / \\ : * ? " < > |'
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in name):
        return "holds a letter that nobody sees"
    if _DEVICES.fullmatch(name):
        return "is the name of a device on some systems"
    return ""


def safe_stem(given: str) -> str:
    """Return what of a file's name can be kept: its last part, without the suffix and without what is not safe.

    Examples
    --------
    >>> safe_stem("holiday/IMG 1.jpeg"), safe_stem("../.."), safe_stem("nul.png")
    ('IMG 1', 'photo', 'photo')
    """
    last = unicodedata.normalize("NFC", re.split(r"[/\\]", given)[-1])
    stem = last.rpartition(".")[0] or last
    plain = "".join(letter for letter in stem if letter.isalnum() or letter in " _-()").strip()[:40]
    plain = plain.encode("utf-8", "ignore")[:80].decode("utf-8", "ignore").strip()
    return "photo" if not plain or _fault(plain) else plain


def inside(root: Path, *names: str) -> Path:
    """Return a path below a folder, whose parts exist as they are named, or not at all: none of them is a link.

    Raises
    ------
    Refused
        With status 400 if a part is no name, and 403 if one is a link.

    Examples
    --------
    >>> inside(Path("photos"), "cat", "1.jpg").as_posix()
    'photos/cat/1.jpg'
    """
    path = Path(root)
    for name in names:
        if name in ("", ".", "..") or os.sep in name or "\0" in name or (os.altsep and os.altsep in name):
            raise Refused(400, f"{name[:40]!r}: expected the name of a file")
        path = path / name
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except FileNotFoundError:
            is_link = False
        except OSError as error:
            raise Refused(400, f"{name[:40]!r}: {error.strerror}") from error
        if is_link:
            raise Refused(403, f"{name[:40]!r}: a link, which is not followed")
    return path
