"""Names in messages: lists that fit a line or two, what was probably meant, and names that are no UTF-8."""

from __future__ import annotations

import os
from collections.abc import Iterable

__all__ = ["listed", "meant", "one_of", "readable"]

_MOST = 10
_LONGEST = 60


def listed(names: Iterable[object], most: int = _MOST) -> str:
    """Return names separated by commas, the first of them where there are many, long ones cut.

    Examples
    --------
    >>> listed(["cat", "dog"]), listed(range(1000), most=3)
    ('cat, dog', '0, 1, 2, … (997 more)')
    """
    texts = [text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for text in map(str, names)]
    rest = len(texts) - most
    return ", ".join([*texts[:most], *([f"… ({rest} more)"] if rest > 0 else [])])


def meant(given: object, names: Iterable[str]) -> str:
    """Return a question that names what is most similar, or nothing where nothing is.

    Examples
    --------
    >>> meant("resnet81", ["lenet", "resnet18"]), meant("x", ["lenet"])
    (', did you mean resnet18?', '')
    """
    from difflib import get_close_matches  # slow to import, and only needed here

    close = get_close_matches(str(given)[:_LONGEST], names, 1)
    return f", did you mean {close[0]}?" if close else ""


def one_of(given: object, names: Iterable[str]) -> str:
    """Return what was expected in place of a name: the similar one, or a list.

    Examples
    --------
    >>> one_of("dgo", ["cat", "dog"]), one_of("bird", ["cat", "dog"])
    ('expected one of cat, dog, did you mean dog?', 'expected one of cat, dog')
    """
    known = list(names)
    return f"expected one of {listed(known)}{meant(given, known)}"


def readable(name: str) -> str:
    """Return the name of a file as text that UTF-8 can hold; bytes that are no UTF-8 are taken for Latin-1.

    Examples
    --------
    >>> readable("caf\\udce9"), readable("café")
    ('café', 'café')
    """
    try:
        return os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        return os.fsencode(name).decode("latin-1")
    except UnicodeEncodeError:  # the file system's encoding knows less than the name needs
        return name
