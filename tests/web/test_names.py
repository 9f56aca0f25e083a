"""Names from a browser never become paths that lead elsewhere; uploads are photos, and no larger than allowed."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

import fastcnn
from fastcnn._web import Limits, Refused, as_upload, inside, safe_name, safe_stem
from fastcnn.errors import ImageError

HOSTILE = [
    "", " ", ".", "..", "../x", "a/b", "a\\b", "/etc", "C:", "c:\\x", ".hidden", "dot.", "con", "NUL", "nul.txt",
    "Com1", "lpt9.tar.gz", "COM¹", "a\0b", "a\nb", "a\x7f", "\u202egpj", "zero\u200bwidth", "\ud800", "a" * 101,
    "é" * 51, "a*b", "q?", 'a"b', "<b>", "a|b", "a\u2028b", "conin$", "aux .txt",
]  # fmt: skip


@pytest.mark.parametrize("name", [*HOSTILE, None, 3, ["cat"], {}])
def test_hostile_names_are_refused(name):
    with pytest.raises(Refused, match="class") as refusal:
        safe_name(name, "class")
    assert refusal.value.status == 400
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize(
    "name", ["cat", "Golden retriever", "猫", "café", "a.b", "1", "conference", "cat's", "a_b-c(1)"]
)
def test_names_of_people_are_kept(name):
    assert safe_name(f" {name} ", "class") == name


def test_letters_that_are_composed_are_the_same_name():
    assert safe_name("cafe\u0301", "class") == "caf\u00e9"


@pytest.mark.parametrize("name", [name for name in HOSTILE if isinstance(name, str)])
def test_the_stem_of_any_name_is_safe(name):
    for given in (name, f"{name}.jpg", f"../{name}", f"{name}/"):
        stem = safe_stem(given)
        assert safe_name(stem, "stem") == stem


@pytest.mark.parametrize(
    "names", [("..",), ("cat", ".."), ("cat", ""), ("cat/1.jpg",), ("/etc",), ("a\0",), ("a" * 400,)]
)
def test_parts_that_are_no_names_are_refused(names, tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(Refused):
        inside(tmp_path, *names)


def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "1.jpg").write_bytes(b"secret")
    root = tmp_path / "photos"
    (root / "cat").mkdir(parents=True)
    os.symlink(secret, root / "dog")
    os.symlink(secret / "1.jpg", root / "cat" / "1.jpg")
    os.symlink(tmp_path / "nowhere", root / "cat" / "2.jpg")
    for names in (("dog",), ("dog", "1.jpg"), ("cat", "1.jpg"), ("cat", "2.jpg")):
        with pytest.raises(Refused) as refusal:
            inside(root, *names)
        assert refusal.value.status == 403
    assert inside(root, "cat", "3.jpg") == root / "cat" / "3.jpg"


def encoded(kind: str, size=(40, 30), **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (200, 30, 60)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("JPEG", ".jpg"), ("PNG", ".png"), ("GIF", ".gif"), ("BMP", ".bmp"), ("WEBP", ".webp"), ("TIFF", ".tif")],
)
def test_photos_get_the_suffix_of_their_format(kind, suffix):
    upload = as_upload(encoded(kind), Limits())
    assert (upload.suffix, upload.width, upload.height) == (suffix, 40, 30)
    assert upload.pixels(Limits()).shape == (30, 40, 3)


def bomb(side: int) -> bytes:
    """A small PNG of many pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("side", [11, 5000, 60_000, 2_000_000_000])
def test_photos_of_too_many_pixels_are_refused_before_they_are_decoded(side):
    with pytest.raises(Refused) as refusal:
        as_upload(bomb(side), Limits(pixels=100))
    assert refusal.value.status == 413


def test_photos_of_too_many_bytes_and_too_many_photos_are_refused():
    with pytest.raises(Refused) as refusal:
        as_upload(encoded("PNG"), Limits(photo=10))
    assert refusal.value.status == 413
    Limits(count=3).check_count(3)
    with pytest.raises(Refused, match="4 photos in a request, expected 3 at most"):
        Limits(count=3).check_count(4)


class Opens:
    """A pickle of it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", b"<html>",
        b"\xff\xd8\xff", b"GIF89a", b"%!PS-Adobe-3.0 EPSF-3.0", b"%PDF-1.4", b"P6 1 1",
    ],
)  # fmt: skip
def test_what_is_no_photo_is_refused(content):
    with pytest.raises(Refused) as refusal:
        as_upload(content, Limits())
    assert refusal.value.status == 415


def test_pickles_are_bytes_like_any_other(tmp_path):
    with pytest.raises(Refused):
        as_upload(pickle.dumps(Opens(tmp_path / "taken")), Limits())
    assert not (tmp_path / "taken").exists()


def test_rooms_that_browsers_reach_know_no_pickle():
    package = Path(fastcnn.__file__).parent
    for room in ("_web", "studio"):
        for path in (package / room).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for word in ("pickle", "marshal", "shelve", "allow_pickle=True", "eval(", "exec("):
                assert word not in text, (path, word)


def test_a_cut_photo_is_refused():
    with pytest.raises(Refused, match="damaged") as refusal:
        as_upload(encoded("JPEG", (200, 200))[:700], Limits(), "a.jpg")
    assert refusal.value.status == 415
    assert isinstance(refusal.value.__cause__, ImageError)
