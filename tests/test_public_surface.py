"""What the last release made public is still there, and is called as before, unless CHANGELOG.md says otherwise."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path

import pytest
from public_surface import as_text, broken, from_text, surface

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def version_of(path: Path) -> tuple[int, ...]:
    return tuple(map(int, path.stem.removeprefix("public_surface_").split(".")))


RELEASES = sorted(Path(__file__).parent.glob("public_surface_*.txt"), key=version_of)
# What calls of the last release no longer find, and the words of CHANGELOG.md that announce it.
ANNOUNCED = {
    "fastcnn.ImageClassifier: pretrained=False is now 'auto'": "`pretrained=False` begin from",
}


def test_names_and_signatures_of_the_last_release_still_hold():
    released, now = from_text(RELEASES[-1].read_text(encoding="utf-8")), surface()
    assert len(released) > 500
    lost = {f"{name} is gone" for name in released if name not in now}
    lost |= {f"{name}: {why}" for name in released if name in now and (why := broken(released[name], now[name]))}
    assert lost == set(ANNOUNCED)
    assert [words for words in ANNOUNCED.values() if words not in " ".join(CHANGELOG.split())] == []


def test_every_release_in_the_changelog_has_a_list():
    dated = re.findall(r"(?m)^## (\d+)\.(\d+)\.(\d+)(?! \(not released)", CHANGELOG)
    assert {version_of(path) for path in RELEASES} == {tuple(map(int, version)) for version in dated}


def test_a_list_is_read_as_it_was_written():
    assert from_text(as_text(surface())) == surface()


def before(x, size=3, *, out=None): ...


def renamed(x, sizes=3, *, out=None): ...


def turned(size=3, x=None, *, out=None): ...


def positional(x, /, size=3, *, out=None): ...


def other_default(x, size=4, *, out=None): ...


def demanding(x, size=3, *, out=None, mode): ...


def keyword(x, *, size=3, out=None): ...


def larger(x, size=3, mode="fast", *, out=None, threads=1): ...


def freer(x=0, size=3, out=None): ...


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (before, ""),
        (larger, ""),
        (freer, ""),
        (renamed, "size is gone"),
        (turned, "x is no longer in place 0"),
        (positional, "x can no longer be named"),
        (keyword, "size is no longer in place 1"),
        (other_default, "size=3 is now 4"),
        (demanding, "mode must be given"),
    ],
)
def test_what_breaks_a_call(after, why):
    assert broken(signature(before), signature(after)) == why
    assert broken(None, signature(after)) == ""
    assert broken(signature(before), None) == "is no longer called"
